"""Whether the engine's build is sound on this machine when it lays out weights its own way.

llama.cpp copies weights into "extra buffers" in the layout that the processor likes best. Builds
exist that crash there (GCC before 14 with AMX), so runners must be able to do without. Evidence
against a build, from strongest to weakest: the self-test fails; a runner crashes while it loads
and the same load succeeds without extra buffers; a runner crashes in its first request and the
next one of the same model, without extra buffers, serves. A model that crashes both ways is at
fault itself, and others keep their speed.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable, Callable, Sequence
from signal import SIGABRT, SIGBUS, SIGILL, SIGSEGV
from typing import Final, Protocol

import msgspec

from llamaherd.errors import LoadError
from llamaherd.runner.child import signal_name
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Load

log = logging.getLogger(__name__)

SELFTEST: Final = (sys.executable, "-P", "-m", "llamaherd.llama.selftest")

#: How long the self-test may take, in seconds; it needs less than one.
_SELFTEST_TIMEOUT: Final = 60

_CRASHES: Final = frozenset({SIGSEGV, SIGILL, SIGBUS, SIGABRT})

#: Once a model is loaded, SIGABRT is llama.cpp refusing something about one request.
_CRASHES_IN_USE: Final = _CRASHES - {SIGABRT}


class RunnerFactory(Protocol):
    """``Runner.start`` or what behaves like it."""

    async def __call__(self, load: Load, *, load_timeout_ns: int) -> Runner: ...


async def run_selftest(command: Sequence[str] = SELFTEST) -> bool:
    """Run the engine's self-test in a child process; whether it passed."""
    process = await asyncio.create_subprocess_exec(
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_SELFTEST_TIMEOUT):
            return await process.wait() == 0
    except TimeoutError:
        return False
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


class Soundness:
    """What is known about the build; decides for each runner whether it gets extra buffers.

    ``selftest`` runs at once in the background, and the first load waits for it. To be made inside
    a running event loop if there is one.
    """

    def __init__(self, selftest: Callable[[], Awaitable[bool]] | None = None) -> None:
        self._unsound = False
        self._suspects: set[str] = set()
        self._acquitted: set[str] = set()
        self._testing = asyncio.ensure_future(self._test(selftest)) if selftest else None

    async def start(
        self, factory: RunnerFactory, key: str, load: Load, *, load_timeout_ns: int
    ) -> Runner:
        """Start a runner, a second time without extra buffers if it crashes with them.

        Raises what ``factory`` raises.
        """
        if self._testing is not None:
            await asyncio.shield(self._testing)
        extra_buffers = not self._unsound and key not in self._suspects
        plain = msgspec.structs.replace(load, extra_buffers=False)
        try:
            return await factory(load if extra_buffers else plain, load_timeout_ns=load_timeout_ns)
        except LoadError as error:
            if not extra_buffers or error.signal not in _CRASHES:
                raise
            crash = signal_name(error.signal)
        runner = await factory(plain, load_timeout_ns=load_timeout_ns)
        self._distrust(f"loading {load.model} ended with {crash} and succeeds without them")
        return runner

    def saw_served(self, key: str, runner: Runner) -> None:
        """A request of this runner came to its end."""
        if key in self._suspects and not runner.load.extra_buffers:
            self._suspects.discard(key)
            self._distrust(f"{runner.load.model} crashed with them and works without")

    def saw_exit(self, key: str, runner: Runner) -> None:
        """This runner ended without being asked to."""
        crashed = runner.exit is not None and runner.exit.signal in _CRASHES_IN_USE
        if not crashed or runner.served or self._unsound:
            return
        if runner.load.extra_buffers:
            if key not in self._acquitted:
                self._suspects.add(key)
        elif key in self._suspects:
            self._suspects.discard(key)
            self._acquitted.add(key)

    async def close(self) -> None:
        if self._testing is not None:
            self._testing.cancel()
            await asyncio.wait([self._testing])

    async def _test(self, selftest: Callable[[], Awaitable[bool]]) -> None:
        try:
            sound = await selftest()
        except OSError as error:
            log.warning("the engine's self-test could not run: %s", error)
            return
        if not sound:
            self._distrust("the engine's self-test fails on this machine")

    def _distrust(self, why: str) -> None:
        if not self._unsound:
            self._unsound = True
            log.warning(
                "running models without extra buffers, which is slower, because %s; "
                "building the engine anew for this machine may help",
                why,
            )
