"""Creating a model in the store: from another model or from files, with changes on top.

Nothing is written until everything has been read and checked. Then the small layers, the config
and at last the manifest are committed together, so a failure leaves neither a broken model nor a
changed one.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from llamaherd.api.requests import CreateRequest
from llamaherd.create.layers import (
    Part,
    base_part,
    encode_messages,
    encode_parameters,
    manifest_of,
    new_part,
)
from llamaherd.create.quantize.types import parse_target
from llamaherd.create.sources import Sources
from llamaherd.errors import BadRequest, OptionError, TemplateError
from llamaherd.messages import ROLES, Message
from llamaherd.options import OPTIONS, check_option
from llamaherd.prompt import go_parse
from llamaherd.prompt.known import recognise
from llamaherd.store.blobs import BlobStore
from llamaherd.store.library import Library
from llamaherd.store.manifests import MediaType
from llamaherd.store.model import MAX_LAYER_SIZE, decode_json
from llamaherd.store.names import Name
from llamaherd.store.progress import Progress


def create_model(
    library: Library, request: CreateRequest, *, keep_replaced: bool = False
) -> Generator[Progress, None, None]:
    """Creates ``request.model``, reporting each step, the last one as "success".

    ``keep_replaced`` leaves the blobs alone that a model of this name had before. Raises
    ``InvalidName``, ``InvalidDigest``, ``BadRequest`` (what the request asks for can't be),
    ``ModelNotFound`` (``from``), ``InvalidGGUF``, ``StoreError`` and ``ConversionFailed``.
    """
    name = Name.parse(request.model)
    target = parse_target(request.quantize) if request.quantize else None
    sources = Sources(library)
    try:
        parts = yield from _base(library, sources, request)
        if target is not None:
            parts = yield from sources.quantized(parts, target)
        parts = _with_changes(library.blobs, parts, request)
        manifest, new_blobs = manifest_of(parts)
        for part in parts:
            yield Progress(part.status)
        yield Progress("writing manifest")
        library.commit(name, manifest, new_blobs, keep_replaced=keep_replaced)
    except BaseException:
        sources.discard()
        raise
    yield Progress("success")


def _base(
    library: Library, sources: Sources, request: CreateRequest
) -> Generator[Progress, None, list[Part]]:
    """The layers to begin with: those of ``from`` or ``files``, and the adapters."""
    if request.from_ and request.files:
        raise BadRequest("only one of 'from' and 'files' can be given")
    if request.from_:
        parts = _parts_of_model(library, Name.parse(request.from_))
    elif request.files:
        parts = yield from sources.model(request.files)
        if [part.kind for part in parts].count(MediaType.MODEL) != 1:
            raise BadRequest("files must hold exactly one model, not parts of one or several")
        parts += _recognised_template(library.blobs, parts)
    else:
        raise BadRequest("neither 'from' or 'files' was specified")
    if request.adapters:
        parts += yield from sources.adapters(request.adapters, parts)
    return parts


def _parts_of_model(library: Library, name: Name) -> list[Part]:
    stored = library.manifest(name)
    layers = stored.manifest.layers or []
    return [base_part(library.blobs, layer, stored.name.short) for layer in layers]


def _recognised_template(blobs: BlobStore, parts: list[Part]) -> list[Part]:
    """Layers that spare a model with a well-known chat format a TEMPLATE of its own."""
    found = []
    for weights in (part.weights for part in parts if part.weights):
        known = recognise(weights.chat_template, weights.special_tokens)
        if known is not None:
            status = f"using autodetected template {known.name}"
            found.append(new_part(blobs, MediaType.TEMPLATE, known.text.encode(), status))
            parameters = encode_parameters(known.parameters)
            found.append(new_part(blobs, MediaType.PARAMS, parameters))
    return found


def _with_changes(blobs: BlobStore, parts: list[Part], request: CreateRequest) -> list[Part]:
    """The layers with what the request sets: all replace those of the base, licences add to them.

    An empty text changes nothing.
    """
    if request.template:
        _check_template(request.template)
        parts = _replace(blobs, parts, MediaType.TEMPLATE, request.template.encode())
    if request.system:
        parts = _replace(blobs, parts, MediaType.SYSTEM, request.system.encode())
    for text in filter(None, request.license or ()):
        parts = [*parts, new_part(blobs, MediaType.LICENSE, text.encode())]
    if parameters := _merged_parameters(blobs, parts, request.parameters or {}):
        parts = _replace(blobs, parts, MediaType.PARAMS, encode_parameters(parameters))
    if request.messages:
        _check_messages(request.messages)
        parts = _replace(blobs, parts, MediaType.MESSAGES, encode_messages(request.messages))
    return parts


def _replace(blobs: BlobStore, parts: list[Part], kind: MediaType, content: bytes) -> list[Part]:
    kept = [part for part in parts if part.kind != kind]
    return [*kept, new_part(blobs, kind, content)]


def _check_template(text: str) -> None:
    try:
        go_parse.parse(text)
    except TemplateError as error:
        raise BadRequest(f"template error: {error}") from error


def _check_messages(messages: list[Message]) -> None:
    for message in messages:
        if message.role not in ROLES:
            roles = ", ".join(f'"{role}"' for role in ROLES)
            raise BadRequest(f'message role must be one of {roles}, not "{message.role}"')


def _merged_parameters(
    blobs: BlobStore, parts: list[Part], given: dict[str, Any]
) -> dict[str, Any]:
    """The base's parameters overlaid with checked ones; ``null`` takes one away."""
    merged: dict[str, Any] = {}
    for part in parts:
        if part.kind == MediaType.PARAMS:
            content = part.content
            if content is None:
                content = blobs.read(part.layer.digest, MAX_LAYER_SIZE)
            merged |= decode_json(content, dict[str, Any], blobs.path(part.layer.digest))
    for name, value in given.items():
        merged[name] = _checked_parameter(name, value)
    return {name: value for name, value in merged.items() if value is not None}


def _checked_parameter(name: str, value: Any) -> Any:
    """Names that are no options stay as they are: models may carry some for other programs."""
    if name not in OPTIONS or value is None:
        return value
    try:
        checked = check_option(name, value)
    except OptionError as error:
        raise BadRequest(f"parameters: {error}") from error
    return list(checked) if isinstance(checked, tuple) else checked
