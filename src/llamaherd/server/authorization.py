"""Who may do what, where API keys are set: one rule for all paths, and one middleware.

The rule fails closed: what isn't known to be for everybody's use is an administrator's.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Sequence
from typing import Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from llamaherd.keys import ROLES, ApiKey, Role, digest_of
from llamaherd.server.refusals import refusal

#: Whether a server is there may be known to anybody.
OPEN: Final = frozenset({"/"})

#: What runs models, or tells about them and the server. All below ``/v1/`` does too.
_INFERENCE: Final = frozenset(
    {
        "/api/generate",
        "/api/chat",
        "/api/embed",
        "/api/embeddings",
        "/api/rerank",
        "/api/tokenize",
        "/api/detokenize",
        "/api/show",
        "/api/tags",
        "/api/ps",
        "/api/version",
        "/metrics",
        "/openapi.json",
    }
)


def needed_role(path: str) -> Role | None:
    """Whose key a path asks for, None where it asks for none."""
    if path in OPEN:
        return None
    inference = path.rstrip("/") in _INFERENCE or path.startswith("/v1/")
    return "inference" if inference else "admin"


def role_of(key: str, keys: Iterable[ApiKey]) -> Role | None:
    """Whose key this is; takes the same time whichever of the keys it is or resembles."""
    digest = digest_of(key)
    matching = [known.role for known in keys if hmac.compare_digest(known.digest, digest)]
    return max(matching, key=ROLES.index, default=None)


def shown_key(headers: Headers) -> str | None:
    """The bearer token, or what stands in ``X-Api-Key``, which Anthropic's clients send."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        return token.strip()
    return headers.get("x-api-key")


class ApiKeys:
    """ASGI middleware that lets through whom the keys allow; without keys everybody."""

    def __init__(self, app: ASGIApp, *, keys: Sequence[ApiKey]) -> None:
        self._app = app
        self._keys = keys

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        refused = None
        if scope["type"] == "http" and self._keys:
            refused = self._refusal(scope)
        await (refused or self._app)(scope, receive, send)

    def _refusal(self, scope: Scope) -> Response | None:
        needed = needed_role(scope["path"])
        if needed is None:
            return None
        key = shown_key(Headers(scope=scope))
        if key is None:
            return refusal(
                scope,
                401,
                "an API key is needed: Authorization: Bearer KEY",
                code="invalid_api_key",
                www_authenticate="Bearer",
            )
        role = role_of(key, self._keys)
        if role is None:
            return refusal(
                scope,
                401,
                "this API key is not known here",
                code="invalid_api_key",
                www_authenticate='Bearer error="invalid_token"',
            )
        if needed == "admin" and role != "admin":
            return refusal(
                scope,
                403,
                "this API key is for inference, an administrator's is needed",
                code="insufficient_permissions",
                www_authenticate='Bearer error="insufficient_scope"',
            )
        return None
