"""The application: which path is answered by what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Match, Route

from llamaherd.config import Settings
from llamaherd.errors import LlamaherdError
from llamaherd.keys import ApiKey
from llamaherd.server import (
    anthropic,
    embeddings,
    inference,
    library,
    meta,
    models,
    openai,
    registry,
    rerank,
    responses,
)
from llamaherd.server.access import AccessRules, Origins
from llamaherd.server.authorization import ApiKeys
from llamaherd.server.log import AccessLog, RequestIds
from llamaherd.server.refusals import Unforeseen
from llamaherd.server.services import Services
from llamaherd.server.streaming import error_response

ROUTES: Final = (
    *meta.routes,
    *inference.routes,
    *embeddings.routes,
    *rerank.routes,
    *library.routes,
    *registry.routes,
    *models.routes,
    *openai.routes,
    *responses.routes,
    *anthropic.routes,
)


def build_app(
    services: Services, settings: Settings, *, check_host: bool, keys: Sequence[ApiKey] = ()
) -> Starlette:
    """The ASGI application; ``check_host`` turns the rule against DNS rebinding on."""
    app = Starlette(
        routes=ROUTES,
        middleware=[
            Middleware(RequestIds),
            Middleware(
                AccessLog,
                routes={route.endpoint: route.path_format for route in ROUTES},
                observe=services.metrics.observe,
            ),
            Middleware(AccessRules, origins=Origins(settings.origins), check_host=check_host),
            Middleware(ApiKeys, keys=keys),
            Middleware(Unforeseen),
        ],
        exception_handlers={LlamaherdError: _llamaherd_error, HTTPException: _http_error},
    )
    app.router.redirect_slashes = False
    app.state.services = services
    return app


async def _llamaherd_error(request: Request, error: Exception) -> Response:
    return error_response(error)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if error.status_code == 404:
        return _redirect(request) or _plain(404, "404 page not found")
    if error.status_code == 405:
        return _plain(405, "405 method not allowed", error.headers)
    return _plain(error.status_code, error.detail, error.headers)


def _plain(status: int, text: str, headers: Mapping[str, str] | None = None) -> Response:
    return PlainTextResponse(
        text, status, headers={"content-type": "text/plain", **(headers or {})}
    )


def _redirect(request: Request) -> Response | None:
    """A path that is right but for its last slash is sent to the right one."""
    path = request.scope["path"]
    other = path.rstrip("/") if path.endswith("/") else path + "/"
    scope = {**request.scope, "path": other}
    if other and _is_route(request.app.routes, scope):
        status = 301 if request.method == "GET" else 307
        text = "Moved Permanently" if status == 301 else "Temporary Redirect"
        # The path is decoded, so it may hold what a header or a page must not.
        target = quote(other)
        headers = {"location": target, "content-type": "text/html; charset=utf-8"}
        return Response(f'<a href="{target}">{text}</a>.\n\n', status, headers=headers)
    return None


def _is_route(routes: list[BaseRoute], scope: dict[str, object]) -> bool:
    return any(
        isinstance(route, Route) and route.matches(scope)[0] is Match.FULL for route in routes
    )
