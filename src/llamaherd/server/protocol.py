"""uvicorn's HTTP protocol with a bound on what isn't a body: request line, headers, trailers.

The parser keeps all of a header until it is complete. Without a bound one connection could take all
memory, and a single long header all of the event loop's time, as it is put together piece by piece.

And to HTTP/1.0, which knows no chunks, nothing is answered in chunks (RFC 9112, section 6.1).
"""

from __future__ import annotations

from typing import Final

from uvicorn._types import ASGISendCallable, ASGISendEvent
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

#: As in Go's server, in bytes.
MAX_HEAD: Final = 1 << 20

_TOO_LARGE: Final = (
    b"HTTP/1.1 431 Request Header Fields Too Large\r\n"
    b"content-type: text/plain; charset=utf-8\r\n"
    b"connection: close\r\n"
    b"\r\n"
    b"431 Request Header Fields Too Large"
)


class BoundedProtocol(HttpToolsProtocol):
    """Closes a connection that sends more than ``MAX_HEAD`` bytes and completes no head with them,
    nor a piece of a body."""

    #: Bytes since the last complete head or piece of a body.
    _pending = 0

    def data_received(self, data: bytes) -> None:
        self._pending += len(data)
        if self._pending > MAX_HEAD:
            self.transport.write(_TOO_LARGE)
            self.transport.close()
            return
        super().data_received(data)

    def on_headers_complete(self) -> None:
        self._pending = 0
        super().on_headers_complete()
        if self.cycle.scope["http_version"] == "1.0":
            self.cycle.send = _until_closed(self.cycle)  # type: ignore[assignment, method-assign]

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)


def _until_closed(cycle: RequestResponseCycle) -> ASGISendCallable:
    """``cycle.send`` for bodies that, without a length of theirs, end with the connection."""
    send = cycle.send
    has_length = True

    async def send_unchunked(message: ASGISendEvent) -> None:
        nonlocal has_length
        if message["type"] == "http.response.start":
            has_length = any(name.lower() == b"content-length" for name, _ in message["headers"])
            if not has_length:
                cycle.chunked_encoding = False
        elif message["type"] == "http.response.body" and not has_length:
            cycle.expected_content_length = len(message["body"])
        await send(message)

    return send_unchunked
