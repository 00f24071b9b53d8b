"""Routes of OpenAI's interface: chat completions and completions."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaherd.api.openai_replies import (
    ChatCompletions,
    Completions,
    Reply,
    TextCompletions,
    Told,
    error_object,
)
from llamaherd.api.openai_requests import (
    CompletionChoice,
    CompletionRequest,
    Delivery,
    read_chat_completion,
    read_completion,
)
from llamaherd.api.replies import encode
from llamaherd.errors import (
    BadRequest,
    FieldError,
    LlamaherdError,
    ModelNotFound,
)
from llamaherd.events import Echo, Event
from llamaherd.generation.generation import Generation
from llamaherd.generation.scoring import ScoresOfPrompt
from llamaherd.server.bodies import read_request
from llamaherd.server.interleave import interleave
from llamaherd.server.services import services_of
from llamaherd.server.streaming import (
    JSON,
    Deferred,
    ServerSentEvents,
    error_of,
    event,
)

#: Ends every stream.
DONE = event(b"[DONE]")

Refuse = Callable[[Exception], Response]


async def chat_completions(request: Request) -> Response:
    try:
        wanted = await read_request(request, read_chat_completion)
    except LlamaherdError as error:
        return unreadable(error)
    generation = services_of(request).generation
    model = wanted.chat.model

    def refuse(error: Exception) -> Response:
        return failed(as_chat_words_it(error, model))

    return _answer(
        ChatCompletions(model, wanted.delivery.n),
        [generation.chat(choice) for choice in wanted.choices()],
        wanted.delivery,
        refuse,
    )


async def completions(request: Request) -> Response:
    try:
        wanted = await read_request(request, read_completion)
    except LlamaherdError as error:
        return unreadable(error)
    generation = services_of(request).generation
    return _answer(
        TextCompletions(
            wanted.generate.model,
            wanted.delivery.n,
            best_of=wanted.best_of,
            logprobs=wanted.logprobs,
        ),
        _all_written(generation, wanted),
        wanted.delivery,
        failed,
    )


def _all_written(
    generation: Generation, request: CompletionRequest
) -> list[AsyncGenerator[Echo | Event, None]]:
    """All replies in OpenAI's order: those to the first prompt, those to the second, …"""
    found = []
    for choices in request.candidates():
        scores = ScoresOfPrompt()
        found += [_written(generation, choice, request, scores) for choice in choices]
    return found


async def _written(
    generation: Generation,
    choice: CompletionChoice,
    request: CompletionRequest,
    scores: ScoresOfPrompt,
) -> AsyncGenerator[Echo | Event, None]:
    """One reply; with ``echo`` the prompt comes first, once it is known that a reply follows.

    An empty prompt has no tokens that could be scored and only loads the model.
    """
    wanted = choice.generate
    if request.scored and (wanted.prompt or choice.tokens):
        async with aclosing(generation.score(wanted, choice.tokens, scores)) as told:
            async for one in told:
                yield one
        return
    if choice.tokens is not None:
        wanted.prompt = await generation.detokenize(wanted.model, choice.tokens)
    echoed = wanted.prompt if request.echo else ""
    async with aclosing(generation.generate(wanted)) as events:
        async for found in events:
            if echoed:
                yield Echo(echoed)
                echoed = ""
            yield found


def _answer(
    dialect: Completions[Told],
    choices: Sequence[AsyncGenerator[Told, None]],
    delivery: Delivery,
    refuse: Refuse,
) -> Response:
    if delivery.stream:
        chunks = _chunks(dialect, choices, include_usage=delivery.include_usage)
        return ServerSentEvents(chunks, refuse=refuse, last_words=_last_words)
    return Deferred(lambda: _whole(dialect, choices), refuse)


async def _chunks(
    dialect: Completions[Told],
    choices: Sequence[AsyncGenerator[Told, None]],
    *,
    include_usage: bool,
) -> AsyncIterator[bytes]:
    async with aclosing(interleave(choices)) as events:
        async for index, found in events:
            yield _chunk(dialect.chunk(index, found))
    if include_usage:
        yield _chunk(dialect.usage())
    yield DONE


def _chunk(reply: Reply) -> bytes:
    return event(encode(reply))


async def _whole(
    dialect: Completions[Told], choices: Sequence[AsyncGenerator[Told, None]]
) -> Response:
    found: list[list[Told]] = [[] for _ in choices]
    async with aclosing(interleave(choices)) as events:
        async for index, one in events:
            found[index].append(one)
    return json_line(dialect.whole(found))


def unreadable(error: LlamaherdError) -> Response:
    """The answer to a request that makes no sense."""
    param, code = (error.field, error.code) if isinstance(error, FieldError) else (None, None)
    body = encode(error_object(error.message, "invalid_request_error", code, param=param))
    return Response(body, error.status, media_type=JSON)


def failed(error: Exception) -> Response:
    """The answer to a request that couldn't be fulfilled."""
    if isinstance(error, FieldError):
        return unreadable(error)
    status, text = error_of(error)
    return json_line(error_object(text, "api_error"), status)


def _last_words(error: Exception) -> bytes:
    """The event that ends a stream which breaks off; no ``DONE`` follows."""
    _, text = error_of(error)
    return event(encode(error_object(text, "api_error")))


def as_chat_words_it(error: Exception, model: str) -> Exception:
    if not isinstance(error, ModelNotFound):
        return error
    if not model:
        return BadRequest("model is required")
    return ModelNotFound(model, f'model "{model}" not found, try pulling it first')


def json_line(value: Any, status: int = 200) -> Response:
    """An answer of one JSON value, with a line break as Ollama's."""
    return Response(encode(value) + b"\n", status, headers={"content-type": "application/json"})


routes = [
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
]
