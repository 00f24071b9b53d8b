"""Routes of Anthropic's interface: messages, and how many tokens they have."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llamaherd.api.anthropic_replies import (
    ErrorReply,
    Reply,
    TokenCount,
    details_of,
    error_object,
    name_of,
    status_of,
)
from llamaherd.api.anthropic_requests import read_count_tokens, read_messages
from llamaherd.api.replies import encode
from llamaherd.errors import BadRequest, ContextExceeded, LlamaherdError, ModelNotFound
from llamaherd.events import Event
from llamaherd.observe import request_id
from llamaherd.server.bodies import read_request
from llamaherd.server.refusals import is_anthropic
from llamaherd.server.services import services_of
from llamaherd.server.streaming import Deferred, ServerSentEvents, error_of, event


class NamedRequest:
    """ASGI middleware that tells Anthropic's clients the id of a request where they look for it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start" and is_anthropic(scope):
                MutableHeaders(scope=message)["request-id"] = request_id.get()
            await send(message)

        await self._app(scope, receive, send_with_id)


async def messages(request: Request) -> Response:
    try:
        wanted = await read_request(request, read_messages)
    except LlamaherdError as error:
        return refuse(error)
    reply = Reply(wanted)
    events = services_of(request).generation.chat(wanted.chat, reply.prompt_read)
    if wanted.chat.stream:
        parts = _parts(reply, events)
        return ServerSentEvents(parts, refuse=refuse, last_words=_last_words)
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
    try:
        wanted = await read_request(request, read_count_tokens)
    except LlamaherdError as error:
        return refuse(error)
    generation = services_of(request).generation

    async def count() -> Response:
        return _json(TokenCount(await generation.count_chat(wanted)))

    return Deferred(count, refuse)


def refuse(error: Exception) -> Response:
    """What answers a request that fails before anything was sent."""
    status, body = _error(error)
    return _json(body, status_of(status))


def _last_words(error: Exception) -> bytes:
    """The event that ends a stream which breaks off."""
    _, body = _error(error)
    return event(encode(body), "error")


def _error(error: Exception) -> tuple[int, ErrorReply]:
    status, text = error_of(_as_anthropic_words_it(error))
    return status, error_object(text, status, request_id.get(), details=details_of(error))


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


_NAMED = [Middleware(NamedRequest)]

routes = [
    Route("/v1/messages", messages, methods=["POST"], middleware=_NAMED),
    Route("/v1/messages/count_tokens", count_tokens, methods=["POST"], middleware=_NAMED),
]
