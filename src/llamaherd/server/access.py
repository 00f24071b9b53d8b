"""Who may talk to the server: Host and Origin rules, as pure functions and one middleware.

A server on a loopback address answers only to names that mean this machine, so that a web page
can't reach it by letting its own name point here (DNS rebinding). Requests that carry an Origin
must come from an allowed one (the browser's same-origin rule, enforced by the server as well).
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Iterable
from typing import Final

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llamaherd.config import DEFAULT_ORIGINS

ALLOWED_METHODS: Final = "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"
ALLOWED_HEADERS: Final = ",".join(
    (
        "Authorization",
        "Content-Type",
        "User-Agent",
        "Accept",
        "X-Requested-With",
        "X-Request-Id",
        "X-Api-Key",
        "Anthropic-Beta",
        "Anthropic-Dangerous-Direct-Browser-Access",
        "Anthropic-Version",
        "OpenAI-Beta",
        "OpenAI-Organization",
        "OpenAI-Project",
        "X-Stainless-Arch",
        "X-Stainless-Async",
        "X-Stainless-Custom-Poll-Interval",
        "X-Stainless-Helper",
        "X-Stainless-Helper-Method",
        "X-Stainless-Lang",
        "X-Stainless-OS",
        "X-Stainless-Package-Version",
        "X-Stainless-Poll-Helper",
        "X-Stainless-Retry-Count",
        "X-Stainless-Runtime",
        "X-Stainless-Runtime-Version",
        "X-Stainless-Timeout",
    )
)
_LOCAL_DOMAINS: Final = (".localhost", ".local", ".internal")


def is_local_host(host_header: str, own_name: str) -> bool:
    """Whether a Host header names this machine or its private network."""
    host = _without_port(host_header).lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host in ("", "localhost", own_name.lower()) or host.endswith(_LOCAL_DOMAINS)
    return address.is_loopback or address.is_private or address.is_unspecified


def _without_port(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host if host.count(":") > 1 else host.partition(":")[0]


def _as_regex(pattern: str) -> str:
    escaped = re.escape(pattern.lower())
    return re.sub(r":\\\*$", r":[0-9]+", escaped).replace(r"\*", ".*")


class Origins:
    """The allowed origins; ``*`` stands for any text, ``:*`` for any port, alone for all."""

    def __init__(self, extra: Iterable[str] = ()) -> None:
        patterns = (*extra, *DEFAULT_ORIGINS)
        self.every = "*" in patterns
        self._pattern = re.compile("|".join(map(_as_regex, patterns)), re.DOTALL)

    def allow(self, origin: str, host_header: str) -> bool:
        """Allowed by pattern, or the origin is the very host that the request names."""
        return (
            self.every
            or self._pattern.fullmatch(origin.lower()) is not None
            or origin in (f"http://{host_header}", f"https://{host_header}")
        )


class AccessRules:
    """ASGI middleware that answers preflights and turns away what the rules forbid."""

    def __init__(self, app: ASGIApp, *, origins: Origins, check_host: bool) -> None:
        self._app = app
        self._origins = origins
        self._check_host = check_host
        self._own_name = socket.gethostname()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        origin = headers.get("origin")
        if origin is not None and not self._origins.allow(origin, host):
            await Response(status_code=403)(scope, receive, send)
        elif origin is not None and scope["method"] == "OPTIONS":
            await self._preflight(origin)(scope, receive, send)
        elif self._check_host and not is_local_host(host, self._own_name):
            await Response(status_code=403)(scope, receive, send)
        elif scope["method"] == "OPTIONS":
            await Response(status_code=204)(scope, receive, send)
        elif origin is None:
            await self._app(scope, receive, send)
        else:
            await self._app(scope, receive, self._with_origin(send, origin))

    def _preflight(self, origin: str) -> Response:
        headers = {
            "Access-Control-Allow-Methods": ALLOWED_METHODS,
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": "43200",
            **self._origin_headers(origin),
        }
        return Response(status_code=204, headers=headers)

    def _origin_headers(self, origin: str) -> dict[str, str]:
        if self._origins.every:
            return {"Access-Control-Allow-Origin": "*"}
        return {"Access-Control-Allow-Origin": origin, "Vary": "Origin"}

    def _with_origin(self, send: Send, origin: str) -> Send:
        async def send_with_origin(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(self._origin_headers(origin))
            await send(message)

        return send_with_origin
