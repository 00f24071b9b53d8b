"""Writing a GGUF file from front to back, one piece of a tensor at a time.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod
from typing import Final

from llamaherd.gguf import ValueType

Value = bool | int | float | str | bytes | list[str] | list[int] | list[float]
Bytes = bytes | bytearray | memoryview

_MAGIC: Final = b"GGUF"
_VERSION: Final = 3
ALIGNMENT: Final = 32

_U32: Final = struct.Struct("<I")
_U64: Final = struct.Struct("<Q")
_INFO: Final = struct.Struct("<IQ")


class ElementType(IntEnum):
    """The numbers are those of ``ggml_type`` in ggml.h."""

    F32 = 0
    F16 = 1
    BF16 = 30

    @property
    def size(self) -> int:
        """In bytes."""
        return 4 if self is ElementType.F32 else 2


@dataclass(frozen=True, slots=True)
class Tensor:
    """``shape`` has the rows first; ``pieces`` gives the data in order, as it is read."""

    name: str
    shape: tuple[int, ...]
    type: ElementType
    pieces: Callable[[], Iterator[Bytes]]

    @property
    def nbytes(self) -> int:
        return prod(self.shape) * self.type.size


@dataclass(frozen=True, slots=True)
class Contents:
    """What a GGUF file is to hold."""

    metadata: Mapping[str, Value]
    tensors: Sequence[Tensor]

    @property
    def nbytes(self) -> int:
        """Of the tensors, which are nearly all of the file."""
        return sum(tensor.nbytes for tensor in self.tensors)

    def write(self, write: Callable[[Bytes], object]) -> None:
        write_gguf(write, self.metadata, self.tensors)


def write_gguf(
    write: Callable[[Bytes], object], metadata: Mapping[str, Value], tensors: Sequence[Tensor]
) -> None:
    """``int`` is written as UINT32, ``float`` as FLOAT32, ``bytes`` as an array of UINT8."""
    entries = [_entry(key, value) for key, value in metadata.items()]
    write(encode_header(entries, [_described(tensor) for tensor in tensors]))
    for tensor in tensors:
        written = 0
        for piece in tensor.pieces():
            write(piece)
            written += len(piece)
        if written != tensor.nbytes:
            raise AssertionError(f"{tensor.name} has {written} bytes, not {tensor.nbytes}")
        write(bytes(-written % ALIGNMENT))


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


def _described(tensor: Tensor) -> Description:
    return Description(tensor.name, tensor.shape[::-1], tensor.type, tensor.nbytes)


def _entry(key: str, value: Value) -> bytes:
    kind, content = _encode(value)
    return b"".join((_string(key), _U32.pack(kind), content))


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
    if all(isinstance(value, int) for value in values):
        return _array(ValueType.INT32, count, [struct.pack(f"<{count}i", *values)])
    return _array(ValueType.FLOAT32, count, [struct.pack(f"<{count}f", *values)])


def _array(kind: ValueType, count: int, items: Iterable[bytes]) -> bytes:
    return b"".join((_U32.pack(kind), _U64.pack(count), *items))


def _string(text: str) -> bytes:
    content = text.encode()
    return _U64.pack(len(content)) + content
