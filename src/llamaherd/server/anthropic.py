"""Routes of Anthropic's interface: messages, and how many tokens they have."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llamaherd.api.anthropic_replies import (
    Reply,
    details_of,
    error_object,
    name_of,
    status_of,
)
from llamaherd.api.anthropic_requests import read_count_tokens, read_messages
from llamaherd.api.replies import encode
from llamaherd.errors import BadRequest, ContextExceeded, LlamaherdError, ModelNotFound
from llamaherd.events import Event
from llamaherd.server.bodies import read_request
from llamaherd.server.services import services_of
from llamaherd.server.streaming import Deferred, ServerSentEvents, error_of, event


class RequestId:
    """ASGI middleware that gives each request an id, which its answer names in ``request-id``."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        request_id = f"req_{secrets.token_hex(12)}"
        scope.setdefault("state", {})["request_id"] = request_id

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)["request-id"] = request_id
            await send(message)

        await self._app(scope, receive, send_with_id)


async def messages(request: Request) -> Response:
    refuse = _refusing(request)
    try:
        wanted = await read_request(request, read_messages)
    except LlamaherdError as error:
        return refuse(error)
    reply = Reply(wanted)
    events = services_of(request).generation.chat(wanted.chat, reply.prompt_read)
    if wanted.chat.stream:
        parts = _parts(reply, events)
        return ServerSentEvents(parts, refuse=refuse, last_words=_last_words(request))
    return Deferred(lambda: _whole(reply, events), refuse)


async def _parts(reply: Reply, events: AsyncGenerator[Event, None]) -> AsyncIterator[bytes]:
    async with aclosing(events):
        async for found in events:
            for told in reply.stream(found):
                yield event(encode(told), name_of(told))


async def _whole(reply: Reply, events: AsyncGenerator[Event, None]) -> Response:
    async with aclosing(events):
        return _json(reply.whole([found async for found in events]))


async def count_tokens(request: Request) -> Response:
    refuse = _refusing(request)
    try:
        wanted = await read_request(request, read_count_tokens)
    except LlamaherdError as error:
        return refuse(error)
    generation = services_of(request).generation

    async def count() -> Response:
        return _json({"input_tokens": await generation.count_chat(wanted)})

    return Deferred(count, refuse)


def _refusing(request: Request) -> Callable[[Exception], Response]:
    """What answers a request that fails before anything was sent."""

    def refuse(error: Exception) -> Response:
        status, body = _error(request, error)
        return _json(body, status_of(status))

    return refuse


def _last_words(request: Request) -> Callable[[Exception], bytes]:
    """The event that ends a stream which breaks off."""

    def last_words(error: Exception) -> bytes:
        _, body = _error(request, error)
        return event(encode(body), "error")

    return last_words


def _error(request: Request, error: Exception) -> tuple[int, dict[str, Any]]:
    status, text = error_of(_as_anthropic_words_it(error))
    request_id = request.state.request_id
    return status, error_object(text, status, request_id, details=details_of(error))


def _as_anthropic_words_it(error: Exception) -> Exception:
    """Some clients know by its words that a conversation has become too long."""
    match error:
        case ModelNotFound():
            return ModelNotFound("", f"{error.message}, try pulling it first")
        case ContextExceeded(tokens=tokens, limit=limit):
            return BadRequest(f"prompt is too long: {tokens} tokens > {limit} maximum")
    return error


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, headers={"content-type": "application/json"})


_WITH_ID = [Middleware(RequestId)]

routes = [
    Route("/v1/messages", messages, methods=["POST"], middleware=_WITH_ID),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"], middleware=_WITH_ID),
]
