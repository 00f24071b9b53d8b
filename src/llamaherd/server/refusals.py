"""Errors in the shape of the interface that a path is of: Ollama's, OpenAI's or Anthropic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from llamaherd.observe import request_id
from llamaherd.server.streaming import error_of, json_response

ANTHROPIC: Final = "/v1/messages"
_OPENAI: Final = "/v1/"

#: OpenAI's and Anthropic's kinds of errors by status; any other error is the server's.
_KINDS: Final = {
    401: ("invalid_request_error", "authentication_error"),
    403: ("invalid_request_error", "permission_error"),
}


def refusal(
    path: str, status: int, message: str, *, code: str | None = None, **headers: str
) -> Response:
    """An error response; ``code`` is OpenAI's word for the reason, ``headers`` with ``_`` for -."""
    response = json_response(_body(path, status, message, code), status)
    for name, value in headers.items():
        response.headers[name.replace("_", "-")] = value
    return response


def _body(path: str, status: int, message: str, code: str | None) -> Mapping[str, Any]:
    openai, anthropic = _KINDS.get(status, ("api_error", "api_error"))
    if path == ANTHROPIC or path.startswith(ANTHROPIC + "/"):
        error = {"type": anthropic, "message": message}
        return {"type": "error", "error": error, "request_id": request_id.get()}
    if path.startswith(_OPENAI):
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
            await refusal(scope["path"], status, text)(scope, receive, send)
