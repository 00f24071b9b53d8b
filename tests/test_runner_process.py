"""Runners as processes: they load, answer, are cancelled, misbehave and end, always reaped."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.duration import MILLISECOND, SECOND
from llamaherd.errors import BadRequest, LlamaherdError, LoadError, LoadTimeout, RunnerDied
from llamaherd.runner.child import Exit, Frames, Lines
from llamaherd.runner.process import STOPPED_UNEXPECTEDLY, Runner
from llamaherd.runner.protocol import (
    VERSION,
    Chunk,
    Finished,
    Load,
    Loading,
    ProtocolError,
    RunnerMessage,
    encode,
)
from tests.support import fake_runner

FAKE = (sys.executable, str(Path(fake_runner.__file__)))
LOAD = Load(model="/models/story.gguf", n_ctx=64, n_slots=4)


@pytest.fixture(params=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, Any]]:
    return "asyncio", {"use_uvloop": request.param == "uvloop"}


async def start(*flags: str, load: Load = LOAD, load_timeout_ns: int = 60 * SECOND) -> Runner:
    return await Runner.start(load, load_timeout_ns=load_timeout_ns, command=(*FAKE, *flags))


@asynccontextmanager
async def running(*flags: str) -> AsyncIterator[Runner]:
    runner = await start(*flags)
    try:
        yield runner
    finally:
        await runner.stop()
        assert_reaped(runner.pid)


def assert_reaped(pid: int) -> None:
    with pytest.raises(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)


def prompt(text: str) -> list[int]:
    return fake_runner.tokens(text)


async def reply(runner: Runner, text: str, **options: Any) -> str:
    messages = [message async for message in runner.generate(prompt(text), **options)]
    assert isinstance(messages[-1], Finished)
    return "".join(message.text for message in messages if isinstance(message, Chunk))


async def active(runner: Runner) -> list[int]:
    """The requests that the runner still works on."""
    return list(json.loads(await reply(runner, "active")))


class TestLoading:
    @pytest.mark.anyio
    async def test_a_runner_says_what_it_loaded(self) -> None:
        async with running("--load-steps", "3") as runner:
            assert runner.info.n_ctx == 64
            assert runner.info.n_slots == 4
            assert runner.alive
            assert json.loads(runner.info.system_info)["pid"] == runner.pid

    @pytest.mark.anyio
    async def test_a_load_that_fails_gives_model_and_reason(self) -> None:
        with pytest.raises(LoadError, match=r"^error loading model /models/story\.gguf: bad magic"):
            await start("--load-fails", "bad magic")

    @pytest.mark.anyio
    async def test_a_crash_while_loading_gives_the_signal_and_the_last_words(self) -> None:
        with pytest.raises(LoadError, match=r"killed by SIGILL: error: dying of SIGILL") as caught:
            await start("--load-dies", "SIGILL")
        assert caught.value.signal == signal.SIGILL

    @pytest.mark.anyio
    async def test_a_load_that_stands_still_times_out(self) -> None:
        with pytest.raises(LoadTimeout, match=r"story\.gguf: timed out: no progress within 0\.1 s"):
            await start("--load-hangs", load_timeout_ns=100 * MILLISECOND)

    @pytest.mark.anyio
    async def test_progress_restarts_the_timeout(self) -> None:
        slow = ("--load-steps", "4", "--load-pause", "0.4")
        runner = await start(*slow, load_timeout_ns=1500 * MILLISECOND)
        await runner.stop()

    @pytest.mark.anyio
    async def test_cancelling_a_load_ends_the_process(self) -> None:
        spawned: list[int] = []

        class Watched(Runner):
            async def _until_ready(self, timeout_ns: int) -> Any:
                spawned.append(self.pid)
                started.set()
                return await super()._until_ready(timeout_ns)

        started = asyncio.Event()
        task = asyncio.create_task(Watched.start(LOAD, command=(*FAKE, "--load-hangs")))
        await started.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert_reaped(spawned[0])

    @pytest.mark.anyio
    @pytest.mark.parametrize("turns", range(8))
    async def test_cancelling_at_any_turn_of_the_loop_ends_the_process(self, turns: int) -> None:
        """A server that was stopped while its spare runner started never ended."""
        runner = Runner()
        runner._child.spawn((*FAKE, "--load-hangs"), None)
        connecting = asyncio.create_task(runner._child.connect())
        for _ in range(turns):
            await asyncio.sleep(0)
        connecting.cancel()
        await asyncio.wait([connecting])
        runner._child.kill()
        async with asyncio.timeout(10):
            assert (await runner.wait_exit()).signal == signal.SIGKILL
        assert_reaped(runner.pid)

    @pytest.mark.anyio
    async def test_a_missing_program_is_a_load_error(self) -> None:
        with pytest.raises(LoadError, match=r"can't start its runner: .*No such file"):
            await Runner.start(LOAD, command=("/nonexistent/runner",))

    @pytest.mark.anyio
    async def test_another_version_of_the_protocol_is_a_load_error(self) -> None:
        with pytest.raises(LoadError, match=f"speaks protocol version 9, not {VERSION}"):
            await start("--version", "9")

    @pytest.mark.anyio
    async def test_an_environment_can_be_given(self) -> None:
        with pytest.raises(LoadError, match=r"exit code 1: .*ModuleNotFoundError"):
            await Runner.start(
                LOAD,
                command=(sys.executable, "-c", "import os; __import__(os.environ['MODULE'])"),
                env={"MODULE": "no_such_module"},
            )


class TestRequests:
    @pytest.mark.anyio
    async def test_text_to_tokens_and_back(self) -> None:
        async with running() as runner:
            assert await runner.tokenize("héy") == prompt("héy")
            assert await runner.detokenize(prompt("héy")) == "héy"

    @pytest.mark.anyio
    async def test_a_reply_is_chunks_and_then_the_figures(self) -> None:
        async with running() as runner:
            messages = [m async for m in runner.generate(prompt("once"), num_predict=2)]
        assert [m.text for m in messages if isinstance(m, Chunk)] == ["o", "n"]
        finished = messages[-1]
        assert isinstance(finished, Finished)
        assert (finished.prompt_count, finished.eval_count) == (4, 2)
        assert runner.served

    @pytest.mark.anyio
    async def test_many_requests_run_at_the_same_time(self) -> None:
        async with running() as runner:
            replies = await asyncio.gather(*(reply(runner, f"story {n}") for n in range(50)))
        assert replies == [f"story {n}" for n in range(50)]

    @pytest.mark.anyio
    async def test_a_request_that_fails_fails_alone(self) -> None:
        async with running() as runner:
            with pytest.raises(BadRequest, match="no such prompt"):
                await reply(runner, "fail")
            assert await reply(runner, "on") == "on"

    @pytest.mark.anyio
    async def test_an_answer_of_the_wrong_kind_is_an_error(self) -> None:
        async with running() as runner:
            with pytest.raises(LlamaherdError, match="unexpected Tokens"):
                await reply(runner, "wrong")

    @pytest.mark.anyio
    async def test_a_reply_is_concluded_once_and_its_end_told(self) -> None:
        async with running() as runner:
            generation = runner.generate(prompt("hang"))
            await anext(generation)
            generation.conclude()
            generation.conclude()
            late, end = [message async for message in generation]
            assert isinstance(late, Chunk)
            assert isinstance(end, Finished)
            assert (end.reason, end.eval_count) == ("stop", 9)
            generation.conclude()
            assert await active(runner) == []

    @pytest.mark.anyio
    async def test_aclose_cancels(self) -> None:
        async with running() as runner:
            async with aclosing(runner.generate(prompt("hang"))) as generation:
                await anext(generation)
                assert len(await active(runner)) == 1
            assert await active(runner) == []
            assert [message async for message in generation] == []

    @pytest.mark.anyio
    async def test_breaking_out_of_the_loop_cancels(self) -> None:
        async with running() as runner:
            async for _ in runner.generate(prompt("hang")):
                break
            gc.collect()
            assert await active(runner) == []

    @pytest.mark.anyio
    async def test_cancelling_the_task_cancels(self) -> None:
        async with running() as runner:
            begun = asyncio.Event()

            async def read() -> None:
                async for _ in runner.generate(prompt("hang")):
                    begun.set()

            task = asyncio.create_task(read())
            await begun.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await active(runner) == []

    @pytest.mark.anyio
    async def test_a_cancelled_question_is_forgotten(self) -> None:
        async with running() as runner:
            task = asyncio.create_task(runner.tokenize("text"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await runner.tokenize("more") == prompt("more")


class TestDeath:
    @pytest.mark.anyio
    async def test_a_crash_fails_all_requests_with_the_reason(self) -> None:
        async with running() as runner:
            hanging = runner.generate(prompt("hang"))
            await anext(hanging)
            with pytest.raises(RunnerDied) as caught:
                await reply(runner, "die")
            assert caught.value.message == (
                f"{STOPPED_UNEXPECTEDLY}: killed by SIGSEGV: error: dying of SIGSEGV"
            )
            with pytest.raises(RunnerDied, match="SIGSEGV"):
                await anext(hanging)
            assert not runner.alive
            assert not runner.served
            with pytest.raises(RunnerDied, match="SIGSEGV"):
                runner.generate(prompt("on"))

    @pytest.mark.anyio
    async def test_an_exit_gives_its_code(self) -> None:
        async with running() as runner:
            with pytest.raises(RunnerDied, match=r"exit code 3: giving up$"):
                await reply(runner, "exit")

    @pytest.mark.anyio
    async def test_the_end_of_an_idle_runner_is_noticed(self) -> None:
        async with running() as runner:
            os.kill(runner.pid, signal.SIGKILL)
            ended = await runner.wait_exit()
            assert ended.signal == signal.SIGKILL
            assert "perhaps because memory ran out" in str(ended)

    @pytest.mark.anyio
    async def test_garbage_is_the_end(self) -> None:
        async with running("--garbage") as runner:
            with pytest.raises(RunnerDied, match="it sent garbage: frame of"):
                await reply(runner, "hang")
            assert (await runner.wait_exit()).signal == signal.SIGKILL

    @pytest.mark.anyio
    async def test_a_closed_output_is_the_end(self) -> None:
        async with running() as runner:
            with pytest.raises(RunnerDied, match="it closed its output"):
                await reply(runner, "close")

    @pytest.mark.anyio
    async def test_what_it_prints_goes_to_the_log(self, caplog: pytest.LogCaptureFixture) -> None:
        caplog.set_level(logging.INFO, "llamaherd.runner")
        async with running() as runner:
            async for _ in runner.generate(prompt("hang")):
                break
            assert await active(runner) == []
        assert f"{runner.pid}: cancelled 1" in caplog.messages


class TestStop:
    @pytest.mark.anyio
    async def test_it_ends_by_itself_when_told(self) -> None:
        runner = await start()
        await runner.stop()
        assert runner.exit == Exit(0)
        assert_reaped(runner.pid)

    @pytest.mark.anyio
    async def test_then_comes_sigterm(self) -> None:
        runner = await start("--ignores-shutdown")
        await runner.stop(grace_ns=50 * MILLISECOND)
        assert (await runner.wait_exit()).signal == signal.SIGTERM

    @pytest.mark.anyio
    async def test_then_comes_sigkill(self) -> None:
        runner = await start("--ignores-shutdown", "--ignores-sigterm")
        await runner.stop(grace_ns=50 * MILLISECOND)
        assert (await runner.wait_exit()).signal == signal.SIGKILL

    @pytest.mark.anyio
    async def test_cancelling_stop_kills_at_once(self) -> None:
        runner = await start("--ignores-shutdown", "--ignores-sigterm")
        stopping = asyncio.create_task(runner.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        assert (await runner.wait_exit()).signal == signal.SIGKILL

    @pytest.mark.anyio
    async def test_running_requests_fail_with_the_reason(self) -> None:
        runner = await start("--ignores-shutdown")
        hanging = runner.generate(prompt("hang"))
        await anext(hanging)
        stopping = asyncio.create_task(runner.stop(50 * MILLISECOND, "model was unloaded"))
        with pytest.raises(RunnerDied, match=r"^model was unloaded$"):
            await anext(hanging)
        assert not runner.alive
        with pytest.raises(RunnerDied, match=r"^model was unloaded$"):
            await runner.tokenize("text")
        await stopping


class TestProcess:
    @pytest.mark.anyio
    async def test_no_file_descriptors_leak_into_it(self) -> None:
        ours = os.open(os.devnull, os.O_RDONLY)
        os.set_inheritable(ours, True)
        async with running(), running("--report-fds") as second:
            open_files = json.loads(second.info.system_info)["fds"]
        os.close(ours)
        pipes = [name for name in open_files if name.startswith("pipe:") or "socket:" in name]
        assert len(pipes) == 3
        assert os.devnull not in open_files

    @pytest.mark.anyio
    async def test_it_has_its_own_session(self) -> None:
        async with running() as runner:
            assert os.getsid(runner.pid) == runner.pid
            assert os.getpgid(runner.pid) == runner.pid


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="needs pidfd_open")
def test_runners_end_with_a_server_that_is_killed() -> None:
    server = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SERVER), *FAKE], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    with server.stdout:
        pids = json.loads(server.stdout.readline())
        handles = [os.pidfd_open(pid) for pid in pids]
        server.kill()
        server.wait()
    for handle in handles:
        ended, _, _ = select.select([handle], [], [], 30)
        os.close(handle)
        assert ended, "a runner outlived its server"


SERVER = """
    import asyncio, json, sys
    from llamaherd.runner.process import Runner
    from llamaherd.runner.protocol import Load

    async def main():
        load = Load(model="m", n_ctx=8)
        runners = [await Runner.start(load, command=sys.argv[1:]) for _ in range(2)]
        print(json.dumps([runner.pid for runner in runners]), flush=True)
        await asyncio.Event().wait()

    asyncio.run(main())
"""


class TestFrames:
    @given(
        st.lists(st.builds(Chunk, st.integers(0, 1 << 40), st.text())),
        st.lists(st.integers(1, 20), min_size=1),
    )
    def test_messages_survive_any_cutting(
        self, messages: list[RunnerMessage], sizes: list[int]
    ) -> None:
        data = b"".join(map(encode, messages))
        frames, found, turn = Frames(), list[RunnerMessage](), 0
        while data:
            size = sizes[turn % len(sizes)]
            found += frames.feed(data[:size])
            data, turn = data[size:], turn + 1
        assert found == messages

    def test_sound_messages_before_garbage_arrive(self) -> None:
        frames = Frames().feed(encode(Loading(0.5)) + b"\x01\x00\x00\x00\xc1")
        assert next(frames) == Loading(0.5)
        with pytest.raises(ProtocolError):
            next(frames)

    def test_a_length_that_no_answer_has_is_garbage(self) -> None:
        with pytest.raises(ProtocolError, match="an answer of 167772160 bytes"):
            list(Frames().feed(b"\0\0\0\n"))


class TestLastWords:
    def test_a_line_that_tells_more_than_the_last_is_preferred(self) -> None:
        lines = ["GGML_ASSERT(n > 0) failed", "/lib/libggml.so(+0x123) [0x7f]", ""]
        assert Exit.of(-6, lines) == Exit(None, 6, "GGML_ASSERT(n > 0) failed")

    def test_else_the_last_line(self) -> None:
        assert str(Exit.of(1, ["one", "two", " "])) == "exit code 1: two"

    def test_no_line_of_the_log_explains_a_crash(self) -> None:
        assert str(Exit.of(-11, ["INFO llama.cpp: loading"])) == "killed by SIGSEGV"

    def test_silence(self) -> None:
        assert str(Exit.of(-64, [])) == "killed by signal 64" or "SIGRTMAX" in str(Exit.of(-64, []))

    def test_lines_are_bounded(self) -> None:
        lines = Lines()
        assert lines.feed(b"a\r\nb") == ["a"]
        assert lines.feed(b"c\n\n") == ["bc"]
        assert [len(line) for line in lines.feed(b"x" * 100_000)] == [4096]
        assert lines.feed(b"\xff") == []
        assert lines.end() == ["\ufffd"]
        assert list(lines.kept)[-1] == "\ufffd"
