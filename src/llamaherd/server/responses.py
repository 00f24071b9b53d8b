"""Routes of OpenAI's Responses API: respond, count, and look at or forget what was responded."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaherd.api.fields import Fields
from llamaherd.api.openai_replies import error_object
from llamaherd.api.paging import Paging
from llamaherd.api.replies import encode
from llamaherd.api.requests import ChatRequest
from llamaherd.api.responses_items import shown
from llamaherd.api.responses_objects import DeletedResponse, InputTokens, ItemList
from llamaherd.api.responses_replies import Reply, StreamEvent
from llamaherd.api.responses_requests import ResponseRequest, read_response
from llamaherd.errors import BadRequest, ContextExceeded, LlamaherdError, NotFound
from llamaherd.events import Done, Event
from llamaherd.server.bodies import read_request
from llamaherd.server.openai import as_chat_words_it, failed, unreadable
from llamaherd.server.response_store import ItemNotFound, ResponseStore, Stored
from llamaherd.server.services import services_of
from llamaherd.server.streaming import JSON, Deferred, ServerSentEvents, error_of, event

#: By this code agents know that it is time to sum up.
_TOO_LONG: Final = "context_length_exceeded"

_INPUT_ITEMS: Final = Paging(after="after", default=20, most=100)


class PreviousResponseNotFound(BadRequest):
    """The response that a request goes on from isn't kept, or no longer."""


async def respond(request: Request) -> Response:
    services = services_of(request)
    try:
        exchange = await _exchange(request, services.responses)
    except LlamaherdError as error:
        return _refuse(error)
    events = services.generation.chat(exchange.chat)

    def refuse(error: Exception) -> Response:
        return _refuse(as_chat_words_it(error, exchange.chat.model))

    if exchange.chat.stream:
        return ServerSentEvents(
            exchange.stream(events), refuse=refuse, last_words=exchange.last_words
        )
    return Deferred(lambda: exchange.whole(events), refuse)


async def _exchange(request: Request, store: ResponseStore) -> _Exchange:
    """Long conversations are put together in a thread. Raises ``BadRequest``, ``ItemNotFound``."""
    wanted = await read_request(request, partial(read_response, find=store.item))
    previous = wanted.blank.previous_response_id
    if previous is None:
        return _Exchange(wanted, wanted.items, wanted.chat_after([]), store)
    try:
        stored = store.get(previous)
    except NotFound:
        text = f"Previous response with id '{previous}' not found."
        raise PreviousResponseNotFound(text) from None
    earlier = await asyncio.to_thread(stored.items)
    chat = await asyncio.to_thread(wanted.chat_after, earlier)
    return _Exchange(wanted, [*earlier, *wanted.items], chat, store)


class _Exchange:
    """One request and the reply to it, which is stored at its end unless the client objects."""

    def __init__(
        self, wanted: ResponseRequest, items: list[Any], chat: ChatRequest, store: ResponseStore
    ) -> None:
        self.chat = chat
        self._items = items
        self._reply = Reply(wanted)
        self._store = store

    async def stream(self, events: AsyncGenerator[Event, None]) -> AsyncIterator[bytes]:
        async with aclosing(events):
            async for found in events:
                told = list(self._reply.stream(found))
                if isinstance(found, Done):
                    self._keep()
                for one in told:
                    yield _sent(one)

    async def whole(self, events: AsyncGenerator[Event, None]) -> Response:
        async with aclosing(events):
            response = self._reply.whole([found async for found in events])
        self._keep()
        return Response(encode(response), media_type=JSON)

    def last_words(self, error: Exception) -> bytes:
        """The event that ends a stream which breaks off."""
        if isinstance(error, ContextExceeded):
            return _sent(self._reply.failed(_too_long(error), _TOO_LONG))
        _, text = error_of(error)
        return _sent(self._reply.failed(text))

    def _keep(self) -> None:
        response = self._reply.response
        if response.store:
            conversation = encode([*shown(self._items), *response.output])
            output = {item.id: encode(item) for item in response.output}
            self._store.add(response.id, Stored(encode(response), conversation, output))


def _sent(told: StreamEvent) -> bytes:
    return event(encode(told), told["type"])


async def count_tokens(request: Request) -> Response:
    services = services_of(request)
    try:
        chat = (await _exchange(request, services.responses)).chat
    except LlamaherdError as error:
        return _refuse(error)

    async def count() -> Response:
        counted = InputTokens(await services.generation.count_chat(chat))
        return Response(encode(counted), media_type=JSON)

    return Deferred(count, lambda error: _refuse(as_chat_words_it(error, chat.model)))


async def retrieve(request: Request) -> Response:
    try:
        if request.query_params.get("stream") == "true":
            raise BadRequest("stream: not supported for stored responses")
        stored = services_of(request).responses.get(request.path_params["response_id"])
    except LlamaherdError as error:
        return unreadable(error)
    return Response(stored.response, media_type=JSON)


async def input_items(request: Request) -> Response:
    """What a stored response answers, the latest item first unless ``order`` is "asc"."""
    query = Fields(dict(request.query_params))
    try:
        stored = services_of(request).responses.get(request.path_params["response_id"])
        items = await asyncio.to_thread(stored.input_items)
        if query.one_of("order", ("asc", "desc"), "desc") == "desc":
            items.reverse()
        page = _INPUT_ITEMS.page(query, items, lambda item: item["id"])
    except LlamaherdError as error:
        return unreadable(error)
    ids = [item["id"] for item in page.items]
    first, last = (ids[0], ids[-1]) if ids else (None, None)
    listed = ItemList(list(page.items), first, last, page.has_more)
    return Response(encode(listed), media_type=JSON)


async def delete(request: Request) -> Response:
    response_id = request.path_params["response_id"]
    try:
        services_of(request).responses.delete(response_id)
    except LlamaherdError as error:
        return unreadable(error)
    return Response(encode(DeletedResponse(response_id)), media_type=JSON)


def _refuse(error: Exception) -> Response:
    """The answer to a request that fails before anything was sent; agents go by some codes."""
    match error:
        case ContextExceeded():
            body = error_object(_too_long(error), "invalid_request_error", _TOO_LONG)
        case PreviousResponseNotFound(message=text):
            body = error_object(text, "invalid_request_error", "previous_response_not_found")
        case BadRequest() | ItemNotFound():
            return unreadable(error)
        case _:
            return failed(error)
    return Response(encode(body), BadRequest.status, media_type=JSON)


def _too_long(error: ContextExceeded) -> str:
    return (
        f"This model's maximum context length is {error.limit} tokens. "
        f"However, your messages resulted in {error.tokens} tokens."
    )


routes = [
    Route("/v1/responses", respond, methods=["POST"]),
    Route("/v1/responses/input_tokens", count_tokens, methods=["POST"]),
    Route("/v1/responses/{response_id}/input_items", input_items, methods=["GET"]),
    Route("/v1/responses/{response_id}", retrieve, methods=["GET"]),
    Route("/v1/responses/{response_id}", delete, methods=["DELETE"]),
]
