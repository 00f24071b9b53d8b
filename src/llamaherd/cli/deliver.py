"""Bringing the files of a new model to the server.

Over HTTP, as Ollama's client does, unless the server is on this machine and we may write to its
store: then the files go straight there, without a copy where the file system can do without. The
server never opens a path that a client names; that the store is the server's is found out by
leaving a blob there with random content and asking the server for it.
"""

from __future__ import annotations

import hashlib
import ipaddress
import os
import secrets
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final

from llamaherd.cli.display import Progress
from llamaherd.cli.parsing import CommandError
from llamaherd.client import Client
from llamaherd.config import Address
from llamaherd.errors import StoreError
from llamaherd.store.blobs import BlobStore
from llamaherd.store.files import publish_shared
from llamaherd.store.share import share

_CHUNK: Final = 1 << 20
_NONCE_SIZE: Final = 32


class Delivery(AbstractContextManager["Delivery"]):
    """Takes files, which it hashes, and then brings those that the server lacks.

    ``models`` is the store that the server has if it was started with our settings. What was not
    brought is forgotten at the end.
    """

    def __init__(self, client: Client, models: Path) -> None:
        self._client = client
        self._models = models
        self._paths: dict[str, Path] = {}
        self._shared: dict[str, Path] = {}

    @cached_property
    def _store(self) -> BlobStore | None:
        """The server's store, if it is here and ours to write to."""
        store = BlobStore(self._models / "blobs")
        is_here = _is_this_machine(self._client.address)
        if not is_here or not os.access(store.folder, os.W_OK | os.X_OK):
            return None
        try:
            nonce = store.put(secrets.token_bytes(_NONCE_SIZE))
            try:
                return store if self._client.has_blob(nonce) else None
            finally:
                store.remove(nonce)
        except StoreError:
            return None

    def take(self, path: Path) -> str:
        """The digest of the file, as it is now. Raises ``CommandError`` if it can't be read."""
        with _open(path) as file:
            shared = share(file, path, self._store.folder) if self._store else None
            try:
                digest = _digest(shared or path)
            except BaseException:
                _forget(shared)
                raise
        _forget(self._shared.pop(digest, None))
        if shared is not None:
            self._shared[digest] = shared
        self._paths[digest] = path
        return digest

    def bring(self, shown: Progress) -> None:
        """Raises ``CommandError`` for a file that has changed, and as the client does."""
        for digest, path in self._paths.items():
            if not self._client.has_blob(digest):
                self._bring(digest, path, shown)

    def __exit__(self, *exception: object) -> None:
        for shared in self._shared.values():
            _forget(shared)

    def _bring(self, digest: str, path: Path, shown: Progress) -> None:
        label, size = f"copying file {path.name}", path.stat().st_size
        shared = self._shared.pop(digest, None)
        if self._store is not None and shared is not None:
            publish_shared(shared, self._store.path(digest))
            shown.transfer(digest, label, size, size)
            return
        with _open(path) as file:
            if self._store is None:
                self._client.upload_blob(
                    digest, file, size, lambda sent: shown.transfer(digest, label, sent, size)
                )
                return
            with self._store.writer() as writer:
                while chunk := file.read(_CHUNK):
                    writer.write(chunk)
                    shown.transfer(digest, label, writer.size, max(size, writer.size))
                writer.commit(digest)


def _is_this_machine(address: Address) -> bool:
    if address.is_every:
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return address.host.lower() == "localhost"


def _open(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as content:
            return "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
    except OSError as error:
        raise CommandError(f"{path}: {error.strerror}") from error


def _forget(shared: Path | None) -> None:
    if shared is not None:
        shared.unlink(missing_ok=True)
