"""The layers of a model that is being created, before any of it is written."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec

from llamaherd.gguf import GGUF, file_type_name, human_number
from llamaherd.messages import Message, ToolCall
from llamaherd.prompt.special import TOOL_TEMPLATE, special_tokens
from llamaherd.prompt.template import USUAL_TOKENS, SpecialTokens
from llamaherd.store.blobs import BlobStore, digest_of
from llamaherd.store.encoding import go_json, sorted_keys
from llamaherd.store.files import store_errors
from llamaherd.store.manifests import CONFIG_TYPE, Layer, Manifest, MediaType
from llamaherd.store.model import ModelConfig, RootFS

WEIGHTS: Final = (MediaType.MODEL, MediaType.PROJECTOR, MediaType.ADAPTER)


@dataclass(frozen=True, slots=True)
class Weights:
    """What a GGUF file says about itself; ``kind`` is the layer that it makes.

    ``chat_template`` is in Jinja's language, empty if there is none.
    """

    kind: MediaType
    architecture: str
    parameter_count: int
    file_type: str
    chat_template: str = ""
    special_tokens: SpecialTokens = USUAL_TOKENS


@dataclass(frozen=True, slots=True)
class Part:
    """A layer, what to report about it, and its content if it may not be in the store yet."""

    layer: Layer
    status: str
    content: bytes | None = None
    weights: Weights | None = None

    @property
    def kind(self) -> str:
        return self.layer.media_type


def read_weights(path: Path) -> Weights:
    """Raises ``InvalidGGUF`` when any of the file's header is unsound, ``StoreError`` if unread."""
    with store_errors("open", path):
        gguf = GGUF.open(path)
    with gguf:
        return Weights(
            kind=_kind(gguf),
            architecture=gguf.architecture,
            parameter_count=gguf.parameter_count,
            file_type=file_type_name(gguf.file_type),
            chat_template=_only_template(gguf),
            special_tokens=special_tokens(gguf),
        )


def _only_template(gguf: GGUF) -> str:
    """Of two, one made into a TEMPLATE would take the place of both."""
    is_alone = gguf.get(TOOL_TEMPLATE, str, None) is None
    return gguf.get("tokenizer.chat_template", str, "") if is_alone else ""


def _kind(gguf: GGUF) -> MediaType:
    """A vision tower without a language model counts as a projector, whatever it calls itself."""
    general_type = gguf.get("general.type", str, "")
    if general_type == "adapter":
        return MediaType.ADAPTER
    blocks = gguf.arch_value("block_count", int, 0)
    vision_blocks = gguf.arch_value("vision.block_count", int, 0)
    if general_type in ("projector", "mmproj") or (vision_blocks and not blocks):
        return MediaType.PROJECTOR
    return MediaType.MODEL


def base_part(blobs: BlobStore, layer: Layer, base: str) -> Part:
    """A layer taken over from the model with the short name ``base``."""
    weights = read_weights(blobs.path(layer.digest)) if layer.media_type in WEIGHTS else None
    return _stored_part(blobs, layer.media_type, layer.digest, base, weights)


def gguf_part(blobs: BlobStore, digest: str) -> Part:
    """The layer that a GGUF file in the store makes."""
    path = blobs.path(digest)
    weights = read_weights(path)
    return _stored_part(blobs, weights.kind, digest, str(path), weights)


def made_part(blobs: BlobStore, digest: str) -> Part:
    """The layer that a GGUF makes which was itself made for this model."""
    weights = read_weights(blobs.path(digest))
    layer = Layer(media_type=weights.kind, digest=digest, size=blobs.size(digest))
    return Part(layer, f"creating new layer {digest}", weights=weights)


def _stored_part(
    blobs: BlobStore, kind: str, digest: str, origin: str, weights: Weights | None
) -> Part:
    layer = Layer(media_type=kind, digest=digest, size=blobs.size(digest), from_=origin)
    return Part(layer, f"using existing layer {digest}", weights=weights)


def new_part(blobs: BlobStore, kind: MediaType, content: bytes, status: str = "") -> Part:
    """A layer from content at hand; ``status`` replaces what is otherwise reported."""
    digest = digest_of(content)
    verb = "using existing" if blobs.exists(digest) else "creating new"
    layer = Layer(media_type=kind, digest=digest, size=len(content))
    return Part(layer, status or f"{verb} layer {digest}", content)


def config_of(parts: Iterable[Part]) -> ModelConfig:
    """The first weights give the model's family and size; all of them are named as families."""
    parts = list(parts)
    weights = [part.weights for part in parts if part.weights is not None]
    first = weights[0] if weights else None
    return ModelConfig(
        model_format="gguf" if first else "",
        model_family=first.architecture if first else "",
        model_families=[each.architecture for each in weights] or None,
        model_type=human_number(first.parameter_count) if first else "",
        file_type=first.file_type if first else "",
        rootfs=RootFS(diff_ids=[part.layer.digest for part in parts]),
    )


def manifest_of(parts: Iterable[Part]) -> tuple[Manifest, list[bytes]]:
    """The manifest and the blobs that must be written with it."""
    parts = list(parts)
    config = config_of(parts).encode()
    config_layer = Layer(media_type=CONFIG_TYPE, digest=digest_of(config), size=len(config))
    manifest = Manifest(config=config_layer, layers=[part.layer for part in parts])
    return manifest, [*(part.content for part in parts if part.content is not None), config]


def encode_parameters(parameters: dict[str, Any]) -> bytes:
    return go_json(sorted_keys(parameters))


def encode_messages(messages: Iterable[Message]) -> bytes:
    return go_json([_message_fields(message) for message in messages])


def _message_fields(message: Message) -> dict[str, Any]:
    """In the order of Ollama's type, where only role and content are always there."""
    given = msgspec.to_builtins(message)
    fields: dict[str, Any] = {"role": message.role, "content": message.content}
    for name in ("thinking", "images", "tool_calls", "tool_name", "tool_call_id"):
        if name in given:
            fields[name] = given[name]
    if message.tool_calls:
        fields["tool_calls"] = [_tool_call_fields(call) for call in message.tool_calls]
    return fields


def _tool_call_fields(call: ToolCall) -> dict[str, Any]:
    function = call.function
    index = {"index": function.index} if function.index else {}
    arguments = sorted_keys(function.arguments)
    fields = {"function": {**index, "name": function.name, "arguments": arguments}}
    return {"id": call.id, **fields} if call.id else fields
