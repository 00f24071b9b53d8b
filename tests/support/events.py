"""What models and clients may come up with: replies as streams of events, and any JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hypothesis import strategies as st

from llamaherd.events import (
    Done,
    Event,
    Likelihood,
    Stats,
    Text,
    Thinking,
    ToolCalls,
    WrittenToken,
)
from llamaherd.messages import ToolCall, ToolCallFunction

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
_VALUES = st.none() | st.booleans() | st.integers(-9, 9) | _TEXTS | st.lists(_TEXTS, max_size=2)


def _told(text: str) -> Text:
    """A text with a token for each of its characters."""
    tokens = [WrittenToken(one.encode(), -0.5, (Likelihood(b"x", -0.25),)) for one in text]
    return Text(text, tuple(tokens))


def replies(tools: Sequence[str], stops: Sequence[str] = ()) -> st.SearchStrategy[list[Event]]:
    """Events up to ``Done``, with calls of these tools, and ends by these stop strings."""
    arguments = st.dictionaries(_TEXTS, _VALUES, max_size=3)
    calls = st.builds(ToolCall, st.builds(ToolCallFunction, st.sampled_from(tools), arguments))
    events = st.one_of(
        st.builds(Text, _TEXTS),
        st.builds(_told, _TEXTS),
        st.builds(Thinking, _TEXTS),
        st.builds(ToolCalls, st.lists(calls, min_size=1, max_size=2)),
    )
    counts = st.integers(0, 20)
    done = st.builds(
        Done,
        st.sampled_from(["stop", "length"]),
        st.builds(Stats, prompt_eval_count=st.integers(20, 30), eval_count=counts),
        stop=st.sampled_from(["", *stops]),
        cached_count=counts,
        thinking_count=counts,
    )
    return st.builds(lambda parts, end: [*parts, end], st.lists(events, max_size=8), done)


def json_values() -> st.SearchStrategy[Any]:
    """Small JSON values of every kind, and numbers that Python writes but JSON doesn't have."""
    scalars = st.none() | st.booleans() | st.integers() | st.floats() | _TEXTS
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_TEXTS, inner, max_size=3),
        max_leaves=8,
    )
