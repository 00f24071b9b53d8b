"""Routes that turn texts into vectors, in Ollama's and OpenAI's interface."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaherd.api.embeddings import (
    EmbeddingsReply,
    EmbedReply,
    EmbedRequest,
    InputError,
    OpenAIEmbedding,
    OpenAIEmbeddingList,
    OpenAIEmbedRequest,
    OpenAIUsage,
    in_base64,
    read_embed,
    read_embeddings,
    read_openai,
)
from llamaherd.api.replies import encode
from llamaherd.embedding import Embedded
from llamaherd.errors import LlamaherdError
from llamaherd.server.bodies import read_request
from llamaherd.server.openai import failed, unreadable
from llamaherd.server.services import services_of
from llamaherd.server.streaming import JSON, Deferred, error_response

#: Vectors of more bytes take milliseconds to be written as JSON, in which the event loop can serve
#: others.
_LARGE: Final = 1 << 16


async def embed(request: Request) -> Response:
    wanted = await read_request(request, read_embed)
    return _answer(request, wanted, lambda done: encode(_embed_reply(wanted, done)))


async def embeddings(request: Request) -> Response:
    wanted = await read_request(request, read_embeddings)
    return _answer(request, wanted, lambda done: encode(_embeddings_reply(done)))


async def openai_embeddings(request: Request) -> Response:
    try:
        wanted = await read_request(request, read_openai)
    except LlamaherdError as error:
        return unreadable(error)
    return _answer(
        request,
        wanted.embed,
        lambda done: encode(_openai_reply(wanted, done)) + b"\n",
        media_type="application/json",
        refuse=failed,
    )


def _answer(
    request: Request,
    wanted: EmbedRequest,
    write: Callable[[Embedded], bytes],
    *,
    media_type: str = JSON,
    refuse: Callable[[Exception], Response] = error_response,
) -> Response:
    embedding = services_of(request).embedding

    async def respond() -> Response:
        done = await embedding.embed(wanted)
        size = sum(len(vector or b"") for vector in done.embeddings.vectors)
        body = write(done) if size < _LARGE else await asyncio.to_thread(write, done)
        return Response(body, headers={"content-type": media_type})

    return Deferred(respond, refuse)


def _embed_reply(wanted: EmbedRequest, done: Embedded) -> EmbedReply:
    found = done.embeddings
    if not wanted.inputs:
        return EmbedReply(wanted.model, [])
    reply = EmbedReply(
        wanted.model,
        [found.numbers(index) for index in range(len(found.vectors))],
        done.total_duration,
        done.load_duration,
        found.tokens,
    )
    if wanted.partial:
        reply.errors = [InputError(each.index, each.message) for each in found.failures]
    return reply


def _embeddings_reply(done: Embedded) -> EmbeddingsReply:
    found = done.embeddings
    return EmbeddingsReply((found.numbers(0) or []) if found.vectors else [])


def _openai_reply(wanted: OpenAIEmbedRequest, done: Embedded) -> OpenAIEmbeddingList:
    found = done.embeddings
    data = []
    for index, vector in enumerate(found.vectors):
        assert vector is not None, "a request that isn't partial has all vectors or an error"
        if wanted.encoding_format == "base64":
            data.append(OpenAIEmbedding("embedding", in_base64(vector), index))
        else:
            data.append(OpenAIEmbedding("embedding", found.numbers(index) or [], index))
    usage = OpenAIUsage(found.tokens, found.tokens)
    return OpenAIEmbeddingList("list", data, wanted.embed.model, usage)


routes = [
    Route("/api/embed", embed, methods=["POST"]),
    Route("/api/embeddings", embeddings, methods=["POST"]),
    Route("/v1/embeddings", openai_embeddings, methods=["POST"]),
]
