"""Calling tools over HTTP, with a model that writes what it is told to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import ollama
import pytest

from tests.support.models import write_parrot
from tests.support.server import RunningServer, running_server
from tests.support.templates import TOOL_TEMPLATE

CALLS = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "at": ["9", 10]}}\n'
    '</tool_call>\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
)
REPLY = f"Let me see.\n{CALLS}\nThere."
THOUGHTFUL = f"<think>\nI might <tool_call>.\n</think>\n\n{CALLS}"

QUESTION = [{"role": "user", "content": "How is the weather?"}]


def get_weather(city: str, at: list[str]) -> str:
    """The weather.

    Args:
      city: where
      at: when
    """
    return f"{city} at {at}"


def get_time() -> str:
    """The time."""
    return "now"


TOOLS: list[Any] = [
    {
        "type": "function",
        "function": {
            "name": name,
            "description": name,
            "parameters": {"type": "object", "properties": properties},
        },
    }
    for name, properties in (("get_weather", {"city": {"type": "string"}}), ("get_time", {}))
]
WEATHER_CALL = {
    "function": {"name": "get_weather", "arguments": {"city": "Zürich", "at": ["9", 10]}}
}
TIME_CALL = {"function": {"name": "get_time", "arguments": {}, "index": 1}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("tools")
    with running_server(folder) as server:
        server.add("caller", write_parrot(folder / "calls.gguf", REPLY), template=TOOL_TEMPLATE)
        thoughtful = write_parrot(folder / "thinks.gguf", THOUGHTFUL)
        server.add("thoughtful", thoughtful, template=TOOL_TEMPLATE)
        server.create("plain", "caller", template="{{ .Prompt }}\n")
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.host) as client:
        yield client


def ask(server: RunningServer, model: str = "caller", **request: Any) -> dict[str, Any]:
    request = {"model": model, "messages": QUESTION, "tools": TOOLS, "stream": False, **request}
    answer = server.post("/api/chat", **request)
    assert answer.status == 200, answer.text
    message: dict[str, Any] = answer.json()["message"]
    return message


def test_calls_and_the_text_around_them(server: RunningServer) -> None:
    assert ask(server) == {
        "role": "assistant",
        "content": "Let me see.\n\nThere.",
        "tool_calls": [WEATHER_CALL, TIME_CALL],
    }


def test_a_stream_has_each_call_in_a_line_of_its_own(server: RunningServer) -> None:
    request = {"model": "caller", "messages": QUESTION, "tools": TOOLS}
    *lines, last = server.post("/api/chat", **request).lines()
    calls = [line["message"] for line in lines if "tool_calls" in line["message"]]
    assert calls == [
        {"role": "assistant", "content": "", "tool_calls": [WEATHER_CALL]},
        {"role": "assistant", "content": "", "tool_calls": [TIME_CALL]},
    ]
    texts = [line["message"]["content"] for line in lines]
    assert "".join(texts) == "Let me see.\n\nThere."
    assert texts[0] != ""
    assert not any(line["done"] for line in lines)
    assert (last["done_reason"], last["message"]["content"]) == ("stop", "")
    assert "tool_calls" not in last["message"]


def test_without_tools_the_reply_is_left_as_it_is(server: RunningServer) -> None:
    nothing: list[Any] = [[], None]
    for tools in nothing:
        assert ask(server, tools=tools) == {"role": "assistant", "content": REPLY}


def test_a_call_of_a_tool_that_was_not_given_is_text(server: RunningServer) -> None:
    message = ask(server, tools=TOOLS[1:])
    call = REPLY[: REPLY.index('\n<tool_call>\n{"name": "get_time')]
    assert message["content"].startswith(call)
    assert message["tool_calls"] == [{"function": {"name": "get_time", "arguments": {}}}]


def test_a_call_that_the_token_limit_cuts_is_text(server: RunningServer) -> None:
    message = ask(server, options={"num_predict": 9})
    assert "tool_calls" not in message
    assert REPLY.startswith(message["content"])
    assert "<tool_call>" in message["content"]


def test_a_stop_string_ends_the_reply_after_a_call(server: RunningServer) -> None:
    message = ask(server, options={"stop": ["</tool_call>"]})
    assert (message["content"], message["tool_calls"]) == ("Let me see.\n", [WEATHER_CALL])


def test_thinking_comes_first_and_calls_nothing(server: RunningServer) -> None:
    assert ask(server, "thoughtful", think=True) == {
        "role": "assistant",
        "content": "",
        "thinking": "I might <tool_call>.\n",
        "tool_calls": [WEATHER_CALL, TIME_CALL],
    }


def test_a_model_without_tools_refuses(server: RunningServer) -> None:
    answer = server.post("/api/chat", model="plain", messages=QUESTION, tools=TOOLS)
    assert answer.status == 400
    error = "registry.ollama.ai/library/plain:latest does not support tools"
    assert answer.json() == {"error": error}


def test_ollama_s_client_goes_all_the_way_round(
    client: ollama.Client, server: RunningServer
) -> None:
    """Functions as tools, their results as messages, and all of it in the next prompt."""
    functions: dict[str, Callable[..., str]] = {"get_weather": get_weather, "get_time": get_time}
    reply = client.chat("caller", QUESTION, tools=list(functions.values()))
    talk: list[Any] = [*QUESTION, reply.message.model_dump(exclude_none=True)]
    for call in reply.message.tool_calls or []:
        result = functions[call.function.name](**call.function.arguments)
        talk.append({"role": "tool", "tool_name": call.function.name, "content": result})
    assert [message["content"] for message in talk[2:]] == ["Zürich at ['9', 10]", "now"]
    answer = server.post("/api/chat", model="caller", messages=talk, _debug_render_only=True)
    prompt = answer.json()["_debug_info"]["rendered_template"]
    assert '"name": "get_weather", "arguments": {"at":["9",10],"city":"Zürich"}' in prompt
    assert prompt.endswith("<|tool|>\nZürich at ['9', 10]\n<|tool|>\nnow\n<|assistant|>\n")
    assert client.chat("caller", talk, tools=list(functions.values())).message.tool_calls
