"""Events as Anthropic's clients read messages: whole, and as a stream that adds up to the same."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import pytest
from anthropic.lib.streaming._messages import accumulate_event
from anthropic.types.message import Message as ClientMessage
from hypothesis import given, settings

from llamaherd.api.anthropic_replies import Reply, error_object, name_of, status_of
from llamaherd.api.anthropic_requests import MessagesRequest, read_messages
from llamaherd.api.replies import encode
from llamaherd.events import Done, Event, Stats, Text, Thinking, ToolCalls
from llamaherd.messages import ToolCall, ToolCallFunction
from tests.support.events import replies

HELLO = [{"role": "user", "content": "hi"}]
STOPS = ["END", "STOP"]
LIMIT = 8
END = Done("stop", Stats(prompt_eval_count=5, eval_count=3), cached_count=2, thinking_count=1)
WEATHER = ToolCall(ToolCallFunction("get_weather", {"city": "Zürich", "days": [1, 2]}))
TIME = ToolCall(ToolCallFunction("get_time", {}), id="toolu_7")


def request(**fields: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": LIMIT, "messages": HELLO, "stop_sequences": STOPS, **fields}
    return read_messages(json.dumps(body).encode())


def whole(events: Iterable[Event], **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode(Reply(request(**fields)).whole(events)))
    return found


def streamed(events: Iterable[Event], **fields: Any) -> list[dict[str, Any]]:
    reply = Reply(request(**fields))
    reply.prompt_read(5)
    found = []
    for event in events:
        for told in reply.stream(event):
            wire = json.loads(encode(told))
            assert wire["type"] == name_of(told)
            found.append(wire)
    return found


def added_up(stream: Iterable[dict[str, Any]]) -> ClientMessage:
    """What Anthropic's client makes of the events."""
    snapshot: Any = None
    buffers: dict[int, bytes] = {}
    for told in stream:
        if told["type"] != "ping":
            snapshot = accumulate_event(
                event=told,  # type: ignore[arg-type]
                current_snapshot=snapshot,
                json_bufs=buffers,
            )
    return snapshot  # type: ignore[no-any-return]


def test_a_message() -> None:
    message = whole([Thinking("h"), Thinking("m"), Text("Hello"), ToolCalls([WEATHER, TIME]), END])
    assert message.pop("id").startswith("msg_")
    thought, said, weather, time = message.pop("content")
    assert (thought["type"], thought["thinking"]) == ("thinking", "hm")
    assert thought["signature"]
    assert said == {"type": "text", "text": "Hello"}
    assert weather.pop("id").startswith("toolu_")
    assert weather == {
        "type": "tool_use",
        "name": "get_weather",
        "input": {"city": "Zürich", "days": [1, 2]},
    }
    assert time == {"type": "tool_use", "id": "toolu_7", "name": "get_time", "input": {}}
    assert message == {
        "type": "message",
        "model": "m",
        "role": "assistant",
        "stop_reason": "tool_use",
        "stop_sequence": None,
        "usage": {
            "input_tokens": 3,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": 2,
            "output_tokens": 3,
            "output_tokens_details": {"thinking_tokens": 1},
        },
    }


def test_the_events_of_a_reply() -> None:
    start, ping, *stream = streamed([Thinking("hm"), Text("a"), Text("b"), ToolCalls([TIME]), END])
    assert start["message"]["content"] == []
    assert start["message"]["stop_reason"] is None
    assert start["message"]["usage"]["input_tokens"] == 5
    assert ping == {"type": "ping"}
    signature = stream[2]["delta"].pop("signature")
    assert signature
    assert stream == [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "thinking", "thinking": "", "signature": ""},
        },
        delta(0, type="thinking_delta", thinking="hm"),
        delta(0, type="signature_delta"),
        {"type": "content_block_stop", "index": 0},
        {"type": "content_block_start", "index": 1, "content_block": {"type": "text", "text": ""}},
        delta(1, type="text_delta", text="a"),
        delta(1, type="text_delta", text="b"),
        {"type": "content_block_stop", "index": 1},
        {
            "type": "content_block_start",
            "index": 2,
            "content_block": {
                "type": "tool_use",
                "id": "toolu_7",
                "name": "get_time",
                "input": {},
            },
        },
        delta(2, type="input_json_delta", partial_json="{}"),
        {"type": "content_block_stop", "index": 2},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "tool_use", "stop_sequence": None},
            "usage": {
                "input_tokens": 3,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 2,
                "output_tokens": 3,
                "output_tokens_details": {"thinking_tokens": 1},
            },
        },
        {"type": "message_stop"},
    ]


def delta(index: int, **fields: str) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": fields}


@pytest.mark.parametrize(
    ("done", "reason", "sequence"),
    [
        (Done("stop"), "end_turn", None),
        (Done("stop", stop="STOP"), "stop_sequence", "STOP"),
        (Done("stop", stop="<|im_end|>"), "end_turn", None),
        (Done("length", Stats(eval_count=LIMIT)), "max_tokens", None),
        (Done("length", Stats(eval_count=LIMIT - 1)), "model_context_window_exceeded", None),
    ],
)
def test_why_it_ended(done: Done, reason: str, sequence: str | None) -> None:
    message = whole([Text("a"), done])
    assert (message["stop_reason"], message["stop_sequence"]) == (reason, sequence)


def test_thoughts_that_are_not_to_be_shown() -> None:
    thinking = {"type": "adaptive", "display": "omitted"}
    thought, said = whole([Thinking("secret"), Text("a"), END], thinking=thinking)["content"]
    assert thought["thinking"] == ""
    assert thought["signature"]
    assert said["text"] == "a"
    assert "secret" not in json.dumps(streamed([Thinking("secret"), END], thinking=thinking))


@settings(max_examples=60, deadline=None)
@given(replies(("get_weather", "get_time"), STOPS))
def test_a_stream_adds_up_to_the_message(events: list[Event]) -> None:
    message = added_up(streamed(events)).to_dict()
    assert _without_ids(message) == _without_ids(whole(events))


def _without_ids(message: dict[str, Any]) -> dict[str, Any]:
    """A message as any other reply of these events would be; the client adds empty fields."""
    content = [
        {key: value for key, value in block.items() if key != "id" and value is not None}
        for block in message["content"]
    ]
    rest = {key: value for key, value in message.items() if value is not None and key != "id"}
    return {**rest, "content": content}


@pytest.mark.parametrize(
    ("status", "sent", "kind"),
    [
        (400, 400, "invalid_request_error"),
        (403, 403, "permission_error"),
        (404, 404, "not_found_error"),
        (413, 413, "request_too_large"),
        (500, 500, "api_error"),
        (503, 529, "overloaded_error"),
    ],
)
def test_an_error(status: int, sent: int, kind: str) -> None:
    assert status_of(status) == sent
    assert json.loads(encode(error_object("no", status, "req_1"))) == {
        "type": "error",
        "error": {"type": kind, "message": "no"},
        "request_id": "req_1",
    }
