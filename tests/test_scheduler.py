"""The scheduler with real processes: runners that have no model but load, answer, hang and die.

The path of a model is the command line of its fake runner (see ``support/fake_runner.py``).
"""

from __future__ import annotations

import asyncio
import logging
import os
import shlex
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from llamaherd.config import Settings
from llamaherd.duration import FOREVER, MINUTE, SECOND
from llamaherd.errors import LoadError, Overloaded, RunnerDied, ShuttingDown
from llamaherd.hardware import Hardware
from llamaherd.options import resolve_options
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Finished, Load
from llamaherd.scheduler.loop import LoadSpec, Scheduler
from llamaherd.scheduler.shape import ModelShape
from llamaherd.scheduler.soundness import run_selftest
from tests.support import fake_runner

GIB = 1 << 30
FAKE = (sys.executable, str(Path(fake_runner.__file__)))
SHAPE = ModelShape(
    layers=2,
    embedding=64,
    heads=4,
    key_width=64,
    value_width=64,
    head_sizes=(16, 16),
    context_train=2048,
    vocabulary=512,
    weights=1_000_000,
)


class HandClock:
    """A clock that stands still until it is told to go on."""

    def __init__(self) -> None:
        self.time = 0
        self.timers: list[HandTimer] = []

    def now(self) -> int:
        return self.time

    def call_at(self, moment: int, call: Callable[[], None]) -> HandTimer:
        timer = HandTimer(self, moment, call)
        self.timers.append(timer)
        return timer

    def advance(self, duration: int) -> None:
        self.time += duration
        for timer in [timer for timer in self.timers if timer.moment <= self.time]:
            self.timers.remove(timer)
            timer.call()


@dataclass(eq=False)
class HandTimer:
    clock: HandClock
    moment: int
    call: Callable[[], None]

    def cancel(self) -> None:
        if self in self.clock.timers:
            self.clock.timers.remove(self)


@dataclass
class Stage:
    """A scheduler and every load that it asked for."""

    scheduler: Scheduler
    clock: HandClock
    loads: list[Load] = field(default_factory=list)
    runners: list[Runner] = field(default_factory=list)

    async def acquire(self, *arguments: Any, **options: Any) -> Runner:
        """Take a slot and give it back at once; the runner that it was on."""
        async with self.scheduler.acquire(*arguments, **options) as grant:
            return grant.runner

    def names(self) -> list[str]:
        return [model.name for model in self.scheduler.loaded()]


@asynccontextmanager
async def staged(
    environ: dict[str, str] | None = None,
    *,
    amx: bool = False,
    memory: int = 16 * GIB,
    factory: Any = None,
    **replaced: Any,
) -> AsyncIterator[Stage]:
    clock = HandClock()
    features = frozenset({"amx_tile"} if amx else {"avx2"})

    async def start(load: Load, *, load_timeout_ns: int) -> Runner:
        stage.loads.append(load)
        command = (*FAKE, *shlex.split(load.model))
        runner = await Runner.start(load, load_timeout_ns=load_timeout_ns, command=command)
        stage.runners.append(runner)
        return runner

    scheduler = Scheduler(
        Settings.from_environ(environ or {}),
        Hardware("", features, 2, 2, memory),
        runner_factory=factory or start,
        memory_available=lambda: memory,
        clock=clock,
        **replaced,
    )
    stage = Stage(scheduler, clock)
    try:
        yield stage
    finally:
        await scheduler.close()
        assert all(runner.exit is not None for runner in stage.runners)


def model(name: str = "story", flags: str = "", **options: Any) -> LoadSpec:
    return LoadSpec(
        key=name,
        name=name,
        info={"digest": name},
        model=flags,
        adapters=(),
        projector="",
        options=resolve_options(options),
        shape=SHAPE,
    )


async def step() -> None:
    """Let every task go on that can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def reply(runner: Runner, text: str) -> int:
    """The number of tokens of a reply."""
    async for message in runner.generate(fake_runner.tokens(text)):
        if isinstance(message, Finished):
            return message.eval_count
    raise AssertionError("no end")


@pytest.mark.anyio
class TestLoading:
    async def test_a_model_is_loaded_once_and_used_by_many(self) -> None:
        async with staged() as stage:
            for _ in range(2):
                async with stage.scheduler.acquire(model()) as grant:
                    assert await reply(grant.runner, "once") == 4
            assert len(stage.loads) == 1
            assert (stage.loads[0].n_ctx, stage.loads[0].n_slots) == (2048, 4)

    async def test_the_time_of_loading_is_told_to_those_who_waited_for_it(self) -> None:
        async def slow(load: Load, *, load_timeout_ns: int) -> Runner:
            stage.clock.advance(3 * SECOND)
            return await Runner.start(load, command=FAKE)

        async with (
            staged(factory=slow) as stage,
            stage.scheduler.acquire(model()) as first,
            stage.scheduler.acquire(model()) as second,
        ):
            assert (first.load_duration, second.load_duration) == (3 * SECOND, 0)

    async def test_a_load_that_fails_is_reported_and_can_be_tried_again(self) -> None:
        async with staged() as stage:
            for _ in range(2):
                with pytest.raises(LoadError, match="bad magic"):
                    await stage.acquire(model(flags="--load-fails 'bad magic'"))
            assert len(stage.loads) == 2
            assert stage.names() == []

    async def test_everybody_who_waits_for_it_is_told(self) -> None:
        async with staged() as stage:
            waiting = [stage.acquire(model(flags="--load-fails 'bad magic'")) for _ in range(3)]
            results = await asyncio.gather(*waiting, return_exceptions=True)
            assert [type(result) for result in results] == [LoadError] * 3
            assert len(stage.loads) == 1

    async def test_a_fault_of_our_own_is_reported_too(self) -> None:
        async def broken(load: Load, *, load_timeout_ns: int) -> Runner:
            raise ZeroDivisionError("oops")

        async with staged(factory=broken) as stage:
            with pytest.raises(LoadError, match="ZeroDivisionError"):
                await stage.acquire(model())

    async def test_cancelling_the_only_request_gives_up_the_load(self) -> None:
        async with staged() as stage:
            task = asyncio.create_task(stage.acquire(model(flags="--load-hangs")))
            await step()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stage.acquire(model(flags=""))
            assert stage.names() == ["story"]

    async def test_other_load_options_reload_the_model(self) -> None:
        async with staged() as stage:
            first = await stage.acquire(model(num_ctx=512))
            second = await stage.acquire(model(num_ctx=1024))
            assert first.exit is not None
            assert [load.n_ctx for load in stage.loads] == [512, 1024]
            assert second is await stage.acquire(model(num_ctx=1024, temperature=0))

    async def test_what_can_never_be_loaded_is_said(self) -> None:
        async with staged(memory=1 << 20) as stage:
            with pytest.raises(LoadError, match="requires more system memory"):
                await stage.acquire(model())
            assert stage.loads == []


@pytest.mark.anyio
class TestSlots:
    ONE = {"OLLAMA_NUM_PARALLEL": "1", "OLLAMA_MAX_QUEUE": "1"}  # noqa: RUF012

    async def test_a_request_waits_for_a_slot(self) -> None:
        async with staged(self.ONE) as stage:
            async with stage.scheduler.acquire(model()):
                task = asyncio.create_task(stage.acquire(model()))
                await step()
                assert not task.done()
            assert await task is stage.runners[0]

    async def test_one_that_gives_up_leaves_the_slot_to_others(self) -> None:
        async with staged(self.ONE) as stage:
            async with stage.scheduler.acquire(model()):
                task = asyncio.create_task(stage.acquire(model()))
                await step()
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await stage.acquire(model())

    async def test_too_many_are_sent_away(self) -> None:
        async with staged(self.ONE) as stage:
            async with stage.scheduler.acquire(model()):
                task = asyncio.create_task(stage.acquire(model()))
                await step()
                with pytest.raises(Overloaded):
                    await stage.acquire(model())
            await task


@pytest.mark.anyio
class TestKeepAlive:
    async def test_an_idle_model_goes_when_its_time_has_come(self) -> None:
        async with staged() as stage:
            runner = await stage.acquire(model())
            stage.clock.advance(5 * MINUTE - 1)
            assert stage.names() == ["story"]
            stage.clock.advance(1)
            assert stage.names() == []
            await runner.wait_exit()

    async def test_zero_unloads_at_once(self) -> None:
        async with staged() as stage:
            runner = await stage.acquire(model(), keep_alive_ns=0)
            assert stage.names() == []
            await runner.wait_exit()

    async def test_when_it_goes_is_shown(self) -> None:
        async with staged() as stage:
            await stage.acquire(model(), keep_alive_ns=MINUTE)
            (loaded,) = stage.scheduler.loaded()
            left = loaded.expires_at - datetime.now(UTC)
            assert timedelta(seconds=50) < left <= timedelta(minutes=1)
            await stage.acquire(model(), keep_alive_ns=FOREVER)
            (loaded,) = stage.scheduler.loaded()
            assert loaded.expires_at.year > 2300


@pytest.mark.anyio
class TestLoaded:
    async def test_what_is_shown(self) -> None:
        async with staged() as stage:
            await stage.acquire(model(num_ctx=512))
            (loaded,) = stage.scheduler.loaded()
            assert loaded.name == "story"
            assert loaded.info == {"digest": "story"}
            assert (loaded.size, loaded.size_vram, loaded.context_length) == (1230, 0, 512)

    async def test_a_model_still_loading_is_not_there_yet(self) -> None:
        async with staged() as stage:
            task = asyncio.create_task(stage.acquire(model(flags="--load-hangs")))
            await step()
            assert stage.names() == []
            task.cancel()


@pytest.mark.anyio
class TestDeath:
    async def test_of_an_idle_runner_is_noticed_at_once(self) -> None:
        async with staged() as stage:
            runner = await stage.acquire(model())
            os.kill(runner.pid, signal.SIGKILL)
            await runner.wait_exit()
            await step()
            assert stage.names() == []
            assert await stage.acquire(model()) is not runner

    async def test_in_use_fails_the_request_and_the_next_one_reloads(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with staged() as stage:
            with pytest.raises(RunnerDied, match="exit code 3: giving up"):
                async with stage.scheduler.acquire(model()) as grant:
                    await reply(grant.runner, "exit")
            async with stage.scheduler.acquire(model()) as grant:
                assert await reply(grant.runner, "on") == 2
        assert "the runner of story ended by itself: exit code 3: giving up" in caplog.messages


@pytest.mark.anyio
class TestUnload:
    async def test_a_model_is_gone_when_it_returns(self) -> None:
        async with staged() as stage:
            runner = await stage.acquire(model(), keep_alive_ns=FOREVER)
            assert await stage.scheduler.unload("story", "story")
            assert runner.exit is not None
            assert stage.names() == []
            assert not await stage.scheduler.unload("story", "story")

    async def test_requests_in_progress_fail(self) -> None:
        async with staged() as stage, stage.scheduler.acquire(model()) as grant:
            hanging = grant.runner.generate(fake_runner.tokens("hang"))
            await anext(hanging)
            await stage.scheduler.unload("story", "story")
            with pytest.raises(RunnerDied, match="model was unloaded while"):
                await anext(hanging)

    async def test_the_same_weights_under_another_name_stay(self) -> None:
        async with staged() as stage:
            runner = await stage.acquire(model(), keep_alive_ns=FOREVER)
            assert not await stage.scheduler.unload("story", "tale")
            async with stage.scheduler.acquire(replace(model(), name="tale")) as grant:
                assert grant.runner is runner
                assert not await stage.scheduler.unload("story", "story")
            assert stage.names() == ["tale"]
            assert await stage.scheduler.unload("story", "tale")

    async def test_a_load_is_given_up(self) -> None:
        async with staged() as stage:
            task = asyncio.create_task(stage.acquire(model(flags="--load-hangs")))
            await step()
            await stage.scheduler.unload("story", "story")
            with pytest.raises(RunnerDied, match="model was unloaded before"):
                await task


@pytest.mark.anyio
class TestClose:
    async def test_all_runners_end(self) -> None:
        async with staged() as stage:
            runners = [await stage.acquire(model(name)) for name in ("a", "b")]
            await stage.scheduler.close()
            assert all(runner.exit is not None for runner in runners)
            with pytest.raises(ShuttingDown):
                await stage.acquire(model())

    async def test_loads_end_too(self) -> None:
        async with staged() as stage:
            task = asyncio.create_task(stage.acquire(model(flags="--load-hangs")))
            await step()
            await stage.scheduler.close()
            with pytest.raises(ShuttingDown):
                await task


@pytest.mark.anyio
class TestSoundness:
    def warnings(self, caplog: pytest.LogCaptureFixture) -> list[str]:
        return [m for m in caplog.messages if m.startswith("running models without extra buffers")]

    async def test_a_crash_while_loading_is_tried_again_without_extra_buffers(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with staged() as stage:
            await stage.acquire(model("a", "--unsound --load-dies SIGSEGV"))
            await stage.acquire(model("b", "--unsound --load-dies SIGSEGV"))
            assert [load.extra_buffers for load in stage.loads] == [True, False, False]
        assert len(self.warnings(caplog)) == 1

    async def test_a_model_that_crashes_either_way_is_at_fault_itself(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with staged() as stage:
            with pytest.raises(LoadError, match="SIGSEGV"):
                await stage.acquire(model("a", "--load-dies SIGSEGV"))
            await stage.acquire(model("b"))
            assert [load.extra_buffers for load in stage.loads] == [True, False, True]
        assert self.warnings(caplog) == []

    async def test_an_error_is_not_a_crash(self) -> None:
        async with staged() as stage:
            with pytest.raises(LoadError, match="SIGKILL"):
                await stage.acquire(model("a", "--load-dies SIGKILL"))
            assert len(stage.loads) == 1

    async def test_a_crash_in_the_first_request_makes_the_next_runner_do_without(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with staged() as stage:
            with pytest.raises(RunnerDied, match="SIGSEGV"):
                async with stage.scheduler.acquire(model("a", "--unsound")) as grant:
                    await reply(grant.runner, "once")
            async with stage.scheduler.acquire(model("a", "--unsound")) as grant:
                assert await reply(grant.runner, "once") == 4
            await stage.acquire(model("b"))
            assert [load.extra_buffers for load in stage.loads] == [True, False, False]
        assert len(self.warnings(caplog)) == 1

    async def test_a_request_that_crashes_either_way_condemns_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async with staged() as stage:
            for _ in range(3):
                with pytest.raises(RunnerDied, match="SIGSEGV"):
                    async with stage.scheduler.acquire(model("a")) as grant:
                        await reply(grant.runner, "die")
            await stage.acquire(model("b"))
            assert [load.extra_buffers for load in stage.loads] == [True, False, True, True]
        assert self.warnings(caplog) == []

    async def test_later_crashes_say_nothing_about_the_build(self) -> None:
        async with staged() as stage:
            async with stage.scheduler.acquire(model("a")) as grant:
                await reply(grant.runner, "once")
                with pytest.raises(RunnerDied, match="SIGSEGV"):
                    await reply(grant.runner, "die")
            await stage.acquire(model("a"))
            assert [load.extra_buffers for load in stage.loads] == [True, True]

    @pytest.mark.parametrize("sound", [True, False])
    async def test_where_there_is_amx_the_first_load_waits_for_the_self_test(
        self, sound: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        verdict = asyncio.get_running_loop().create_future()
        tests: list[int] = []

        async def selftest() -> bool:
            tests.append(1)
            return bool(await verdict)

        async with staged(amx=True, selftest=selftest) as stage:
            task = asyncio.create_task(stage.acquire(model("a")))
            await step()
            assert (tests, stage.loads) == ([1], [])
            verdict.set_result(sound)
            await task
            await stage.acquire(model("b"))
            assert [load.extra_buffers for load in stage.loads] == [sound, sound]
        assert tests == [1]
        assert len(self.warnings(caplog)) == (not sound)

    async def test_elsewhere_there_is_none(self) -> None:
        async def selftest() -> bool:
            raise AssertionError("not wanted")

        async with staged(selftest=selftest) as stage:
            await stage.acquire(model())

    async def test_closing_ends_the_self_test(self) -> None:
        async def selftest() -> bool:
            await asyncio.Event().wait()
            return True

        async with staged(amx=True, selftest=selftest) as stage:
            task = asyncio.create_task(stage.acquire(model()))
            await step()
            await stage.scheduler.close()
            with pytest.raises(ShuttingDown):
                await task

    async def test_a_self_test_that_can_not_run_proves_nothing(
        self, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def selftest() -> bool:
            raise OSError("no more processes")

        async with staged(amx=True, selftest=selftest) as stage:
            await stage.acquire(model())
            assert stage.loads[0].extra_buffers
        assert "the engine's self-test could not run: no more processes" in caplog.messages

    @pytest.mark.parametrize(
        ("program", "passed"),
        [
            ("", True),
            ("raise SystemExit(1)", False),
            ("import os; os.kill(os.getpid(), 11)", False),
        ],
    )
    async def test_the_self_test_is_a_program(self, program: str, passed: bool) -> None:
        assert await run_selftest((sys.executable, "-c", program)) is passed


@pytest.fixture(autouse=True)
def _log(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "llamaherd")
