"""The process that converts; its request is a ``Job``."""

from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable
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
    """What a job comes to: ``nbytes`` of tensors, and all of the file in order."""

    @property
    def nbytes(self) -> int: ...

    def write(self, write: Callable[[Bytes], object]) -> None: ...


class Output:
    """The file that is written, hashed on the way."""

    def __init__(self, descriptor: int, total: int) -> None:
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self._total = total
        self._told = time.monotonic()
        self._size = 0

    def write(self, content: Bytes) -> None:
        """Raises ``StoreError`` when the disk is full or fails."""
        self._hash.update(content)
        view = memoryview(content)
        try:
            while view:
                view = view[os.write(self._descriptor, view) :]
        except OSError as error:
            raise StoreError(f"can't write the converted model: {error.strerror}") from error
        self._size += len(content)
        if (now := time.monotonic()) - self._told >= _INTERVAL:
            self._told = now
            tell(Underway(min(self._size, self._total), self._total))

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def convert(request: bytes, descriptor: int) -> str:
    work = _work(msgspec.json.decode(request, type=Job))
    output = Output(descriptor, work.nbytes)
    work.write(output.write)
    return output.digest


def _work(job: Job) -> Work:
    """All that can be wrong with the files is found here, before anything is written."""
    match job:
        case ConvertModel(files):
            return Conversion(ModelFolder(_paths(files)))
        case ConvertAdapter(files, base):
            return AdapterConversion(ModelFolder(_paths(files)), Path(base))
        case MergeShards(files):
            return Merge(_paths(files))


def _paths(files: Files) -> dict[str, Path]:
    return {name: Path(path) for name, path in files.items()}


if __name__ == "__main__":
    sys.exit(run(convert, sys.argv[1:]))
