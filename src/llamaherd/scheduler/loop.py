"""The scheduler at work: the policy's effects done with real runners, tasks and timers."""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

from llamaherd import gpus, hardware
from llamaherd.config import Settings
from llamaherd.duration import FOREVER, MICROSECOND, SECOND
from llamaherd.errors import LlamaherdError, LoadError, ShuttingDown
from llamaherd.observe import of_no_request
from llamaherd.runner.process import UNLOADED, Runner
from llamaherd.runner.protocol import Load
from llamaherd.scheduler import events
from llamaherd.scheduler.memory import Memory
from llamaherd.scheduler.placement import Placement, free_memory
from llamaherd.scheduler.policy import Limits, Phase, Policy
from llamaherd.scheduler.shape import ModelShape
from llamaherd.scheduler.soundness import RunnerFactory, Soundness, run_selftest
from llamaherd.telemetry import (
    LoadEnded,
    LoadOutcome,
    Observer,
    RunnerEnded,
    Waited,
    unobserved,
)

log = logging.getLogger(__name__)

#: Models loaded together by default, for each accelerator or for the processor.
_MODELS_PER_DEVICE: Final = 3


@dataclass(frozen=True, slots=True)
class LoadSpec:
    """A model as a request wants it loaded.

    ``key`` names the files: requests with the same key can share a runner. ``name`` and ``info``
    are only shown, by ``Scheduler.loaded``. ``model``, ``adapters`` and ``projector`` ("" for none)
    are paths, ``options`` all options with their values, ``shape`` the sizes from the files.
    """

    key: str
    name: str
    info: Any
    model: str
    adapters: tuple[str, ...]
    projector: str
    options: Mapping[str, Any]
    shape: ModelShape


@dataclass(frozen=True, slots=True)
class Grant:
    """The use of one slot of ``runner``; ``load_duration`` (ns) was spent waiting for it to load.

    That is 0 when the model was loaded already.
    """

    runner: Runner
    load_duration: int


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory; bytes, of which ``size_vram`` on accelerators.

    ``name`` and ``info`` are those of the last request that used it. ``expires_at`` is when it goes
    if nothing more is asked of it, more than two centuries ahead if it stays for ever.
    """

    name: str
    info: Any
    size: int
    size_vram: int
    context_length: int
    expires_at: datetime


class Timer(Protocol):
    def cancel(self) -> None: ...


class Clock(Protocol):
    """Time in nanoseconds from any beginning."""

    def now(self) -> int: ...
    def call_at(self, moment: int, call: Callable[[], None]) -> Timer: ...


class MonotonicClock:
    """The time of the running event loop."""

    def now(self) -> int:
        return time.monotonic_ns()

    def call_at(self, moment: int, call: Callable[[], None]) -> Timer:
        delay = max(0, moment - self.now()) / SECOND
        return asyncio.get_running_loop().call_later(delay, call, context=of_no_request())


@dataclass(slots=True)
class _Request:
    spec: LoadSpec
    placement: Placement
    arrived: int
    answer: asyncio.Future[_Entry | LlamaherdError]


@dataclass(slots=True, eq=False)
class _Entry:
    """A runner from the wish to start it to its end; ``starting`` gives it once it is ready."""

    spec: LoadSpec
    started: int
    starting: asyncio.Task[Runner]
    runner: Runner | None = None
    ready: int = 0
    stopping: bool = False


class Scheduler:
    """Grants runners to requests; to be made and used inside one event loop.

    ``observe`` hears what happens. ``runner_factory``, ``selftest`` (None: no test),
    ``memory_available`` and ``clock`` are there for tests to replace.
    """

    def __init__(
        self,
        settings: Settings,
        machine: hardware.Hardware,
        *,
        runner_factory: RunnerFactory = Runner.start,
        selftest: Callable[[], Awaitable[bool]] | None = run_selftest,
        memory_available: Callable[[], int] = hardware.memory_available,
        clock: Clock | None = None,
        observe: Observer = unobserved,
    ) -> None:
        self._settings = settings
        self._machine = machine
        self._factory = runner_factory
        self._memory_available = memory_available
        self._clock = clock or MonotonicClock()
        self._observe = observe
        self._soundness = Soundness(selftest if machine.has_amx else None)
        self._policy = Policy(_limits(settings, machine))
        self._requests: dict[int, _Request] = {}
        self._entries: dict[int, _Entry] = {}
        self._lives: dict[int, asyncio.Task[None]] = {}
        self._stops: set[asyncio.Task[None]] = set()
        self._numbers = itertools.count(1)
        self._events: deque[events.Event] = deque()
        self._deciding = False
        self._timer: Timer | None = None
        self._why_stop = UNLOADED

    @asynccontextmanager
    async def acquire(
        self, spec: LoadSpec, keep_alive_ns: int | None = None
    ) -> AsyncIterator[Grant]:
        """A slot of a runner that has loaded ``spec``, for the time of the context.

        ``keep_alive_ns`` is how long the model stays afterwards; None leaves what is set. Raises
        ``Overloaded``, ``LoadError``, ``ShuttingDown``, or ``RunnerDied`` when the model is
        unloaded while the request waits. Cancelling gives up the place in the queue.
        """
        number, request = next(self._numbers), self._request(spec)
        self._requests[number] = request
        try:
            self._arrive(number, request, keep_alive_ns)
            entry = await request.answer
            if isinstance(entry, LlamaherdError):
                raise entry
            assert entry.runner is not None
            entry.spec = spec
            self._observe(Waited(spec.name, self._clock.now() - request.arrived))
            waited = entry.ready - max(entry.started, request.arrived)
            yield Grant(entry.runner, max(0, waited))
            if entry.runner.served:
                self._soundness.saw_served(spec.key, entry.runner)
        finally:
            self._tell(events.RequestLeft(number))
            del self._requests[number]

    @property
    def busy(self) -> bool:
        """Whether any request runs or waits."""
        return bool(self._requests)

    @property
    def waiting(self) -> int:
        """How many requests have no runner yet."""
        return self._policy.waiting

    def loaded(self) -> list[LoadedModel]:
        """The models in memory that take requests."""
        now = self._clock.now()
        return [
            _loaded_model(self._entries[state.id], state.until(now), now)
            for state in self._policy.runners.values()
            if state.phase is Phase.READY
        ]

    async def unload(self, key: str, name: str) -> bool:
        """Unload a model now and wait until its memory is free; whether it was loaded.

        Requests that use it or wait for it fail. Weights that serve a model of another ``name``
        stay: it is not that one's end.
        """
        numbers = [number for number, entry in self._entries.items() if entry.spec.key == key]
        users = [request.spec for request in self._requests.values()]
        users += [self._entries[number].spec for number in numbers]
        if any(user.name != name for user in users if user.key == key):
            return False
        self._tell(events.UnloadAsked(key))
        await self._ended(numbers)
        return bool(numbers)

    async def close(self) -> None:
        """End all runners and reject all requests, now and later."""
        self._why_stop = ShuttingDown().message
        self._tell(events.ShutdownAsked())
        await self._ended(list(self._entries))
        await asyncio.gather(*self._stops)
        await self._soundness.close()

    # --- requests ---------------------------------------------------------------------------

    def _request(self, spec: LoadSpec) -> _Request:
        placement = Placement(spec.shape, spec.options, self._settings, self._machine)
        answer = asyncio.get_running_loop().create_future()
        return _Request(spec, placement, self._clock.now(), answer)

    def _arrive(self, number: int, request: _Request, keep_alive: int | None) -> None:
        key, wanted = request.spec.key, request.placement.wanted
        least = request.placement.smallest()
        if not any(entry.spec.key == key for entry in self._entries.values()):
            self._measure()
        self._tell(
            events.RequestArrived(number, key, wanted, least.memory, least.pinned, keep_alive)
        )

    def _measure(self) -> None:
        vram = gpus.memory_free(self._machine.gpus)
        free = free_memory(self._memory_available(), vram, self._settings)
        self._tell(events.MemoryMeasured(free))

    # --- events and effects -----------------------------------------------------------------

    def _tell(self, event: events.Event) -> None:
        """Let the policy decide and do what it wants, which may bring further events."""
        self._events.append(event)
        if self._deciding:
            return
        self._deciding = True
        try:
            while self._events:
                for effect in self._policy.handle(self._events.popleft(), self._clock.now()):
                    self._do(effect)
        finally:
            self._deciding = False
        self._set_timer()

    def _do(self, effect: events.Effect) -> None:
        match effect:
            case events.StartRunner(number, request, room):
                self._start(number, self._requests[request], room)
            case events.StopRunner(number):
                self._stop(self._entries[number])
            case events.Grant(number, runner):
                self._answer(number, self._entries[runner])
            case events.Reject(number, error):
                self._answer(number, error)

    def _answer(self, number: int, answer: _Entry | LlamaherdError) -> None:
        request = self._requests[number]
        # A cancelled request hasn't been able yet to tell that it left.
        if not request.answer.done():
            request.answer.set_result(answer)

    def _set_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        deadline = self._policy.deadline
        self._timer = None if deadline is None else self._clock.call_at(deadline, self._wake)

    def _wake(self) -> None:
        self._tell(events.TimePassed())

    # --- runners ----------------------------------------------------------------------------

    def _start(self, number: int, request: _Request, room: Memory) -> None:
        spec = request.spec
        plan = request.placement.plan(spec.model, spec.adapters, spec.projector, room)
        entry = _Entry(spec, self._clock.now(), asyncio.create_task(self._launch(spec, plan.load)))
        self._entries[number] = entry
        self._lives[number] = asyncio.create_task(
            self._live(number, entry), context=of_no_request()
        )
        self._tell(events.RunnerPlaced(number, plan.estimate.memory))

    async def _launch(self, spec: LoadSpec, load: Load) -> Runner:
        return await self._soundness.start(
            self._factory, spec.key, load, load_timeout_ns=self._settings.load_timeout
        )

    async def _live(self, number: int, entry: _Entry) -> None:
        """Follow a runner from its start to its end and tell the policy."""
        ended = await self._follow(number, entry)
        self._measure()
        self._tell(ended)
        del self._entries[number], self._lives[number]

    async def _follow(self, number: int, entry: _Entry) -> events.RunnerFailed | events.RunnerGone:
        await asyncio.wait([entry.starting])
        if entry.starting.cancelled():
            self._end_load(entry, "cancelled")
            return events.RunnerGone(number)
        if (error := entry.starting.exception()) is not None:
            self._end_load(entry, "failed")
            return events.RunnerFailed(number, _load_error(entry.spec, error))
        runner = entry.runner = entry.starting.result()
        entry.ready = self._clock.now()
        self._end_load(entry, "loaded")
        if entry.stopping:
            await runner.stop()
            self._observe(RunnerEnded(entry.spec.name, crashed=False))
            return events.RunnerGone(number)
        self._measure()
        self._tell(events.RunnerReady(number, runner.info.n_slots))
        ended = await runner.wait_exit()
        if not entry.stopping:
            log.error("the runner of %s ended by itself: %s", entry.spec.name, ended)
            self._soundness.saw_exit(entry.spec.key, runner)
        self._observe(RunnerEnded(entry.spec.name, crashed=not entry.stopping))
        return events.RunnerGone(number)

    def _end_load(self, entry: _Entry, outcome: LoadOutcome) -> None:
        self._observe(LoadEnded(entry.spec.name, outcome, self._clock.now() - entry.started))

    def _stop(self, entry: _Entry) -> None:
        entry.stopping = True
        if entry.runner is None:
            entry.starting.cancel()
        else:
            stop = asyncio.create_task(entry.runner.stop(reason=self._why_stop))
            self._stops.add(stop)
            stop.add_done_callback(self._stops.discard)

    async def _ended(self, numbers: list[int]) -> None:
        lives = [self._lives[number] for number in numbers if number in self._lives]
        if lives:
            await asyncio.wait(lives)


def _limits(settings: Settings, machine: hardware.Hardware) -> Limits:
    devices = max(1, len(machine.gpus))
    return Limits(
        max_loaded=settings.max_loaded_models or _MODELS_PER_DEVICE * devices,
        max_queue=settings.max_queue,
        keep_alive=settings.keep_alive,
    )


def _loaded_model(entry: _Entry, until: int, now: int) -> LoadedModel:
    assert entry.runner is not None
    info = entry.runner.info
    stays = FOREVER if until >= FOREVER else until - now
    return LoadedModel(
        name=entry.spec.name,
        info=entry.spec.info,
        size=info.model_bytes + info.cache_bytes + info.compute_bytes,
        size_vram=info.vram_bytes,
        context_length=info.n_ctx,
        expires_at=datetime.now(UTC) + timedelta(microseconds=stays // MICROSECOND),
    )


def _load_error(spec: LoadSpec, error: BaseException) -> LlamaherdError:
    if isinstance(error, LlamaherdError):
        log.error("%s", error)
        return error
    log.error("starting a runner for %s failed", spec.name, exc_info=error)
    return LoadError(f"error loading model {spec.model}: {error!r}")
