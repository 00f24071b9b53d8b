"""Routes about the server itself."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from llamaherd.api.replies import Version
from llamaherd.server.openapi import document
from llamaherd.server.services import services_of
from llamaherd.server.streaming import json_response
from llamaherd.version import OLLAMA_VERSION, __version__


async def root(request: Request) -> Response:
    return PlainTextResponse("Ollama is running")


async def version(request: Request) -> Response:
    return json_response(Version(OLLAMA_VERSION, __version__))


async def openapi(request: Request) -> Response:
    return json_response(document())


async def metrics(request: Request) -> Response:
    body, media_type = services_of(request).metrics.exposition(request.headers.get("accept", ""))
    return Response(body, headers={"content-type": media_type})


routes = [
    Route("/", root, methods=["GET", "HEAD"]),
    Route("/api/version", version, methods=["GET", "HEAD"]),
    Route("/openapi.json", openapi, methods=["GET", "HEAD"]),
    Route("/metrics", metrics, methods=["GET", "HEAD"]),
]
