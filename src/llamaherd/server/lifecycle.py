"""From settings to a server that listens, and back to nothing."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import uvicorn
from starlette.types import ASGIApp
from uvloop import new_event_loop

from llamaherd.config import EVERY_IPV4, Address, Settings
from llamaherd.errors import LlamaherdError
from llamaherd.keys import read_keys
from llamaherd.observe import configure_logging
from llamaherd.server.app import build_app
from llamaherd.server.protocol import BoundedProtocol
from llamaherd.server.services import Services
from llamaherd.version import OLLAMA_VERSION, __version__

log = logging.getLogger(__name__)

#: How long connections may take to end after everything they waited for was stopped, in seconds.
GRACE: Final = 5

#: How long, in seconds, a connection may rest between two requests. Ollama never closes one, and a
#: client may send its next request just while the server does: that must be left to the clients,
#: who close after seconds (httpx) to minutes (Go, .NET), the most patient after 20 (Java).
IDLE: Final = 3600


class ListenError(LlamaherdError):
    """The address can't be listened on; worded as Go words it."""

    def __init__(self, address: Address, reason: str) -> None:
        super().__init__(f"listen tcp {address.netloc}: {reason}")


def listen(address: Address) -> socket.socket:
    """A listening socket; raises ``ListenError``.

    An address that stands for all of them, of either version, is listened on in both, and of a
    name's addresses, such as localhost's, the IPv4 one, as with Go.
    """
    try:
        if address.is_every and socket.has_dualstack_ipv6():
            return _listening(socket.AF_INET6, ("::", address.port), both=True)
        host = address.host or EVERY_IPV4
        found = socket.getaddrinfo(
            host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )
    except socket.gaierror as error:
        raise ListenError(address, f"lookup {address.host}: no such host") from error
    except OSError as error:
        raise _unbound(address, error) from error
    found.sort(key=lambda each: each[0] != socket.AF_INET)
    family, _, _, _, where = found[0]
    try:
        return _listening(family, where)
    except OSError as error:
        raise _unbound(address, error) from error


def _listening(family: int, where: tuple[Any, ...], *, both: bool = False) -> socket.socket:
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if both:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(where)
        listener.listen(2048)
    except BaseException:
        listener.close()
        raise
    listener.setblocking(False)
    return listener


def _unbound(address: Address, error: OSError) -> ListenError:
    return ListenError(address, f"bind: {(error.strerror or str(error)).lower()}")


def is_loopback(listener: socket.socket) -> bool:
    return ipaddress.ip_address(listener.getsockname()[0]).is_loopback


class _Server(uvicorn.Server):
    """uvicorn, which on its way out first ends what the open connections wait for."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Let SIGINT and SIGTERM end the server in order.

        uvicorn's own would raise them again at the end, which makes a clean end look like a crash.
        """
        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self.handle_exit, number, None)
        try:
            yield
        finally:
            for number in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(number)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        for listener in sockets or ():
            host, port = listener.getsockname()[:2]
            where = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
            log.info(
                "Listening on %s (version %s, llamaherd %s)", where, OLLAMA_VERSION, __version__
            )

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        for server in self.servers:
            server.close()
        await self._services.close()
        await super().shutdown(sockets)


async def run(settings: Settings, listener: socket.socket) -> None:
    """Serve on ``listener`` until a signal ends it; all runners are gone when this returns."""
    keys = read_keys(settings.api_keys)
    local = is_loopback(listener)
    if not local and not keys:
        log.warning(
            "anybody who reaches this address can use and change the models: "
            "OLLAMA_API_KEYS is not set"
        )
    services = await Services.start(settings)
    app = build_app(services, settings, check_host=local, keys=keys)
    try:
        await _Server(configuration(app), services).serve(sockets=[listener])
    finally:
        await services.close()


def configuration(app: ASGIApp) -> uvicorn.Config:
    """How uvicorn serves ``app``."""
    return uvicorn.Config(
        app,
        http=BoundedProtocol,
        ws="none",
        proxy_headers=False,
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=IDLE,
        timeout_graceful_shutdown=GRACE,
    )


def serve(settings: Settings) -> int:
    """Run the server in the foreground; returns the exit code."""
    configure_logging(settings.debug)
    try:
        listener = listen(settings.host)
    except ListenError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return 1
    try:
        with listener, asyncio.Runner(loop_factory=new_event_loop) as runner:
            runner.run(run(settings, listener))
    except LlamaherdError as error:
        print(f"Error: {error.message}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        pass
    return 0
