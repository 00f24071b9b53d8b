"""The process of a runner: its pipes cut into messages and lines, its signals, its end.

The child runs in a session of its own, so a terminal's Ctrl-C reaches the server alone, which then
decides. Should the server be killed, the child sees the end of its standard input and ends too;
no other process holds the other end of that pipe.
"""

from __future__ import annotations

import asyncio
import logging
import os
import re
import signal
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import IO, Final, cast

from llamaherd.observe import leveled, of_no_request
from llamaherd.runner.protocol import (
    HEADER_SIZE,
    ProtocolError,
    RunnerMessage,
    ServerMessage,
    decode_runner_message,
    encode,
    frame_length,
)

log = logging.getLogger("llamaherd.runner")

#: No answer is longer, in bytes, so a longer frame is taken for garbage at once.
LONGEST_ANSWER: Final = 1 << 26

#: How long, in seconds, a child that closed its output may take to end, and how long the pipes of
#: one that ended are read on if others hold them open.
_PATIENCE: Final = 1.0

_LONGEST_LINE: Final = 4096
_KEPT_LINES: Final = 40
_TELLING: Final = re.compile(r"error|assert|what\(\)|exception|fatal|fail|out of memory", re.I)

#: What stands before llama.cpp's own files in its assertions: where it was compiled.
_BUILD_PATH: Final = re.compile(r"\S*/(?=llama\.cpp/)")


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended: its exit code or the signal that killed it, and its last words."""

    code: int | None
    signal: int | None = None
    last_words: str = ""

    @classmethod
    def of(cls, returncode: int, stderr: Sequence[str]) -> Exit:
        """``returncode`` as ``subprocess`` gives it; ``stderr`` the last lines, oldest first.

        A crash is often followed by a listing of addresses, so a line that speaks of an error is
        preferred to the very last one. Who is killed by a signal had no time for last words.
        """
        lines = [line.strip() for line in reversed(stderr) if line.strip()]
        last = lines[0] if lines and returncode >= 0 else ""
        words = next((line for line in lines if _TELLING.search(line)), last)
        words = _BUILD_PATH.sub("", leveled(words)[1])
        if returncode < 0:
            return cls(None, -returncode, words)
        return cls(returncode, None, words)

    def __str__(self) -> str:
        if self.signal is None:
            how = f"exit code {self.code}"
        elif self.signal == signal.SIGKILL:
            how = "killed by SIGKILL, perhaps because memory ran out"
        else:
            how = f"killed by {signal_name(self.signal)}"
        return f"{how}: {self.last_words}" if self.last_words else how


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"


class Frames:
    """Cuts the bytes that come from a runner into messages."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[RunnerMessage]:
        """The messages that ``data`` completes; raises ``ProtocolError`` after the last sound one.

        To be run to its end before the next call.
        """
        self._buffer += data
        at, size = 0, len(self._buffer)
        with memoryview(self._buffer) as view:
            while size - at >= HEADER_SIZE:
                body = at + HEADER_SIZE
                length = frame_length(bytes(view[at:body]))
                if length > LONGEST_ANSWER:
                    raise ProtocolError(f"an answer of {length} bytes")
                if body + length > size:
                    break
                yield decode_runner_message(bytes(view[body : body + length]))
                at = body + length
        del self._buffer[:at]


class Lines:
    """Cuts standard error into lines of bounded length and keeps the last of them."""

    def __init__(self) -> None:
        self._rest = b""
        self.kept: deque[str] = deque(maxlen=_KEPT_LINES)

    def feed(self, data: bytes) -> list[str]:
        *whole, self._rest = (self._rest + data).split(b"\n")
        if len(self._rest) > _LONGEST_LINE:
            whole.append(self._rest)
            self._rest = b""
        return self._keep(whole)

    def end(self) -> list[str]:
        """What is left without a newline."""
        rest, self._rest = self._rest, b""
        return self._keep([rest])

    def _keep(self, raw: Sequence[bytes]) -> list[str]:
        lines = [line[:_LONGEST_LINE].decode(errors="replace").rstrip() for line in raw]
        lines = [line for line in lines if line]
        self.kept.extend(lines)
        return lines


class _Pipe(asyncio.Protocol):
    """One end of a pipe to the child, as the event loop sees it."""

    def __init__(self, on_data: Callable[[bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_data = on_data
        self._on_lost = on_lost

    def data_received(self, data: bytes) -> None:
        self._on_data(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self._on_lost()


class Child:
    """A child process that speaks ``runner.protocol`` on its standard input and output.

    ``on_message`` gets every message. ``on_exit`` is called once, after the last of them, when the
    process is reaped. A child that doesn't keep to the protocol, or closes its standard output, is
    killed, and ``garbled`` says why.

    Not built on the event loop's own subprocesses: uvloop lets file descriptors leak into them,
    and asyncio's may lose the exit status when a signal is sent to one that has just ended.
    """

    def __init__(
        self, on_message: Callable[[RunnerMessage], None], on_exit: Callable[[Exit], None]
    ) -> None:
        self.pid = 0
        self.garbled = ""
        self._on_message = on_message
        self._on_exit = on_exit
        self._frames = Frames()
        self._lines = Lines()
        self._process: subprocess.Popen[bytes] | None = None
        self._returncode: int | None = None
        self._stdin: asyncio.WriteTransport | None = None
        self._transports: dict[IO[bytes] | None, asyncio.BaseTransport] = {}
        self._open = {"stdout", "stderr"}
        self._timers: list[asyncio.TimerHandle] = []
        self._finished = False

    def spawn(self, command: Sequence[str], env: Mapping[str, str] | None) -> None:
        """Start the process; raises ``OSError``. ``env`` None is our own environment.

        From now on ``on_exit`` will be called. ``connect`` comes next.
        """
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            env=env,
            start_new_session=True,
        )
        self.pid = self._process.pid
        watched = (self._process, asyncio.get_running_loop())
        threading.Thread(target=self._reap, args=watched, daemon=True).start()

    async def connect(self) -> None:
        """Have the event loop serve the pipes of the process.

        That takes no time and isn't broken off by cancelling: the loop would close a pipe that its
        file object then closes again, and by then the number may be another file's.
        """
        connecting = asyncio.create_task(self._connect(), context=of_no_request())
        try:
            await asyncio.shield(connecting)
        finally:
            await asyncio.wait([connecting])

    async def _connect(self) -> None:
        """In a context of its own, which the callbacks of the pipes keep as long as they live."""
        process = self._process
        assert process is not None
        loop = asyncio.get_running_loop()
        self._stdin, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, process.stdin)
        self._transports[process.stdin] = self._stdin
        for name, pipe, on_data in (
            ("stdout", process.stdout, self._read),
            ("stderr", process.stderr, self._listen),
        ):
            factory = partial(_Pipe, on_data, partial(self._lost, name))
            self._transports[pipe], _ = await loop.connect_read_pipe(factory, pipe)

    def send(self, message: ServerMessage) -> None:
        """Write a message; one to a child that has gone is dropped, as its end tells enough."""
        if self._stdin is not None and not self._stdin.is_closing():
            self._stdin.write(encode(message))

    def kill(self, number: signal.Signals = signal.SIGKILL) -> None:
        """Send a signal to the child and whatever it started, unless it has ended."""
        if self._process is not None and self._returncode is None:
            with suppress(ProcessLookupError):
                os.killpg(self.pid, number)

    def _reap(self, process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop) -> None:
        returncode = process.wait()
        # A loop that is closed has nobody left who waits for this child.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._reaped, returncode)

    # --- called by the event loop -----------------------------------------------------------

    def _read(self, data: bytes) -> None:
        if self.garbled:
            return
        try:
            for message in self._frames.feed(data):
                self._on_message(message)
        except ProtocolError as error:
            self._condemn(f"it sent garbage: {error}")

    def _listen(self, data: bytes) -> None:
        self._log(self._lines.feed(data))

    def _lost(self, name: str) -> None:
        self._open.discard(name)
        if self._returncode is not None and not self._open:
            self._finish()
        elif name == "stdout":
            self._later(partial(self._condemn, "it closed its output"))

    def _reaped(self, returncode: int) -> None:
        self._returncode = returncode
        if self._open:
            self._later(self._finish)
        else:
            self._finish()

    def _later(self, call: Callable[[], None]) -> None:
        self._timers.append(asyncio.get_running_loop().call_later(_PATIENCE, call))

    def _condemn(self, why: str) -> None:
        self.garbled = self.garbled or why
        self.kill()

    def _finish(self) -> None:
        if self._finished:
            return
        self._finished = True
        for timer in self._timers:
            timer.cancel()
        assert self._process is not None
        assert self._returncode is not None
        self._stdin = None
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            (self._transports.get(pipe) or cast(IO[bytes], pipe)).close()
        self._log(self._lines.end())
        self._on_exit(Exit.of(self._returncode, self._lines.kept))

    def _log(self, lines: Sequence[str]) -> None:
        for line in lines:
            level, message = leveled(line)
            log.log(level, "%d: %s", self.pid, message)
