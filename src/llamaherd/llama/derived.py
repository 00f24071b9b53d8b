"""Reading a ``DerivedFile`` as if it were a file, from the file that it is made from."""

from __future__ import annotations

import os
from bisect import bisect_right
from pathlib import Path
from typing import Final

import numpy as np

from llamaherd.compat import DerivedFile, DerivedTensor, Span
from llamaherd.errors import InvalidGGUF

#: Bytes that are copied at a time.
_PIECE: Final = 1 << 23


class DerivedReader:
    """The bytes of a derived file, from wherever in the ``source`` they are."""

    def __init__(self, source: Path, derived: DerivedFile) -> None:
        self._name = source.name
        self._file = source.open("rb", buffering=0)
        self._header = derived.header()
        self._tensors = derived.tensors
        self._starts = [len(self._header) + offset for offset in derived.offsets()]
        self.size: Final = self._starts[-1]
        self._made: tuple[int, bytes] = (-1, b"")

    def close(self) -> None:
        self._file.close()

    def read_into(self, offset: int, target: memoryview) -> int:
        """Fill ``target`` from ``offset`` on; returns how many bytes there were, 0 at the end.

        Fewer than asked for may be read before the end. Raises InvalidGGUF if the source has become
        shorter, OSError if it can't be read.
        """
        if offset >= self.size:
            return 0
        if offset < self._starts[0]:
            return _copy(self._header[offset : offset + len(target)], target)
        index = bisect_right(self._starts, offset) - 1
        tensor = self._tensors[index]
        inside = offset - self._starts[index]
        if inside >= tensor.nbytes:
            return _copy(bytes(self._starts[index + 1] - offset)[: len(target)], target)
        target = target[: tensor.nbytes - inside]
        match tensor.spans:
            case (Span(start, nbytes, type_),) if (type_, nbytes) == (tensor.type, tensor.nbytes):
                return self._read(start + inside, target, tensor.name)
        return _copy(self._content(index, tensor)[inside : inside + len(target)], target)

    def write(self, path: Path) -> None:
        """All of it, to a file."""
        buffer = memoryview(bytearray(_PIECE))
        with path.open("wb") as file:
            offset = 0
            while count := self.read_into(offset, buffer):
                file.write(buffer[:count])
                offset += count

    def _content(self, index: int, tensor: DerivedTensor) -> bytes:
        """Of a tensor of several spans or other numbers; the last one is kept."""
        if self._made[0] != index:
            self._made = (index, b"".join(self._span(span, tensor) for span in tensor.spans))
        return self._made[1]

    def _span(self, span: Span, tensor: DerivedTensor) -> bytes:
        data = bytearray(span.nbytes)
        target = memoryview(data)
        while target:
            done = self._read(span.offset + span.nbytes - len(target), target, tensor.name)
            target = target[done:]
        if span.type == tensor.type:
            return bytes(data)
        try:
            return _floats(data, span.type)
        except (KeyError, NotImplementedError):
            raise InvalidGGUF(
                f"{self._name}: the numbers of tensor {tensor.name!r} are of type {span.type}, "
                "which can't become 32-bit floats"
            ) from None

    def _read(self, offset: int, target: memoryview, what: str) -> int:
        count = os.preadv(self._file.fileno(), [target], offset)
        if not count:
            raise InvalidGGUF(f"{self._name}: the file ends within tensor {what!r}")
        return count


def _copy(data: bytes, target: memoryview) -> int:
    target[: len(data)] = data
    return len(data)


def _floats(data: bytearray, type_: str) -> bytes:
    """Numbers of a type of ggml as 32-bit floats."""
    if type_ == "F16":
        return np.frombuffer(data, np.float16).astype(np.float32).tobytes()
    # Few files need this, and importing it takes longer than loading a small model.
    import gguf

    raw = np.frombuffer(data, np.uint8)
    kind = gguf.GGMLQuantizationType[type_]
    return bytes(gguf.quants.dequantize(raw, kind).astype(np.float32).tobytes())
