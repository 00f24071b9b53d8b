"""The one stream that a generation is: what the dialects of the API encode.

Every stream is any number of ``Text``, ``Thinking`` and ``ToolCalls`` in the order in which the
model wrote them, then exactly one ``Done``; an error is raised out of the iterator.

If they were asked for, ``logprobs`` are the tokens that the model wrote for an event and since the
one before it, tags and the text of tool calls included. A token comes once its text has come whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

from msgspec import Struct, field

from llamaherd.messages import ToolCall

DoneReason = Literal["stop", "length", "load", "unload"]


class Likelihood(Struct, frozen=True, array_like=True):
    """A token as its bytes, which may end inside a character, and how likely it was.

    ``logprob`` is the natural logarithm of its probability.
    """

    piece: bytes
    logprob: float


class WrittenToken(Likelihood, frozen=True, array_like=True):
    """A token of the reply; ``top`` are the likeliest at its place, the most likely first."""

    top: tuple[Likelihood, ...] = ()


Logprobs = tuple[WrittenToken, ...]


class ReadToken(Struct, frozen=True, array_like=True):
    """A token of a prompt, as a ``WrittenToken``; ``logprob`` is None where it was not asked for
    or nothing came before the token."""

    piece: bytes
    logprob: float | None
    top: tuple[Likelihood, ...] = ()


class Text(Struct, frozen=True):
    text: str
    logprobs: Logprobs = ()


class Thinking(Struct, frozen=True):
    text: str
    logprobs: Logprobs = ()


class ToolCalls(Struct, frozen=True):
    calls: list[ToolCall]
    logprobs: Logprobs = ()


class Stats(Struct, frozen=True):
    """Counts in tokens, durations in nanoseconds."""

    total_duration: int = 0
    load_duration: int = 0
    prompt_eval_count: int = 0
    prompt_eval_duration: int = 0
    eval_count: int = 0
    eval_duration: int = 0


class Done(Struct, frozen=True):
    """The end. ``context`` holds prompt and reply as tokens, without the leading BOS.

    ``stats`` is None when nothing ran (the model was only loaded or unloaded). ``stop`` is the stop
    string that ended the reply, "" if none did. In tokens, ``cached_count`` is the part of the
    prompt that was known from earlier requests, ``dropped_count`` what the prompt lost to fit the
    context, which ``stats`` don't count, and ``thinking_count`` the part of the reply that was
    thinking, with its tags.
    """

    reason: DoneReason
    stats: Stats | None = None
    context: list[int] = field(default_factory=list)
    stop: str = ""
    cached_count: int = 0
    dropped_count: int = 0
    thinking_count: int = 0
    logprobs: Logprobs = ()


Event = Text | Thinking | ToolCalls | Done


class Echo(Struct, frozen=True):
    """A part of the prompt, which comes before the events of a reply where it is asked for.

    ``tokens``, if their log-probabilities were asked for, are those that ``text`` is made of, whole
    characters each time.
    """

    text: str
    tokens: tuple[ReadToken, ...] = ()


def logprobs_of(events: Iterable[Event]) -> Logprobs:
    """All tokens of a reply, in their order."""
    return tuple(token for event in events for token in event.logprobs)
