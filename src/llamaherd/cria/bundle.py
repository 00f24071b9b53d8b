"""The model in the package, put into the store when it is first used.

It goes the way of every model that is created: all that is new is written under the store's lock,
the manifest last. So several processes may do this at once, one that is killed leaves nothing but a
temporary file, and a model that somebody else has given the name ``cria`` is never replaced.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

import msgspec

from llamaherd.create.layers import (
    Part,
    encode_parameters,
    manifest_of,
    new_part,
    read_weights,
)
from llamaherd.errors import BadRequest, InvalidGGUF, ModelNotFound, StoreError
from llamaherd.store.blobs import digest_of
from llamaherd.store.files import store_errors
from llamaherd.store.library import Library
from llamaherd.store.manifests import Manifest, MediaType
from llamaherd.store.names import Name
from llamaherd.store.progress import SUCCESS, Progress

log = logging.getLogger(__name__)

#: What the model is called in every store.
NAME: Final = Name.parse("cria")

FOLDER: Final = Path(__file__).parent
WEIGHTS: Final = FOLDER / "model.gguf"
TEMPLATE: Final = FOLDER / "template.txt"
SYSTEM: Final = FOLDER / "system.txt"

#: The digest of the weights, so that a damaged installation is told from a sound one.
DIGEST: Final = FOLDER / "model.digest"


def is_bundled(name: Name) -> bool:
    """Whether this is the name of the model in the package, in any case."""
    return name.key == NAME.key


def install_if_missing(library: Library, name: Name) -> bool:
    """Puts the model into the store if this is its name and the store has no model of that name.

    Whether the store has one then. Blocks while some megabytes are written. Raises ``StoreError``
    when the store can't be written or the package is damaged.
    """
    if not is_bundled(name):
        return False
    if not library.exists(name):
        manifest, contents = _layers(library)
        log.info("putting the model %s of the package into the store", NAME)
        _commit(library, manifest, contents)
    return True


def pull(library: Library) -> Generator[Progress, None, None]:
    """What pulling the model means: it comes from the package, reported as from a registry.

    Raises ``BadRequest`` if the store has another model of this name, besides ``StoreError``.
    """
    yield Progress("pulling manifest")
    manifest, contents = _layers(library)
    for layer in manifest.blobs:
        yield Progress(f"pulling {layer.digest[7:19]}", layer.digest, layer.size, layer.size)
    yield Progress("verifying sha256 digest")
    yield Progress("writing manifest")
    _commit(library, manifest, contents)
    try:
        stored = library.manifest(NAME)
    except ModelNotFound:
        raise StoreError(f"{NAME.short} was removed while it was pulled") from None
    if stored.manifest != manifest:
        raise BadRequest(
            f"the store's {NAME.short} is another model than the one in this version of llamaherd;"
            f" to get that one, remove the store's: ollama rm {NAME.model}"
        )
    yield SUCCESS


def parameters() -> dict[str, Any]:
    """The model's own options."""
    decoded: dict[str, Any] = msgspec.json.decode(_read(FOLDER / "parameters.json"))
    return decoded


def _commit(library: Library, manifest: Manifest, contents: list[bytes]) -> None:
    try:
        library.commit(NAME, manifest, contents, replace=False)
    except StoreError as error:
        raise StoreError(f"can't put {NAME.short} into the store: {error}") from error


def _layers(library: Library) -> tuple[Manifest, list[bytes]]:
    """The manifest and the content of all its layers."""
    blobs = library.blobs
    parts = [
        _weights(library),
        new_part(blobs, MediaType.TEMPLATE, _read(TEMPLATE)),
        new_part(blobs, MediaType.SYSTEM, _read(SYSTEM)),
        new_part(blobs, MediaType.PARAMS, encode_parameters(parameters())),
        new_part(blobs, MediaType.LICENSE, _read(FOLDER / "license.txt")),
    ]
    return manifest_of(parts)


def _weights(library: Library) -> Part:
    content = _read(WEIGHTS)
    expected = _read(DIGEST).decode("ascii", "replace").strip()
    if digest_of(content) != expected:
        raise StoreError(f"{WEIGHTS} is damaged: its digest is not {expected}; install again")
    try:
        weights = read_weights(WEIGHTS)
    except InvalidGGUF as error:
        raise StoreError(f"{WEIGHTS} is damaged: {error}") from error
    part = new_part(library.blobs, MediaType.MODEL, content)
    return Part(part.layer, part.status, content, weights)


def _read(path: Path) -> bytes:
    with store_errors("read", path):
        return path.read_bytes()
