"""Go's ``encoding/json.Marshal``: compact, keys of maps sorted, safe inside HTML."""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterable, Mapping

from llamaherd.errors import TemplateError
from llamaherd.prompt.go_format import format_shortest
from llamaherd.prompt.go_limits import Meter
from llamaherd.prompt.go_text import clean
from llamaherd.prompt.go_values import MAX_DEPTH, GoStruct, is_nil, type_name

_ESCAPED = re.compile('["\\\\<>&\x00-\x1f\u2028\u2029]')
_SHORT_ESCAPES = {
    '"': '\\"',
    "\\": "\\\\",
    "\b": "\\b",
    "\f": "\\f",
    "\n": "\\n",
    "\r": "\\r",
    "\t": "\\t",
}


class Unsupported(ValueError):
    """A value that JSON can't hold, as Go words it."""


def marshal(value: object, meter: Meter | None = None) -> str:
    """The JSON of a value; its length is charged to ``meter``.

    Raises Unsupported for NaN, infinities and complex numbers, TemplateError for nesting beyond
    ``MAX_DEPTH``.
    """
    parts: list[str] = []
    for part in _encode(value, 0):
        if meter:
            meter.text(len(part))
        parts.append(part)
    return "".join(parts)


def _encode(value: object, depth: int) -> Iterable[str]:
    if depth > MAX_DEPTH:
        raise TemplateError(f"template: value is nested more than {MAX_DEPTH} deep")
    if is_nil(value):
        return ("null",)
    match value:
        case str():
            return (_string(value),)
        case bool():
            return ("true" if value else "false",)
        case int():
            return (str(int(value)),)
        case float():
            return (_float(value),)
        case bytes():
            return (f'"{base64.b64encode(value).decode()}"',)
        case list() | tuple():
            return _array(value, depth)
        case dict():
            return _object({key: value[key] for key in sorted(value)}, depth)
        case GoStruct():
            return _object(value.fields if value.json is None else value.json, depth)
    raise Unsupported(f"json: unsupported type: {type_name(value)}")


def _array(items: Iterable[object], depth: int) -> Iterable[str]:
    before = "["
    for item in items:
        yield before
        yield from _encode(item, depth + 1)
        before = ","
    yield "[]" if before == "[" else "]"


def _object(members: Mapping[str, object], depth: int) -> Iterable[str]:
    before = "{"
    for name, member in members.items():
        yield f"{before}{_string(name)}:"
        yield from _encode(member, depth + 1)
        before = ","
    yield "{}" if before == "{" else "}"


def _string(text: str) -> str:
    return f'"{_ESCAPED.sub(_escape, clean(text))}"'


def _escape(found: re.Match[str]) -> str:
    char = found.group()
    return _SHORT_ESCAPES.get(char) or f"\\u{ord(char):04x}"


def _float(value: float) -> str:
    """As ECMAScript writes numbers: an exponent below 1e-6 and from 1e21 on."""
    if not math.isfinite(value):
        raise Unsupported(f"json: unsupported value: {value}")
    text = format_shortest(abs(value), least_exponent=-6, most_exponent=20)
    text = re.sub(r"e-0(\d)$", r"e-\1", text)
    return f"-{text}" if math.copysign(1, value) < 0 else text
