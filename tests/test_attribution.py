"""Tokens go with the events that were made of their text, whatever a parser does in between."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.events import Text, Thinking, ToolCalls, WrittenToken
from llamaherd.prompt.attribution import Attribution
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.recognise import recognise_calls
from llamaherd.prompt.parsers.stream import CallParser
from llamaherd.prompt.replies import Part, TaggedReplyParser
from llamaherd.prompt.tags import Tags, TagSplitter
from llamaherd.prompt.template import GoTemplate
from tests.support.replies import TIME, WEATHER, in_pieces

HERMES = (
    "{{ range .Messages }}{{ .Content }}{{ range .ToolCalls }}<tool_call>\n"
    '{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}\n</tool_call>'
    "{{ end }}{{ end }}"
)
CALL = '<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
REPLY = f"<think>\nHm, the time.\n</think>\n\nLet me see. {CALL}\n{CALL} Done."


def parser() -> TaggedReplyParser:
    toolbox = Toolbox([WEATHER, TIME])
    calls = CallParser(recognise_calls(GoTemplate(HERMES)), toolbox)
    return TaggedReplyParser(TagSplitter(Tags("<think>", "</think>")), calls)


def read(pieces: Iterable[bytes]) -> tuple[list[Part], list[bytes]]:
    """The events, and the tokens that belonged to none."""
    attribution, reader = Attribution(), parser()
    events: list[Part] = []
    for piece in pieces:
        text = piece.decode()
        attribution.add(text, [WrittenToken(piece, -1.0)])
        events += attribution.give(reader.feed(text))
    events += attribution.give(reader.finish())
    return events, [token.piece for token in attribution.rest()]


def text_of(event: Part) -> str:
    return b"".join(token.piece for token in event.logprobs).decode()


def test_thinking_text_and_calls_have_their_own_tokens() -> None:
    events, rest = read([REPLY.encode()])
    assert [type(event) for event in events] == [Thinking, Text, ToolCalls, ToolCalls, Text]
    assert rest == []


def test_a_call_is_told_with_its_tokens() -> None:
    events, rest = read(piece.encode() for piece in in_pieces(REPLY, 1))
    told = "".join(map(text_of, events)) + b"".join(rest).decode()
    assert told == REPLY
    calls = [event for event in events if isinstance(event, ToolCalls)]
    written = CALL.removesuffix("\n</tool_call>")
    assert all(text_of(event).endswith(written) for event in calls)
    thinking = [event for event in events if isinstance(event, Thinking)]
    assert "Hm, the time." in "".join(map(text_of, thinking))
    texts = [event for event in events if isinstance(event, Text)]
    assert text_of(texts[-1]) == "."


@pytest.mark.parametrize("text", ["t", "/", "in", " think", "\n\nk"])
def test_a_short_text_is_not_mistaken_for_a_part_of_the_tag_before_it(text: str) -> None:
    events, _ = read(piece.encode() for piece in ("<think>", "Hm", "</think>", text, " so"))
    assert [(event.text, text_of(event)) for event in events if isinstance(event, Text)] == [
        (text.lstrip(), f"</think>{text}"),
        (" so", " so"),
    ]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_token_never_comes_before_its_text(size: int) -> None:
    """What has been told so far ends no later than what has been shown so far."""
    events, _ = read(piece.encode() for piece in in_pieces(REPLY, size))
    told = ""
    at = 0
    for event in events:
        told += text_of(event)
        if isinstance(event, (Text, Thinking)):
            at = REPLY.index(event.text, at) + len(event.text)
            assert len(told) <= at


@given(
    st.lists(st.sampled_from([CALL, "<think>", "</think>", " ", "\n", "a", "Let", "<tool", "{"])),
    st.integers(1, 9),
)
@settings(max_examples=100, deadline=None)
def test_no_token_is_lost_or_told_twice(parts: list[str], size: int) -> None:
    reply = "".join(parts)
    pieces = [piece.encode() for piece in in_pieces(reply, size)]
    events, rest = read(pieces)
    told = [token.piece for event in events for token in event.logprobs]
    assert told + rest == pieces
