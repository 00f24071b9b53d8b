"""Files that are either whole or not there, and errors that name the path."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Final

from llamaherd.errors import StoreError

#: What a file that is still being written is called; unfinished ones are removed at start.
TEMPORARY_PREFIX: Final = ".tmp-"

#: As Ollama writes them: a store is often shared between a service and the users of its group.
FILE_MODE: Final = 0o644


@contextlib.contextmanager
def store_errors(action: str, path: Path) -> Iterator[None]:
    """Turns the operating system's errors into ``StoreError``: "can't write PATH: REASON"."""
    try:
        yield
    except OSError as error:
        raise StoreError(f"can't {action} {path}: {error.strerror or error}") from error


def make_folder(folder: Path) -> None:
    with store_errors("create", folder):
        folder.mkdir(parents=True, exist_ok=True)


def require_space(folder: Path, size: int, purpose: str) -> None:
    """Raises ``StoreError`` when ``size`` bytes, such as "to be downloaded", don't fit there."""
    with store_errors("read", folder):
        free = shutil.disk_usage(folder).free
    if size > free:
        raise StoreError(
            f"not enough disk space: {_gigabytes(size)} are {purpose},"
            f" {folder} has room for {_gigabytes(free)}"
        )


def _gigabytes(size: int) -> str:
    return f"{size / 1e9:.1f} GB"


def refuse_escape(path: Path, store: Path) -> None:
    """A link below the store may not lead out of it, whatever unpacked the store here.

    Raises ``StoreError``; the store itself may be a link.
    """
    with store_errors("read", path):
        leads_to, inside = os.path.realpath(path), os.path.realpath(store)
    if not Path(leads_to).is_relative_to(inside):
        raise StoreError(f"{path} is a link that leads out of the model store")


def open_file(path: Path) -> IO[bytes]:
    """For reading; raises ``OSError``, also for a named pipe: opening one may wait for ever."""
    if path.is_fifo():
        raise OSError(errno.EINVAL, "it is a named pipe, not a file", str(path))
    return path.open("rb")


def open_temporary(folder: Path) -> tuple[IO[bytes], Path]:
    """A new file in ``folder`` with a name that no one else uses."""
    make_folder(folder)
    with store_errors("write to", folder):
        descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
        return os.fdopen(descriptor, "wb"), Path(name)


def publish(file: IO[bytes], temporary: Path, path: Path, mode: int = FILE_MODE) -> None:
    """Gives a finished file its name, in one step and so that it survives a power failure."""
    with store_errors("write", path):
        file.flush()
        os.fchmod(file.fileno(), mode)
        os.fsync(file.fileno())
        file.close()
        temporary.replace(path)
        sync_folder(path.parent)


def publish_shared(temporary: Path, path: Path) -> None:
    """As ``publish``, for a file that is shared with another name and stays as it is."""
    with store_errors("write", path):
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        # Between two names of one file, a rename does nothing.
        temporary.unlink(missing_ok=True)
        sync_folder(path.parent)


def write_atomically(path: Path, content: bytes, mode: int = FILE_MODE) -> None:
    """Readers see the old content or the new one, never a part; raises ``StoreError``."""
    file, temporary = open_temporary(path.parent)
    try:
        with store_errors("write", path):
            file.write(content)
        publish(file, temporary, path, mode)
    except BaseException:
        discard(file, temporary)
        raise


def discard(file: IO[bytes], temporary: Path) -> None:
    """Best effort: what stays behind is removed at the next start."""
    with contextlib.suppress(OSError):
        file.close()
    with contextlib.suppress(OSError):
        temporary.unlink(missing_ok=True)


def sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class FolderLock:
    """Held while manifests change, so that "which blobs are in use?" has one answer.

    The lock is on the folder itself: it leaves no file behind, holds between threads and between
    processes, and ends with the process. Where the file system has no locks (some network ones),
    it holds within this object only.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mutex = threading.Lock()

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Waits for the lock; creates the folder when it isn't there."""
        make_folder(self._folder)
        with self._mutex:
            with store_errors("open", self._folder):
                descriptor = os.open(self._folder, os.O_RDONLY)
            try:
                with contextlib.suppress(OSError):
                    fcntl.flock(descriptor, fcntl.LOCK_EX)
                yield
            finally:
                os.close(descriptor)
