"""JSON values in a text that is still being written.

A value is refused at the first character that can't belong to it, so that what only looks like
a call is held back no longer than it must.
"""

from __future__ import annotations

import json
import re
import sys
from typing import Any, Final

from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source

#: Arguments nested deeper than this are no arguments; the bound keeps reading linear in time.
MAX_DEPTH: Final = 64

_PLAIN: Final = re.compile(r'[^"\\]*')
_SCALAR: Final = re.compile(r"[\w.+-]*")
_SCALARS: Final = re.compile(r"true|false|null|-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")


def read_json(source: Source) -> Reading[Any]:
    """A JSON value. Line breaks and tabs may stand in strings unescaped, as models write them."""
    start = source.position
    yield from _skip_value(source, MAX_DEPTH)
    return decode(source.text[start : source.position])


def read_string(source: Source) -> Reading[str]:
    """A JSON string."""
    start = source.position
    yield from _skip_string(source)
    return str(decode(source.text[start : source.position]))


def decode(text: str) -> Any:
    """The value of a complete JSON text; raises ``Malformed``.

    What no answer could carry becomes what Go makes of it: halves of surrogate pairs become
    U+FFFD, whole numbers beyond 64 bits floating ones, and those beyond these the largest.
    """
    try:
        value = json.loads(text, strict=False, parse_int=_integer, parse_float=_float)
    except (ValueError, RecursionError):
        raise Malformed from None
    return _without_surrogates(value) if "\\u" in text else value


def _skip_value(source: Source, depth: int) -> Reading[None]:
    match (yield from source.peek()):
        case '"':
            yield from _skip_string(source)
        case "{":
            yield from _skip_members(source, depth, "}")
        case "[":
            yield from _skip_members(source, depth, "]")
        case _:
            if not _SCALARS.fullmatch((yield from source.skip(_SCALAR))):
                raise Malformed


def _skip_members(source: Source, depth: int, closing: str) -> Reading[None]:
    if depth == 0:
        raise Malformed
    yield from source.take(1)
    yield from source.skip(SPACE)
    if (yield from source.peek()) == closing:
        source.position += 1
        return
    while True:
        yield from source.skip(SPACE)
        if closing == "}":
            yield from _skip_string(source)
            yield from source.skip(SPACE)
            yield from source.literal(":")
            yield from source.skip(SPACE)
        yield from _skip_value(source, depth - 1)
        yield from source.skip(SPACE)
        separator = yield from source.take(1)
        if separator == closing:
            return
        if separator != ",":
            raise Malformed


def _skip_string(source: Source) -> Reading[None]:
    yield from source.literal('"')
    while True:
        yield from source.skip(_PLAIN)
        if (yield from source.take(1)) == '"':
            return
        yield from source.take(1)


def _integer(digits: str) -> int | float:
    if len(digits) <= 20 and -(2**63) <= (number := int(digits)) < 2**64:
        return number
    return _float(digits)


def _float(digits: str) -> float:
    return max(-sys.float_info.max, min(float(digits), sys.float_info.max))


def _without_surrogates(value: Any) -> Any:
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
