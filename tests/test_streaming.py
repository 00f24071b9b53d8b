"""Streams of events show that they are alive while there is nothing to say."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from starlette.responses import Response
from starlette.types import Message

from llamaherd.errors import LoadError, Overloaded
from llamaherd.server.streaming import ServerSentEvents, error_response, event

COMMENT = b": still at work\n\n"


class Client:
    """Reads an answer; ``comments`` is set once two comments have come since it was cleared."""

    def __init__(self) -> None:
        self.status = 0
        self.parts: list[bytes] = []
        self.comments = asyncio.Event()

    async def ask(self, response: Response) -> None:
        scope = {"type": "http", "method": "POST", "path": "/", "headers": []}
        await response(scope, self._receive, self._send)

    async def _receive(self) -> Message:
        return await asyncio.Future()

    async def _send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            assert not self.parts
            self.status = message["status"]
            return
        self.parts.append(message["body"])
        if self.parts[-2:] == [COMMENT, COMMENT]:
            self.comments.set()


def stream(events: AsyncIterator[bytes], *, patience: float = 0.001) -> ServerSentEvents:
    return ServerSentEvents(
        events,
        refuse=error_response,
        last_words=lambda error: event(str(error).encode()),
        patience=patience,
    )


async def failing(error: Exception | None, *, after: asyncio.Event) -> AsyncIterator[bytes]:
    await after.wait()
    if error is not None:
        raise error
    yield b""


def said(client: Client) -> list[bytes]:
    return [part for part in client.parts if part not in (COMMENT, b"")]


@pytest.mark.anyio
async def test_before_the_first_event_and_between_others() -> None:
    client = Client()

    async def slow() -> AsyncIterator[bytes]:
        for word in (b"one", b"two"):
            client.comments.clear()
            await client.comments.wait()
            yield event(word)

    await client.ask(stream(slow()))
    assert (client.status, said(client)) == (200, [event(b"one"), event(b"two")])
    first = client.parts.index(event(b"one"))
    assert first >= 2
    assert client.parts.index(event(b"two")) >= first + 3
    assert client.parts[-1] == b""


@pytest.mark.anyio
async def test_what_fails_after_that_fails_in_the_stream() -> None:
    client = Client()
    await client.ask(stream(failing(LoadError("no memory"), after=client.comments)))
    assert (client.status, said(client)) == (200, [event(b"no memory")])


@pytest.mark.anyio
async def test_what_fails_at_once_has_a_status() -> None:
    client = Client()
    at_once = asyncio.Event()
    at_once.set()
    await client.ask(stream(failing(Overloaded(), after=at_once), patience=60))
    assert client.status == 503


@pytest.mark.anyio
async def test_nothing_is_added_to_what_comes_in_time() -> None:
    client = Client()

    async def quick() -> AsyncIterator[bytes]:
        yield event(b"one")

    await client.ask(stream(quick(), patience=60))
    assert client.parts == [event(b"one"), b""]
