"""What the policy is told, and what it wants done.

Times and durations are in nanoseconds. Requests and runners are named by numbers: requests by who
sends the event, runners by the policy.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from llamaherd.errors import LlamaherdError
from llamaherd.scheduler.memory import Memory

# --- events ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RequestArrived:
    """A request for the model ``key``, loaded as ``configuration``.

    ``needs`` is the memory that must be free to load it beside others, ``pinned`` the bytes
    without which it can't be loaded at all. ``keep_alive`` in nanoseconds, None for what is set.
    """

    request: int
    key: str
    configuration: Hashable
    needs: Memory
    pinned: int
    keep_alive: int | None = None


@dataclass(frozen=True, slots=True)
class RequestLeft:
    """A request is over, finished or given up, whether it was granted or still waits."""

    request: int


@dataclass(frozen=True, slots=True)
class RunnerPlaced:
    """What a runner that is being started will take."""

    runner: int
    takes: Memory


@dataclass(frozen=True, slots=True)
class RunnerReady:
    runner: int
    slots: int


@dataclass(frozen=True, slots=True)
class RunnerFailed:
    """A runner could not load; its process is gone."""

    runner: int
    error: LlamaherdError


@dataclass(frozen=True, slots=True)
class RunnerGone:
    """A runner's process ended, stopped or by itself."""

    runner: int


@dataclass(frozen=True, slots=True)
class MemoryMeasured:
    """The memory that is free now; nothing is decided before the next event."""

    free: Memory


@dataclass(frozen=True, slots=True)
class TimePassed:
    """The time may have reached ``Policy.deadline``."""


@dataclass(frozen=True, slots=True)
class UnloadAsked:
    key: str


@dataclass(frozen=True, slots=True)
class ShutdownAsked:
    pass


Event = (
    RequestArrived
    | RequestLeft
    | RunnerPlaced
    | RunnerReady
    | RunnerFailed
    | RunnerGone
    | MemoryMeasured
    | TimePassed
    | UnloadAsked
    | ShutdownAsked
)

# --- effects --------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class StartRunner:
    """Start a runner for what ``request`` asks, in ``room``; ``RunnerPlaced`` must come next."""

    runner: int
    request: int
    room: Memory


@dataclass(frozen=True, slots=True)
class StopRunner:
    """End a runner, also one that is still loading; ``RunnerGone`` must follow."""

    runner: int


@dataclass(frozen=True, slots=True)
class Grant:
    """``request`` has a slot of ``runner`` until it leaves."""

    request: int
    runner: int


@dataclass(frozen=True, slots=True)
class Reject:
    request: int
    error: LlamaherdError


Effect = StartRunner | StopRunner | Grant | Reject
