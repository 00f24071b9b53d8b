"""Blobs: files named by the SHA-256 of their content, ``blobs/sha256-<64 hex digits>``."""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Final, Self

from llamaherd.errors import BadRequest, InvalidDigest, StoreError
from llamaherd.store.files import (
    TEMPORARY_PREFIX,
    discard,
    make_folder,
    open_file,
    open_temporary,
    publish,
    refuse_escape,
    store_errors,
)

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")

#: An unfinished file that nobody has written to for so long, in seconds, is an orphan.
STALE_AFTER: Final = 3600.0


def parse_digest(text: str) -> str:
    """``sha256:<64 lowercase hex digits>``, also from ``sha256-…``; raises ``InvalidDigest``."""
    match = _DIGEST.fullmatch(text)
    if match is None:
        raise InvalidDigest
    return f"sha256:{match[1]}"


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


class BlobWriter:
    """One blob on its way in; what is not committed leaves nothing behind.

    Any number of writers may bring the same blob at once: each has its own file, and the last to
    commit replaces the others' identical one. Calls may come from different threads, one at a time.
    """

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._hash = hashlib.sha256()
        self._file, self._temporary = open_temporary(store.folder)
        self.size = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def write(self, chunk: bytes | bytearray | memoryview) -> None:
        """Raises ``StoreError`` when the disk is full or fails."""
        with store_errors("write to", self._store.folder):
            self._file.write(chunk)
        self._hash.update(chunk)
        self.size += len(chunk)

    def commit(self, expected: str | None = None) -> str:
        """The digest, once the blob is safe on disk under its name.

        Raises ``BadRequest`` when the content is not that of the expected digest.
        """
        digest = f"sha256:{self._hash.hexdigest()}"
        if expected is not None and parse_digest(expected) != digest:
            raise BadRequest(f'digest mismatch, expected "{expected}", got "{digest}"')
        publish(self._file, self._temporary, self._store.path(digest))
        return digest

    def abort(self) -> None:
        """Forgets the blob; does nothing after ``commit``."""
        discard(self._file, self._temporary)


class BlobStore:
    """The ``blobs`` folder of a model store. Every digest is checked before it becomes a path."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, digest: str) -> Path:
        """Where the blob is or would be.

        Raises ``InvalidDigest``, and ``StoreError`` for a link that leads out of the store.
        """
        path = self._name(digest)
        if path.is_symlink():
            refuse_escape(path, self.folder.parent)
        return path

    def _name(self, digest: str) -> Path:
        return self.folder / parse_digest(digest).replace(":", "-")

    def exists(self, digest: str) -> bool:
        return self.path(digest).is_file()

    def size(self, digest: str) -> int:
        """In bytes; raises ``StoreError`` when the blob isn't there."""
        path = self.path(digest)
        with store_errors("open", path):
            return path.stat().st_size

    def open(self, digest: str) -> IO[bytes]:
        path = self.path(digest)
        with store_errors("open", path):
            return open_file(path)

    def read(self, digest: str, limit: int) -> bytes:
        """The whole content; raises ``StoreError`` beyond ``limit`` bytes."""
        path = self.path(digest)
        with store_errors("read", path), open_file(path) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise StoreError(f"{path} is larger than the {limit} bytes that are allowed for it")
        return content

    def writer(self) -> BlobWriter:
        """For content that comes in pieces; use it as a context manager."""
        return BlobWriter(self)

    def put(self, content: bytes) -> str:
        """The digest of content that is small enough to hold."""
        digest = digest_of(content)
        if not self.exists(digest):
            with self.writer() as writer:
                writer.write(content)
                writer.commit(digest)
        return digest

    def remove(self, digest: str) -> None:
        path = self._name(digest)
        with store_errors("remove", path):
            path.unlink(missing_ok=True)

    def prepare(self) -> None:
        """At start: makes the folder and removes what interrupted writers left in it."""
        make_folder(self.folder)
        for path in self.older_than(STALE_AFTER):
            if path.name.startswith(TEMPORARY_PREFIX):
                with store_errors("remove", path):
                    path.unlink(missing_ok=True)

    def older_than(self, seconds: float) -> Iterator[Path]:
        """Files that have not been written to for so long, in the order of their names."""
        latest = time.time() - seconds
        with store_errors("read", self.folder):
            paths = sorted(self.folder.iterdir()) if self.folder.is_dir() else []
        for path in paths:
            try:
                status = path.lstat()
            except FileNotFoundError:
                continue
            if path.is_file() and status.st_mtime < latest:
                yield path
