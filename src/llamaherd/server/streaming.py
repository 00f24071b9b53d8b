"""Answers of the server: JSON, newline-delimited streams, and errors before or within them.

Each reply watches the connection while it works, so that a client that goes away cancels what was
being done for it at once, also before the first byte.
"""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from llamaherd.api.replies import encode
from llamaherd.errors import BadRequest, LlamaherdError

log = logging.getLogger(__name__)

JSON: Final = "application/json; charset=utf-8"
NDJSON: Final = "application/x-ndjson"

#: After so many seconds without an event, a stream of them says that it is still there. Proxies
#: commonly wait for a minute, and Node's HTTP client for five.
PATIENCE: Final = 30.0


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


class WatchedResponse(Response, ABC):
    """A response whose work is cancelled when the client disconnects."""

    def __init__(self) -> None:
        self.background = None

    @abstractmethod
    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None: ...

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


class Deferred(WatchedResponse):
    """The response that awaiting ``make`` gives; ``refuse`` turns an error into one."""

    def __init__(
        self,
        make: Callable[[], Awaitable[Response]],
        refuse: Callable[[Exception], Response] = error_response,
    ) -> None:
        super().__init__()
        self._make = make
        self._refuse = refuse

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            response = await self._make()
        except Exception as error:
            response = self._refuse(error)
        await response(scope, receive, send)


class Once(Deferred):
    """One JSON object, made by awaiting ``make``."""

    def __init__(self, make: Callable[[], Awaitable[Any]], media_type: str = JSON) -> None:
        async def response() -> Response:
            return Response(encode(await make()), media_type=media_type)

        super().__init__(response)


class Parts(WatchedResponse):
    """A body of one part for each value of ``values``, sent as they come.

    An error before the first part is an ordinary error response, made by ``refuse``, unless
    ``late_errors``; once the status has gone out, what ``last_words`` makes of it ends the body.
    ``sign_of_life`` is sent whenever nothing else was for ``patience`` seconds, if it isn't empty.
    """

    def __init__(
        self,
        values: AsyncIterator[Any],
        *,
        part: Callable[[Any], bytes],
        media_type: str,
        refuse: Callable[[Exception], Response],
        last_words: Callable[[Exception], bytes],
        late_errors: bool = False,
        sign_of_life: bytes = b"",
        patience: float = PATIENCE,
    ) -> None:
        super().__init__()
        self._values = values
        self._part = part
        self._content_type = media_type.encode()
        self._refuse = refuse
        self._last_words = last_words
        self._late_errors = late_errors
        self._sign_of_life = sign_of_life
        self._patience = patience

    async def respond(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = _Body(send, self._content_type)
        try:
            async with self._kept_alive(body):
                async for value in self._values:
                    await body.add(self._part(value))
        except Exception as error:
            if not body.started and not self._late_errors:
                await self._refuse(error)(scope, receive, send)
                return
            await body.add(self._last_words(error))
        finally:
            await _close(self._values)
        await body.end()

    @asynccontextmanager
    async def _kept_alive(self, body: _Body) -> AsyncGenerator[None, None]:
        if not self._sign_of_life:
            yield
            return
        signs = asyncio.ensure_future(self._give_signs(body))
        try:
            yield
        finally:
            signs.cancel()
            await asyncio.wait((signs,))
        if not signs.cancelled():
            signs.result()

    async def _give_signs(self, body: _Body) -> None:
        clock = asyncio.get_running_loop().time
        while True:
            rest = body.last_added + self._patience - clock()
            if rest > 0:
                await asyncio.sleep(rest)
            else:
                await body.add(self._sign_of_life)


class _Body:
    """What is sent of a body, by whichever task: the head, and then one part at a time."""

    def __init__(self, send: Send, content_type: bytes) -> None:
        self._send = send
        self._content_type = content_type
        self._clock = asyncio.get_running_loop().time
        self._turn = asyncio.Lock()
        self.started = False
        self.last_added = self._clock()

    async def add(self, part: bytes) -> None:
        await self._add(part, more=True)

    async def end(self) -> None:
        await self._add(b"", more=False)

    async def _add(self, part: bytes, *, more: bool) -> None:
        async with self._turn:
            if not self.started:
                self.started = True
                headers = [(b"content-type", self._content_type)]
                await self._send({"type": "http.response.start", "status": 200, "headers": headers})
            await self._send({"type": "http.response.body", "body": part, "more_body": more})
            self.last_added = self._clock()


class Lines(Parts):
    """One JSON line for each value of ``values``; an error that comes late is a line too."""

    def __init__(self, values: AsyncIterator[Any], *, late_errors: bool = False) -> None:
        super().__init__(
            values,
            part=_line,
            media_type=NDJSON,
            refuse=error_response,
            last_words=lambda error: _line(late_error(error)),
            late_errors=late_errors,
        )


def _line(value: Any) -> bytes:
    return encode(value) + b"\n"


class ServerSentEvents(Parts):
    """A stream of ``event``s, with an error at any time as the dialect has it.

    The format is that of the HTML standard, section "server-sent events". Reading a long prompt can
    take minutes; comments in between keep clients and proxies from giving up.
    """

    def __init__(
        self,
        events: AsyncIterator[bytes],
        *,
        refuse: Callable[[Exception], Response],
        last_words: Callable[[Exception], bytes],
        patience: float = PATIENCE,
    ) -> None:
        super().__init__(
            events,
            part=bytes,
            media_type="text/event-stream",
            refuse=refuse,
            last_words=last_words,
            sign_of_life=b": still at work\n\n",
            patience=patience,
        )


def event(data: bytes, name: str = "") -> bytes:
    """One server-sent event; ``data`` has no line breaks, ``name`` "" is no name."""
    head = f"event: {name}\n".encode() if name else b""
    return head + b"data: " + data + b"\n\n"


def steps_response(steps: AsyncGenerator[Any, None], *, stream: bool) -> Response:
    """The steps of a long job, or only the last one; errors too are lines of the stream."""
    if stream:
        return Lines(steps, late_errors=True)
    return Once(lambda: _last(steps), media_type="application/json")


async def _last(values: AsyncGenerator[Any, None]) -> Any:
    last = None
    async with aclosing(values):
        async for value in values:
            last = value
    return last


def late_error(error: Exception) -> Mapping[str, Any]:
    """The line of an error within a stream; a request that lacks something says its status too."""
    status, text = error_of(error)
    return {"error": text, "status": status} if type(error) is BadRequest else {"error": text}


async def _close(values: AsyncIterator[Any]) -> None:
    close = getattr(values, "aclose", None)
    if close is not None:
        await close()
