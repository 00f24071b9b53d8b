"""``/v1/chat/completions``, and the models that it can be asked of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from pydantic import BaseModel

from tests.openai_api.models import HELLO, TOOLS
from tests.support.server import RunningServer


class Point(BaseModel):
    x: int
    visible: bool


def text_of(chunks: Sequence[ChatCompletionChunk], index: int = 0) -> str:
    parts = [choice for chunk in chunks for choice in chunk.choices if choice.index == index]
    return "".join(part.delta.content or "" for part in parts)


class TestChat:
    def test_a_whole_completion(self, client: openai.OpenAI) -> None:
        raw = client.chat.completions.with_raw_response.create(
            model="tiny", messages=HELLO, max_tokens=6, temperature=0
        )
        assert raw.headers["content-type"] == "application/json"
        reply = raw.parse()
        (choice,) = reply.choices
        assert (choice.index, choice.finish_reason) == (0, "length")
        assert choice.message.role == "assistant"
        assert choice.message.content
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 6
        assert reply.usage.total_tokens == reply.usage.prompt_tokens + 6

    def test_a_stream_says_the_same(self, client: openai.OpenAI) -> None:
        whole = client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=6, temperature=0
        )
        raw = client.chat.completions.with_raw_response.create(
            model="tiny",
            messages=HELLO,
            max_tokens=6,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        assert raw.headers["content-type"] == "text/event-stream"
        *chunks, end, usage = raw.parse()
        assert text_of(chunks) == whole.choices[0].message.content
        assert {chunk.id for chunk in chunks} == {end.id}
        assert [chunk.choices[0].finish_reason for chunk in chunks] == [None] * len(chunks)
        assert end.choices[0].finish_reason == "length"
        assert (usage.choices, usage.usage) == ([], whole.usage)

    def test_usage_comes_only_where_it_is_asked_for(self, client: openai.OpenAI) -> None:
        chunks = client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=2, stream=True
        )
        assert all(chunk.usage is None for chunk in chunks)

    @pytest.mark.anyio
    async def test_without_blocking(self, async_client: openai.AsyncOpenAI) -> None:
        create = async_client.chat.completions.create
        whole = await create(model="tiny", messages=HELLO, max_tokens=6, temperature=0)
        stream = await create(
            model="tiny", messages=HELLO, max_tokens=6, temperature=0, stream=True
        )
        chunks = [chunk async for chunk in stream]
        assert text_of(chunks) == whole.choices[0].message.content != ""

    def test_several_choices_differ_and_can_be_had_again(self, client: openai.OpenAI) -> None:
        first, again = (
            client.chat.completions.create(model="tiny", messages=HELLO, n=3, seed=9, max_tokens=8)
            for _ in range(2)
        )
        texts = [choice.message.content for choice in first.choices]
        assert [choice.index for choice in first.choices] == [0, 1, 2]
        assert len(set(texts)) == 3
        assert [choice.message.content for choice in again.choices] == texts
        assert first.usage is not None
        assert first.usage.completion_tokens == 24

    def test_several_choices_stream_side_by_side(self, client: openai.OpenAI) -> None:
        whole = client.chat.completions.create(
            model="tiny", messages=HELLO, n=2, seed=9, max_tokens=40
        )
        chunks = list(
            client.chat.completions.create(
                model="tiny", messages=HELLO, n=2, seed=9, max_tokens=40, stream=True
            )
        )
        for index, choice in enumerate(whole.choices):
            assert text_of(chunks, index) == choice.message.content
        order = [choice.index for chunk in chunks for choice in chunk.choices]
        assert order not in (sorted(order), sorted(order, reverse=True))

    def test_a_seed_of_the_model_does_not_make_all_choices_the_same(
        self, client: openai.OpenAI
    ) -> None:
        reply = client.chat.completions.create(
            model="someone/seeded:v1", messages=HELLO, n=2, temperature=1, max_tokens=8
        )
        first, second = reply.choices
        assert first.message.content != second.message.content

    def test_stop_strings_end_a_reply(self, client: openai.OpenAI) -> None:
        reply = client.chat.completions.create(
            model="thinker", messages=HELLO, stop=["-", "?"], reasoning_effort="high"
        )
        (choice,) = reply.choices
        assert (choice.message.content, choice.finish_reason) == ("Forty", "stop")

    def test_biased_tokens(self, client: openai.OpenAI) -> None:
        forced = client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=3, logit_bias={"261": 100}
        )
        assert forced.choices[0].message.content == " a a a"

    def test_parts_of_text(self, client: openai.OpenAI) -> None:
        text = "Once upon a time"
        contents: list[Any] = [text, [{"type": "text", "text": text}]]
        replies = [
            client.chat.completions.create(
                model="tiny",
                messages=[{"role": "user", "content": content}],
                max_tokens=6,
                temperature=0,
            )
            for content in contents
        ]
        assert replies[0].choices == replies[1].choices


class TestStructuredOutput:
    def test_a_schema_from_a_class(self, client: openai.OpenAI) -> None:
        reply = client.chat.completions.parse(
            model="tiny", messages=HELLO, response_format=Point, seed=1, max_tokens=100
        )
        assert isinstance(reply.choices[0].message.parsed, Point)

    def test_any_json(self, client: openai.OpenAI) -> None:
        reply = client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            response_format={"type": "json_object"},
            max_tokens=60,
            temperature=0,
        )
        assert str(reply.choices[0].message.content).lstrip().startswith("{")


class TestTools:
    def test_calls(self, client: openai.OpenAI) -> None:
        reply = client.chat.completions.create(model="caller", messages=HELLO, tools=TOOLS)
        (choice,) = reply.choices
        assert choice.finish_reason == "tool_calls"
        assert (choice.message.content or "").strip() == "Let me see."
        weather, time = choice.message.tool_calls or []
        assert weather.type == time.type == "function"
        assert weather.id != time.id
        assert weather.function.name == "get_weather"
        assert json.loads(weather.function.arguments) == {"city": "Zürich", "days": 2}
        assert (time.function.name, time.function.arguments) == ("get_time", "{}")

    def test_a_stream_is_put_together_by_the_client(self, client: openai.OpenAI) -> None:
        with client.chat.completions.stream(model="caller", messages=HELLO, tools=TOOLS) as stream:
            reply = stream.get_final_completion()
        (choice,) = reply.choices
        assert choice.finish_reason == "tool_calls"
        calls = choice.message.tool_calls or []
        assert [call.function.name for call in calls] == ["get_weather", "get_time"]
        assert json.loads(calls[0].function.arguments) == {"city": "Zürich", "days": 2}

    def test_results_go_back(self, client: openai.OpenAI) -> None:
        asked = client.chat.completions.create(model="caller", messages=HELLO, tools=TOOLS)
        message = asked.choices[0].message
        results: list[ChatCompletionMessageParam] = [
            {"role": "tool", "tool_call_id": call.id, "content": "fine"}
            for call in message.tool_calls or []
        ]
        said: Any = message.model_dump(exclude_none=True)
        reply = client.chat.completions.create(
            model="caller", messages=[*HELLO, said, *results], tool_choice="none", tools=TOOLS
        )
        assert reply.usage is not None
        assert asked.usage is not None
        assert reply.usage.prompt_tokens > len(results)


class TestThinking:
    def test_thoughts_are_apart(self, client: openai.OpenAI) -> None:
        reply = client.chat.completions.create(
            model="thinker", messages=HELLO, reasoning_effort="low"
        )
        message = reply.choices[0].message.model_dump()
        assert (message["reasoning"].strip(), message["content"]) == ("Hm.", "Forty-two.")

    def test_in_a_stream_too(self, client: openai.OpenAI) -> None:
        chunks = list(
            client.chat.completions.create(
                model="thinker", messages=HELLO, reasoning_effort="low", stream=True
            )
        )
        deltas = [chunk.choices[0].delta.model_dump() for chunk in chunks]
        assert "".join(delta.get("reasoning", "") for delta in deltas).strip() == "Hm."
        assert text_of(chunks) == "Forty-two."


class TestModels:
    def test_list(self, client: openai.OpenAI) -> None:
        found = {model.id: model for model in client.models.list()}
        assert found["tiny:latest"].owned_by == "library"
        assert found["someone/seeded:v1"].owned_by == "someone"
        assert all(model.created > 1_600_000_000 for model in found.values())

    @pytest.mark.parametrize("name", ["tiny", "tiny:latest", "TINY", "someone/seeded:v1"])
    def test_retrieve(self, name: str, client: openai.OpenAI) -> None:
        model = client.models.retrieve(name)
        assert (model.id, model.object) == (name, "model")
        listed = {model.id.partition(":")[0]: model for model in client.models.list()}
        assert model.created == listed[name.lower().partition(":")[0]].created
        assert model.owned_by == listed[name.lower().partition(":")[0]].owned_by

    @pytest.mark.parametrize("name", ["nosuch", "no/such", "a/b/c/d/e", "..", "a b"])
    def test_what_is_not_there(self, name: str, server: RunningServer) -> None:
        path = "/v1/models/" + name.replace(" ", "%20")
        answer = server.request("GET", path)
        assert answer.status == 404
        assert answer.json()["error"] == {
            "message": f"model '{name}' not found",
            "type": "api_error",
            "param": "model",
            "code": "model_not_found",
        }

    def test_a_slash_too_many_is_taken_off(self, server: RunningServer) -> None:
        answer = server.request("GET", "/v1/models/")
        assert (answer.status, answer.headers["location"]) == (301, "/v1/models")
