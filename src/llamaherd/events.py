"""The one stream that a generation is: what the dialects of the API encode.

Every stream is any number of ``Text``, ``Thinking`` and ``ToolCalls`` in the order in which the
model wrote them, then exactly one ``Done``; an error is raised out of the iterator.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct, field

from llamaherd.messages import ToolCall

DoneReason = Literal["stop", "length", "load", "unload"]


class Text(Struct, frozen=True):
    text: str


class Thinking(Struct, frozen=True):
    text: str


class ToolCalls(Struct, frozen=True):
    calls: list[ToolCall]


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

    ``stats`` is None when nothing ran (the model was only loaded or unloaded).
    """

    reason: DoneReason
    stats: Stats | None = None
    context: list[int] = field(default_factory=list)


Event = Text | Thinking | ToolCalls | Done
