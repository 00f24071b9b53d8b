"""Forms as grammars in llguidance's dialect of Lark."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from llamaherd.grammar import Blank, Exactly, Form, Grammar, InOrder, OneOf, Repeated, Until

#: White space between parts of a reply; more would be a model that has nothing to say.
_BLANK: Final = r"/[ \n]{0,4}/"


class LarkWriter:
    """Writes one form as a grammar.

    ``special`` are the special tokens by their texts, which the grammar names by their numbers: the
    characters of a text never stand for them. ``leaf`` gives what stands for a ``Grammar``: a JSON
    Schema or a grammar in Lark.
    """

    def __init__(
        self, special: Mapping[str, int], leaf: Callable[[Grammar], dict[str, Any] | str]
    ) -> None:
        self._special = special
        texts = sorted(special, key=len, reverse=True)
        self._split = re.compile(f"({'|'.join(map(re.escape, texts))})") if texts else None
        self._leaf = leaf
        self._names: dict[Form, str] = {}
        self._rules: list[str] = []
        self._grammars: dict[str, str] = {}

    def write(self, form: Form) -> dict[str, str]:
        """Grammars by name, the first of them that of the form."""
        start = f"start: {self._name(form)}"
        return {"reply": "\n".join([start, *self._rules]), **self._grammars}

    def _name(self, form: Form) -> str:
        """The rule for a form; equal forms share one."""
        if form not in self._names:
            self._names[form] = self._define(form)
        return self._names[form]

    def _define(self, form: Form) -> str:
        match form:
            case Exactly(text):
                return self._rule(self._text(text))
            case Blank():
                return self._rule(_BLANK)
            case Until():
                return self._rule(" | ".join(self._until(form)))
            case InOrder(parts):
                return self._rule(" ".join(map(self._name, parts)) or '""')
            case OneOf(parts):
                return self._rule(" | ".join(map(self._name, parts)))
            case Repeated():
                return self._rule(self._repeated(form))
            case Grammar():
                return self._rule(self._embedded(form))

    def _rule(self, definition: str, name: str = "rule") -> str:
        name = f"{name}_{len(self._rules)}"
        self._rules.append(f"{name}: {definition}")
        return name

    def _embedded(self, grammar: Grammar) -> str:
        leaf = self._leaf(grammar)
        if isinstance(leaf, dict):
            return f"%json {json.dumps(leaf)}"
        name = f"grammar_{len(self._grammars)}"
        self._grammars[name] = leaf
        return f"@{name}"

    def _text(self, text: str) -> str:
        return " ".join(self._pieces(text)) or '""'

    def _pieces(self, text: str) -> Iterator[str]:
        for part in self._parts(text):
            token = self._special.get(part)
            yield json.dumps(part) if token is None else f"<[{token}]>"

    def _parts(self, text: str) -> list[str]:
        """The text cut before and after each special token."""
        return [part for part in (self._split.split(text) if self._split else [text]) if part]

    def _repeated(self, form: Repeated) -> str:
        if form.most == 0:
            return self._text("")
        part = self._name(form.part)
        if not form.separator or form.most == 1:
            return f"{part}{{{form.least},{form.most}}}"
        another = self._rule(f"{self._text(form.separator)} {part}")
        several = f"{part} {another}{{{max(form.least, 1) - 1},{form.most - 1}}}"
        return several if form.least else f"({several})?"

    def _until(self, form: Until) -> Iterator[str]:
        """The end spelt in characters or, where it has one, with its special token.

        A lexeme is as long as it can be. So text and end are one, which the text without the end
        in it makes unambiguous.
        """
        words = _words(form)
        yield self._lexeme(words, form.end)
        head, *rest = self._parts(form.end)
        if head in self._special:
            head, rest = "", [head, *rest]
        if rest:
            yield f"{self._lexeme(words, head)} {self._text(''.join(rest))}"

    def _lexeme(self, words: str, end: str) -> str:
        name = f"TEXT_{len(self._rules)}"
        self._rules.append(f"{name}: ({words}) {_pattern(end)}" if end else f"{name}: {words}")
        return name


def _words(form: Until) -> str:
    """A regular expression of the text before the end."""
    bounds = f"{{{form.least},{'' if form.most is None else form.most}}}"
    parts = [rf"/(.|\n){bounds}/", rf"~/(.|\n)*{_escaped(form.without or form.end)}(.|\n)*/"]
    if form.inner:
        parts += [r"~/\n(.|\n)*/", r"~/(.|\n)*\n/"]
    return " & ".join(parts)


def _pattern(text: str) -> str:
    return f"/{_escaped(text)}/"


def _escaped(text: str) -> str:
    """As a regular expression that matches nothing else."""
    return "".join(
        character if character.isascii() and character.isalnum() else f"\\x{{{ord(character):x}}}"
        for character in text
    )
