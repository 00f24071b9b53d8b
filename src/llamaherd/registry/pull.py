"""Pulling: the manifest, then every blob that the store lacks, then the model."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import aclosing
from functools import partial

from llamaherd.errors import ModelNotFound, RegistryError, StoreError
from llamaherd.registry.client import RegistryClient
from llamaherd.registry.download import Download
from llamaherd.registry.remote import Remote
from llamaherd.registry.sharing import Downloads, pulling
from llamaherd.registry.transfer import Pace, Reports, patiently
from llamaherd.store.blobs import BlobStore
from llamaherd.store.files import make_folder, require_space
from llamaherd.store.library import Library
from llamaherd.store.manifests import Layer, Manifest, StoredManifest
from llamaherd.store.model import read_model
from llamaherd.store.names import Name
from llamaherd.store.partial import completed_bytes
from llamaherd.store.progress import SUCCESS, Progress


async def pull(
    library: Library,
    client: RegistryClient,
    downloads: Downloads,
    name: Name,
    remote: Remote,
    pace: Pace,
    *,
    keep_replaced: bool,
) -> Reports:
    """Makes ``name`` the model that ``remote`` is, reporting each step, the last one as "success".

    ``keep_replaced`` leaves the blobs alone that a model of this name had before. Raises
    ``RegistryError`` and ``StoreError``; then no model has changed, and what has been downloaded
    is there for the next time.
    """
    yield Progress("pulling manifest")
    try:
        manifest = await patiently(partial(client.manifest, remote), pace)
    except RegistryError as error:
        raise type(error)(f"pull model manifest: {error}") from error
    layers = {layer.digest: layer for layer in manifest.blobs}.values()
    await asyncio.to_thread(_check_space, library.blobs, layers)
    for layer in layers:
        if await asyncio.to_thread(_has, library.blobs, layer):
            yield pulling(layer, layer.size)
            continue
        begin = partial(_download, library.blobs, client, remote, layer, pace)
        async with aclosing(downloads.fetch(layer, begin)) as reports:
            async for progress in reports:
                yield progress
    yield Progress("verifying sha256 digest")
    yield Progress("writing manifest")
    if await asyncio.to_thread(_commit, library, name, manifest, keep_replaced):
        yield Progress("removing any unused layers")
    yield SUCCESS


def _download(
    blobs: BlobStore, client: RegistryClient, remote: Remote, layer: Layer, pace: Pace
) -> Download:
    source = partial(client.blob, remote, layer.digest, total=layer.size)
    return Download(blobs, layer, source, pace)


def _has(blobs: BlobStore, layer: Layer) -> bool:
    """Whether the store has the blob; raises ``RegistryError`` if the manifest lies about it."""
    if not blobs.exists(layer.digest):
        return False
    size = blobs.size(layer.digest)
    if size != layer.size:
        raise RegistryError(
            f"{layer.digest} has {size} bytes, but {layer.size} in the registry's manifest"
        )
    return True


def _check_space(blobs: BlobStore, layers: Iterable[Layer]) -> None:
    """Raises ``StoreError`` when what is missing of the layers doesn't fit on the disk."""
    needed = sum(
        layer.size - completed_bytes(blobs, layer.digest, layer.size)
        for layer in layers
        if not blobs.exists(layer.digest)
    )
    make_folder(blobs.folder)
    require_space(blobs.folder, needed, "to be downloaded")


def _commit(library: Library, name: Name, manifest: Manifest, keep_replaced: bool) -> bool:
    """Writes the model; whether one of this name had blobs that it doesn't need.

    Raises ``RegistryError`` when what was downloaded makes no model.
    """
    try:
        read_model(StoredManifest(name, manifest, "", 0), library.blobs)
    except StoreError as error:
        raise RegistryError(f"the registry's model is unsound: {error}") from error
    try:
        before = {layer.digest for layer in library.manifest(name).manifest.blobs}
    except (ModelNotFound, StoreError):
        before = set()
    # Ollama writes what it pulls without the newline of what it creates; the ID depends on it.
    library.commit(
        name, manifest, encoded=manifest.encode().rstrip(b"\n"), keep_replaced=keep_replaced
    )
    return not keep_replaced and not before <= {layer.digest for layer in manifest.blobs}
