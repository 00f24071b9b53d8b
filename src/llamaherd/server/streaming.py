"""Answers of the server: JSON, newline-delimited streams, and errors before or within them.

Each reply watches the connection while it works, so that a client that goes away cancels what was
being done for it at once, also before the first byte.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llamaherd.api.replies import encode
from llamaherd.errors import BadRequest, LlamaherdError

log = logging.getLogger(__name__)

JSON: Final = "application/json; charset=utf-8"
NDJSON: Final = "application/x-ndjson"

#: The largest JSON body that is read, in bytes; images come in it as base64.
MAX_BODY: Final = 512 << 20


class BodyTooLarge(BadRequest):
    status = 413


async def read_body(request: Request) -> bytes:
    """The whole body; raises ``BodyTooLarge`` as soon as it exceeds ``MAX_BODY``."""
    parts = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > MAX_BODY:
            raise BodyTooLarge(f"request body is larger than {MAX_BODY} bytes")
        parts.append(part)
    return b"".join(parts)


def json_response(value: Any, status: int = 200) -> Response:
    return Response(encode(value), status, media_type=JSON)


def error_of(error: Exception) -> tuple[int, str]:
    """Status and text of an exception; what we didn't foresee goes to the log with its trace."""
    if isinstance(error, LlamaherdError):
        return error.status, error.message
    log.error("internal error", exc_info=error)
    return 500, f"internal error: {type(error).__name__}"


def error_response(error: Exception) -> Response:
    status, text = error_of(error)
    return json_response({"error": text}, status)


class WatchedResponse(Response):
    """A response whose work is cancelled when the client disconnects."""

    def __init__(self) -> None:
        self.background = None

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        raise NotImplementedError

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self.respond(scope, receive, send))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        finally:
            gone.cancel()
            if not work.done():
                work.cancel()
                await asyncio.wait((work,))
        if not work.cancelled():
            work.result()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


class Once(WatchedResponse):
    """One JSON object, made by awaiting ``make``."""

    def __init__(self, make: Callable[[], Awaitable[Any]], media_type: str = JSON) -> None:
        super().__init__()
        self._make = make
        self._media_type = media_type

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = Response(encode(await self._make()), media_type=self._media_type)
        except Exception as error:
            response = error_response(error)
        await response(scope, receive, send)


class Lines(WatchedResponse):
    """One JSON line for each value of ``values``.

    An error before the first value is an ordinary error response unless ``late_errors``; once the
    status has gone out, an error is the last line of the stream.
    """

    def __init__(self, values: AsyncIterator[Any], *, late_errors: bool = False) -> None:
        super().__init__()
        self._values = values
        self._late_errors = late_errors
        self._started = False

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            async for value in self._values:
                await self._send_line(send, value)
        except Exception as error:
            if not self._started and not self._late_errors:
                await error_response(error)(scope, receive, send)
                return
            await self._send_line(send, late_error(error))
        finally:
            await _close(self._values)
        await self._start(send)
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _start(self, send: Send) -> None:
        if not self._started:
            self._started = True
            headers = [(b"content-type", NDJSON.encode())]
            await send({"type": "http.response.start", "status": 200, "headers": headers})

    async def _send_line(self, send: Send, value: Any) -> None:
        await self._start(send)
        await send({"type": "http.response.body", "body": encode(value) + b"\n", "more_body": True})


def late_error(error: Exception) -> Mapping[str, Any]:
    """The line of an error within a stream; a request that lacks something says its status too."""
    status, text = error_of(error)
    return {"error": text, "status": status} if type(error) is BadRequest else {"error": text}


async def _close(values: AsyncIterator[Any]) -> None:
    close = getattr(values, "aclose", None)
    if close is not None:
        await close()
