"""The process that converts; its request is a ``Job``."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, Protocol

import msgspec

from llamaherd.create.child import run, tell
from llamaherd.create.convert.adapters.conversion import AdapterConversion
from llamaherd.create.convert.convert import Conversion
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.jobs import ConvertAdapter, ConvertModel, Files, Job, MergeShards
from llamaherd.create.convert.merge import Merge
from llamaherd.create.convert.writer import Bytes
from llamaherd.create.report import Underway
from llamaherd.errors import StoreError

#: How often progress is told, in seconds.
_INTERVAL: Final = 0.2


class Work(Protocol):
    """A file that a job comes to: ``nbytes`` of tensors, and all of the file in order."""

    @property
    def nbytes(self) -> int: ...

    def write(self, write: Callable[[Bytes], object]) -> None: ...


class Output:
    """The files that are written, each hashed on the way; they have ``total`` bytes together."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._told = time.monotonic()
        self._size = 0

    def digest_of(self, work: Work, descriptor: int) -> str:
        """Writes it; raises ``StoreError`` when the disk is full or fails."""
        hashed = hashlib.sha256()

        def write(content: Bytes) -> None:
            hashed.update(content)
            _write_all(descriptor, content)
            self._count(len(content))

        work.write(write)
        return f"sha256:{hashed.hexdigest()}"

    def _count(self, size: int) -> None:
        self._size += size
        if (now := time.monotonic()) - self._told >= _INTERVAL:
            self._told = now
            tell(Underway(min(self._size, self._total), self._total))


def _write_all(descriptor: int, content: Bytes) -> None:
    view = memoryview(content)
    try:
        while view:
            view = view[os.write(descriptor, view) :]
    except OSError as error:
        raise StoreError(f"can't write the converted model: {error.strerror}") from error


def convert(request: bytes, descriptors: Sequence[int]) -> list[str]:
    works = _works(msgspec.json.decode(request, type=Job))
    assert len(works) <= len(descriptors), "more files than the server has opened"
    output = Output(sum(work.nbytes for work in works))
    return [
        output.digest_of(work, descriptor)
        for work, descriptor in zip(works, descriptors, strict=False)
    ]


def _works(job: Job) -> list[Work]:
    """All that can be wrong with the files is found here, before anything is written."""
    match job:
        case ConvertModel(files):
            conversion = Conversion(ModelFolder(_paths(files)))
            parts: tuple[Work | None, ...] = (conversion.model, conversion.projector)
            return [part for part in parts if part is not None]
        case ConvertAdapter(files, base):
            return [AdapterConversion(ModelFolder(_paths(files)), Path(base)).adapter]
        case MergeShards(files):
            return [Merge(_paths(files))]


def _paths(files: Files) -> dict[str, Path]:
    return {name: Path(path) for name, path in files.items()}


if __name__ == "__main__":
    sys.exit(run(convert, sys.argv[1:]))
