"""Routes of OpenAI's interface: chat completions, completions and models."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing
from typing import Any

from starlette.convertors import PathConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaherd.api.openai_replies import (
    ChatCompletions,
    Completions,
    Model,
    ModelList,
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
    InvalidName,
    LlamaherdError,
    ModelNotFound,
)
from llamaherd.events import Echo, Event
from llamaherd.generation.generation import Generation
from llamaherd.generation.scoring import ScoresOfPrompt
from llamaherd.server.bodies import read_request
from llamaherd.server.interleave import interleave
from llamaherd.server.services import Services, services_of
from llamaherd.server.streaming import (
    JSON,
    Deferred,
    ServerSentEvents,
    error_of,
    event,
)
from llamaherd.store.names import Name

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
    return _json(dialect.whole(found))


async def models(request: Request) -> Response:
    found = await asyncio.to_thread(services_of(request).library.list)
    data = [_model(model.name.short, model.name, model.modified_at) for model in found]
    return _json(ModelList("list", data))


async def model(request: Request) -> Response:
    wanted = request.path_params["model"]
    if not wanted:
        raise HTTPException(404)
    try:
        return _json(await asyncio.to_thread(_retrieve, services_of(request), wanted))
    except ModelNotFound as error:
        body = error_object(error.message, "api_error", "model_not_found", param="model")
        return _json(body, error.status)
    except LlamaherdError as error:
        return failed(error)


def _retrieve(services: Services, wanted: str) -> Model:
    try:
        stored = services.library.manifest(Name.parse(wanted))
    except (InvalidName, ModelNotFound):
        raise ModelNotFound(wanted) from None
    return _model(wanted, stored.name, stored.modified_at)


def _model(shown: str, name: Name, modified_at: int) -> Model:
    return Model(shown, "model", modified_at // 10**9, name.namespace)


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
    return _json(error_object(text, "api_error"), status)


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


def _json(value: Any, status: int = 200) -> Response:
    return Response(encode(value) + b"\n", status, headers={"content-type": "application/json"})


class _AnyText(PathConvertor):
    """The rest of a path, line breaks too, which Starlette's own leaves out."""

    regex = "(?s:.*)"


register_url_convertor("any", _AnyText())

routes = [
    Route("/v1/chat/completions", chat_completions, methods=["POST"]),
    Route("/v1/completions", completions, methods=["POST"]),
    Route("/v1/models", models, methods=["GET"]),
    Route("/v1/models/{model:any}", model, methods=["GET"]),
]
