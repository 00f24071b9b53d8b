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
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import msgspec

from llamaherd.api.go_syntax import MAX_DEPTH, syntax_error
from llamaherd.duration import InvalidDuration, keep_alive
from llamaherd.errors import BadRequest, FieldError

#: Turns a JSON value into what a field holds; the text is the field's path for errors.
Reader = Callable[[Any, str], Any]

Value = TypeVar("Value")

_NOT_BASE64: Final = re.compile(r"[^A-Za-z0-9+/\r\n]")


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
        field, byte = path.partition(".")[2], _illegal_byte(value)
        message = f"{field}: illegal base64 data at input byte {byte}"
        raise FieldError(message, field) from error


def _illegal_byte(text: str) -> int:
    """Where a text stops being base64, as Go tells it: of a cut group the beginning."""
    end = len(_NOT_BASE64.split(text, 1)[0])
    if end < len(text):
        return end
    return end - len(text.replace("\n", "").replace("\r", "")) % 4


def duration(value: Any, path: str) -> int:
    """A keep-alive in nanoseconds; see ``duration.keep_alive``."""
    if isinstance(value, bool) or not isinstance(value, (str, int, float)):
        raise _mismatch(value, path, "api.Duration")
    try:
        return keep_alive(value)
    except InvalidDuration as error:
        raise BadRequest(str(error)) from error


@dataclass(frozen=True, slots=True, eq=False)
class ListReader:
    item: Reader
    go_type: str

    def __call__(self, value: Any, path: str) -> list[Any]:
        if not isinstance(value, list):
            raise _mismatch(value, path, f"[]{self.go_type}")
        return [self.item(item, path) for item in value]


@dataclass(frozen=True, slots=True, eq=False)
class MapReader:
    item: Reader
    go_type: str

    def __call__(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _mismatch(value, path, f"map[string]{self.go_type}")
        return {key: self.item(item, path) for key, item in value.items()}


@dataclass(frozen=True, slots=True, eq=False)
class ObjectReader:
    """An object as a dict of the fields that were given; ``go_type`` as ``api.Message``."""

    fields: Mapping[str, Reader]
    go_type: str

    def __call__(self, value: Any, path: str) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise _mismatch(value, path, self.go_type)
        prefix = f"{path}." if path else f"{self.go_type.rpartition('.')[2]}."
        given: dict[str, Any] = {}
        for key, item in value.items():
            name = key if key in self.fields else key.lower()
            if name in self.fields and item is not None:
                given[name] = self.fields[name](item, prefix + name)
        return given


@dataclass(frozen=True, slots=True, eq=False)
class DescribedReader(Generic[Value]):
    """A reader of what ``schema`` tells: a JSON Schema, or the reader that takes the same."""

    read: Callable[[Any, str], Value]
    schema: Mapping[str, Any] | Reader

    def __call__(self, value: Any, path: str) -> Value:
        return self.read(value, path)


def list_of(reader: Reader, go_type: str) -> ListReader:
    return ListReader(reader, go_type)


def map_of(reader: Reader, go_type: str) -> MapReader:
    return MapReader(reader, go_type)


def object_of(fields: Mapping[str, Reader], go_type: str) -> ObjectReader:
    return ObjectReader(fields, go_type)


def described(
    schema: Mapping[str, Any] | Reader,
) -> Callable[[Callable[[Any, str], Value]], DescribedReader[Value]]:
    """A decorator for readers that the description of our interface (``schema``) can't know."""

    def decorate(read: Callable[[Any, str], Value]) -> DescribedReader[Value]:
        return DescribedReader(read, schema)

    return decorate


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
        value, _ = _SLOW_DECODER.raw_decode(stripped)
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


def _whole(text: str) -> int:
    if len(text) > _LONGEST_WHOLE:
        raise _too_large(text)
    return int(text)


def _fractional(text: str) -> float:
    value = float(text)
    if not abs(value) <= sys.float_info.max:
        raise _too_large(text)
    return value


def _too_large(text: str) -> BadRequest:
    shown = text if len(text) <= 40 else f"{text[:40]}…"
    return BadRequest(f"json: cannot unmarshal number {shown} into Go value of type float64")


#: In characters; Python makes no more of a number than that by itself.
_LONGEST_WHOLE: Final = 4000

_SLOW_DECODER: Final = json.JSONDecoder(
    parse_constant=_refuse_constant, parse_int=_whole, parse_float=_fractional
)


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
