"""What happens in the server that is worth counting, told as data to one observer.

This is a seam: scheduler, generation, transfers and the HTTP layer say what happened, and know
nothing of who counts it. Durations are in nanoseconds, models are called by their short name.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

LoadOutcome = Literal["loaded", "failed", "cancelled"]
Direction = Literal["pull", "push"]
TransferOutcome = Literal["finished", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class RequestBegan:
    """An HTTP request came in; ``RequestEnded`` always follows."""


@dataclass(frozen=True, slots=True)
class RequestEnded:
    """``route`` is the pattern that the path matched, "" if none did; ``status`` 499 says that the
    client went away before there was one."""

    route: str
    method: str
    status: int
    duration: int


@dataclass(frozen=True, slots=True)
class Waited:
    """A request got a runner; ``duration`` includes the time in which the model was loaded."""

    model: str
    duration: int


@dataclass(frozen=True, slots=True)
class LoadEnded:
    model: str
    outcome: LoadOutcome
    duration: int


@dataclass(frozen=True, slots=True)
class RunnerEnded:
    """A runner that had loaded its model is gone; ``crashed`` if nobody had asked it to."""

    model: str
    crashed: bool


@dataclass(frozen=True, slots=True)
class TextBegan:
    """The first text of a reply is there, ``duration`` after its request was understood."""

    model: str
    duration: int


@dataclass(frozen=True, slots=True)
class Generated:
    """A reply came to its end. Counts in tokens, those that its client is told.

    ``prompt_count`` is all of the prompt, ``cached_count`` the part that an earlier request had
    left in the cache, ``dropped_count`` what it lost before, messages too. ``duration`` is that of
    the whole request, the other two of its parts.
    """

    model: str
    reason: str
    prompt_count: int
    cached_count: int
    dropped_count: int
    eval_count: int
    prompt_duration: int
    eval_duration: int
    duration: int


@dataclass(frozen=True, slots=True)
class TextsEmbedded:
    """``count`` texts of ``token_count`` tokens became vectors; ``duration`` is that of the whole
    request."""

    model: str
    count: int
    token_count: int
    duration: int


@dataclass(frozen=True, slots=True)
class TransferEnded:
    direction: Direction
    outcome: TransferOutcome


Observation = (
    RequestBegan
    | RequestEnded
    | Waited
    | LoadEnded
    | RunnerEnded
    | TextBegan
    | Generated
    | TextsEmbedded
    | TransferEnded
)

#: Must be quick and never raise: it is called in the midst of things.
Observer = Callable[[Observation], None]


def unobserved(observation: Observation) -> None:
    """For whoever needs no figures."""
