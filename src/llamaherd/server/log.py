"""What is known of each request from outside: its id, and one log line when it is over."""

from __future__ import annotations

import logging
import re
import secrets
import time
from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llamaherd.observe import request_id
from llamaherd.telemetry import Observer, RequestBegan, RequestEnded

log = logging.getLogger(__name__)

REQUEST_ID: Final = "X-Request-Id"

#: Ids that clients and proxies give; others could forge lines of the log, or fill it.
_WELL_FORMED: Final = re.compile(r"[A-Za-z0-9._:/+=-]{1,64}", re.ASCII)

#: A client that went away before it was answered, as nginx has it.
_LEFT: Final = 499


class RequestIds:
    """ASGI middleware: takes or makes an id for each request and tells it in the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        known = given if _WELL_FORMED.fullmatch(given) else secrets.token_hex(8)

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[REQUEST_ID] = known
            await send(message)

        before = request_id.set(known)
        try:
            await self._app(scope, receive, send_with_id)
        finally:
            request_id.reset(before)


class AccessLog:
    """ASGI middleware: status, time, client, method and path of each request.

    ``routes`` are the patterns of the paths by their endpoints, for ``observe``.
    """

    def __init__(self, app: ASGIApp, *, routes: Mapping[Any, str], observe: Observer) -> None:
        self._app = app
        self._routes = routes
        self._observe = observe

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start = time.perf_counter_ns()
        status = _LEFT

        async def note_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._observe(RequestBegan())
        try:
            await self._app(scope, receive, note_status)
        finally:
            duration = time.perf_counter_ns() - start
            # As the client knows it, also where the server listens on IPv6 for both.
            client = scope["client"][0].removeprefix("::ffff:") if scope["client"] else "-"
            log.info(
                "%d | %8.3fms | %s | %s %r",
                status,
                duration / 1e6,
                client,
                scope["method"],
                scope["path"],
            )
            route = self._routes.get(scope.get("endpoint"), "")
            self._observe(RequestEnded(route, scope["method"], status, duration))
