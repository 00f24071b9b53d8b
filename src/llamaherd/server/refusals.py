"""Errors in the shape of the interface that a path is of: Ollama's, OpenAI's or Anthropic's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from starlette.responses import Response

from llamaherd.observe import request_id
from llamaherd.server.streaming import json_response

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
