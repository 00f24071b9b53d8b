"""A parser's cursor over the tokens of a Go template, and the errors it reports at it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from llamaherd.errors import TemplateError
from llamaherd.prompt.go_lex import Kind, Token

#: How deep blocks and parentheses may stand in each other.
MAX_NESTING = 100


class _Tokens:
    """The token stream and a place in it that can go back over what was read."""

    def __init__(self, source: Iterator[Token]) -> None:
        self._source = source
        self._read: list[Token] = []
        self._at = 0
        self.nesting = 0

    def next(self) -> tuple[Token, bool]:
        """The next token, and whether it was read for the first time."""
        fresh = self._at == len(self._read)
        if fresh:
            self._read.append(next(self._source))
        self._at += 1
        return self._read[self._at - 1], fresh

    def back(self, count: int) -> None:
        self._at -= count


class Cursor:
    """Steps through tokens; ``name`` is what errors call the template."""

    def __init__(self, source: Iterator[Token], name: str) -> None:
        self._tokens = _Tokens(source)
        self._name = name
        self._line = 0  # of the newest token that this cursor was the first to read
        self.action_line = 0  # where the action at hand began, 0 outside of any

    def for_definition(self) -> Cursor:
        """A cursor at the same place of the same tokens, with an account of its own of lines."""
        other = Cursor(iter(()), self._name)
        other._tokens = self._tokens
        return other

    def next(self) -> Token:
        token, fresh = self._tokens.next()
        if fresh:
            self._line = token.line
        return token

    def back(self, count: int = 1) -> None:
        self._tokens.back(count)

    def peek(self) -> Token:
        token = self.next()
        self.back()
        return token

    def next_nonspace(self) -> Token:
        token = self.next()
        return self.next() if token.kind is Kind.SPACE else token

    def peek_nonspace(self) -> Token:
        """The next token that is no space; the space before it is passed for good."""
        token = self.next_nonspace()
        self.back()
        return token

    def expect(self, kind: Kind, context: str) -> Token:
        token = self.next_nonspace()
        if token.kind is not kind:
            self.unexpected(token, context)
        return token

    def enter(self) -> None:
        """Go one block or parenthesis deeper."""
        self._tokens.nesting += 1
        if self._tokens.nesting > MAX_NESTING:
            self.fail(f"blocks and parentheses are nested more than {MAX_NESTING} deep")

    def leave(self) -> None:
        self._tokens.nesting -= 1

    def fail(self, message: str) -> NoReturn:
        raise TemplateError(f"template: {self._name}:{self._line}: {message}")

    def unexpected(self, token: Token, context: str) -> NoReturn:
        if token.kind is not Kind.ERROR:
            self.fail(f"unexpected {token} in {context}")
        started = ""
        if self.action_line not in (0, token.line):
            # "unclosed action started at", not "unclosed action in action started at"
            where = "" if token.text.endswith(" action") else " in action"
            started = f"{where} started at {self._name}:{self.action_line}"
        self.fail(f"{token}{started}")
