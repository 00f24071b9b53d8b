"""What pulling and pushing have in common: pace, patience, progress."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, replace
from typing import Final, ParamSpec, TypeVar

from llamaherd.errors import RegistryBusy, RegistryError, RegistryUnavailable, ShuttingDown
from llamaherd.store.progress import Progress

P = ParamSpec("P")
T = TypeVar("T")

#: What a transfer reports while it runs; closing it ends what nobody else waits for.
Reports = AsyncGenerator[Progress, None]

#: Seconds between two reports of a transfer.
TICK: Final = 0.06


@dataclass(frozen=True, slots=True)
class Pace:
    """How transfers are cut into parts, and how patient they are. Ollama's numbers.

    Sizes in bytes, times in seconds. A part without a byte in ``stall`` is asked for again; one
    that fails ``tries`` times in a row fails the transfer, with ``pause`` doubling between tries. A
    small request that a busy registry refuses is made ``busy_tries`` times.
    """

    connections: int = 8
    download_parts: int = 16
    upload_parts: int = 64
    least_part: int = 100_000_000
    most_part: int = 1_000_000_000
    stall: float = 30.0
    tries: int = 6
    busy_tries: int = 3
    pause: float = 1.0

    def part_size(self, total: int, parts: int) -> int:
        return min(max(total // parts, self.least_part), self.most_part)


class Patience:
    """Counts the failures in a row of one part, and waits between its tries."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._failures = 0

    async def after(self, error: RegistryUnavailable, *, progressed: bool) -> None:
        """Returns when it's time for another try; raises ``RegistryError`` if there is none."""
        self._failures = 1 if progressed else self._failures + 1
        if self._failures >= self._pace.tries:
            raise RegistryError(f"max retries exceeded: {error}") from error
        await asyncio.sleep(self._pace.pause * 2 ** (self._failures - 1))


async def finished(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Runs ``call`` in a thread; when cancelled, however often, waits for its end nonetheless.

    So no thread is at work on a file that the cancelled task goes on to close.
    """
    work = asyncio.ensure_future(asyncio.to_thread(call, *args, **kwargs))
    cancelled: asyncio.CancelledError | None = None
    while not work.done():
        try:
            await asyncio.wait((work,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        work.exception()  # Looked at, or asyncio complains that nobody did.
        raise cancelled
    return work.result()


class Tasks:
    """What runs beside the requests that wait for it, and ends with the server."""

    def __init__(self) -> None:
        self._running: set[asyncio.Task[None]] = set()
        self._closed = False

    def start(self, work: Coroutine[None, None, None]) -> asyncio.Task[None]:
        """Raises ``ShuttingDown`` after ``close``."""
        if self._closed:
            work.close()
            raise ShuttingDown
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def close(self) -> None:
        self._closed = True
        for task in list(self._running):
            await ended(task)


async def ended(task: asyncio.Task[None]) -> None:
    """Cancels a task and waits until it is over, however it ends."""
    task.cancel()
    await asyncio.wait((task,))
    if not task.cancelled():
        task.exception()


def check(task: asyncio.Task[None]) -> None:
    """Raises what ended a finished task; ``ShuttingDown`` if that was ``Tasks.close``."""
    if task.cancelled():
        raise ShuttingDown
    task.result()


async def watch(task: asyncio.Task[None], progress: Callable[[], Progress]) -> Reports:
    """The progress of a task while it runs, whenever that has changed."""
    last = None
    while not task.done():
        await asyncio.wait((task,), timeout=TICK)
        if (current := progress()) != last and not task.done():
            last = current
            yield current


async def patiently(attempt: Callable[[], Awaitable[T]], pace: Pace) -> T:
    """The result of ``attempt``, which is tried again while the registry says that it's busy."""
    patience = Patience(replace(pace, tries=pace.busy_tries))
    while True:
        try:
            return await attempt()
        except RegistryBusy as error:
            await patience.after(error, progressed=False)
