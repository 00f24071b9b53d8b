"""Routes about models: what is there, what runs, and changing it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from contextlib import aclosing
from dataclasses import replace
from typing import Any

from msgspec import UNSET
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from llamaherd.api.replies import (
    ListedModel,
    ModelDetails,
    ModelList,
    RunningModel,
    RunningModelList,
    ShownModel,
    WireMessage,
    format_time,
    timestamp,
)
from llamaherd.api.requests import (
    CreateRequest,
    ModelRequest,
    read_copy,
    read_create,
    read_delete,
    read_show,
)
from llamaherd.catalog import Catalog, open_part, open_weights
from llamaherd.create.create import create_model
from llamaherd.create.quantize.types import parse_target
from llamaherd.cria.bundle import install_if_missing
from llamaherd.errors import BadRequest, InvalidName, ModelNotFound, ShuttingDown
from llamaherd.gguf import model_info, tensor_list
from llamaherd.server.bodies import read_request
from llamaherd.server.services import Services, services_of
from llamaherd.server.streaming import JSON, json_response, steps_response
from llamaherd.store.blobs import parse_digest
from llamaherd.store.library import Library
from llamaherd.store.model import ModelSummary
from llamaherd.store.names import Name
from llamaherd.store.progress import SUCCESS, Progress
from llamaherd.store.show import modelfile_text, parameters_text

#: Uploads are hashed and written in pieces of at least this size, in bytes.
_PIECE = 1 << 20


def details_of(model: ModelSummary, *, parent: str = "") -> ModelDetails:
    """As in Ollama, lists don't tell the ``parent`` of a model."""
    config = model.config
    return ModelDetails(
        parent_model=parent,
        format=config.model_format,
        family=config.model_family,
        families=config.model_families,
        parameter_size=config.model_type,
        quantization_level=config.file_type,
    )


async def tags(request: Request) -> Response:
    models = await asyncio.to_thread(services_of(request).library.list)
    return json_response(ModelList([_listed(model) for model in models]))


def _listed(model: ModelSummary) -> ListedModel:
    name = model.name.short
    return ListedModel(
        name, name, timestamp(model.modified_at), model.size, model.digest, details_of(model)
    )


async def ps(request: Request) -> Response:
    """Models in memory, the one that stays longest first."""
    loaded = services_of(request).scheduler.loaded()
    loaded.sort(key=lambda model: model.expires_at, reverse=True)
    models = []
    for model in loaded:
        stored: ModelSummary = model.info
        models.append(
            RunningModel(
                name=model.name,
                model=model.name,
                size=model.size,
                digest=stored.digest,
                details=details_of(stored),
                expires_at=format_time(model.expires_at),
                size_vram=model.size_vram,
                context_length=model.context_length,
            )
        )
    return json_response(RunningModelList(models))


async def show(request: Request) -> Response:
    wanted = await read_request(request, read_show)
    if not wanted.model:
        raise BadRequest("model is required")
    catalog = services_of(request).catalog
    return json_response(await asyncio.to_thread(describe, catalog, wanted))


def describe(catalog: Catalog, wanted: ModelRequest) -> ShownModel:
    """All that there is to know of a model; ``system`` and ``options`` of the request win."""
    model = catalog.find(wanted.model)
    stored = model.stored
    if wanted.system:
        stored = replace(stored, system=wanted.system)
    if wanted.options:
        stored = replace(stored, parameters={**stored.parameters, **wanted.options})
    with open_weights(stored) as gguf:
        info = model_info(gguf, verbose=wanted.verbose)
        tensors = tensor_list(gguf)
    projector_info: dict[str, Any] = {}
    for path in stored.projector_paths[:1]:
        with open_part(path, stored) as gguf:
            projector_info = model_info(gguf, verbose=wanted.verbose)
    messages = [WireMessage(m.role, m.content) for m in stored.messages]
    return ShownModel(
        license="\n".join(stored.licenses) or UNSET,
        modelfile=modelfile_text(stored),
        parameters=parameters_text(stored.parameters) or UNSET,
        template=model.template.text,
        system=stored.system or UNSET,
        details=details_of(stored, parent=stored.parent_model),
        messages=messages or UNSET,
        model_info=info,
        projector_info=projector_info or UNSET,
        tensors=tensors,
        capabilities=list(model.capabilities),
        modified_at=timestamp(stored.modified_at),
    )


async def copy(request: Request) -> Response:
    wanted = await read_request(request, read_copy)
    source = _copy_name("source", wanted.source)
    destination = _copy_name("destination", wanted.destination)
    library = services_of(request).library
    try:
        await asyncio.to_thread(_copy, library, source, destination)
    except ModelNotFound:
        raise ModelNotFound(wanted.source, f'model "{wanted.source}" not found') from None
    return Response()


def _copy(library: Library, source: Name, destination: Name) -> None:
    install_if_missing(library, source)
    library.copy(source, destination)


def _copy_name(field: str, text: str) -> Name:
    try:
        return Name.parse(text)
    except InvalidName:
        raise InvalidName(f'{field} "{text}" is invalid') from None


async def delete(request: Request) -> Response:
    wanted = await read_request(request, read_delete)
    try:
        name = Name.parse(wanted.model)
    except InvalidName:
        raise InvalidName(f"name '{wanted.model}' is invalid") from None
    try:
        await asyncio.to_thread(services_of(request).library.delete, name)
    except ModelNotFound:
        raise ModelNotFound(wanted.model) from None
    return Response()


async def create(request: Request) -> Response:
    wanted = await read_request(request, read_create)
    Name.parse(wanted.model)
    return steps_response(_creating(services_of(request), wanted), stream=wanted.stream)


async def _creating(services: Services, wanted: CreateRequest) -> AsyncGenerator[Progress, None]:
    """The steps of making a model, after those of pulling the one it begins with if need be."""
    if wanted.quantize:
        parse_target(wanted.quantize)  # Whether there is such a type is told before the pull.
    if wanted.from_ and not wanted.files:
        base = Name.parse(wanted.from_)
        if not await asyncio.to_thread(services.library.exists, base):
            async with aclosing(services.transfers.pull(base)) as reports:
                async for progress in reports:
                    if progress != SUCCESS:
                        yield progress
    steps = create_model(services.library, wanted, keep_replaced=services.settings.noprune)
    async with aclosing(_in_threads(steps, services.closing)) as reports:
        async for progress in reports:
            yield progress


async def _in_threads(
    steps: Generator[Progress, None, None], closing: asyncio.Event
) -> AsyncGenerator[Progress, None]:
    """What ``steps`` yields, each step done in a thread. Closing this closes ``steps`` too, as soon
    as the step that runs is done. Raises ``ShuttingDown`` between two steps once ``closing``."""
    running: asyncio.Future[Progress | None] | None = None
    step: Progress | None = None
    try:
        while True:
            if closing.is_set() and step != SUCCESS:
                raise ShuttingDown
            running = asyncio.ensure_future(run_in_threadpool(next, steps, None))
            # A thread can't be interrupted, so the step outlives a cancellation and is waited for.
            if (step := await asyncio.shield(running)) is None:
                return
            yield step
    finally:
        if running is not None:
            await asyncio.gather(running, return_exceptions=True)
        await run_in_threadpool(steps.close)


async def blob_exists(request: Request) -> Response:
    digest = parse_digest(request.path_params["digest"])
    there = services_of(request).library.blobs.exists(digest)
    return Response(status_code=200) if there else Response(status_code=404, media_type=JSON)


async def upload_blob(request: Request) -> Response:
    """201 when the blob was written, 200 when it was there already."""
    digest = parse_digest(request.path_params["digest"])
    blobs = services_of(request).library.blobs
    if blobs.exists(digest):
        return Response(status_code=200)
    with blobs.writer() as writer:
        async for piece in _pieces(request):
            await asyncio.to_thread(writer.write, piece)
        await asyncio.to_thread(writer.commit, digest)
    return Response(status_code=201)


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body in pieces of about ``_PIECE`` bytes; raises ``BadRequest`` when it breaks off."""
    buffer = bytearray()
    try:
        async for part in request.stream():
            buffer += part
            if len(buffer) >= _PIECE:
                yield bytes(buffer)
                buffer.clear()
    except ClientDisconnect:
        raise BadRequest("the upload broke off") from None
    yield bytes(buffer)


routes = [
    Route("/api/tags", tags, methods=["GET", "HEAD"]),
    Route("/api/ps", ps, methods=["GET", "HEAD"]),
    Route("/api/show", show, methods=["POST"]),
    Route("/api/copy", copy, methods=["POST"]),
    Route("/api/delete", delete, methods=["DELETE"]),
    Route("/api/create", create, methods=["POST"]),
    Route("/api/blobs/{digest}", blob_exists, methods=["HEAD"]),
    Route("/api/blobs/{digest}", upload_blob, methods=["POST"]),
]
