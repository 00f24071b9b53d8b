"""A runner process that is kept ready."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from llamaherd.errors import LoadError
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Load
from llamaherd.runner.spare import SpareRunner
from tests.support import fake_runner

pytestmark = pytest.mark.anyio

FAKE = (sys.executable, str(Path(fake_runner.__file__)))
TIMEOUT = 60 * 10**9


@asynccontextmanager
async def kept(
    *flags: str, delay: float = 0, running: Sequence[str] = ()
) -> AsyncIterator[SpareRunner]:
    spare = SpareRunner(lambda: bool(running), delay=delay, command=(*FAKE, *flags))
    try:
        yield spare
    finally:
        await spare.close()


async def ready(spare: SpareRunner) -> Runner:
    """The process that waits now."""
    spare.prepare()
    assert spare._preparing is not None
    runner = await spare._preparing
    assert runner is not None
    return runner


async def test_a_load_takes_the_process_that_waits() -> None:
    async with kept() as spare:
        waiting = await ready(spare)
        runner = await spare.start(Load(model="", n_ctx=64), load_timeout_ns=TIMEOUT)
        assert runner is waiting
        assert await ready(spare) is not waiting
        await runner.stop()


async def test_without_one_a_process_is_started() -> None:
    async with kept(delay=60) as spare:
        runner = await spare.start(Load(model="", n_ctx=64), load_timeout_ns=TIMEOUT)
        assert runner.alive
        await runner.stop()


async def test_one_that_died_is_not_taken() -> None:
    async with kept() as spare:
        waiting = await ready(spare)
        os.kill(waiting.pid, signal.SIGKILL)
        await waiting.wait_exit()
        runner = await spare.start(Load(model="", n_ctx=64), load_timeout_ns=TIMEOUT)
        assert runner is not waiting
        await runner.stop()


async def test_a_failed_load_is_told_and_the_next_spare_comes() -> None:
    async with kept("--load-fails", "bad magic") as spare:
        waiting = await ready(spare)
        with pytest.raises(LoadError, match="bad magic"):
            await spare.start(Load(model="", n_ctx=64), load_timeout_ns=TIMEOUT)
        assert not waiting.alive
        assert (await ready(spare)).alive


async def test_closing_ends_the_process() -> None:
    async with kept() as spare:
        waiting = await ready(spare)
    assert waiting.exit is not None


async def test_closing_gives_up_what_is_in_preparation() -> None:
    async with kept(delay=60) as spare:
        spare.prepare()
        await asyncio.sleep(0)


async def test_none_is_started_while_requests_run() -> None:
    running = ["a request"]
    async with kept(running=running) as spare:
        preparing = asyncio.create_task(ready(spare))
        for _ in range(20):
            await asyncio.sleep(0)
        assert not preparing.done()
        running.clear()
        assert (await preparing).alive
