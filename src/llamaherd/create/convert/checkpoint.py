"""Reading safetensors: where each tensor is, in one file or in several.

The format: https://huggingface.co/docs/safetensors/index#format. Eight bytes with the length of a
JSON header, the header, and the data that its offsets point into.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Final

import msgspec

from llamaherd.create.convert.folder import ModelFolder, decode_json
from llamaherd.errors import BadRequest
from llamaherd.store.files import store_errors

SUFFIX: Final = ".safetensors"
INDEX: Final = "model.safetensors.index.json"

#: The format's own limit, in bytes.
MAX_HEADER: Final = 100_000_000
MAX_DIMENSIONS: Final = 8

#: Bytes of an element, for the types that can be converted.
ELEMENT_SIZES: Final = {"F32": 4, "F16": 2, "BF16": 2}

_LENGTH: Final = struct.Struct("<Q")


class _Entry(msgspec.Struct):
    dtype: str
    shape: list[int]
    data_offsets: tuple[int, int]


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """``shape`` has the rows first; ``offset`` counts from the start of the file ``path``.

    ``file`` is what the user calls that file.
    """

    name: str
    file: str
    path: Path
    dtype: str
    shape: tuple[int, ...]
    offset: int
    nbytes: int

    @property
    def element_count(self) -> int:
        return prod(self.shape)


class Checkpoint:
    """All tensors of a model, by name."""

    def __init__(self, tensors: dict[str, StoredTensor]) -> None:
        self._tensors = tensors

    @classmethod
    def open(cls, folder: ModelFolder) -> Checkpoint:
        """Reads the headers only. Raises ``BadRequest`` for files that are missing or unsound."""
        files = [name for name in folder if name.endswith(SUFFIX) and "/" not in name]
        if not files:
            raise BadRequest(f"model{SUFFIX} is missing")
        tensors: dict[str, StoredTensor] = {}
        for file in files:
            for tensor in _read_header(file, folder.path(file)):
                if (other := tensors.get(tensor.name)) is not None:
                    raise BadRequest(f"{file}: tensor {tensor.name} is in {other.file} too")
                tensors[tensor.name] = tensor
        if INDEX in folder:
            _check_index(folder.json(INDEX, _Index), tensors, files)
        return cls(tensors)

    def __contains__(self, name: str) -> bool:
        return name in self._tensors

    def __getitem__(self, name: str) -> StoredTensor:
        return self._tensors[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._tensors)


def _check_index(index: _Index, tensors: dict[str, StoredTensor], files: list[str]) -> None:
    for name, file in index.weight_map.items():
        if file not in files:
            raise BadRequest(f"{file} is missing, {INDEX} names it")
        if name not in tensors or tensors[name].file != file:
            raise BadRequest(f"{file}: no tensor {name}, where {INDEX} says it is")


def _read_header(file: str, path: Path) -> Iterator[StoredTensor]:
    with store_errors("read", path), path.open("rb") as content:
        size = path.stat().st_size
        prefix = content.read(_LENGTH.size)
        if len(prefix) < _LENGTH.size:
            raise BadRequest(f"{file}: {size} bytes, too short for a safetensors file")
        (length,) = _LENGTH.unpack(prefix)
        if length > min(size - _LENGTH.size, MAX_HEADER):
            raise BadRequest(f"{file}: a header of {length} bytes in a file of {size}")
        header = content.read(length)
    start = _LENGTH.size + length
    for name, raw in decode_json(header, dict[str, msgspec.Raw], file).items():
        if name != "__metadata__":
            entry = decode_json(bytes(raw), _Entry, f"{file}: tensor {name}")
            yield _stored(file, path, name, entry, start, size - start)


def _stored(
    file: str, path: Path, name: str, entry: _Entry, start: int, available: int
) -> StoredTensor:
    begin, end = entry.data_offsets
    where = f"{file}: tensor {name}"
    if not 0 <= begin <= end <= available:
        raise BadRequest(f"{where}: data from {begin} to {end}, the file has {available} bytes")
    if len(entry.shape) > MAX_DIMENSIONS or any(size < 0 for size in entry.shape):
        raise BadRequest(f"{where}: a shape with {len(entry.shape)} dimensions, or negative ones")
    element = ELEMENT_SIZES.get(entry.dtype)
    if element is not None and prod(entry.shape) * element != end - begin:
        raise BadRequest(
            f"{where}: {end - begin} bytes, expected {prod(entry.shape) * element} for "
            f"{entry.dtype} of shape {entry.shape}"
        )
    return StoredTensor(
        name, file, path, entry.dtype, tuple(entry.shape), start + begin, end - begin
    )
