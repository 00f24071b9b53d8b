"""What Go's JSON scanner says about text that isn't JSON: some clients match on its words."""

from __future__ import annotations

import json
import re
from typing import Final

#: Containers nested deeper than this are refused. Go allows 10,000, but whatever walks over a value
#: here may then recurse without a thought, and nobody's tools or schemas come near.
MAX_DEPTH: Final = 200


#: How many values and escapes are looked at for the place of an error, which takes seconds. A body
#: has room for hundreds of millions, and who waits for the server to end would wait for minutes.
MOST_STEPS: Final = 1 << 21


def syntax_error(text: str) -> str:
    """What Go's scanner says about text that isn't JSON; no more than that if it is behind
    ``MOST_STEPS``."""
    try:
        _Scanner(text).value()
    except _SyntaxError as error:
        return str(error)
    return "invalid JSON"


class _SyntaxError(Exception):
    pass


#: Runs of characters that the scanner needn't look at one by one; bodies may have many megabytes.
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_PLAIN: Final = re.compile(r'[^"\\\x00-\x1f]*')
_NUMBER: Final = re.compile(r"[0-9.eE+-]*")


class _Scanner:
    """Walks JSON only to find the first wrong character and the words that Go has for it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._depth = 0
        self._steps = 0

    def _step(self) -> None:
        self._steps += 1
        if self._steps > MOST_STEPS:
            raise _SyntaxError("invalid JSON")

    def _peek(self) -> str:
        self._skip(_SPACE)
        if self._at >= len(self._text):
            raise _SyntaxError("unexpected EOF")
        return self._text[self._at]

    def _skip(self, run: re.Pattern[str]) -> None:
        match = run.match(self._text, self._at)
        assert match is not None, "every run may be empty"
        self._at = match.end()

    def _take(self) -> str:
        if self._at >= len(self._text):
            raise _SyntaxError("unexpected EOF")
        self._at += 1
        return self._text[self._at - 1]

    @staticmethod
    def _wrong(char: str, context: str) -> _SyntaxError:
        if char == "'":
            quoted = r"'\''"
        elif char == '"':
            quoted = "'\"'"
        else:
            quoted = "'" + json.dumps(char, ensure_ascii=False)[1:-1] + "'"
        return _SyntaxError(f"invalid character {quoted} {context}")

    def value(self) -> None:
        self._step()
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise _SyntaxError("exceeded max depth")
        char = self._peek()
        if char == "{":
            self._object()
        elif char == "[":
            self._array()
        elif char == '"':
            self._string()
        elif char == "-" or char.isdigit():
            self._number()
        else:
            self._literal(char)
        self._depth -= 1

    def _object(self) -> None:
        self._take()
        if self._peek() == "}":
            self._take()
            return
        while True:
            if (char := self._peek()) != '"':
                raise self._wrong(char, "looking for beginning of object key string")
            self._string()
            if (char := self._peek()) != ":":
                raise self._wrong(char, "after object key")
            self._take()
            self.value()
            char = self._peek()
            self._take()
            if char == "}":
                return
            if char != ",":
                raise self._wrong(char, "after object key:value pair")

    def _array(self) -> None:
        self._take()
        if self._peek() == "]":
            self._take()
            return
        while True:
            self.value()
            char = self._peek()
            self._take()
            if char == "]":
                return
            if char != ",":
                raise self._wrong(char, "after array element")

    def _string(self) -> None:
        self._take()
        while True:
            self._skip(_PLAIN)
            char = self._take()
            if char == '"':
                return
            if char == "\\":
                self._step()
                escape = self._take()
                if escape == "u":
                    for _ in range(4):
                        if (digit := self._take()) not in "0123456789abcdefABCDEF":
                            raise self._wrong(digit, "in \\u hexadecimal character escape")
                elif escape not in 'bfnrt\\/"':
                    raise self._wrong(escape, "in string escape code")
            else:
                raise self._wrong(char, "in string literal")

    def _number(self) -> None:
        if self._text[self._at] == "-":
            self._at += 1
            if not (char := self._take()).isdigit():
                raise self._wrong(char, "in numeric literal")
        self._skip(_NUMBER)

    def _literal(self, first: str) -> None:
        words = {"t": "true", "f": "false", "n": "null"}
        if first not in words:
            raise self._wrong(first, "looking for beginning of value")
        word = words[first]
        self._take()
        for expected in word[1:]:
            if (char := self._take()) != expected:
                raise self._wrong(char, f"in literal {word} (expecting '{expected}')")
