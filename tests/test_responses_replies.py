"""Events as OpenAI's clients read responses: whole, and as a stream that adds up to the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any, cast

import pytest
from hypothesis import given, settings
from openai._models import construct_type_unchecked
from openai._types import omit
from openai.lib.streaming.responses._responses import ResponseStreamState
from openai.types.responses import Response, ResponseStreamEvent

from llamaherd.api.replies import encode
from llamaherd.api.responses_replies import Reply
from llamaherd.api.responses_requests import ResponseRequest, read_response
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
from tests.support.events import replies

TOOLS = [
    {"type": "function", "name": "get_weather", "parameters": {"type": "object"}},
    {"type": "custom", "name": "apply_patch"},
    {"type": "namespace", "name": "files", "tools": [{"type": "function", "name": "read"}]},
]
END = Done("stop", Stats(prompt_eval_count=5, eval_count=3), cached_count=2, thinking_count=1)
CUT = Done("length", Stats(prompt_eval_count=5, eval_count=8))
WEATHER = ToolCall(ToolCallFunction("get_weather", {"city": "Zürich"}), id="call_7")
PATCH = ToolCall(ToolCallFunction("apply_patch", {"input": "*** Begin"}), id="call_8")
READ = ToolCall(ToolCallFunction("files__read", {}), id="call_9")


def request(**fields: Any) -> ResponseRequest:
    body = json.dumps({"model": "m", "input": "hi", "tools": TOOLS, **fields}).encode()
    nothing: dict[str, Any] = {}
    return read_response(body, nothing.__getitem__)


def streamed(events: Iterable[Event], **fields: Any) -> list[dict[str, Any]]:
    reply = Reply(request(**fields))
    return [json.loads(encode(told)) for event in events for told in reply.stream(event)]


def whole(events: Iterable[Event], **fields: Any) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode(Reply(request(**fields)).whole(events)))
    return found


def added_up(stream: Sequence[dict[str, Any]]) -> Response:
    """What OpenAI's client makes of the deltas."""
    state = ResponseStreamState(input_tools=omit, text_format=omit)
    snapshot: Any = None
    for told in stream:
        event: Any = construct_type_unchecked(type_=cast(Any, ResponseStreamEvent), value=told)
        state.handle_event(event)
        snapshot = state._ResponseStreamState__current_snapshot  # type: ignore[attr-defined]
    return snapshot  # type: ignore[no-any-return]


def test_the_events_of_a_reply() -> None:
    events: list[Event] = [Thinking("h"), Thinking("m"), Text("Let me"), ToolCalls([WEATHER]), END]
    stream = streamed(events)
    assert [told["sequence_number"] for told in stream] == list(range(len(stream)))
    assert [(told["type"], told.get("output_index")) for told in stream] == [
        ("response.created", None),
        ("response.in_progress", None),
        ("response.output_item.added", 0),
        ("response.reasoning_summary_part.added", 0),
        ("response.reasoning_summary_text.delta", 0),
        ("response.reasoning_summary_text.delta", 0),
        ("response.reasoning_summary_text.done", 0),
        ("response.reasoning_summary_part.done", 0),
        ("response.output_item.done", 0),
        ("response.output_item.added", 1),
        ("response.content_part.added", 1),
        ("response.output_text.delta", 1),
        ("response.output_text.done", 1),
        ("response.content_part.done", 1),
        ("response.output_item.done", 1),
        ("response.output_item.added", 2),
        ("response.function_call_arguments.delta", 2),
        ("response.function_call_arguments.done", 2),
        ("response.output_item.done", 2),
        ("response.completed", None),
    ]


def test_a_response() -> None:
    response = whole([Thinking("hm"), Text("Hello"), Text(" there"), END], metadata={"a": "b"})
    assert response["id"].startswith("resp_")
    reasoning, message = response["output"]
    assert (reasoning["type"], reasoning["summary"][0]["text"]) == ("reasoning", "hm")
    assert message["id"].startswith("msg_")
    assert (message["role"], message["status"]) == ("assistant", "completed")
    assert message["content"] == [
        {"type": "output_text", "text": "Hello there", "annotations": [], "logprobs": []}
    ]
    assert (response["object"], response["status"]) == ("response", "completed")
    assert response["completed_at"] >= response["created_at"]
    assert response["metadata"] == {"a": "b"}
    assert response["usage"] == {
        "input_tokens": 5,
        "input_tokens_details": {"cached_tokens": 2, "cache_write_tokens": 0},
        "output_tokens": 3,
        "output_tokens_details": {"reasoning_tokens": 1},
        "total_tokens": 8,
    }


def test_a_reply_that_is_cut_is_incomplete() -> None:
    response = whole([Text("Hel"), CUT])
    assert response["status"] == response["output"][0]["status"] == "incomplete"
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert response["completed_at"] is None
    assert streamed([Text("Hel"), CUT])[-1]["type"] == "response.incomplete"


def test_calls_have_the_form_of_their_tools() -> None:
    weather, patch, read = whole([ToolCalls([WEATHER, PATCH]), ToolCalls([READ]), END])["output"]
    assert weather.pop("id").startswith("fc_")
    assert weather == {
        "type": "function_call",
        "status": "completed",
        "call_id": "call_7",
        "name": "get_weather",
        "arguments": '{"city":"Zürich"}',
    }
    assert patch.pop("id").startswith("ctc_")
    assert patch == {
        "type": "custom_tool_call",
        "status": "completed",
        "call_id": "call_8",
        "name": "apply_patch",
        "input": "*** Begin",
    }
    assert (read["namespace"], read["name"]) == ("files", "read")


def test_arguments_that_a_custom_tool_can_not_have_are_kept() -> None:
    odd = ToolCall(ToolCallFunction("apply_patch", {"input": "a", "also": 1}))
    (call,) = whole([ToolCalls([odd]), END])["output"]
    assert json.loads(call["input"]) == {"input": "a", "also": 1}
    assert call["call_id"].startswith("call_")


def test_a_stream_that_breaks_off_keeps_what_was_done() -> None:
    reply = Reply(request())
    told = [*reply.stream(ToolCalls([WEATHER])), *reply.stream(Text("a"))]
    failed = json.loads(encode(reply.failed("the runner died")))
    assert (failed["type"], failed["sequence_number"]) == ("response.failed", len(told))
    response = failed["response"]
    assert response["status"] == "failed"
    assert response["error"] == {"code": "server_error", "message": "the runner died"}
    assert [item["type"] for item in response["output"]] == ["function_call"]
    assert json.loads(encode(reply.failed("too long", "c")))["response"]["error"]["code"] == "c"


TAG = WrittenToken(b"</think>\n", -0.1)
FORTY = WrittenToken(b"Forty", -0.5, (Likelihood(b"Six", -0.25), Likelihood(b"Forty", -0.5)))
TWO = WrittenToken(b"-two", -1.5)


def test_the_tokens_of_a_text_come_with_it() -> None:
    """Where the text of one is cut in two, it comes with the second part; tags have no place."""
    events: list[Event] = [Thinking("hm"), Text("Forty-", (TAG, FORTY)), Text("two", (TWO,)), END]
    stream = streamed(events)
    alternatives: list[dict[str, Any]] = [
        {"token": "Six", "logprob": -0.25},
        {"token": "Forty", "logprob": -0.5},
    ]
    forty = {"token": "Forty", "logprob": -0.5, "top_logprobs": alternatives}
    two = {"token": "-two", "logprob": -1.5, "top_logprobs": []}
    told: dict[str, list[Any]] = {}
    for event in stream:
        if "logprobs" in event:
            told.setdefault(event["type"], []).append(event["logprobs"])
    assert told == {
        "response.output_text.delta": [[forty], [two]],
        "response.output_text.done": [[forty, two]],
    }
    (message,) = [item for item in stream[-1]["response"]["output"] if item["type"] == "message"]
    assert message["content"][0]["logprobs"] == [
        {
            **forty,
            "bytes": list(b"Forty"),
            "top_logprobs": [{**one, "bytes": list(one["token"].encode())} for one in alternatives],
        },
        {**two, "bytes": list(b"-two")},
    ]
    parts = {event["type"]: event["part"] for event in stream if "content_part" in event["type"]}
    assert parts["response.content_part.added"]["logprobs"] == []
    assert parts["response.content_part.done"] == message["content"][0]


@settings(max_examples=60, deadline=None)
@given(replies(("get_weather", "apply_patch", "files__read", "unknown")))
def test_a_stream_adds_up_to_the_response(events: list[Event]) -> None:
    stream = streamed(events)
    last = stream[-1]["response"]
    done = [told["item"] for told in stream if told["type"] == "response.output_item.done"]
    assert last["output"] == done
    snapshot = added_up(stream)
    for item, final in zip(snapshot.output, last["output"], strict=True):
        wire = item.to_dict()
        match final["type"]:
            case "message":
                # It puts the texts together, and takes all else from the last event.
                untold = [part | {"logprobs": []} for part in final["content"]]
                assert wire["content"] == untold
            case "function_call":
                assert wire["arguments"] == final["arguments"]
    deltas: dict[str, str] = {}
    tokens: dict[str, list[Any]] = {}
    for told in stream:
        if told["type"].endswith(".delta"):
            deltas[told["item_id"]] = deltas.get(told["item_id"], "") + told["delta"]
            tokens.setdefault(told["item_id"], []).extend(told.get("logprobs", ()))
        elif told["type"] == "response.output_text.done":
            assert tokens[told["item_id"]] == told["logprobs"]
    for item in last["output"]:
        text = {
            "message": lambda item: item["content"][0]["text"],
            "reasoning": lambda item: item["summary"][0]["text"],
            "function_call": lambda item: item["arguments"],
            "custom_tool_call": lambda item: item["input"],
        }[item["type"]](item)
        assert deltas.get(item["id"], "") == text
    assert _without_ids(last) == _without_ids(whole(events))


def _without_ids(value: Any) -> Any:
    """A response as it would be at any other time."""
    match value:
        case dict():
            drop = ("id", "call_id", "created_at", "completed_at")
            return {key: _without_ids(item) for key, item in value.items() if key not in drop}
        case list():
            return [_without_ids(item) for item in value]
    return value


@pytest.mark.parametrize("reason", ["load", "unload"])
def test_nothing_written_is_nothing_said(reason: Any) -> None:
    response = whole([Done(reason)])
    assert (response["status"], response["output"]) == ("completed", [])
