"""The shards of a GGUF file, as llama.cpp's ``llama-gguf-split`` makes them, become whole again.

The first shard has all of the model's metadata; every shard says which it is, of how many, and how
many tensors there are in all of them together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from llamaherd.create.convert.writer import Bytes
from llamaherd.create.shards import COUNT, SPLIT_PREFIX, ShardName
from llamaherd.errors import BadRequest, InvalidGGUF
from llamaherd.gguf import GGUF, TENSOR_TYPES, TensorInfo
from llamaherd.gguf.header import Description, encode_header
from llamaherd.store.files import store_errors

_NUMBER: Final = "split.no"
_TENSORS: Final = "split.tensors.count"

#: Bytes that are copied at a time.
_PIECE: Final = 1 << 23

_CODES: Final = {kind.name: code for code, kind in TENSOR_TYPES.items()}


@dataclass(frozen=True, slots=True)
class _Shard:
    """``file`` is what the user calls it; ``tensors`` is the number in all shards together."""

    file: str
    path: Path
    gguf: GGUF
    number: int
    count: int
    tensors: int


class Merge:
    """What will be written. Making one reads the headers and raises ``BadRequest`` unless the files
    are all the shards of one model and nothing else."""

    def __init__(self, files: Mapping[str, Path]) -> None:
        with ExitStack() as stack:
            shards = [_open(file, path, stack) for file, path in sorted(files.items())]
            shards = _in_order(shards)
            _check_tensors(shards)
            first = shards[0].gguf
            self._alignment = first.alignment
            self._entries = [
                first.metadata.encoded(key)
                for key in first.metadata
                if not key.startswith(SPLIT_PREFIX)
            ]
            self._tensors = [
                (shard, shard.gguf.data_offset + tensor.offset, tensor)
                for shard in shards
                for tensor in shard.gguf.tensors
            ]

    @property
    def nbytes(self) -> int:
        return sum(tensor.nbytes for _, _, tensor in self._tensors)

    def write(self, write: Callable[[Bytes], object]) -> None:
        """Raises ``BadRequest`` when a file has become shorter, ``StoreError`` if it can't be
        read."""
        descriptions = [_described(tensor) for _, _, tensor in self._tensors]
        write(encode_header(self._entries, descriptions, self._alignment))
        for shard, offset, tensor in self._tensors:
            for piece in _pieces(shard, offset, tensor):
                write(piece)
            write(bytes(-tensor.nbytes % self._alignment))


def _open(file: str, path: Path, stack: ExitStack) -> _Shard:
    try:
        with store_errors("open", path):
            gguf = stack.enter_context(GGUF.open(path))
        number, count, tensors = (gguf.get(key, int) for key in (_NUMBER, COUNT, _TENSORS))
    except InvalidGGUF as error:
        raise BadRequest(f"{file}: not a shard of a GGUF: {error}") from error
    name = ShardName.parse(file)
    if name is not None and (name.number, name.count) != (number + 1, count):
        raise BadRequest(f"{file}: by its content it is shard {number + 1} of {count}")
    return _Shard(file, path, gguf, number, count, tensors)


def _in_order(shards: list[_Shard]) -> list[_Shard]:
    """By number, each of them there once."""
    first = shards[0]
    found: dict[int, _Shard] = {}
    for shard in shards:
        own, others = ShardName.parse(shard.file), ShardName.parse(first.file)
        names_differ = own is not None and others is not None and own.model != others.model
        if shard.count != first.count or shard.tensors != first.tensors or names_differ:
            raise BadRequest(f"{shard.file}: a shard of another model than {first.file}")
        if (other := found.get(shard.number)) is not None:
            raise BadRequest(f"{shard.file}: shard {shard.number + 1} is {other.file} already")
        found[shard.number] = shard
    name = ShardName.parse(first.file)
    for number in range(first.count):
        if number not in found:
            missing = name.sibling(number + 1) if name else f"shard {number + 1} of {first.count}"
            raise BadRequest(f"{missing} is missing")
    if len(found) != first.count:
        number = max(found)
        raise BadRequest(f"{found[number].file}: shard {number + 1} of only {first.count}")
    return [found[number] for number in range(first.count)]


def _check_tensors(shards: list[_Shard]) -> None:
    seen: dict[str, str] = {}
    for shard in shards:
        for tensor in shard.gguf.tensors:
            if tensor.name in seen:
                raise BadRequest(
                    f"{shard.file}: tensor {tensor.name} is in {seen[tensor.name]} too"
                )
            seen[tensor.name] = shard.file
    if len(seen) != shards[0].tensors:
        raise BadRequest(
            f"{shards[0].file}: {_TENSORS} is {shards[0].tensors}, but the shards have {len(seen)}"
        )


def _described(tensor: TensorInfo) -> Description:
    return Description(tensor.name, tensor.shape, _CODES[tensor.type], tensor.nbytes)


def _pieces(shard: _Shard, offset: int, tensor: TensorInfo) -> Iterator[Bytes]:
    with store_errors("read", shard.path), shard.path.open("rb", buffering=0) as file:
        end = offset + tensor.nbytes
        while offset < end:
            piece = os.pread(file.fileno(), min(_PIECE, end - offset), offset)
            if not piece:
                raise BadRequest(f"{shard.file}: the file ends within tensor {tensor.name}")
            yield piece
            offset += len(piece)
