"""Routes that run a model: generate and chat, and its vocabulary alone."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaherd.api.replies import ChatDialect, DebugInfo, Dialect, GenerateDialect, Reply
from llamaherd.api.requests import read_chat, read_generate
from llamaherd.api.tokenize import read_detokenize, read_tokenize
from llamaherd.events import Event
from llamaherd.server.bodies import read_request
from llamaherd.server.services import services_of
from llamaherd.server.streaming import Lines, Once


async def generate(request: Request) -> Response:
    generation = services_of(request).generation
    wanted = await read_request(request, read_generate)
    dialect = GenerateDialect(wanted.model)
    if wanted.debug_render_only:
        return Once(lambda: _rendered(dialect, generation.render_generate(wanted)))
    events = generation.generate(wanted)
    return _answer(dialect, events, stream=wanted.stream and wanted.prompt != "")


async def chat(request: Request) -> Response:
    generation = services_of(request).generation
    wanted = await read_request(request, read_chat)
    dialect = ChatDialect(wanted.model)
    if wanted.debug_render_only:
        return Once(lambda: _rendered(dialect, generation.render_chat(wanted)))
    events = generation.chat(wanted)
    return _answer(dialect, events, stream=wanted.stream and bool(wanted.messages))


def _answer(dialect: Dialect, events: AsyncIterator[Event], *, stream: bool) -> Response:
    """A request that only loads or unloads has one object for an answer, streaming or not."""
    if stream:
        return Lines(_replies(dialect, events))
    return Once(lambda: _whole(dialect, events))


async def _replies(dialect: Dialect, events: AsyncIterator[Event]) -> AsyncIterator[Reply]:
    async for event in events:
        yield dialect.reply(event)


async def _whole(dialect: Dialect, events: AsyncIterator[Event]) -> Reply:
    return dialect.whole([event async for event in events])


async def _rendered(dialect: Dialect, rendering: Awaitable[DebugInfo]) -> Reply:
    return dialect.rendered(await rendering)


async def tokenize(request: Request) -> Response:
    tokenization = services_of(request).tokenization
    wanted = await read_request(request, read_tokenize)
    return Once(lambda: tokenization.tokenize(wanted))


async def detokenize(request: Request) -> Response:
    tokenization = services_of(request).tokenization
    wanted = await read_request(request, read_detokenize)
    return Once(lambda: tokenization.detokenize(wanted))


routes = [
    Route("/api/generate", generate, methods=["POST"]),
    Route("/api/chat", chat, methods=["POST"]),
    Route("/api/tokenize", tokenize, methods=["POST"]),
    Route("/api/detokenize", detokenize, methods=["POST"]),
]
