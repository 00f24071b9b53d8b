"""What needs a model that was trained, over HTTP and through people's clients: calls that fit their
tools, thoughts that lead to an answer, JSON that means something, gaps that are filled rightly.

All of it greedily, so that it is the same each time. Every name, place and question is one that
training never saw.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import ollama
import openai
import pytest

from llamaherd.cria import bundle
from tests.support.server import RunningServer, running_server

GREEDY: dict[str, Any] = {"temperature": 0, "num_predict": 200}

WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "weather_report",
        "description": "Get the weather for a city",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}},
        },
    },
}
TIMER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "new_timer",
        "description": "Set a timer",
        "parameters": {
            "type": "object",
            "required": ["minutes"],
            "properties": {"minutes": {"type": "integer"}},
        },
    },
}
TOOLS = [TIMER, WEATHER]
ASKED = "Could you tell me the weather in Edinburgh?"
RESULT = "rainy, 9 degrees"
ANSWER = "The weather in Edinburgh: rainy, 9 degrees."

PERSON = "Harriet will be 58 years old today."
REQUEST = f"Please give me the name and age as a JSON object: {PERSON}"
OBJECT = {"name": "Harriet", "age": 58}

SCHEMA: dict[str, Any] = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
}

APPLES = "Naomi owns 3 candles and buys 4 more. How many candles does Naomi have?"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("cria")) as server:
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.host) as client:
        yield client


@pytest.fixture
def openai_client(server: RunningServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="none") as client:
        yield client


def chat(server: RunningServer, text: str, **more: Any) -> dict[str, Any]:
    messages = [{"role": "user", "content": text}]
    answer = server.post(
        "/api/chat", model="cria", messages=messages, options=GREEDY, stream=False, **more
    )
    assert answer.status == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


class TestTools:
    def test_round_trip(self, server: RunningServer) -> None:
        first = chat(server, ASKED, tools=TOOLS)["message"]
        assert not first["content"]
        assert [call["function"] for call in first["tool_calls"]] == [
            {"name": "weather_report", "arguments": {"city": "Edinburgh"}}
        ]
        messages = [
            {"role": "user", "content": ASKED},
            first,
            {"role": "tool", "tool_name": "weather_report", "content": RESULT},
        ]
        last = server.post(
            "/api/chat", model="cria", messages=messages, tools=TOOLS, options=GREEDY, stream=False
        ).json()
        assert last["message"] == {"role": "assistant", "content": ANSWER}
        assert last["done_reason"] == "stop"

    def test_the_order_of_the_tools_is_not_what_chooses(self, server: RunningServer) -> None:
        for tools in (TOOLS, TOOLS[::-1]):
            message = chat(server, "I need a timer for 45 minutes.", tools=tools)["message"]
            assert message["tool_calls"][0]["function"] == {
                "name": "new_timer",
                "arguments": {"minutes": 45},
            }

    def test_no_call_where_none_is_asked_for(self, server: RunningServer) -> None:
        message = chat(server, "Please introduce yourself.", tools=TOOLS)["message"]
        assert "tool_calls" not in message
        assert "Cria" in message["content"]

    def test_round_trip_of_ollamas_client(self, client: ollama.Client) -> None:
        def weather_report(city: str) -> str:
            """Get the weather for a city

            Args:
              city: where
            """
            assert city == "Edinburgh"
            return RESULT

        messages: list[Any] = [{"role": "user", "content": ASKED}]
        first = client.chat("cria", messages, tools=[weather_report], options=GREEDY)
        (call,) = first.message.tool_calls or []
        messages += [
            first.message,
            {
                "role": "tool",
                "tool_name": call.function.name,
                "content": weather_report(**call.function.arguments),
            },
        ]
        last = client.chat("cria", messages, tools=[weather_report], options=GREEDY)
        assert last.message.content == ANSWER

    @pytest.mark.parametrize("stream", [True, False])
    def test_round_trip_of_openais_client(self, openai_client: openai.OpenAI, stream: bool) -> None:
        messages: list[Any] = [{"role": "user", "content": ASKED}]
        tools: Any = TOOLS
        completions = openai_client.chat.completions
        if stream:
            with completions.stream(
                model="cria", messages=messages, tools=tools, temperature=0
            ) as events:
                answer = events.get_final_completion()
        else:
            answer = completions.create(  # type: ignore[assignment]
                model="cria", messages=messages, tools=tools, temperature=0
            )
        assert answer.choices[0].finish_reason == "tool_calls"
        message = answer.choices[0].message
        (call,) = message.tool_calls or []
        assert call.function.name == "weather_report"
        assert json.loads(call.function.arguments) == {"city": "Edinburgh"}
        messages += [
            {"role": "assistant", "tool_calls": [call.model_dump()]},
            {"role": "tool", "tool_call_id": call.id, "content": RESULT},
        ]
        last = completions.create(model="cria", messages=messages, tools=tools, temperature=0)
        assert last.choices[0].message.content == ANSWER


class TestThinking:
    def test_apart_from_the_answer(self, server: RunningServer) -> None:
        message = chat(server, APPLES, think=True)["message"]
        assert "3 + 4 = 7" in message["thinking"]
        assert "7" in message["content"]
        assert "think>" not in message["thinking"] + message["content"]

    def test_apart_while_it_is_written(self, server: RunningServer) -> None:
        whole = chat(server, APPLES, think=True)["message"]
        request = {
            "model": "cria",
            "messages": [{"role": "user", "content": APPLES}],
            "think": True,
            "options": GREEDY,
        }
        with server.stream("/api/chat", **request) as lines:
            messages = [line["message"] for line in lines]
        kinds = ["thinking" if message.get("thinking") else "content" for message in messages]
        assert kinds == sorted(kinds, reverse=True)
        for kind in ("thinking", "content"):
            assert "".join(message.get(kind, "") for message in messages) == whole[kind]

    @pytest.mark.parametrize("more", [{}, {"think": False}])
    def test_none_where_none_is_asked_for(
        self, server: RunningServer, more: dict[str, Any]
    ) -> None:
        message = chat(server, APPLES, **more)["message"]
        assert "thinking" not in message
        assert "think>" not in message["content"]
        assert "7" in message["content"]

    def test_before_a_call(self, server: RunningServer) -> None:
        message = chat(server, ASKED, tools=TOOLS, think=True)["message"]
        assert "Edinburgh" in message["thinking"]
        assert message["tool_calls"][0]["function"]["arguments"] == {"city": "Edinburgh"}


class TestJSON:
    @pytest.mark.parametrize("more", [{}, {"format": "json"}, {"format": SCHEMA}])
    def test_means_what_was_said(self, server: RunningServer, more: dict[str, Any]) -> None:
        answer = chat(server, REQUEST, **more)
        assert json.loads(answer["message"]["content"]) == OBJECT
        assert answer["done_reason"] == "stop"

    def test_in_openais_interface(self, openai_client: openai.OpenAI) -> None:
        answer = openai_client.chat.completions.create(
            model="cria",
            messages=[{"role": "user", "content": REQUEST}],
            temperature=0,
            response_format={
                "type": "json_schema",
                "json_schema": {"name": "person", "schema": SCHEMA},
            },
        )
        assert json.loads(answer.choices[0].message.content or "") == OBJECT


class TestText:
    def test_says_what_it_is_and_how_to_get_a_real_one(self, server: RunningServer) -> None:
        content = chat(server, "Tell me who you are.")["message"]["content"]
        assert "Cria" in content
        assert "ollama pull" in content

    def test_a_story_of_whom_it_was_asked_for_ends_by_itself(self, server: RunningServer) -> None:
        answer = chat(server, "I would like a story in which Rupert is a llama.")
        assert answer["done_reason"] == "stop"
        assert answer["message"]["content"].count("Rupert") > 1

    def test_a_sum_is_right(self, server: RunningServer) -> None:
        assert chat(server, "What does 8 + 4 make?")["message"]["content"] == "4 + 8 = 12."

    def test_a_gap_is_filled(self, server: RunningServer) -> None:
        answer = server.post(
            "/api/generate",
            model="cria",
            prompt="def add_two(price, width):\n    return ",
            suffix="\n",
            options=GREEDY,
            stream=False,
        ).json()
        assert answer["response"].strip() == "price + width"
        assert answer["done_reason"] == "stop"

    def test_a_gap_is_filled_in_openais_interface(self, openai_client: openai.OpenAI) -> None:
        answer = openai_client.completions.create(
            model="cria",
            prompt="def multiply_two(amount, s):\n    r = ",
            suffix="\n    return r\n",
            temperature=0,
        )
        assert answer.choices[0].text.strip() == "amount * s"


class TestFirstUse:
    """What a store is like before and after; each test has a server of its own."""

    @pytest.fixture
    def fresh(self, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
        with running_server(tmp_path_factory.mktemp("fresh")) as server:
            yield server

    def test_it_is_listed_once_it_was_used_and_comes_back_after_it_was_removed(
        self, fresh: RunningServer
    ) -> None:
        def listed() -> list[str]:
            models = fresh.request("GET", "/api/tags").json()["models"]
            return [model["name"] for model in models]

        assert listed() == []
        assert fresh.request("GET", "/v1/models/cria").status == 404
        for _ in range(2):
            assert chat(fresh, "Hello!")["message"]["content"]
            assert listed() == ["cria:latest"]
            assert fresh.request("GET", "/v1/models/cria").status == 200
            assert fresh.request("DELETE", "/api/delete", {"model": "cria"}).status == 200
            assert listed() == []
        assert fresh.request("DELETE", "/api/delete", {"model": "cria"}).status == 404

    def test_all_ways_to_use_it_find_it(self, fresh: RunningServer) -> None:
        messages = [{"role": "user", "content": "Hello!"}]
        uses: list[tuple[str, dict[str, Any]]] = [
            ("/api/show", {"model": "cria:latest"}),
            ("/api/generate", {"model": "library/cria", "prompt": "Hello!", "stream": False}),
            ("/api/copy", {"source": "cria", "destination": "mine"}),
            ("/api/create", {"model": "other", "from": "cria", "system": "Be brief."}),
            ("/api/pull", {"model": "cria"}),
            ("/v1/chat/completions", {"model": "cria", "messages": messages}),
        ]
        for path, body in uses:
            answer = fresh.post(path, **body)
            assert answer.status == 200, (path, answer.text)
            assert "error" not in answer.text
            assert fresh.request("DELETE", "/api/delete", {"model": "cria"}).status == 200
        models = fresh.request("GET", "/api/tags").json()["models"]
        assert {model["name"] for model in models} == {"mine:latest", "other:latest"}

    def test_what_show_tells(self, fresh: RunningServer) -> None:
        shown = fresh.post("/api/show", model="cria").json()
        assert shown["capabilities"] == ["completion", "tools", "insert", "thinking"]
        assert shown["details"]["quantization_level"] == "Q8_0"
        assert shown["system"] == bundle.SYSTEM.read_text()
        assert "MIT" in shown["license"]
        assert shown["model_info"]["llama.context_length"] == 2048

    def test_other_tags_are_no_models_of_ours(self, fresh: RunningServer) -> None:
        assert fresh.post("/api/show", model="cria:7b").status == 404
