"""How long connections are kept open."""

from __future__ import annotations

from llamaherd.server.lifecycle import configuration

#: The most patient of the usual HTTP clients closes a connection that rested so long, in seconds.
_MOST_PATIENT = 1200


async def _no_app(*_: object) -> None:
    raise NotImplementedError


def test_a_connection_that_rests_is_left_to_the_client_to_close() -> None:
    assert configuration(_no_app).timeout_keep_alive > _MOST_PATIENT
