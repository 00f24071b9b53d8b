"""Manifests: which blobs a model is made of, ``manifests/<host>/<namespace>/<model>/<tag>``.

The layout is that of Ollama to the byte, because a model's ID is the digest of its manifest. What
is read here may have been written by anyone: it is checked before anything relies on it.
"""

from __future__ import annotations

import errno
import hashlib
import logging
import re
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct, field

from llamaherd.errors import InvalidDigest, InvalidName, ModelNotFound, StoreError
from llamaherd.store.blobs import STALE_AFTER, parse_digest
from llamaherd.store.encoding import go_json
from llamaherd.store.files import (
    TEMPORARY_PREFIX,
    make_folder,
    open_file,
    refuse_escape,
    store_errors,
    write_atomically,
)
from llamaherd.store.names import Name

_log: Final = logging.getLogger(__name__)

#: The largest manifest that is read, in bytes; real ones have one or two kilobytes.
MAX_SIZE: Final = 4 << 20

MANIFEST_TYPE: Final = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG_TYPE: Final = "application/vnd.docker.container.image.v1+json"

#: A manifest lies so many levels below the folder of them all.
_DEPTH: Final = 4

_DIGEST_ANYWHERE: Final = re.compile(rb"sha256[:-][0-9a-f]{64}")


class MediaType(StrEnum):
    """What a layer holds. Others exist in the wild; they are kept and not looked at."""

    MODEL = "application/vnd.ollama.image.model"
    ADAPTER = "application/vnd.ollama.image.adapter"
    PROJECTOR = "application/vnd.ollama.image.projector"
    TEMPLATE = "application/vnd.ollama.image.template"
    SYSTEM = "application/vnd.ollama.image.system"
    LICENSE = "application/vnd.ollama.image.license"
    PARAMS = "application/vnd.ollama.image.params"
    MESSAGES = "application/vnd.ollama.image.messages"
    PROMPT = "application/vnd.ollama.image.prompt"
    """A template, in models of 2023."""


class Layer(Struct, frozen=True, omit_defaults=True):
    """A blob and what it holds; ``size`` in bytes.

    ``from_`` tells where a layer was taken from: the short name of another model, or a path.
    """

    media_type: str = field(name="mediaType")
    digest: str
    size: int
    from_: str = field(name="from", default="")


class Manifest(Struct, frozen=True, kw_only=True):
    """In the order of the file. Go writes a model without layers as ``null``."""

    schema_version: int = field(name="schemaVersion", default=2)
    media_type: str = field(name="mediaType", default=MANIFEST_TYPE)
    config: Layer
    layers: list[Layer] | None = None

    @property
    def blobs(self) -> list[Layer]:
        """All that the model needs on disk: the layers, then the config."""
        return [*(self.layers or []), self.config]

    @property
    def size(self) -> int:
        """Of all blobs together, in bytes."""
        return sum(layer.size for layer in self.blobs)

    def encode(self) -> bytes:
        return go_json(msgspec.to_builtins(self))


def decode_manifest(content: bytes) -> Manifest:
    """Raises ``StoreError`` that says what is wrong."""
    try:
        manifest = msgspec.json.decode(content, type=Manifest)
        for layer in manifest.blobs:
            parse_digest(layer.digest)
            if layer.size < 0:
                raise StoreError(f"layer {layer.digest} has the size {layer.size}")
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(str(error)) from error
    except InvalidDigest as error:
        raise StoreError(f"not a digest: {layer.digest!r}") from error
    return manifest


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """A manifest on disk; ``modified_at`` in nanoseconds since 1970."""

    name: Name
    manifest: Manifest
    digest: str
    """64 hex digits of the SHA-256 of the file, whose first 12 are the ID that people see."""
    modified_at: int


class ManifestStore:
    """The ``manifests`` folder of a model store. Writing callers hold the store's lock."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def prepare(self) -> None:
        """At start: makes the folder and removes what interrupted writers left in it."""
        make_folder(self.folder)
        latest = time.time() - STALE_AFTER
        for path in self.folder.glob(f"*/*/*/{TEMPORARY_PREFIX}*"):
            with store_errors("remove", path), suppress(FileNotFoundError):
                if path.lstat().st_mtime < latest:
                    path.unlink()

    def path(self, name: Name) -> Path:
        return self.folder / name.path

    def existing_spelling(self, name: Name) -> Name:
        """The name as the store spells it, where it differs in case only.

        When no such model exists, the leading parts that do exist are taken over, so that
        ``Library/TINY`` does not become a second folder beside ``library/tiny``.
        """
        for depth in range(len(name.parts), 0, -1):
            spelled = next(_spellings(self.folder, name.parts[:depth]), None)
            if spelled is not None:
                host, namespace, model, tag = (*spelled, *name.parts[depth:])
                return Name(host, namespace, model, tag, given=name.given)
        return name

    def read(self, name: Name) -> StoredManifest:
        """The manifest of exactly this name.

        Raises ``ModelNotFound``, or ``StoreError`` when the file is damaged.
        """
        path = self.path(name)
        try:
            content, modified_at = self._read_file(path)
        except FileNotFoundError as error:
            raise ModelNotFound(name.given or name.short) from error
        try:
            manifest = decode_manifest(content)
        except StoreError as error:
            raise StoreError(f"damaged manifest {path}: {error}") from error
        return StoredManifest(name, manifest, hashlib.sha256(content).hexdigest(), modified_at)

    def read_bytes(self, name: Name) -> bytes:
        """As ``read``, but unchecked."""
        try:
            return self._read_file(self.path(name))[0]
        except FileNotFoundError as error:
            raise ModelNotFound(name.given or name.short) from error

    def exists(self, name: Name) -> bool:
        path = self.path(name)
        try:
            return path.is_file()
        except OSError as error:
            if _is_absence(error):
                return False
            raise StoreError(f"can't read {path}: {error.strerror or error}") from error

    def names(self, *, skip_unreadable: bool = False) -> list[Name]:
        """Of all manifests, readable or not, in the order of their paths.

        Raises ``StoreError`` for a folder that can't be read, unless such ones are to be skipped.
        """
        files = _files(self.folder, _DEPTH, skip_unreadable)
        found = [path.relative_to(self.folder).parts for path in files]
        names = []
        for host, namespace, model, tag in found:
            try:
                names.append(Name(host, namespace, model, tag))
            except InvalidName:
                _log.debug("not a manifest: %s", self.folder / host / namespace / model / tag)
        return names

    def read_all(self) -> list[StoredManifest]:
        """Every sound manifest; a damaged one costs a warning, not the list, and so does a folder
        that can't be read."""
        manifests = []
        for name in self.names(skip_unreadable=True):
            try:
                manifests.append(self.read(name))
            except ModelNotFound:
                continue
            except StoreError as error:
                _log.warning("skipped %s: %s", name, error)
        return manifests

    def references(self) -> set[str]:
        """The digests that any manifest mentions, a damaged one included.

        What nobody can read raises ``StoreError``: then no blob may be called unused.
        """
        digests: set[str] = set()
        for name in self.names():
            try:
                content = self.read_bytes(name)
            except ModelNotFound:
                continue
            digests.update(parse_digest(m.decode()) for m in _DIGEST_ANYWHERE.findall(content))
        return digests

    def write(self, name: Name, content: bytes) -> None:
        path = self.path(name)
        refuse_escape(path.parent, self.folder.parent)
        write_atomically(path, content)

    def remove(self, name: Name) -> None:
        """The manifest, and the folders that hold nothing else; raises ``ModelNotFound``."""
        path = self.path(name)
        try:
            with store_errors("remove", path):
                path.unlink()
        except StoreError as error:
            if isinstance(error.__cause__, OSError) and _is_absence(error.__cause__):
                raise ModelNotFound(name.given or name.short) from error
            raise
        for folder in list(path.parents)[:3]:
            try:
                folder.rmdir()
            except OSError:
                break

    def _read_file(self, path: Path) -> tuple[bytes, int]:
        """Content and modification time; ``FileNotFoundError`` passes through."""
        try:
            refuse_escape(path, self.folder.parent)
            with open_file(path) as file:
                content = file.read(MAX_SIZE + 1)
            modified_at = path.stat().st_mtime_ns
        except OSError as error:
            if _is_absence(error):
                raise FileNotFoundError(path) from error
            raise StoreError(f"can't read {path}: {error.strerror or error}") from error
        if len(content) > MAX_SIZE:
            raise StoreError(f"{path} is too large for a manifest (over {MAX_SIZE} bytes)")
        return content, modified_at


def _is_absence(error: OSError) -> bool:
    """Whether nothing of this name is there, or could be: a host may be longer than a file name."""
    missing = (FileNotFoundError, NotADirectoryError, IsADirectoryError)
    return isinstance(error, missing) or error.errno == errno.ENAMETOOLONG


def _files(folder: Path, depth: int, skip_unreadable: bool) -> Iterator[Path]:
    """The files exactly ``depth`` levels below, sorted; a missing folder has none."""
    try:
        with store_errors("read", folder):
            children = sorted(folder.iterdir())
            if depth == 1:
                children = [child for child in children if child.is_file()]
    except StoreError as error:
        if isinstance(error.__cause__, (FileNotFoundError, NotADirectoryError)):
            return
        if depth == _DEPTH or not skip_unreadable:
            raise
        _log.warning("skipped models: %s", error)
        return
    for child in children:
        if depth > 1:
            yield from _files(child, depth - 1, skip_unreadable)
        else:
            yield child


def _spellings(folder: Path, parts: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The existing paths that differ from this one in case only, the exact one first."""
    if not parts:
        yield ()
        return
    try:
        children = sorted(child.name for child in folder.iterdir())
    except OSError:
        return
    wanted, *rest = parts
    matching = [child for child in children if child.lower() == wanted.lower()]
    for child in sorted(matching, key=lambda child: child != wanted):
        for spelled in _spellings(folder / child, tuple(rest)):
            yield (child, *spelled)
