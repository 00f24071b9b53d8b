"""``tool_choice`` over HTTP: whatever a model would like to write, it calls what it must."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import openai
import pytest

from tests.support.models import write_model, write_parrot
from tests.support.server import RunningServer, running_server
from tests.support.templates import TOOL_TEMPLATE

QUESTION: list[Any] = [{"role": "user", "content": "How is the weather?"}]
CITY = {
    "type": "object",
    "properties": {
        "city": {"enum": ["Paris", "Zürich", "Oslo"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
    },
    "required": ["city"],
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "get_weather", "parameters": CITY}},
    {"type": "function", "function": {"name": "get_time"}},
]
ONE: Any = {"type": "function", "function": {"name": "get_weather"}}


def unsupported() -> dict[str, Any]:
    """A tool with a parameter of which not all can be guaranteed."""
    parameters = {"type": "object", "properties": {"a": {"type": "array", "uniqueItems": True}}}
    return {"type": "function", "function": {"name": "f", "parameters": parameters}}


ANSWER = {
    "type": "object",
    "properties": {"ok": {"type": "boolean"}},
    "required": ["ok"],
    "additionalProperties": False,
}
THOUGHT = "<think>\nI might </tool_call>.\n</think>\n\nNo."
#: Hot enough that the model tries everything.
HOT = {"temperature": 1.5, "seed": 1, "num_predict": 400}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("choice")
    with running_server(folder, OLLAMA_NUM_PARALLEL="4") as server:
        server.add("tiny", write_model(folder / "tiny.gguf", n_ctx=2048), template=TOOL_TEMPLATE)
        server.create(
            "channels", "tiny", template=TOOL_TEMPLATE + "{{/* <|channel|><|message|> */}}"
        )
        thinks = write_parrot(folder / "thinks.gguf", THOUGHT)
        server.add("thinks", thinks, template=TOOL_TEMPLATE)
        yield server


def chat(server: RunningServer, model: str = "tiny", **fields: Any) -> dict[str, Any]:
    request = {"model": model, "messages": QUESTION, "tools": TOOLS, "options": HOT, **fields}
    answer = server.post("/api/chat", stream=False, **request)
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def calls_of(reply: dict[str, Any]) -> list[dict[str, Any]]:
    """The calls of a reply that has nothing else and ended by itself."""
    assert reply["done_reason"] == "stop"
    message = reply["message"]
    assert message["content"] == ""
    calls = [call["function"] for call in message["tool_calls"]]
    for call in calls:
        schema = CITY if call["name"] == "get_weather" else {"maxProperties": 0}
        jsonschema.validate(call["arguments"], schema)
    return calls


class TestOurOwnApi:
    @pytest.mark.parametrize("model", ["tiny", "channels"])
    @pytest.mark.parametrize("seed", [1, 2])
    def test_required(self, seed: int, model: str, server: RunningServer) -> None:
        options = HOT | {"seed": seed}
        assert calls_of(chat(server, model, tool_choice="required", options=options))

    def test_one_call(self, server: RunningServer) -> None:
        reply = chat(server, tool_choice="required", parallel_tool_calls=False)
        assert len(calls_of(reply)) == 1

    def test_one_function(self, server: RunningServer) -> None:
        (call,) = calls_of(chat(server, tool_choice=ONE))
        assert call["name"] == "get_weather"

    def test_a_stream(self, server: RunningServer) -> None:
        asked = {"model": "tiny", "messages": QUESTION, "tools": TOOLS, "options": HOT}
        lines = server.post("/api/chat", tool_choice=ONE, **asked).lines()
        calls = [call for line in lines for call in line["message"].get("tool_calls", ())]
        assert [call["function"] for call in calls] == calls_of(chat(server, tool_choice=ONE))

    def test_none_offers_no_tools(self, server: RunningServer) -> None:
        with_none = chat(server, tool_choice="none", options=HOT | {"num_predict": 9})
        without = chat(server, tools=[], options=HOT | {"num_predict": 9})
        for reply in (with_none, without):
            del reply["created_at"]
        assert with_none["message"] == without["message"]
        assert with_none["prompt_eval_count"] == without["prompt_eval_count"]

    def test_only_those_that_are_allowed_are_offered(self, server: RunningServer) -> None:
        allowed = {"type": "allowed_tools", "mode": "required", "tools": [ONE]}
        assert {call["name"] for call in calls_of(chat(server, tool_choice=allowed))} == {
            "get_weather"
        }

    def test_thinking_comes_first(self, server: RunningServer) -> None:
        message = chat(server, "thinks", tool_choice=ONE, think=True)["message"]
        assert message["thinking"] == "I might </tool_call>.\n"
        assert [call["function"]["name"] for call in message["tool_calls"]] == ["get_weather"]

    def test_the_limit_cuts_a_call(self, server: RunningServer) -> None:
        reply = chat(server, tool_choice=ONE, options=HOT | {"num_predict": 5})
        assert (reply["done_reason"], reply["eval_count"]) == ("length", 5)
        assert "tool_calls" not in reply["message"]

    @pytest.mark.parametrize(
        ("fields", "error"),
        [
            (
                {"tool_choice": "maybe"},
                'tool_choice: expected "none", "auto", "required" or a function, not "maybe"',
            ),
            (
                {"tool_choice": {"type": "function", "function": {}}},
                "tool_choice: expected a function with its name, not object",
            ),
            (
                {"tool_choice": {"type": "function", "function": {"name": "f"}}},
                'tool_choice: there is no function "f" among the tools',
            ),
            (
                {"tool_choice": "required", "tools": []},
                "tool_choice: there are no tools to be called",
            ),
            (
                {"tool_choice": {"type": "allowed_tools", "mode": "none", "tools": [ONE]}},
                'tool_choice.mode: expected "auto" or "required", not "none"',
            ),
            (
                {"tool_choice": "required", "tools": [{"type": "function", "function": {}}]},
                "tools[0].function.name: expected the name of a function",
            ),
            (
                {"tool_choice": "required", "tools": [TOOLS[1], unsupported()]},
                'invalid JSON schema in tools["f"].parameters: '
                '#/properties/a: Unimplemented keys: ["uniqueItems"]',
            ),
        ],
    )
    def test_what_is_refused(
        self, fields: dict[str, Any], error: str, server: RunningServer
    ) -> None:
        asked = {"model": "tiny", "messages": QUESTION, "tools": TOOLS, **fields}
        answer = server.post("/api/chat", stream=False, **asked)
        assert (answer.status, answer.json()) == (400, {"error": error})

    def test_what_can_not_be_guaranteed_is_no_matter_where_calls_are_free(
        self, server: RunningServer
    ) -> None:
        options = HOT | {"num_predict": 3}
        assert chat(server, tools=[unsupported()], options=options)["done_reason"] == "length"


class TestOpenAI:
    @pytest.fixture
    def client(self, server: RunningServer) -> Iterator[openai.OpenAI]:
        with openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="none") as client:
            yield client

    def test_required(self, client: openai.OpenAI) -> None:
        with client.chat.completions.stream(
            model="tiny",
            messages=QUESTION,
            tools=TOOLS,
            tool_choice="required",
            seed=3,
            temperature=1.5,
        ) as streamed:
            choice = streamed.get_final_completion().choices[0]
        assert choice.finish_reason == "tool_calls"
        assert choice.message.tool_calls
        assert not choice.message.content

    def test_one_function(self, client: openai.OpenAI) -> None:
        completion = client.chat.completions.create(
            model="tiny",
            messages=QUESTION,
            tools=TOOLS,
            tool_choice=ONE,
            parallel_tool_calls=True,
            seed=3,
        )
        calls = completion.choices[0].message.tool_calls
        assert calls is not None
        (call,) = calls
        assert call.type == "function"
        assert call.function.name == "get_weather"

    def test_errors(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match='there is no function "f"'):
            client.chat.completions.create(
                model="tiny",
                messages=QUESTION,
                tools=TOOLS,
                tool_choice={"type": "function", "function": {"name": "f"}},
            )


class TestWithAFormat:
    """A reply that may call tools is either calls or what the format asks for."""

    def test_it_is_one_or_the_other(self, server: RunningServer) -> None:
        kinds = set()
        for seed in range(12):
            reply = chat(server, format=ANSWER, options=HOT | {"seed": seed})
            if "tool_calls" in reply["message"]:
                kinds.add(len(calls_of(reply)) > 0)
            else:
                jsonschema.validate(json.loads(reply["message"]["content"]), ANSWER)
                kinds.add(False)
        assert kinds == {True, False}

    def test_required_calls_come_before_a_format(self, server: RunningServer) -> None:
        assert calls_of(chat(server, format=ANSWER, tool_choice="required"))

    def test_tools_that_can_not_be_guaranteed_do_not_matter(self, server: RunningServer) -> None:
        reply = chat(server, format={"const": 5}, tools=[unsupported()])
        assert reply["message"].get("tool_calls") or reply["message"]["content"] == "5"
