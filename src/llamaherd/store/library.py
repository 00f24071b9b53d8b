"""The models on disk, as the rest of the program sees them.

All changes go through here, under one lock that holds between threads and processes, so that a
manifest never comes to name a blob that is being removed:

* ``commit`` writes a model: its small blobs, a check that the large ones are there, the manifest.
* ``delete`` removes a manifest and of its blobs only those that no other manifest mentions. A blob
  that was just uploaded for another model is none of its business.
* ``forget`` removes a blob that was made on the way to another.
* ``prune`` removes what no manifest mentions, once at start, and only what has lain there for an
  hour: younger blobs may belong to a model that another process is just about to write. Downloads
  stay while they run, and for a week to be resumed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from llamaherd.errors import InvalidDigest, ModelNotFound, StoreError
from llamaherd.store.blobs import STALE_AFTER, BlobStore, parse_digest
from llamaherd.store.files import FolderLock, store_errors
from llamaherd.store.manifests import Manifest, ManifestStore, StoredManifest
from llamaherd.store.model import ModelSummary, StoredModel, read_model, read_summary
from llamaherd.store.names import Name
from llamaherd.store.partial import is_worth_keeping

_log: Final = logging.getLogger(__name__)


class Library:
    """A model store in Ollama's layout. Everything blocks; async callers use a thread."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.blobs = BlobStore(root / "blobs")
        self.manifests = ManifestStore(root / "manifests")
        self._lock = FolderLock(self.manifests.folder)

    def prepare(self) -> None:
        """At start: makes the folders and clears interrupted writes away.

        Raises ``StoreError`` when the store can't be read or written.
        """
        self.manifests.prepare()
        self.blobs.prepare()

    def list(self) -> list[ModelSummary]:
        """All sound models, the one changed last first; damaged ones are logged and left out."""
        models = []
        for stored in self.manifests.read_all():
            try:
                models.append(read_summary(stored, self.blobs))
            except StoreError as error:
                _log.warning("skipped %s: %s", stored.name, error)
        return sorted(models, key=lambda model: (-model.modified_at, model.name.short))

    def get(self, name: Name) -> StoredModel:
        """The model of this name in any case; raises ``ModelNotFound`` or ``StoreError``."""
        return read_model(self.manifest(name), self.blobs)

    def manifest(self, name: Name) -> StoredManifest:
        """As ``get``, without reading a layer."""
        return self.manifests.read(self.existing_spelling(name))

    def exists(self, name: Name) -> bool:
        return self.manifests.exists(self.existing_spelling(name))

    def existing_spelling(self, name: Name) -> Name:
        return self.manifests.existing_spelling(name)

    def copy(self, source: Name, destination: Name) -> None:
        """A second name for the same blobs; raises ``ModelNotFound`` when there is no source."""
        with self._lock.held():
            stored = self.manifest(source)
            target = self.existing_spelling(destination)
            if target != stored.name:
                self.manifests.write(target, self.manifests.read_bytes(stored.name))

    def commit(
        self,
        name: Name,
        manifest: Manifest,
        new_blobs: Iterable[bytes] = (),
        *,
        encoded: bytes | None = None,
        replace: bool = True,
        keep_replaced: bool = False,
    ) -> None:
        """Makes the model what the manifest says, or leaves everything as it was.

        ``new_blobs`` are the small layers, written here; ``encoded`` is the manifest's file where
        it isn't the usual one. A model that has the name already stays as it is without
        ``replace``; else what it had and nobody else has is removed, unless ``keep_replaced``.
        Raises ``StoreError``, also when one of the other blobs is missing.
        """
        with self._lock.held():
            name = self.existing_spelling(name)
            if not replace and self.manifests.exists(name):
                return
            for content in new_blobs:
                self.blobs.put(content)
            for layer in manifest.blobs:
                if not self.blobs.exists(layer.digest):
                    raise StoreError(f"{self.blobs.path(layer.digest)} is missing")
            replaced = self._readable(name)
            self.manifests.write(name, manifest.encode() if encoded is None else encoded)
            if replaced is not None and not keep_replaced:
                self._remove_unused(layer.digest for layer in replaced.manifest.blobs)

    def delete(self, name: Name) -> None:
        """Removes the model, also one with a damaged manifest; raises ``ModelNotFound``."""
        with self._lock.held():
            name = self.existing_spelling(name)
            deleted = self._readable(name)
            self.manifests.remove(name)
            if deleted is not None:
                self._remove_unused(layer.digest for layer in deleted.manifest.blobs)

    def forget(self, digest: str) -> None:
        """Removes a blob that was needed for a while, unless some model has it."""
        with self._lock.held():
            self._remove_unused([digest])

    def prune(self) -> int:
        """Removes old blobs that no manifest mentions, and downloads given up; how many files."""
        removed = 0
        with self._lock.held():
            used = self.manifests.references()
            for path in self.blobs.older_than(STALE_AFTER):
                if not path.name.startswith("sha256-") or _digest(path) in used:
                    continue
                if is_worth_keeping(path):
                    continue
                with store_errors("remove", path):
                    path.unlink(missing_ok=True)
                removed += 1
        return removed

    def _readable(self, name: Name) -> StoredManifest | None:
        """None for a damaged manifest or none at all: its blobs, if any, are left to ``prune``."""
        try:
            return self.manifests.read(name)
        except (ModelNotFound, StoreError):
            return None

    def _remove_unused(self, digests: Iterable[str]) -> None:
        try:
            used = self.manifests.references()
        except StoreError as error:
            _log.warning("kept blobs that may be in use: %s", error)
            return
        for digest in {parse_digest(digest) for digest in digests} - used:
            self.blobs.remove(digest)


def _digest(path: Path) -> str | None:
    """The digest that a file is named for; None for parts of downloads and the like."""
    try:
        return parse_digest(path.name)
    except InvalidDigest:
        return None
