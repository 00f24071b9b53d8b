"""Errors in the shape of the interface that a path is of: Ollama's, OpenAI's or Anthropic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llamaherd.observe import request_id
from llamaherd.server.streaming import error_of, json_response

ANTHROPIC: Final = "/v1/messages"
_MODELS: Final = "/v1/models"
_OPENAI: Final = "/v1/"

#: OpenAI's and Anthropic's kinds of errors by status; any other error is the server's.
_KINDS: Final = {
    401: ("invalid_request_error", "authentication_error"),
    403: ("invalid_request_error", "permission_error"),
}


def is_anthropic(scope: Scope) -> bool:
    """Whether a request is one of Anthropic's interface.

    Its clients ask for models on OpenAI's paths, but say which version of their API they speak.
    """
    path = scope["path"]
    if _is_below(path, _MODELS):
        return "anthropic-version" in Headers(scope=scope)
    return _is_below(path, ANTHROPIC)


def _is_below(path: str, top: str) -> bool:
    return path == top or path.startswith(top + "/")


def refusal(
    scope: Scope, status: int, message: str, *, code: str | None = None, **headers: str
) -> Response:
    """An error response; ``code`` is OpenAI's word for the reason, ``headers`` with ``_`` for -."""
    response = json_response(_body(scope, status, message, code), status)
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def _body(scope: Scope, status: int, message: str, code: str | None) -> Mapping[str, Any]:
    openai, anthropic = _KINDS.get(status, ("api_error", "api_error"))
    if is_anthropic(scope):
        error = {"type": anthropic, "message": message}
        return {"type": "error", "error": error, "request_id": request_id.get()}
    if scope["path"].startswith(_OPENAI):
        return {"error": {"message": message, "type": openai, "param": None, "code": code}}
    return {"error": message}


class Unforeseen:
    """ASGI middleware that answers for a route that fails in a way which nobody foresaw.

    Starlette's own stands outside of all others, so its answers would have no id and no log line.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = False

        async def note_start(message: Message) -> None:
            nonlocal started
            started = True
            await send(message)

        try:
            await self._app(scope, receive, note_start)
        except Exception as error:
            status, text = error_of(error)
            # The server closes a connection whose answer breaks off, which tells the client.
            if started:
                raise
            await refusal(scope, status, text)(scope, receive, send)
