"""Grammars in llama.cpp's GBNF, made ready for llguidance, which knows Lark.

llguidance has a translator of its own. It takes a part of GBNF: escapes with leading zeros, groups
repeated twice over and rules called ``start`` come out as no Lark, ``&&`` in a class of characters
as an operator, ``.`` without line breaks, and names that differ by case or dashes as one. So what
it gets is GBNF of the plainest kind. The language is described in llama.cpp's grammars/README.md
and read by its src/llama-grammar.cpp.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from llamaherd.errors import FormatError

_TOKEN: Final = re.compile(
    r"""
      (?P<text> "(?:\\.?+|[^"\\])*+ (?:"|(?P<endless_text>\Z)) )
    | (?P<characters> \[(?:\\.?+|[^\]\\])*+ (?:\]|(?P<endless_characters>\Z)) )
    | (?P<comment> \#[^\r\n]* )
    | (?P<repetition> [*+?] | \{[^}]*+\}? )
    | (?P<name> [\w-]+ )
    | (?P<any> \. )
    | (?P<space> \s+ )
    | (?P<other> . )
    """,
    re.VERBOSE | re.DOTALL,
)

_ESCAPE: Final = re.compile(
    r"\\(?:x(?P<x>[0-9a-fA-F]{2})|u(?P<u>[0-9a-fA-F]{4})|U(?P<U>[0-9a-fA-F]{8})|(?P<c>[nrt\\\"\[\]]))"
)
_CONTROLS: Final = {"n": "\n", "r": "\r", "t": "\t"}

#: The rule that a grammar begins with, here and in Lark.
_ROOTS: Final = frozenset({"root", "start"})

_EVERY: Final = "[\\x00-\U0010ffff]"


def plain(grammar: str) -> str:
    """The same language, in what llguidance's translator understands.

    Raises ``FormatError`` for escapes that are none and for what has no end; other faults are for
    the translator to find.
    """
    names = _Names()
    written: list[str] = []
    #: The last two tokens that aren't white space or comments: kind and place in ``written``.
    last = before = ("", 0)
    for found in _TOKEN.finditer(grammar):
        kind, token = found.lastgroup or "", found.group()
        if found["endless_text"] is not None or found["endless_characters"] is not None:
            raise FormatError(f"invalid grammar in format: {token[:10]!r} has no end")
        match kind:
            case "text":
                token = f'"{"".join(_in_text(char) for char, _ in _characters(token[1:-1]))}"'
            case "characters":
                token = _class(token[1:-1])
            case "any":
                token = _EVERY
            case "name":
                token = names.plain(token)
            case "repetition" if last[0] == ")" and before[0] in ("repetition", ")"):
                # Else both repetitions would be written one behind the other.
                written.insert(last[1], ' ""')
        if kind not in ("space", "comment"):
            before, last = last, (token if kind == "other" else kind, len(written))
        written.append(token)
    return "".join(written)


class _Names:
    """Names for rules that differ in more than case and dashes, and from those with a meaning."""

    def __init__(self) -> None:
        self._plain: dict[str, str] = {"root": "root"}
        self._taken = set(_ROOTS)

    def plain(self, name: str) -> str:
        if name not in self._plain:
            stem = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
            if not stem[:1].isalpha():
                stem = f"r{stem}"
            found, number = stem, len(self._plain)
            while found in self._taken:
                found, number = f"{stem}_{number}", number + 1
            self._taken.add(found)
            self._plain[name] = found
        return self._plain[name]


def _characters(text: str) -> Iterator[tuple[str, bool]]:
    """The characters of a text or class, and whether each was escaped."""
    at = 0
    while at < len(text):
        if text[at] != "\\":
            yield text[at], False
            at += 1
            continue
        escape = _ESCAPE.match(text, at)
        if escape is None:
            raise FormatError(f"invalid grammar in format: invalid escape {text[at : at + 10]!r}")
        at = escape.end()
        if control := escape["c"]:
            yield _CONTROLS.get(control, control), True
            continue
        code = int(escape["x"] or escape["u"] or escape["U"], 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise FormatError(f"invalid grammar in format: {escape[0]} is no character")
        yield chr(code), True


def _class(inside: str) -> str:
    """A class in which only ``^`` in front and ``-`` between two characters have a meaning."""
    negated = inside.startswith("^")
    characters = [*_characters(inside.removeprefix("^"))]
    parts = []
    at = 0
    while at < len(characters):
        part = _in_class(characters[at][0])
        if characters[at + 1 : at + 2] == [("-", False)] and at + 2 < len(characters):
            part += "-" + _in_class(characters[at + 2][0])
            at += 2
        parts.append(part)
        at += 1
    return f"[{'^' if negated else ''}{''.join(parts)}]"


def _in_class(character: str) -> str:
    plain = character.isalnum() or ord(character) > 0x7F
    return character if plain else f"\\x{ord(character):02x}"


def _in_text(character: str) -> str:
    if character in '"\\':
        return f"\\{character}"
    return character if ord(character) >= 0x20 else f"\\x{ord(character):02x}"
