"""A file's content under a second name, without copying it, for as long as nobody can tell.

A blob must never change, so how a file comes in depends on what may happen to it later:

* Where the file system can clone (btrfs, XFS, bcachefs), a clone shares the blocks until either
  side is written to. That is always safe.
* A hard link is the same file: whoever writes to it in place changes the blob. So only a file that
  nobody may write to is linked, and only one that everybody may read, as blobs are.

Anything else must be copied.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import stat
import sys
from pathlib import Path
from typing import BinaryIO, Final

from llamaherd.store.files import (
    FILE_MODE,
    TEMPORARY_PREFIX,
    discard,
    open_temporary,
    store_errors,
)

#: ``FICLONE`` of linux/fs.h.
_FICLONE: Final = 0x40049409

_READABLE: Final = stat.S_IRUSR | stat.S_IRGRP | stat.S_IROTH
_WRITABLE: Final = stat.S_IWUSR | stat.S_IWGRP | stat.S_IWOTH


def share(source: BinaryIO, path: Path, folder: Path) -> Path | None:
    """A temporary file in ``folder`` with the content of ``path``, which is open as ``source``.

    None where that takes a copy. Raises ``StoreError`` when ``folder`` can't be written.
    """
    return _cloned(source, folder) or _linked(source, path, folder)


def _cloned(source: BinaryIO, folder: Path) -> Path | None:
    if sys.platform != "linux":
        return None
    file, temporary = open_temporary(folder)
    try:
        fcntl.ioctl(file.fileno(), _FICLONE, source.fileno())
    except OSError:
        discard(file, temporary)
        return None
    with store_errors("write", temporary):
        os.fchmod(file.fileno(), FILE_MODE)
        file.close()
    return temporary


def _linked(source: BinaryIO, path: Path, folder: Path) -> Path | None:
    status = os.fstat(source.fileno())
    mode = status.st_mode
    if not stat.S_ISREG(mode) or mode & _WRITABLE or mode & _READABLE != _READABLE:
        return None
    temporary = folder / f"{TEMPORARY_PREFIX}{secrets.token_hex(8)}"
    try:
        os.link(path.resolve(), temporary)
    except OSError:
        return None
    if os.path.samestat(temporary.lstat(), status):
        return temporary
    temporary.unlink()
    return None
