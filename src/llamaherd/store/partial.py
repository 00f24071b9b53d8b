"""A blob while it is being downloaded, and what is left of it when that is interrupted.

The layout is Ollama's, so that either program goes on where the other had to stop: the content in
``sha256-<hex>-partial``, full length from the start and with holes where nothing has come yet, and
beside it a small JSON file for each part, ``sha256-<hex>-partial-<N>``.

A part's file never claims bytes that were not written, so a killed process loses nothing but what
it had not written yet. After a power failure the system may have kept the claim and lost the bytes;
that shows in the digest, and who downloads starts over.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import time
from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Final, Self

import msgspec
from msgspec import Struct, field

from llamaherd.errors import StoreError
from llamaherd.store.blobs import BlobStore
from llamaherd.store.files import FILE_MODE, make_folder, store_errors, sync_folder

#: How long, in seconds, an interrupted download waits for someone to go on with it.
RESUMABLE_FOR: Final = 7 * 24 * 3600.0

_NAME: Final = re.compile(r"sha256-[0-9a-f]{64}-partial(-[0-9]{1,9})?")

#: The length of a part's file; padded to it, one write replaces all that was there before.
_STATE_SIZE: Final = 128


class Part(Struct):
    """A range of the blob, of which the first ``completed`` bytes are there; all in bytes."""

    number: int = field(name="N")
    offset: int = field(name="Offset")
    size: int = field(name="Size")
    completed: int = field(name="Completed", default=0)

    @property
    def position(self) -> int:
        """Of the next byte, in the blob."""
        return self.offset + self.completed

    @property
    def stop(self) -> int:
        return self.offset + self.size

    @property
    def is_complete(self) -> bool:
        return self.completed == self.size


class PartialBlob:
    """The files of one download, which belong to one process at a time. Everything blocks."""

    def __init__(self, path: Path, file: int, total: int, parts: list[Part]) -> None:
        self._path = path
        self._file = file
        self.total = total
        self.parts = parts

    @classmethod
    def open(cls, blobs: BlobStore, digest: str, total: int, part_size: int) -> Self:
        """Goes on with what there is, or begins a blob of ``total`` bytes in parts of that size.

        Raises ``StoreError``, also when another process downloads this blob.
        """
        make_folder(blobs.folder)
        path = blobs.path(digest)
        path = path.with_name(f"{path.name}-partial")
        with store_errors("write", path):
            file = _open_locked(path)
            try:
                parts = _resumable(path, file, total)
                if parts is None:
                    return cls(path, file, total, [])._begun(_cut(total, part_size))
                return cls(path, file, total, parts)
            except BaseException:
                os.close(file)
                raise

    @property
    def completed(self) -> int:
        return sum(part.completed for part in self.parts)

    @property
    def contiguous(self) -> int:
        """How many bytes are there from the beginning on without a gap."""
        for part in self.parts:
            if not part.is_complete:
                return part.position
        return self.total

    def write(self, part: Part, chunks: Iterable[bytes]) -> None:
        """Adds to a part; raises ``StoreError`` when the disk is full or fails."""
        content = b"".join(chunks)
        with store_errors("write to", self._path):
            written = 0
            while written < len(content):
                rest = memoryview(content)[written:]
                written += os.pwrite(self._file, rest, part.position + written)
            part.completed += written
            self._save(part)

    def read(self, position: int, size: int) -> bytes:
        with store_errors("read", self._path):
            return os.pread(self._file, size, position)

    def as_one_part(self) -> None:
        """Keeps what is there from the beginning on, as the beginning of a single part."""
        part = Part(0, 0, self.total, self.contiguous)
        with store_errors("write", self._path):
            self._begun([part])

    def commit(self, path: Path) -> None:
        """Gives the content its name, in one step and so that it survives a power failure."""
        with store_errors("write", path):
            os.fchmod(self._file, FILE_MODE)
            os.fsync(self._file)
            self._path.replace(path)
            sync_folder(path.parent)
            self._remove_states()

    def discard(self) -> None:
        with store_errors("remove", self._path):
            self._path.unlink(missing_ok=True)
            self._remove_states()

    def close(self) -> None:
        """What was not committed or discarded stays for another time."""
        os.close(self._file)

    def _begun(self, parts: list[Part]) -> Self:
        self._remove_states()
        os.ftruncate(self._file, self.total)
        self.parts = parts
        for part in parts:
            self._save(part)
        return self

    def _save(self, part: Part) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(_state_path(self._path, part.number), flags, FILE_MODE)
        try:
            os.pwrite(file, msgspec.json.encode(part).ljust(_STATE_SIZE - 1) + b"\n", 0)
        finally:
            os.close(file)

    def _remove_states(self) -> None:
        for path in self._path.parent.glob(f"{self._path.name}-*"):
            path.unlink(missing_ok=True)


def is_worth_keeping(path: Path) -> bool:
    """Whether a file belongs to a download that is going on, or that may still be resumed."""
    match = _NAME.fullmatch(path.name)
    if match is None:
        return False
    data = path.with_name(path.name.removesuffix(match[1] or ""))
    try:
        is_recent = data.lstat().st_mtime > time.time() - RESUMABLE_FOR
    except OSError:
        return False
    return is_recent or _is_being_downloaded(data)


def _is_being_downloaded(data: Path) -> bool:
    try:
        file = os.open(data, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(file)
    return False


def completed_bytes(blobs: BlobStore, digest: str, total: int) -> int:
    """How much of a blob an interrupted download has left, without touching it."""
    path = blobs.path(digest)
    path = path.with_name(f"{path.name}-partial")
    try:
        parts = _read_parts(path)
        is_whole = path.stat().st_size == total
    except OSError:
        return 0
    return sum(part.completed for part in parts) if is_whole and _is_sound(parts, total) else 0


def _open_locked(path: Path) -> int:
    """The file, made if need be, and held by this process only."""
    while True:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        file = os.open(path, flags, FILE_MODE)
        try:
            _lock(file, path)
            # Between opening and locking, its owner may have finished it and given it its name.
            if path.exists() and os.path.samestat(os.fstat(file), path.stat()):
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)


def _lock(file: int, path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise StoreError(f"another process is downloading {path}") from error
    except OSError:
        # Some network file systems have no locks; there, one server is all there may be.
        return


def _resumable(path: Path, file: int, total: int) -> list[Part] | None:
    """The parts of an interrupted download, None if there is none to go on with."""
    if os.fstat(file).st_size != total:
        return None
    parts = _read_parts(path)
    return parts if _is_sound(parts, total) else None


def _read_parts(path: Path) -> list[Part]:
    parts: list[Part] = []
    with contextlib.suppress(msgspec.MsgspecError, UnicodeDecodeError, FileNotFoundError):
        for number in count():
            state = os.open(_state_path(path, number), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                parts.append(msgspec.json.decode(os.read(state, 2 * _STATE_SIZE), type=Part))
            finally:
                os.close(state)
    return parts


def _is_sound(parts: list[Part], total: int) -> bool:
    """Whether the parts cover the blob without gaps, and claim no more than fits."""
    stop = 0
    for number, part in enumerate(parts):
        if part.number != number or part.offset != stop or not 0 <= part.completed <= part.size:
            return False
        stop = part.stop
    return stop == total


def _cut(total: int, part_size: int) -> list[Part]:
    offsets = range(0, total, part_size)
    return [Part(n, at, min(part_size, total - at)) for n, at in enumerate(offsets)]


def _state_path(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}-{number}")
