"""Where the server listens, and how long connections are kept open."""

from __future__ import annotations

import socket
from typing import Any

import pytest
from starlette.applications import Starlette

from llamaherd.config import parse_address
from llamaherd.server.lifecycle import ListenError, configuration, listen

#: The most patient of the usual HTTP clients closes a connection that rested so long, in seconds.
_MOST_PATIENT = 1200


def test_of_the_addresses_of_localhost_the_one_that_all_clients_try(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Most machines name both addresses, IPv6's first; Ollama and Go listen on IPv4's."""

    def resolved(host: str, port: int, **_: Any) -> list[Any]:
        assert host == "localhost"
        kind = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *kind, ("::1", port, 0, 0)),
            (socket.AF_INET, *kind, ("127.0.0.1", port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolved)
    with listen(parse_address("localhost:0")) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


@pytest.mark.parametrize("every", [":0", "0.0.0.0:0", "[::]:0"])
def test_every_address_is_of_both_versions(every: str) -> None:
    with listen(parse_address(every)) as listener:
        port = listener.getsockname()[1]
        for host in ("127.0.0.1", "::1"):
            with socket.create_connection((host, port)):
                pass


def test_an_address_in_use_is_named() -> None:
    for every in ("127.0.0.1", "0.0.0.0"):
        with listen(parse_address(f"{every}:0")) as listener:
            where = f"{every}:{listener.getsockname()[1]}"
            with pytest.raises(ListenError, match=f"{where}: bind: address already in use"):
                listen(parse_address(where))


def test_a_connection_that_rests_is_left_to_the_client_to_close() -> None:
    assert configuration(Starlette()).timeout_keep_alive > _MOST_PATIENT
