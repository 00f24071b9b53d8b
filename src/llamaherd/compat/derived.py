"""A GGUF file made from parts of another: its header, and where the data of its tensors are."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Final, NamedTuple

from llamaherd.gguf import TENSOR_TYPES
from llamaherd.gguf.header import ALIGNMENT, Description, encode_header

_TYPES: Final = {kind.name: (code, kind) for code, kind in TENSOR_TYPES.items()}


class Span(NamedTuple):
    """Bytes of the source, from the beginning of its file on, that hold numbers of one type."""

    offset: int
    nbytes: int
    type: str


@dataclass(frozen=True, slots=True)
class DerivedTensor:
    """A tensor whose data are the ``spans`` of the source one after another.

    ``shape`` is in ggml's order. Where a span has another type than the tensor, the tensor has
    32-bit floats and the span's numbers become such.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    spans: tuple[Span, ...]

    @property
    def nbytes(self) -> int:
        return tensor_size(self.shape, self.type)


def tensor_size(shape: Sequence[int], type_: str) -> int:
    """In bytes."""
    kind = _TYPES[type_][1]
    return prod(shape) // kind.block * kind.size


@dataclass(frozen=True, slots=True)
class DerivedFile:
    """``architecture`` is llama.cpp's name; ``entries`` are the keys with their values, encoded."""

    architecture: str
    entries: tuple[bytes, ...]
    tensors: tuple[DerivedTensor, ...]

    def header(self) -> bytes:
        """What comes before the data, whose places are those of ``offsets``."""
        return encode_header(
            self.entries,
            [
                Description(tensor.name, tensor.shape, _TYPES[tensor.type][0], tensor.nbytes)
                for tensor in self.tensors
            ],
        )

    def offsets(self) -> list[int]:
        """Where the data of each tensor begin behind the header, and where those of all end."""
        offsets = [0]
        for tensor in self.tensors:
            offsets.append(offsets[-1] + tensor.nbytes + -tensor.nbytes % ALIGNMENT)
        return offsets

    @property
    def nbytes(self) -> int:
        """Of all tensors' data."""
        return self.offsets()[-1]
