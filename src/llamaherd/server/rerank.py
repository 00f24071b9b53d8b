"""Routes that order documents by how well they answer a query."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from llamaherd.api.replies import encode
from llamaherd.api.rerank import (
    Document,
    OpenRerankReply,
    RankedDocument,
    RerankReply,
    RerankRequest,
    RerankUsage,
    read_rerank,
)
from llamaherd.embedding import Ranked
from llamaherd.errors import LlamaherdError
from llamaherd.server.bodies import read_request
from llamaherd.server.openai import failed, unreadable
from llamaherd.server.services import services_of
from llamaherd.server.streaming import Deferred, Once


async def rerank(request: Request) -> Response:
    wanted = await read_request(request, read_rerank)
    embedding = services_of(request).embedding

    async def reply() -> RerankReply:
        done = await embedding.rerank(wanted)
        return RerankReply(
            wanted.model,
            _results(wanted, done),
            done.total_duration,
            done.load_duration,
            done.tokens,
        )

    return Once(reply)


async def open_rerank(request: Request) -> Response:
    try:
        wanted = await read_request(request, read_rerank)
    except LlamaherdError as error:
        return unreadable(error)
    embedding = services_of(request).embedding

    async def respond() -> Response:
        done = await embedding.rerank(wanted)
        usage = RerankUsage(done.tokens, done.tokens)
        reply = OpenRerankReply("list", wanted.model, _results(wanted, done), usage)
        return Response(encode(reply) + b"\n", headers={"content-type": "application/json"})

    return Deferred(respond, failed)


def _results(wanted: RerankRequest, done: Ranked) -> list[RankedDocument]:
    results = [RankedDocument(index, score) for index, score in done.scores]
    if wanted.return_documents:
        for result in results:
            result.document = Document(wanted.documents[result.index])
    return results


routes = [
    Route("/api/rerank", rerank, methods=["POST"]),
    Route("/v1/rerank", open_rerank, methods=["POST"]),
]
