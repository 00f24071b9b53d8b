"""uvicorn's HTTP protocol with a bound on what isn't a body: request line, headers, trailers.

The parser keeps all of a header until it is complete. Without a bound one connection could take all
memory, and a single long header all of the event loop's time, as it is put together piece by piece.
"""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

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

    def on_body(self, body: bytes) -> None:
        self._pending = 0
        super().on_body(body)
