"""Who is loaded, who waits, who goes: decided here, done by ``loop``.

``Policy.handle`` takes an event and the time and returns what has to be done. Nothing here knows of
processes, tasks or clocks, so the whole behaviour can be driven by hand in tests.

The rules:

- Requests wait in one queue, first come, first served; beyond ``max_queue`` they are rejected.
- A request gets a runner of its key that was loaded with its configuration and has a free slot.
- There is one runner for a key at most. One with another configuration is reloaded once idle.
- A runner is started if fewer than ``max_loaded`` are there and its memory fits beside theirs;
  alone it is always started, because llama.cpp can leave weights in the file, unless what it must
  have at once is more than there is. Nobody goes for one that could not even start alone.
- Where there is no room, runners are chosen to go: idle ones first, those that would go soonest
  first. Busy ones are waited for, and take no request that came after the one that waits, so a
  stream of requests to one model can't keep another waiting for ever. Until that one has its room
  no later request starts a runner.
- A runner goes when it was idle for its last request's keep-alive; 0 is at once.
- Unloading and shutting down don't wait for requests. Nor does a load that nobody waits for go on.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable
from dataclasses import dataclass, field
from enum import Enum, auto

from llamaherd.duration import FOREVER
from llamaherd.errors import LlamaherdError, LoadError, Overloaded, RunnerDied, ShuttingDown
from llamaherd.scheduler.events import (
    Effect,
    Event,
    Grant,
    MemoryMeasured,
    Reject,
    RequestArrived,
    RequestLeft,
    RunnerFailed,
    RunnerGone,
    RunnerPlaced,
    RunnerReady,
    ShutdownAsked,
    StartRunner,
    StopRunner,
    TimePassed,
    UnloadAsked,
)
from llamaherd.scheduler.memory import Memory, at_least, at_most, gibibytes, total


class Phase(Enum):
    STARTING = auto()
    READY = auto()
    STOPPING = auto()


@dataclass(slots=True)
class RunnerState:
    """A runner as the policy sees it; ``expires_at`` only means something while it is idle."""

    id: int
    key: str
    configuration: Hashable
    takes: Memory
    keep_alive: int
    phase: Phase = Phase.STARTING
    placed: bool = False
    slots: int = 0
    grants: set[int] = field(default_factory=set)
    expires_at: int = FOREVER
    last_granted: int = 0

    @property
    def idle(self) -> bool:
        return self.phase is Phase.READY and not self.grants

    @property
    def free_slots(self) -> int:
        return self.slots - len(self.grants) if self.phase is Phase.READY else 0

    def may_go(self) -> bool:
        return self.phase is Phase.READY

    def dispensability(self) -> tuple[bool, int, int, int]:
        """The least goes first: idle before busy, then who would go soonest, then who was used
        least recently. A busy one that takes no more requests keeps its place, so it does go.
        """
        soonest = self.expires_at if self.idle else 0
        return bool(self.grants), soonest, self.last_granted, self.id

    def until(self, now: int) -> int:
        """When it goes if nothing more is asked of it; ``FOREVER`` never."""
        if self.idle:
            return self.expires_at
        return FOREVER if self.keep_alive >= FOREVER else now + self.keep_alive


@dataclass(frozen=True, slots=True)
class Limits:
    """``max_loaded`` runners at a time, ``max_queue`` requests waiting, keep-alive by default."""

    max_loaded: int
    max_queue: int
    keep_alive: int


class Policy:
    """The state of the scheduler. ``runners`` is for reading."""

    def __init__(self, limits: Limits) -> None:
        self.runners: dict[int, RunnerState] = {}
        self._limits = limits
        self._queue: dict[int, RequestArrived] = {}
        self._granted: dict[int, int] = {}
        self._free = Memory()
        self._capacity = Memory()
        self._next_runner = 0
        self._closed = False
        self._now = 0
        self._effects: list[Effect] = []

    def handle(self, event: Event, now: int) -> list[Effect]:
        """Take in what happened at ``now`` (nanoseconds); what has to be done, in this order."""
        self._now = now
        self._apply(event)
        if not isinstance(event, MemoryMeasured):
            self._abandon()
            self._schedule()
            self._expire()
        effects, self._effects = self._effects, []
        return effects

    @property
    def waiting(self) -> int:
        """How many requests are neither granted nor rejected."""
        return len(self._queue)

    @property
    def deadline(self) -> int | None:
        """When ``TimePassed`` is wanted."""
        times = [runner.expires_at for runner in self.runners.values() if runner.idle]
        soonest = min(times, default=FOREVER)
        return None if soonest >= FOREVER else soonest

    # --- taking in events -------------------------------------------------------------------

    def _apply(self, event: Event) -> None:
        match event:
            case RequestArrived():
                self._arrive(event)
            case RequestLeft(request):
                self._leave(request)
            case RunnerPlaced(runner, takes):
                self.runners[runner].takes = takes
                self.runners[runner].placed = True
            case RunnerReady(runner, slots):
                self._ready(self.runners[runner], slots)
            case RunnerFailed(runner, error):
                self._fail(self.runners.pop(runner), error)
            case RunnerGone(runner):
                self.runners.pop(runner)
            case MemoryMeasured(free):
                self._measure(free)
            case TimePassed():
                pass
            case UnloadAsked(key):
                self._unload(key)
            case ShutdownAsked():
                self._shut_down()

    def _arrive(self, request: RequestArrived) -> None:
        if self._closed:
            self._effects.append(Reject(request.request, ShuttingDown()))
        elif len(self._queue) >= max(1, self._limits.max_queue):
            self._effects.append(Reject(request.request, Overloaded()))
        else:
            self._queue[request.request] = request

    def _leave(self, request: int) -> None:
        self._queue.pop(request, None)
        runner = self.runners.get(self._granted.pop(request, -1))
        if runner is not None:
            runner.grants.discard(request)
            if runner.idle:
                self._rest(runner)

    def _ready(self, runner: RunnerState, slots: int) -> None:
        if runner.phase is Phase.STARTING:
            runner.phase = Phase.READY
            runner.slots = slots
            self._rest(runner)

    def _rest(self, runner: RunnerState) -> None:
        """Begin to count the time for which a runner stays."""
        forever = runner.keep_alive >= FOREVER
        runner.expires_at = FOREVER if forever else self._now + runner.keep_alive

    def _fail(self, runner: RunnerState, error: LlamaherdError) -> None:
        """Trying again for each of those who wait would take long and fail as well."""
        if runner.phase is Phase.STARTING:
            for request in self._waiting_for(runner):
                self._reject(request, error)

    def _measure(self, free: Memory) -> None:
        """Free memory is a lower bound of what there is, once models are loaded.

        It isn't exact then: weights that are mapped from a file count as free.
        """
        self._free = free
        self._capacity = at_least(self._capacity, free) if self.runners else free

    def _unload(self, key: str) -> None:
        for request in [request for request in self._queue.values() if request.key == key]:
            self._reject(request, RunnerDied("model was unloaded before the request could run"))
        runner = self._runner_of(key)
        if runner is not None:
            self._stop(runner)

    def _shut_down(self) -> None:
        self._closed = True
        for request in list(self._queue.values()):
            self._reject(request, ShuttingDown())
        for runner in self.runners.values():
            self._stop(runner)

    # --- deciding ---------------------------------------------------------------------------

    def _abandon(self) -> None:
        for runner in self.runners.values():
            if runner.phase is Phase.STARTING and not self._waiting_for(runner):
                self._stop(runner)

    def _schedule(self) -> None:
        """Go through the queue in order and do for each request what can be done now."""
        may_start = True
        held: set[int] = set()
        for request in list(self._queue.values()):
            runner = self._runner_of(request.key)
            if runner is None:
                may_start = may_start and self._start(request, held)
            elif runner.configuration != request.configuration:
                held.add(runner.id)
                if runner.idle:
                    self._stop(runner)
            elif runner.id not in held and runner.free_slots:
                self._grant(request, runner)

    def _expire(self) -> None:
        for runner in self.runners.values():
            if runner.idle and runner.expires_at <= self._now:
                self._stop(runner)

    def _start(self, request: RequestArrived, held: set[int]) -> bool:
        """Start a runner, or see to it that there will be room; whether that is settled.

        Adds to ``held`` the runners that must go and may serve nobody from behind in the queue.
        """
        others = list(self.runners.values())
        if any(runner.phase is Phase.STARTING and not runner.placed for runner in others):
            return False
        most = self._capacity if others else self._free
        if request.pinned > most.total:
            self._reject(request, _too_large(request.pinned, most.total))
            return True
        if self._has_room(request, others):
            self._launch(request, self._room(others))
            return True
        staying = [runner for runner in others if runner.phase is not Phase.STOPPING]
        for runner in sorted(filter(RunnerState.may_go, staying), key=RunnerState.dispensability):
            if self._has_room(request, staying):
                break
            staying.remove(runner)
            held.add(runner.id)
            if runner.idle:
                self._stop(runner)
        return False

    def _has_room(self, request: RequestArrived, others: Collection[RunnerState]) -> bool:
        if not others:
            return True
        few = len(others) < self._limits.max_loaded
        return few and request.needs.fits(self._room(others))

    def _room(self, others: Collection[RunnerState]) -> Memory:
        """What ``others`` leave free once all the rest have gone.

        The less of what is measured, when those who still load have taken theirs, and what is left
        by the estimates of the memory that there was before anything was loaded.
        """
        stay = {runner.id for runner in others}
        going = total(runner.takes for runner in self.runners.values() if runner.id not in stay)
        coming = total(runner.takes for runner in others if runner.phase is Phase.STARTING)
        taken = total(runner.takes for runner in others)
        return at_most(self._free + going - coming, self._capacity - taken)

    # --- acting -----------------------------------------------------------------------------

    def _launch(self, request: RequestArrived, room: Memory) -> None:
        self._next_runner += 1
        keep_alive = self._limits.keep_alive if request.keep_alive is None else request.keep_alive
        self.runners[self._next_runner] = RunnerState(
            self._next_runner, request.key, request.configuration, request.needs, keep_alive
        )
        self._effects.append(StartRunner(self._next_runner, request.request, room))

    def _grant(self, request: RequestArrived, runner: RunnerState) -> None:
        del self._queue[request.request]
        self._granted[request.request] = runner.id
        runner.grants.add(request.request)
        runner.last_granted = self._now
        if request.keep_alive is not None:
            runner.keep_alive = request.keep_alive
        self._effects.append(Grant(request.request, runner.id))

    def _reject(self, request: RequestArrived, error: LlamaherdError) -> None:
        del self._queue[request.request]
        self._effects.append(Reject(request.request, error))

    def _stop(self, runner: RunnerState) -> None:
        if runner.phase is not Phase.STOPPING:
            runner.phase = Phase.STOPPING
            self._effects.append(StopRunner(runner.id))

    # --- looking up -------------------------------------------------------------------------

    def _runner_of(self, key: str) -> RunnerState | None:
        return next((runner for runner in self.runners.values() if runner.key == key), None)

    def _waiting_for(self, runner: RunnerState) -> list[RequestArrived]:
        wanted = (runner.key, runner.configuration)
        return [r for r in self._queue.values() if (r.key, r.configuration) == wanted]


def _too_large(needed: int, available: int) -> LoadError:
    return LoadError(
        f"model requires more system memory ({gibibytes(needed)}) "
        f"than is available ({gibibytes(available)})"
    )
