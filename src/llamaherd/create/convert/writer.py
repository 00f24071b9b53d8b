"""Writing a GGUF file from front to back, one piece of a tensor at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import IntEnum
from math import prod

from llamaherd.gguf.header import ALIGNMENT, Description, Value, encode_entry, encode_header

__all__ = ["Bytes", "ElementType", "Tensor", "Value", "write_gguf"]

Bytes = bytes | bytearray | memoryview


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
    """The values are written as ``encode_entry`` does."""
    entries = [encode_entry(key, value) for key, value in metadata.items()]
    write(encode_header(entries, [_described(tensor) for tensor in tensors]))
    for tensor in tensors:
        written = 0
        for piece in tensor.pieces():
            write(piece)
            written += len(piece)
        if written != tensor.nbytes:
            raise AssertionError(f"{tensor.name} has {written} bytes, not {tensor.nbytes}")
        write(bytes(-written % ALIGNMENT))


def _described(tensor: Tensor) -> Description:
    return Description(tensor.name, tensor.shape[::-1], tensor.type, tensor.nbytes)
