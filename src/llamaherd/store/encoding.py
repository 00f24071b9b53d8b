"""JSON exactly as Go's ``encoding/json`` writes it.

Blobs and manifests are known by the digest of their bytes. A layer with the same content must come
out with the same bytes as from Ollama, or the two would keep it twice and call a model by two IDs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, Final

_ESCAPES: Final = str.maketrans(
    {char: f"\\u{ord(char):04x}" for char in ("<", ">", "&", "\u2028", "\u2029")}
)


def go_json(value: Any) -> bytes:
    """One line with its newline. Mappings keep their order; see ``sorted_keys`` for Go's maps."""
    return (_encode(value) + "\n").encode()


def sorted_keys(value: Any) -> Any:
    """The value with the keys of all mappings in order, as Go writes a ``map``."""
    match value:
        case Mapping():
            return {key: sorted_keys(value[key]) for key in sorted(value, key=str.encode)}
        case list() | tuple():
            return [sorted_keys(item) for item in value]
        case _:
            return value


def _encode(value: Any) -> str:
    match value:
        case None | bool() | int():
            return json.dumps(value)
        case float():
            return _number(value)
        case str():
            return json.dumps(value, ensure_ascii=False).translate(_ESCAPES)
        case Mapping():
            return "{" + ",".join(f"{_encode(k)}:{_encode(v)}" for k, v in value.items()) + "}"
        case list() | tuple():
            return "[" + ",".join(map(_encode, value)) + "]"
        case _:
            raise TypeError(f"{type(value).__name__} has no JSON form")


def _number(value: float) -> str:
    """The shortest digits; an exponent only below 1e-6 and from 1e21 on, without leading zeros."""
    if value != 0 and not 1e-6 <= abs(value) < 1e21:
        mantissa, _, exponent = repr(value).partition("e")
        return f"{mantissa.removesuffix('.0')}e{exponent[0]}{exponent[1:].lstrip('0')}"
    return f"{Decimal(repr(value)):f}".removesuffix(".0")
