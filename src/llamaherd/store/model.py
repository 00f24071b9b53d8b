"""A model as the store holds it: its manifest with the small layers read."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
from msgspec import Struct, field

from llamaherd.errors import StoreError
from llamaherd.messages import Message
from llamaherd.store.blobs import BlobStore
from llamaherd.store.encoding import go_json
from llamaherd.store.manifests import Layer, MediaType, StoredManifest
from llamaherd.store.names import Name

#: The largest text or JSON layer that is read, in bytes; images in messages make them large.
MAX_LAYER_SIZE: Final = 64 << 20


class RootFS(Struct, frozen=True):
    type: str = "layers"
    diff_ids: list[str] = field(default_factory=list)


class ModelConfig(Struct, frozen=True):
    """The config blob, in the order of its fields there.

    ``model_type`` is the number of parameters for people ("7B"), ``file_type`` the quantisation.
    """

    model_format: str = ""
    model_family: str = ""
    model_families: list[str] | None = None
    model_type: str = ""
    file_type: str = ""
    architecture: str = "amd64"
    os: str = "linux"
    rootfs: RootFS = field(default_factory=RootFS)

    def encode(self) -> bytes:
        return go_json(msgspec.to_builtins(self))


@dataclass(frozen=True)
class ModelSummary:
    """What a list shows: read from the manifest and the config alone.

    ``digest`` is 64 hex digits (people see the first 12), ``size`` in bytes of all blobs together,
    ``modified_at`` in nanoseconds since 1970, ``parent_model`` a model's short name or a path.
    """

    name: Name
    digest: str
    size: int
    modified_at: int
    config: ModelConfig
    parent_model: str


@dataclass(frozen=True)
class StoredModel(ModelSummary):
    """All of a model but its weights; the files it consists of by path.

    ``template`` and ``system`` are None where the model has no such layer. ``parameters`` are as
    the layer holds them, unchecked: they may come from a registry.
    """

    model_path: Path | None
    adapter_paths: tuple[Path, ...]
    projector_paths: tuple[Path, ...]
    template: str | None
    system: str | None
    parameters: dict[str, Any]
    messages: list[Message]
    licenses: list[str]
    layers: tuple[Layer, ...]


def read_summary(stored: StoredManifest, blobs: BlobStore) -> ModelSummary:
    """Raises ``StoreError`` when the config is missing or damaged."""
    return ModelSummary(**_summary(stored, blobs))


def read_model(stored: StoredManifest, blobs: BlobStore) -> StoredModel:
    """Raises ``StoreError`` when a layer that must be read is missing or damaged."""
    layers = tuple(stored.manifest.layers or ())
    models = _paths(layers, MediaType.MODEL, blobs)
    templates = _texts(layers, blobs, MediaType.TEMPLATE, MediaType.PROMPT)
    systems = _texts(layers, blobs, MediaType.SYSTEM)
    parameters: dict[str, Any] = {}
    for layer in _of(layers, MediaType.PARAMS):
        parameters |= _read_json(layer, blobs, dict[str, Any])
    messages: list[Message] = []
    for layer in _of(layers, MediaType.MESSAGES):
        messages = _read_json(layer, blobs, list[Message])
    return StoredModel(
        **_summary(stored, blobs),
        model_path=models[-1] if models else None,
        adapter_paths=_paths(layers, MediaType.ADAPTER, blobs),
        projector_paths=_paths(layers, MediaType.PROJECTOR, blobs),
        template=templates[-1] if templates else None,
        system=systems[-1] if systems else None,
        parameters=parameters,
        messages=messages,
        licenses=_texts(layers, blobs, MediaType.LICENSE),
        layers=layers,
    )


def _read_json(layer: Layer, blobs: BlobStore, kind: Any) -> Any:
    content = blobs.read(layer.digest, MAX_LAYER_SIZE)
    return decode_json(content, kind, blobs.path(layer.digest))


def decode_json(content: bytes, kind: Any, path: Path) -> Any:
    """The content of a JSON layer as ``kind``; raises ``StoreError`` when it is something else."""
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise StoreError(f"damaged layer {path}: {error}") from error


def _summary(stored: StoredManifest, blobs: BlobStore) -> dict[str, Any]:
    parents = [layer.from_ for layer in _of(stored.manifest.layers or (), MediaType.MODEL)]
    return {
        "name": stored.name,
        "digest": stored.digest,
        "size": stored.manifest.size,
        "modified_at": stored.modified_at,
        "config": _read_json(stored.manifest.config, blobs, ModelConfig),
        "parent_model": parents[-1] if parents else "",
    }


def _of(layers: tuple[Layer, ...] | list[Layer], *kinds: MediaType) -> list[Layer]:
    return [layer for layer in layers if layer.media_type in kinds]


def _paths(layers: tuple[Layer, ...], kind: MediaType, blobs: BlobStore) -> tuple[Path, ...]:
    return tuple(blobs.path(layer.digest) for layer in _of(layers, kind))


def _texts(layers: tuple[Layer, ...], blobs: BlobStore, *kinds: MediaType) -> list[str]:
    return [
        blobs.read(layer.digest, MAX_LAYER_SIZE).decode("utf-8", "replace")
        for layer in _of(layers, *kinds)
    ]
