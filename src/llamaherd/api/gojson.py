"""Reading JSON requests the way Go's decoder reads them: lenient where it is, strict where it is.

Ollama's clients were written against ``encoding/json``: field names match in any case, ``null``
leaves a field at its default, unknown fields are ignored, only the first value of the body counts,
and errors have Go's wording, which some clients match on. Everything lenient lives here.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from llamaherd.duration import InvalidDuration, keep_alive
from llamaherd.errors import BadRequest, FieldError

#: Containers nested deeper than this are refused. Go allows 10,000, but whatever walks over a value
#: here may then recurse without a thought, and nobody's tools or schemas come near.
MAX_DEPTH: Final = 200

#: Turns a JSON value into what a field holds; the text is the field's path for errors.
Reader = Callable[[Any, str], Any]


def json_type(value: Any) -> str:
    """The name that Go's errors give to the kind of a JSON value."""
    match value:
        case bool():
            return "bool"
        case str():
            return "string"
        case int() | float():
            return "number"
        case list():
            return "array"
        case dict():
            return "object"
        case _:
            return "null"


def _mismatch(value: Any, path: str, go_type: str) -> BadRequest:
    return _unreadable(json_type(value), path, go_type)


def _unreadable(what: str, path: str, go_type: str) -> BadRequest:
    _, _, field = path.partition(".")
    place = f"Go struct field {path}" if field else "Go value"
    message = f"json: cannot unmarshal {what} into {place} of type {go_type}"
    return FieldError(message, field, "invalid_type") if field else BadRequest(message)


def string(value: Any, path: str) -> str:
    if not isinstance(value, str):
        raise _mismatch(value, path, "string")
    return value


def boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise _mismatch(value, path, "bool")
    return value


def integer(value: Any, path: str) -> int:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _mismatch(value, path, "int")
    if isinstance(value, float) or not -(2**63) <= value < 2**63:
        raise _unreadable(f"number {value}", path, "int")
    return value


def number(value: Any, path: str) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _mismatch(value, path, "float64")
    if not abs(value) <= sys.float_info.max:
        raise _unreadable(f"number {value}", path, "float64")
    return float(value)


def mapping(value: Any, path: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _mismatch(value, path, "map[string]interface {}")
    return value


def anything(value: Any, path: str) -> Any:
    return value


def image(value: Any, path: str) -> bytes:
    """Base64, as Go reads a ``[]byte``: standard alphabet with padding, line breaks ignored."""
    if not isinstance(value, str):
        raise _mismatch(value, path, "api.ImageData")
    try:
        return base64.b64decode(value.replace("\n", "").replace("\r", ""), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadRequest(f"{path.partition('.')[2]}: illegal base64 data") from error


def duration(value: Any, path: str) -> int:
    """A keep-alive in nanoseconds; see ``duration.keep_alive``."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _mismatch(value, path, "api.Duration")
    try:
        return keep_alive(value)
    except InvalidDuration as error:
        raise BadRequest(str(error)) from error


def list_of(reader: Reader, go_type: str) -> Reader:
    def read(value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise _mismatch(value, path, f"[]{go_type}")
        return [reader(item, path) for item in value]

    return read


def map_of(reader: Reader, go_type: str) -> Reader:
    def read(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _mismatch(value, path, f"map[string]{go_type}")
        return {key: reader(item, path) for key, item in value.items()}

    return read


def object_of(fields: Mapping[str, Reader], go_type: str) -> Reader:
    """An object as a dict of the fields that were given; ``go_type`` as ``api.Message``."""

    def read(value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _mismatch(value, path, go_type)
        prefix = f"{path}." if path else f"{go_type.rpartition('.')[2]}."
        given: dict[str, Any] = {}
        for key, item in value.items():
            name = key if key in fields else key.lower()
            if name in fields and item is not None:
                given[name] = fields[name](item, prefix + name)
        return given

    return read


def parse_body(body: bytes) -> Any:
    """The first JSON value of a request body; raises ``BadRequest`` in Go's words."""
    if not body.strip(b" \t\r\n"):
        raise BadRequest("missing request body")
    try:
        value = msgspec.json.decode(body)
    except RecursionError:
        raise BadRequest("exceeded max depth") from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return _parse_slowly(body.decode("utf-8", "replace"))
    _check_depth(value)
    return value


def _parse_slowly(text: str) -> Any:
    """For bodies that the fast decoder refuses: trailing data, stray bytes, or really bad JSON."""
    stripped = text.lstrip(" \t\r\n")
    try:
        value, _ = json.JSONDecoder(parse_constant=_refuse_constant).raw_decode(stripped)
    except RecursionError:
        raise BadRequest("exceeded max depth") from None
    except ValueError as error:
        raise BadRequest(syntax_error(stripped)) from error
    _check_depth(value)
    return _without_surrogates(value)


def _check_depth(value: Any) -> None:
    containers = [value] if isinstance(value, (dict, list)) else []
    for _ in range(MAX_DEPTH):
        containers = [
            item
            for container in containers
            for item in (container.values() if isinstance(container, dict) else container)
            if isinstance(item, (dict, list))
        ]
        if not containers:
            return
    raise BadRequest("exceeded max depth")


def _refuse_constant(name: str) -> Any:
    raise ValueError(name)


def _without_surrogates(value: Any) -> Any:
    """Lone surrogates are no text; Go reads them as U+FFFD."""
    match value:
        case str():
            return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        case list():
            return [_without_surrogates(item) for item in value]
        case dict():
            return {
                _without_surrogates(key): _without_surrogates(item) for key, item in value.items()
            }
        case _:
            return value


def syntax_error(text: str) -> str:
    """What Go's scanner says about text that isn't JSON."""
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
