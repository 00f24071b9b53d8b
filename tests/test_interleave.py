"""Several streams as one: what comes when, and who is closed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from contextlib import aclosing

import pytest

from llamaherd.server.interleave import interleave

pytestmark = pytest.mark.anyio


class Streams:
    """Streams that note when they are closed."""

    def __init__(self) -> None:
        self.closed: list[str] = []

    async def counting(self, name: str, end: int) -> AsyncGenerator[str, None]:
        try:
            for number in range(end):
                yield f"{name}{number}"
        finally:
            self.closed.append(name)

    async def failing(self, name: str) -> AsyncGenerator[str, None]:
        try:
            yield f"{name}0"
            raise ValueError(name)
        finally:
            self.closed.append(name)

    async def endless(self, name: str) -> AsyncGenerator[str, None]:
        try:
            yield f"{name}0"
            await asyncio.Event().wait()
        finally:
            self.closed.append(name)


@pytest.fixture
def streams() -> Streams:
    return Streams()


@pytest.mark.parametrize("number", [1, 2, 5])
async def test_each_stream_keeps_its_order(number: int, streams: Streams) -> None:
    found: list[list[str]] = [[] for _ in range(number)]
    names = "abcde"[:number]
    async for index, item in interleave([streams.counting(name, 4) for name in names]):
        found[index].append(item)
    assert found == [[f"{name}{turn}" for turn in range(4)] for name in names]
    assert sorted(streams.closed) == list(names)


async def test_no_stream_waits_for_another(streams: Streams) -> None:
    async with aclosing(interleave([streams.endless("a"), streams.counting("b", 3)])) as items:
        found = [await anext(items) for _ in range(4)]
    assert sorted(found) == [(0, "a0"), (1, "b0"), (1, "b1"), (1, "b2")]


async def test_an_error_of_one_closes_all(streams: Streams) -> None:
    both = interleave([streams.endless("a"), streams.failing("b")])
    with pytest.raises(ValueError, match="b"):
        async for _ in both:
            pass
    assert sorted(streams.closed) == ["a", "b"]


@pytest.mark.parametrize("names", ["a", "ab"])
async def test_a_reader_who_stops_closes_all(names: str, streams: Streams) -> None:
    async with aclosing(interleave([streams.endless(name) for name in names])) as items:
        for _ in names:
            await anext(items)
    assert sorted(streams.closed) == list(names)


async def test_a_reader_who_is_cancelled_closes_all(streams: Streams) -> None:
    async def read() -> None:
        async with aclosing(interleave([streams.endless("a"), streams.endless("b")])) as items:
            async for _ in items:
                reached.release()

    reached = asyncio.Semaphore(0)
    reader = asyncio.ensure_future(read())
    for _ in range(2):
        await reached.acquire()
    reader.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reader
    assert sorted(streams.closed) == ["a", "b"]
