"""Routes that bring models from and to registries."""

from __future__ import annotations

from collections.abc import AsyncGenerator

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaherd.api.requests import read_pull, read_push
from llamaherd.errors import BadRequest, InvalidName, NotInRegistry
from llamaherd.server.bodies import read_request
from llamaherd.server.services import services_of
from llamaherd.server.streaming import steps_response
from llamaherd.store.names import Name
from llamaherd.store.progress import Progress


async def pull(request: Request) -> Response:
    wanted = await read_request(request, read_pull)
    name = Name.parse(wanted.model)
    steps = services_of(request).transfers.pull(name, insecure=wanted.insecure)
    return steps_response(steps, stream=wanted.stream)


async def push(request: Request) -> Response:
    wanted = await read_request(request, read_push)
    if not wanted.model:
        raise BadRequest("model is required")
    try:
        name = Name.parse(wanted.model)
    except InvalidName:
        return steps_response(_nothing_to_push(), stream=wanted.stream)
    steps = services_of(request).transfers.push(name, insecure=wanted.insecure)
    return steps_response(steps, stream=wanted.stream)


async def _nothing_to_push() -> AsyncGenerator[Progress, None]:
    """To Ollama, a name that can't be one is a model that isn't there."""
    yield Progress("retrieving manifest")
    yield Progress("couldn't retrieve manifest")
    raise NotInRegistry


routes = [
    Route("/api/pull", pull, methods=["POST"]),
    Route("/api/push", push, methods=["POST"]),
]
