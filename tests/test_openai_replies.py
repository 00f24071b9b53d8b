"""Events as OpenAI's clients read them: whole completions, chunks, tool calls, usage."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest

from llamaherd.api.openai_replies import (
    ChatCompletions,
    Completions,
    Reply,
    TextCompletions,
    best,
    error_object,
)
from llamaherd.api.replies import encode
from llamaherd.events import (
    Done,
    Echo,
    Event,
    Likelihood,
    ReadToken,
    Stats,
    Text,
    Thinking,
    ToolCalls,
    WrittenToken,
)
from llamaherd.messages import ToolCall, ToolCallFunction

END = Done("stop", Stats(prompt_eval_count=5, eval_count=3))
CUT = Done("length", Stats(prompt_eval_count=5, eval_count=8))
WEATHER = ToolCall(ToolCallFunction("get_weather", {"city": "Zürich", "days": [1, 2]}))
TIME = ToolCall(ToolCallFunction("get_time", {}), id="abc123")


def wire(reply: Reply) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(encode(reply))
    return found


def whole(dialect: Completions[Any], *choices: Sequence[Echo | Event]) -> dict[str, Any]:
    return wire(dialect.whole(choices))


def test_a_chat_completion() -> None:
    reply = whole(ChatCompletions("m", 1), [Text("Hello"), Text(" there"), END])
    assert reply.pop("id").startswith("chatcmpl-")
    assert isinstance(reply.pop("created"), int)
    assert reply == {
        "object": "chat.completion",
        "model": "m",
        "system_fingerprint": "fp_ollama",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Hello there"},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8},
    }


def test_a_text_completion() -> None:
    reply = whole(TextCompletions("m", 1), [Text("Hello"), CUT])
    assert reply.pop("id").startswith("cmpl-")
    assert isinstance(reply.pop("created"), int)
    assert reply == {
        "object": "text_completion",
        "model": "m",
        "system_fingerprint": "fp_ollama",
        "choices": [{"text": "Hello", "index": 0, "finish_reason": "length"}],
        "usage": {"prompt_tokens": 5, "completion_tokens": 8, "total_tokens": 13},
    }


def test_the_chunks_of_one_completion_belong_together() -> None:
    dialect = ChatCompletions("m", 1)
    chunks = [wire(dialect.chunk(0, event)) for event in (Text("Hello"), END)]
    assert chunks[0]["object"] == "chat.completion.chunk"
    assert {(chunk["id"], chunk["created"]) for chunk in chunks} == {
        (chunks[0]["id"], chunks[0]["created"])
    }
    assert [chunk["choices"] for chunk in chunks] == [
        [
            {
                "index": 0,
                "delta": {"role": "assistant", "content": "Hello"},
                "finish_reason": None,
            }
        ],
        [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": "stop"}],
    ]
    usage = wire(dialect.usage())
    assert usage["choices"] == []
    assert usage["usage"] == {"prompt_tokens": 5, "completion_tokens": 3, "total_tokens": 8}


def test_the_chunks_of_a_text_completion() -> None:
    dialect = TextCompletions("m", 2)
    chunks = [dialect.chunk(1, event) for event in (Text("Hello"), CUT)]
    assert [wire(chunk)["choices"] for chunk in chunks] == [
        [{"text": "Hello", "index": 1, "finish_reason": None}],
        [{"text": "", "index": 1, "finish_reason": "length"}],
    ]


def test_thoughts_stand_apart() -> None:
    events: list[Event] = [Thinking("h"), Thinking("m"), Text("42"), END]
    (choice,) = whole(ChatCompletions("m", 1), events)["choices"]
    assert choice["message"] == {"role": "assistant", "content": "42", "reasoning": "hm"}
    (part,) = wire(ChatCompletions("m", 1).chunk(0, Thinking("h")))["choices"]
    assert part["delta"] == {"role": "assistant", "content": "", "reasoning": "h"}


def test_tool_calls_have_ids_and_their_arguments_as_text() -> None:
    events: list[Event] = [Text("Let me see."), ToolCalls([WEATHER]), ToolCalls([TIME]), END]
    (choice,) = whole(ChatCompletions("m", 1), events)["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["content"] == "Let me see."
    first, second = choice["message"]["tool_calls"]
    assert first.pop("id").startswith("call_")
    assert json.loads(first["function"].pop("arguments")) == WEATHER.function.arguments
    assert first == {"index": 0, "type": "function", "function": {"name": "get_weather"}}
    assert second == {
        "id": "abc123",
        "index": 1,
        "type": "function",
        "function": {"name": "get_time", "arguments": "{}"},
    }


def test_tool_calls_are_counted_over_the_chunks_of_each_choice() -> None:
    dialect = ChatCompletions("m", 2)
    calls = ((0, WEATHER), (1, TIME), (0, TIME))
    chunks = [wire(dialect.chunk(index, ToolCalls([call]))) for index, call in calls]
    (ended,) = wire(dialect.chunk(0, END))["choices"]
    indices = [chunk["choices"][0]["delta"]["tool_calls"][0]["index"] for chunk in chunks]
    assert indices == [0, 0, 1]
    assert ended["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("dialect", [ChatCompletions, TextCompletions])
def test_a_prompt_counts_once_however_many_replies_it_has(dialect: type[Completions[Any]]) -> None:
    """Two replies to each of two prompts."""
    reply = whole(dialect("m", 2), [END], [CUT], [CUT], [END])
    assert [choice["index"] for choice in reply["choices"]] == [0, 1, 2, 3]
    assert reply["usage"] == {"prompt_tokens": 10, "completion_tokens": 22, "total_tokens": 32}


def test_a_prompt_that_only_loads_the_model_ends_at_once() -> None:
    reply = whole(TextCompletions("m", 1), [Done("load")])
    assert reply["choices"] == [{"text": "", "index": 0, "finish_reason": "stop"}]
    assert reply["usage"]["total_tokens"] == 0


def written(*logprobs: float, top: Sequence[float] = ()) -> tuple[WrittenToken, ...]:
    """Tokens "a", "b", …, the likeliest at the place of each "x", "y", …"""
    alternatives = tuple(
        Likelihood(bytes([ord("x") + number]), logprob) for number, logprob in enumerate(top)
    )
    return tuple(
        WrittenToken(bytes([ord("a") + number]), logprob, alternatives)
        for number, logprob in enumerate(logprobs)
    )


def test_log_probabilities_of_a_chat() -> None:
    events: list[Event] = [Text("ab", written(-0.5, -1.5, top=[-0.25])), END]
    (choice,) = whole(ChatCompletions("m", 1), events)["choices"]
    assert choice["logprobs"] == {
        "content": [
            {
                "token": token,
                "logprob": logprob,
                "bytes": [ord(token)],
                "top_logprobs": [{"token": "x", "logprob": -0.25, "bytes": [120]}],
            }
            for token, logprob in (("a", -0.5), ("b", -1.5))
        ],
        "refusal": None,
    }
    (part,) = wire(ChatCompletions("m", 1).chunk(0, events[0]))["choices"]
    assert part["logprobs"] == choice["logprobs"]


@pytest.mark.parametrize("event", [Thinking("a", written(-1)), ToolCalls([TIME], written(-1))])
def test_log_probabilities_of_what_is_no_text(event: Event) -> None:
    (part,) = wire(ChatCompletions("m", 1).chunk(0, event))["choices"]
    assert [token["token"] for token in part["logprobs"]["content"]] == ["a"]


def test_log_probabilities_of_a_completion_go_on_from_chunk_to_chunk() -> None:
    dialect = TextCompletions("m", 1, logprobs=1)
    euro = tuple(WrittenToken(piece, -1.0) for piece in (b"\xe2\x82", b"\xac"))
    events: list[Event] = [
        Text("ab", written(-0.5, -1.5, top=[-0.25])),
        Text("€", euro),
        Text("a", written(-2)),
    ]
    parts = [wire(dialect.chunk(0, event))["choices"][0]["logprobs"] for event in events]
    assert parts[0] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-0.5, -1.5],
        "top_logprobs": [{"x": -0.25, "a": -0.5}, {"x": -0.25, "b": -1.5}],
        "text_offset": [0, 1],
    }
    assert parts[1]["tokens"] == [r"bytes:\xe2\x82", r"bytes:\xac"]
    assert [part["text_offset"] for part in parts[1:]] == [[2, 2], [3]]


def test_log_probabilities_of_a_prompt_come_before_those_of_its_reply() -> None:
    """A prompt of tokens may end inside a character."""
    euro = Likelihood("€".encode(), -1.0)
    read = (ReadToken(b"a", None), ReadToken(b"b\xe2", -2.0, (euro,)))
    events: list[Echo | Event] = [Echo("ab\ufffd", read), Text("a", written(-0.5)), END]
    (choice,) = whole(TextCompletions("m", 1, logprobs=1), events)["choices"]
    assert choice["text"] == "ab\ufffda"
    assert choice["logprobs"] == {
        "tokens": ["a", r"bytes:\x62\xe2", "a"],
        "token_logprobs": [None, -2.0, -0.5],
        "top_logprobs": [None, {"€": -1.0, r"bytes:\x62\xe2": -2.0}, {"a": -0.5}],
        "text_offset": [0, 1, 3],
    }
    dialect = TextCompletions("m", 1, logprobs=1)
    parts = [wire(dialect.chunk(0, event))["choices"][0] for event in events]
    assert [part["text"] for part in parts] == ["ab\ufffd", "a", ""]
    assert [part["logprobs"]["text_offset"] for part in parts[:2]] == [[0, 1], [3]]
    assert "logprobs" not in parts[2]


def test_log_probabilities_that_only_served_to_compare_are_not_told() -> None:
    (choice,) = whole(TextCompletions("m", 1), [Text("ab", written(-1, -1)), END])["choices"]
    assert "logprobs" not in choice


def test_the_best_are_the_likeliest_on_average() -> None:
    short: list[Event] = [Text("ab", written(-1.0, -1.0)), END]
    long: list[Event] = [Text("abcd", written(-0.5, -0.5, -0.5, -0.5)), END]
    unlikely: list[Event] = [Text("a", written(-9.0)), END]
    silent: list[Event] = [END]
    assert best([short, silent, long, unlikely], 3) == [long, short, unlikely]
    dialect = TextCompletions("m", 1, best_of=2)
    reply = whole(dialect, short, long, unlikely, short)
    assert [(choice["index"], choice["text"]) for choice in reply["choices"]] == [
        (0, "abcd"),
        (1, "ab"),
    ]
    assert reply["usage"]["completion_tokens"] == 4 * 3


def test_usage_tells_what_was_cached_and_what_was_dropped() -> None:
    cut = Done("stop", Stats(prompt_eval_count=5, eval_count=3), cached_count=4, dropped_count=7)
    usage = whole(TextCompletions("m", 2), [cut], [cut], [END], [END])["usage"]
    assert usage == {
        "prompt_tokens": 10,
        "completion_tokens": 12,
        "total_tokens": 22,
        "prompt_tokens_details": {"cached_tokens": 4, "dropped_tokens": 7},
    }


@pytest.mark.parametrize("dialect", [ChatCompletions("m", 1), TextCompletions("m", 1)])
def test_the_last_chunk_of_a_choice_tells_what_was_dropped(dialect: Completions[Any]) -> None:
    """Usage comes in a stream only if it is asked for."""
    begun, ended, other = (
        wire(dialect.chunk(index, event))["choices"][0]
        for index, event in ((0, Text("a")), (0, Done("stop", Stats(), dropped_count=7)), (1, END))
    )
    assert (ended["finish_reason"], ended["prompt_dropped_count"]) == ("stop", 7)
    assert "prompt_dropped_count" not in begun
    assert "prompt_dropped_count" not in other


def test_usage_tells_what_was_thought() -> None:
    thoughtful = Done("stop", Stats(prompt_eval_count=5, eval_count=9), thinking_count=6)
    usage = whole(ChatCompletions("m", 2), [thoughtful], [thoughtful])["usage"]
    assert usage["completion_tokens_details"] == {"reasoning_tokens": 12}
    assert "completion_tokens_details" not in whole(ChatCompletions("m", 1), [END])["usage"]


def test_an_error() -> None:
    assert encode(error_object('model "m" not found', "api_error")) == (
        b'{"error":{"message":"model \\"m\\" not found","type":"api_error",'
        b'"param":null,"code":null}}'
    )
