"""Pushing: every blob that the registry lacks, then the manifest."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from functools import partial

from msgspec import structs

from llamaherd.errors import InvalidName, ModelNotFound, NotInRegistry
from llamaherd.registry.client import RegistryClient
from llamaherd.registry.remote import Remote
from llamaherd.registry.transfer import Pace, Reports, Tasks, check, ended, patiently, watch
from llamaherd.registry.upload import Upload
from llamaherd.store.library import Library
from llamaherd.store.manifests import Layer, Manifest
from llamaherd.store.names import Name
from llamaherd.store.progress import SUCCESS, Progress


async def push(
    library: Library,
    client: RegistryClient,
    tasks: Tasks,
    name: Name,
    remote: Remote,
    pace: Pace,
) -> Reports:
    """Brings a model to ``remote``, reporting each step, the last one as "success".

    Raises ``NotInRegistry`` ("file does not exist") when the store has no such model,
    ``RegistryError`` and ``StoreError``. The manifest goes last, so that a model is in the registry
    whole or not at all.
    """
    yield Progress("retrieving manifest")
    try:
        stored = await asyncio.to_thread(library.manifest, name)
    except ModelNotFound as error:
        yield Progress("couldn't retrieve manifest")
        raise NotInRegistry from error
    manifest = stored.manifest
    for layer in {layer.digest: layer for layer in manifest.blobs}.values():
        mount = _repository(layer.from_, remote)
        upload = Upload(library.blobs, layer.digest, client, remote, pace, mount)
        is_there = partial(client.has_blob, remote, layer.digest)
        if await patiently(is_there, pace):
            yield _pushing(layer, upload.total)
            continue
        async with aclosing(_upload(upload, layer, tasks)) as reports:
            async for progress in reports:
                yield progress
    yield Progress("pushing manifest")
    await patiently(partial(client.put_manifest, remote, _published(manifest)), pace)
    yield SUCCESS


async def _upload(upload: Upload, layer: Layer, tasks: Tasks) -> Reports:
    task = tasks.start(upload.run())
    try:
        async for progress in watch(task, lambda: _pushing(layer, upload.completed)):
            yield progress
        check(task)
        yield _pushing(layer, upload.total)
    finally:
        await ended(task)


def _pushing(layer: Layer, completed: int) -> Progress:
    return Progress(f"pushing {layer.digest[7:19]}", layer.digest, layer.size, completed)


def _repository(origin: str, remote: Remote) -> str:
    """The repository of the model that a layer was taken from, if the same registry has it."""
    name = _name(origin)
    if name is None or name.host.lower() != remote.registry.host.lower():
        return ""
    return f"{name.namespace}/{name.model}"


def _published(manifest: Manifest) -> bytes:
    """The manifest without the paths on this machine that its layers may have come from."""
    layers = [
        layer if _name(layer.from_) else structs.replace(layer, from_="")
        for layer in manifest.layers or ()
    ]
    return structs.replace(manifest, layers=layers).encode().rstrip(b"\n")


def _name(origin: str) -> Name | None:
    try:
        return Name.parse(origin)
    except InvalidName:
        return None
