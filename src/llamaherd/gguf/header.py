"""Writing a GGUF file's header: all that comes before the tensors' data.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from llamaherd.gguf.values import ValueType

Value = bool | int | float | str | bytes | list[str] | list[int] | list[float]

_MAGIC: Final = b"GGUF"
_VERSION: Final = 3
ALIGNMENT: Final = 32

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_INFO: Final = struct.Struct("<IQ")


@dataclass(frozen=True, slots=True)
class Description:
    """A tensor as the header has it: the elements of a row first, ``type`` by its number."""

    name: str
    shape: tuple[int, ...]
    type: int
    nbytes: int


def encode_header(
    entries: Sequence[bytes], tensors: Sequence[Description], alignment: int = ALIGNMENT
) -> bytes:
    """All that comes before the tensors' data, which follow in order, each padded to
    ``alignment``; ``entries`` are keys with their values, encoded."""
    parts = [_MAGIC, _U32.pack(_VERSION), _U64.pack(len(tensors)), _U64.pack(len(entries))]
    parts += entries
    offset = 0
    for tensor in tensors:
        parts += (_string(tensor.name), _U32.pack(len(tensor.shape)))
        parts += (_U64.pack(size) for size in tensor.shape)
        parts.append(_INFO.pack(tensor.type, offset))
        offset += tensor.nbytes + -tensor.nbytes % alignment
    parts.append(bytes(-sum(map(len, parts)) % alignment))
    return b"".join(parts)


def encode_entry(key: str, value: Value) -> bytes:
    """A key with its value: ``int`` as UINT32, ``float`` as FLOAT32, ``bytes`` as an array of
    UINT8, lists as arrays of STRING, BOOL, INT32 or FLOAT32."""
    kind, content = _encode(value)
    return rename_entry(_U32.pack(kind) + content, key)


def rename_entry(value: bytes, key: str) -> bytes:
    """An entry of a ``value`` that is encoded already, its type before it."""
    return _string(key) + value


def _encode(value: Value) -> tuple[ValueType, bytes]:
    match value:
        case bool():
            return ValueType.BOOL, bytes([value])
        case int():
            return ValueType.UINT32, _U32.pack(value)
        case float():
            return ValueType.FLOAT32, struct.pack("<f", value)
        case str():
            return ValueType.STRING, _string(value)
        case bytes():
            return ValueType.ARRAY, _array(ValueType.UINT8, len(value), [value])
        case _:
            return ValueType.ARRAY, _encode_list(value)


def _encode_list(values: list[str] | list[int] | list[float]) -> bytes:
    count = len(values)
    if all(isinstance(value, str) for value in values):
        return _array(ValueType.STRING, count, (_string(str(value)) for value in values))
    if all(isinstance(value, bool) for value in values):
        return _array(ValueType.BOOL, count, [bytes(bool(value) for value in values)])
    if all(isinstance(value, int) for value in values):
        return _array(ValueType.INT32, count, [struct.pack(f"<{count}i", *values)])
    return _array(ValueType.FLOAT32, count, [struct.pack(f"<{count}f", *values)])


def _array(kind: ValueType, count: int, items: Iterable[bytes]) -> bytes:
    return b"".join((_U32.pack(kind), _U64.pack(count), *items))


def _string(text: str) -> bytes:
    content = text.encode()
    return _U64.pack(len(content)) + content
