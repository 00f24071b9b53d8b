"""The process that converts: ``python -m llamaherd.create.convert.child DESCRIPTOR``.

It reads its job from standard input, a line of JSON, writes the GGUF to the file descriptor it was
given, and says on standard output how it goes on, in lines of JSON as well.
Should standard input end, the server is gone, and so is this process.
"""

from __future__ import annotations

import hashlib
import os
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

import msgspec

from llamaherd.create.convert.adapters.conversion import AdapterConversion
from llamaherd.create.convert.convert import Conversion
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.jobs import ConvertAdapter, ConvertModel, Files, Job, MergeShards
from llamaherd.create.convert.merge import Merge
from llamaherd.create.convert.report import Converted, Failed, Report, Underway
from llamaherd.create.convert.writer import Bytes
from llamaherd.errors import BadRequest, LlamaherdError, StoreError

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
            _tell(Underway(min(self._size, self._total), self._total))

    @property
    def digest(self) -> str:
        return f"sha256:{self._hash.hexdigest()}"


def main(arguments: list[str]) -> int:
    job: Job = msgspec.json.decode(sys.stdin.buffer.readline(), type=Job)
    threading.Thread(target=_end_with_server, daemon=True).start()
    try:
        work = _work(job)
        output = Output(int(arguments[0]), work.nbytes)
        work.write(output.write)
    except LlamaherdError as error:
        _tell(Failed(error.message, is_request=isinstance(error, BadRequest)))
        return 1
    _tell(Converted(output.digest))
    return 0


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


def _end_with_server() -> None:
    # Not through sys.stdin, whose lock would be in the way when the interpreter ends.
    while os.read(0, 1):
        pass
    os._exit(1)


def _tell(report: Report) -> None:
    sys.stdout.buffer.write(msgspec.json.encode(report) + b"\n")
    sys.stdout.buffer.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
