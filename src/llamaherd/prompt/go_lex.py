"""Tokens of the Go template language (``text/template``).

Positions are offsets in characters; errors translate them to Go's byte columns. An error ends the
stream as a token of its own, so that a parser meets it only where it gets to it, as in Go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum, auto

from llamaherd.prompt.go_text import byte_length, quote, unicode_name


class Kind(Enum):
    ERROR = auto()
    EOF = auto()
    TEXT = auto()
    LEFT_DELIM = auto()
    RIGHT_DELIM = auto()
    LEFT_PAREN = auto()
    RIGHT_PAREN = auto()
    SPACE = auto()
    PIPE = auto()
    ASSIGN = auto()
    DECLARE = auto()
    CHAR = auto()
    BOOL = auto()
    NUMBER = auto()
    COMPLEX = auto()
    CHAR_CONSTANT = auto()
    STRING = auto()
    RAW_STRING = auto()
    IDENTIFIER = auto()
    FIELD = auto()
    VARIABLE = auto()
    DOT = auto()
    NIL = auto()
    BLOCK = auto()
    BREAK = auto()
    CONTINUE = auto()
    DEFINE = auto()
    ELSE = auto()
    END = auto()
    IF = auto()
    RANGE = auto()
    TEMPLATE = auto()
    WITH = auto()


KEYWORDS = {
    "block": Kind.BLOCK,
    "break": Kind.BREAK,
    "continue": Kind.CONTINUE,
    "define": Kind.DEFINE,
    "else": Kind.ELSE,
    "end": Kind.END,
    "if": Kind.IF,
    "nil": Kind.NIL,
    "range": Kind.RANGE,
    "template": Kind.TEMPLATE,
    "with": Kind.WITH,
}
WORDS = {**KEYWORDS, "true": Kind.BOOL, "false": Kind.BOOL}
PUNCTUATION = {"=": Kind.ASSIGN, "|": Kind.PIPE, "(": Kind.LEFT_PAREN, ")": Kind.RIGHT_PAREN}

LEFT, RIGHT = "{{", "}}"
SPACES = " \t\r\n"
LEFT_TRIM = re.compile(r"-[ \t\r\n]")
RIGHT_TRIM = re.compile(r"[ \t\r\n]-")
SPACE_RUN = re.compile(r"[ \t\r\n]+")
QUOTED = re.compile(r'"(?:[^"\\\n]|\\[^\n])*+"')
CHARACTER = re.compile(r"'(?:[^'\\\n]|\\[^\n])*+'")
NUMBER = re.compile(
    r"""[+-]?(?:
        0[xX][0-9a-fA-F_]*(?:\.[0-9a-fA-F_]*)?(?:[pP][+-]?[0-9_]*)?
      | 0[oO][0-7_]*(?:\.[0-7_]*)?
      | 0[bB][01_]*(?:\.[01_]*)?
      | [0-9_]*(?:\.[0-9_]*)?(?:[eE][+-]?[0-9_]*)?
    )i?""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Token:
    """One token: ``pos`` counts characters from 0, ``line`` counts from 1 at the token's start."""

    kind: Kind
    pos: int
    text: str
    line: int

    def __str__(self) -> str:
        """The token as error messages name it."""
        if self.kind is Kind.EOF:
            return "EOF"
        if self.kind is Kind.ERROR:
            return self.text
        if self.kind is Kind.DOT or KEYWORDS.get(self.text) is self.kind:
            return f"<{self.text}>"
        if byte_length(self.text) > 10:
            return f"{quote(self.text[:10])}..."
        return quote(self.text)


class _Failure(Exception):
    """Why the text can't be a token; becomes the stream's last token."""


def tokenize(text: str) -> Iterator[Token]:
    """Split a template into tokens, the last one ``EOF`` or ``ERROR``."""
    return _Lexer(text).run()


def is_word_character(char: str) -> bool:
    return char == "_" or char.isalpha() or char.isdecimal()


class _Lexer:
    def __init__(self, text: str) -> None:
        self._text = text
        self._pos = 0
        self._line = 1
        self._counted = 0  # up to here the line feeds are in _line
        self._parens = 0

    def run(self) -> Iterator[Token]:
        try:
            while (left := self._text.find(LEFT, self._pos)) >= 0:
                yield from self._plain_text(left)
                self._pos = left + len(LEFT)
                marker = LEFT_TRIM.match(self._text, self._pos)
                inside = marker.end() if marker else self._pos
                if self._text.startswith("/*", inside):
                    self._skip_comment(inside)
                else:
                    yield self._token(Kind.LEFT_DELIM, left, self._pos)
                    self._pos = inside
                    yield from self._action()
        except _Failure as failure:
            yield Token(Kind.ERROR, self._pos, str(failure), self._line_at(self._pos))
            return
        if self._pos < len(self._text):
            yield self._token(Kind.TEXT, self._pos, len(self._text))
        yield self._token(Kind.EOF, len(self._text), len(self._text))

    def _plain_text(self, left: int) -> Iterator[Token]:
        text = self._text[self._pos : left]
        if LEFT_TRIM.match(self._text, left + len(LEFT)):
            text = text.rstrip(SPACES)
        if text:
            yield self._token(Kind.TEXT, self._pos, self._pos + len(text))

    def _skip_comment(self, start: int) -> None:
        close = self._text.find("*/", start + 2)
        self._pos = start
        if close < 0:
            raise _Failure("unclosed comment")
        if not self._at_right_delimiter(close + 2):
            raise _Failure("comment ends before closing delimiter")
        self._leave_action(close + 2)

    def _action(self) -> Iterator[Token]:
        self._parens = 0
        while True:
            if self._at_right_delimiter(self._pos):
                if self._parens:
                    raise _Failure("unclosed left paren")
                right = self._text.index(RIGHT, self._pos)
                yield self._token(Kind.RIGHT_DELIM, right, right + len(RIGHT))
                self._leave_action(self._pos)
                return
            kind, end = self._scan()
            yield self._token(kind, self._pos, end)
            self._pos = end

    def _at_right_delimiter(self, pos: int) -> bool:
        marker = RIGHT_TRIM.match(self._text, pos)
        return self._text.startswith(RIGHT, marker.end() if marker else pos)

    def _leave_action(self, pos: int) -> None:
        trims = RIGHT_TRIM.match(self._text, pos) is not None
        self._pos = self._text.index(RIGHT, pos) + len(RIGHT)
        if trims and (spaces := SPACE_RUN.match(self._text, self._pos)):
            self._pos = spaces.end()

    def _scan(self) -> tuple[Kind, int]:
        """The kind and the end of the token at the position inside an action."""
        pos = self._pos
        char = self._text[pos : pos + 1]
        if not char:
            raise _Failure("unclosed action")
        if char in SPACES:
            return Kind.SPACE, self._space_end()
        if char in PUNCTUATION:
            return self._punctuation(char), pos + 1
        if char == ":":
            if not self._text.startswith(":=", pos):
                raise _Failure("expected :=")
            return Kind.DECLARE, pos + 2
        if char in "\"'`":
            return self._literal(char)
        following = self._text[pos + 1 : pos + 2]
        if char == "$" or (char == "." and following and not "0" <= following <= "9"):
            return self._field_or_variable(char)
        if char in "+-." or "0" <= char <= "9":
            return self._number()
        if is_word_character(char):
            return self._word()
        if char.isascii() and char.isprintable():
            return Kind.CHAR, pos + 1
        raise _Failure(f"unrecognized character in action: {unicode_name(char)}")

    def _punctuation(self, char: str) -> Kind:
        if char == "(":
            self._parens += 1
        elif char == ")":
            self._parens -= 1
            if self._parens < 0:
                raise _Failure("unexpected right paren")
        return PUNCTUATION[char]

    def _space_end(self) -> int:
        run = SPACE_RUN.match(self._text, self._pos)
        assert run is not None
        # The last space may belong to a trimming delimiter; alone it would be found there before.
        return run.end() - 1 if self._at_right_delimiter(run.end() - 1) else run.end()

    def _literal(self, opening: str) -> tuple[Kind, int]:
        if opening == "`":
            close = self._text.find("`", self._pos + 1)
            if close < 0:
                raise _Failure("unterminated raw quoted string")
            return Kind.RAW_STRING, close + 1
        pattern, kind, name = (
            (QUOTED, Kind.STRING, "quoted string")
            if opening == '"'
            else (CHARACTER, Kind.CHAR_CONSTANT, "character constant")
        )
        found = pattern.match(self._text, self._pos)
        if not found:
            raise _Failure(f"unterminated {name}")
        return kind, found.end()

    def _field_or_variable(self, char: str) -> tuple[Kind, int]:
        end = self._word_end(self._pos + 1)
        if end == self._pos + 1 and char == ".":
            return Kind.DOT, end
        return Kind.FIELD if char == "." else Kind.VARIABLE, end

    def _word(self) -> tuple[Kind, int]:
        end = self._word_end(self._pos)
        return WORDS.get(self._text[self._pos : end], Kind.IDENTIFIER), end

    def _word_end(self, pos: int) -> int:
        while pos < len(self._text) and is_word_character(self._text[pos]):
            pos += 1
        char = self._text[pos : pos + 1]
        if char and char not in SPACES + ".,|:()" and not self._text.startswith(RIGHT, pos):
            raise _Failure(f"bad character {unicode_name(char)}")
        return pos

    def _number(self) -> tuple[Kind, int]:
        end = self._number_end(self._pos)
        if self._text[end : end + 1] not in ("+", "-"):
            return Kind.NUMBER, end
        end = self._number_end(end)
        if self._text[end - 1] != "i":
            raise _Failure(f"bad number syntax: {quote(self._text[self._pos : end])}")
        return Kind.COMPLEX, end

    def _number_end(self, pos: int) -> int:
        found = NUMBER.match(self._text, pos)
        assert found is not None
        end = found.end()
        if end < len(self._text) and is_word_character(self._text[end]):
            raise _Failure(f"bad number syntax: {quote(self._text[self._pos : end + 1])}")
        return end

    def _token(self, kind: Kind, start: int, end: int) -> Token:
        return Token(kind, start, self._text[start:end], self._line_at(start))

    def _line_at(self, pos: int) -> int:
        self._line += self._text.count("\n", self._counted, pos)
        self._counted = max(self._counted, pos)
        return self._line
