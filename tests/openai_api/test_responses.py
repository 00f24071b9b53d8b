"""OpenAI's Responses API: the package ``openai`` against the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai.types.responses import Response
from pydantic import BaseModel

from tests.support.agents import SMALL_CONTEXT, add_agents, kill_reader
from tests.support.server import RunningServer, running_server

PROMPT = "Once upon a time"
TOOLS: Any = [
    {"type": "function", "name": "get_weather", "parameters": {"type": "object"}},
    {"type": "function", "name": "get_time", "parameters": {"type": "object"}},
    {"type": "web_search"},
]
BARE_TOOLS: Any = [
    {**tool, "parameters": {"type": "object", "additionalProperties": False}}
    for tool in TOOLS
    if tool["type"] == "function"
]
IMAGE = {"type": "input_image", "detail": "auto", "image_url": "data:image/png;base64,aW1hZ2U="}


class Point(BaseModel):
    x: int
    visible: bool


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("responses")
    with running_server(folder) as server:
        add_agents(server, folder)
        yield server


def get(client: openai.OpenAI, *, stream: bool, **request: Any) -> Response:
    """The response, whole or put together by the client."""
    if not stream:
        response: Response = client.responses.create(**request)
        return response
    with client.responses.stream(**request) as events:
        return events.get_final_response()


class TestResponses:
    def test_a_whole_response(self, client: openai.OpenAI) -> None:
        response = client.responses.create(
            model="tiny", input=PROMPT, instructions="Be brief.", max_output_tokens=6, temperature=0
        )
        assert (response.object, response.model) == ("response", "tiny")
        assert response.output_text
        assert response.status == "incomplete"
        assert response.incomplete_details is not None
        assert response.incomplete_details.reason == "max_output_tokens"
        assert response.usage is not None
        assert response.usage.output_tokens == 6
        assert response.usage.total_tokens == response.usage.input_tokens + 6
        assert (response.temperature, response.top_p, response.instructions) == (0, 1, "Be brief.")

    def test_a_stream_says_the_same(self, client: openai.OpenAI) -> None:
        request: Any = {"model": "tiny", "input": PROMPT, "max_output_tokens": 6, "temperature": 0}
        whole = client.responses.create(**request)
        raw = client.responses.with_raw_response.create(stream=True, **request)
        assert raw.headers["content-type"] == "text/event-stream"
        events = list(raw.parse())
        deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
        assert "".join(deltas) == whole.output_text
        assert [event.sequence_number for event in events] == list(range(len(events)))
        last = events[-1]
        assert last.type == "response.incomplete"
        assert last.response.output_text == whole.output_text

    @pytest.mark.anyio
    async def test_without_blocking(self, async_client: openai.AsyncOpenAI) -> None:
        request: Any = {"model": "thinker", "input": PROMPT}
        whole = await async_client.responses.create(**request)
        async with async_client.responses.stream(**request) as stream:
            response = await stream.get_final_response()
        assert response.output_text == whole.output_text == "Forty-two."

    @pytest.mark.parametrize("stream", [True, False])
    def test_log_probabilities(self, stream: bool, client: openai.OpenAI) -> None:
        request: Any = {"model": "tiny", "input": PROMPT, "max_output_tokens": 6}
        request |= {"include": ["message.output_text.logprobs"], "top_logprobs": 2}
        if stream:
            *events, last = client.responses.create(stream=True, **request)
            response = last.response
            deltas = [event for event in events if event.type == "response.output_text.delta"]
            for delta in deltas:
                assert "".join(token.token for token in delta.logprobs) == delta.delta
                assert all(len(token.top_logprobs) == 2 for token in delta.logprobs)
            (done,) = [event for event in events if event.type == "response.output_text.done"]
            told = [token.to_dict() for delta in deltas for token in delta.logprobs]
            assert [token.to_dict() for token in done.logprobs] == told
        else:
            response = client.responses.create(**request)
        (part,) = response.output[0].content
        assert response.top_logprobs == 2
        assert b"".join(bytes(token.bytes) for token in part.logprobs).decode() == part.text
        for token in part.logprobs:
            assert token.logprob <= token.top_logprobs[0].logprob <= 0
            assert bytes(token.top_logprobs[0].bytes).decode() == token.top_logprobs[0].token

    def test_log_probabilities_are_those_of_the_text_alone(self, client: openai.OpenAI) -> None:
        request: Any = {"input": PROMPT, "include": ["message.output_text.logprobs"]}
        with client.responses.stream(model="thinker", **request) as events:
            response = events.get_final_response()
        message: Any = response.output[-1]
        (part,) = message.content
        assert "".join(token.token for token in part.logprobs).strip() == part.text == "Forty-two."
        message = client.responses.create(model="thinker", input=PROMPT).output[-1]
        (plain,) = message.content
        assert plain.logprobs == []

    def test_a_response_with_them_can_be_gone_on_from(self, client: openai.OpenAI) -> None:
        request: Any = {"model": "tiny", "max_output_tokens": 4, "temperature": 0}
        first = client.responses.create(
            input=PROMPT, include=["message.output_text.logprobs"], **request
        )
        plain = client.responses.create(input=PROMPT, **request)
        after, expected = (
            client.responses.create(input="And?", previous_response_id=one.id, **request)
            for one in (first, plain)
        )
        assert after.output_text == expected.output_text != ""

    def test_what_was_read_before_is_told(self, client: openai.OpenAI) -> None:
        request: Any = {"model": "tiny", "input": "Twice the same", "max_output_tokens": 1}
        _, second = (client.responses.create(**request) for _ in range(2))
        assert second.usage.input_tokens_details.cached_tokens > 0

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_schema_from_a_class(self, stream: bool, client: openai.OpenAI) -> None:
        request: Any = {"model": "tiny", "input": PROMPT, "text_format": Point}
        if stream:
            with client.responses.stream(**request) as events:
                response = events.get_final_response()
        else:
            response = client.responses.parse(**request)
        assert isinstance(response.output_parsed, Point)

    def test_any_json(self, client: openai.OpenAI) -> None:
        response = client.responses.create(
            model="tiny",
            input=PROMPT,
            text={"format": {"type": "json_object"}},
            max_output_tokens=60,
            temperature=0,
        )
        assert response.output_text.lstrip().startswith("{")


class GetWeather(BaseModel):
    city: str
    days: int


class TestTools:
    def test_arguments_as_a_class(self, client: openai.OpenAI) -> None:
        tool: Any = openai.pydantic_function_tool(GetWeather, name="get_weather")
        tools: Any = [{"type": "function", **tool["function"]}]
        response = client.responses.parse(model="caller", input=PROMPT, tools=tools)
        call = response.output[1]
        assert call.type == "function_call"
        assert GetWeather.model_validate(call.parsed_arguments) == GetWeather(city="Zürich", days=2)

    @pytest.mark.parametrize("stream", [True, False])
    def test_calls(self, stream: bool, client: openai.OpenAI) -> None:
        response = get(client, stream=stream, model="caller", input=PROMPT, tools=TOOLS)
        said, weather, time = response.output
        assert said.type == "message"
        assert response.output_text.strip() == "Let me see."
        assert weather.type == time.type == "function_call"
        assert weather.name == "get_weather"
        assert json.loads(weather.arguments) == {"city": "Zürich", "days": 2}
        assert (time.name, time.arguments) == ("get_time", "{}")
        assert weather.call_id != time.call_id
        assert response.status == "completed"
        assert [tool.type for tool in response.tools] == ["function", "function"]

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_tool_that_takes_a_text(self, stream: bool, client: openai.OpenAI) -> None:
        tools = [{"type": "custom", "name": "get_weather"}]
        response = get(client, stream=stream, model="caller", input=PROMPT, tools=tools)
        call = response.output[1]
        assert call.type == "custom_tool_call"
        assert json.loads(call.input) == {"city": "Zürich", "days": 2}

    @pytest.mark.parametrize(
        ("choice", "names"),
        [
            ("required", {"get_weather", "get_time"}),
            ({"type": "function", "name": "get_time"}, {"get_time"}),
            (
                {
                    "type": "allowed_tools",
                    "mode": "required",
                    "tools": [{"type": "function", "name": "get_weather"}],
                },
                {"get_weather"},
            ),
        ],
    )
    def test_calls_can_be_demanded(
        self, choice: Any, names: set[str], client: openai.OpenAI
    ) -> None:
        response = client.responses.create(
            model="willing",
            input=PROMPT,
            tools=BARE_TOOLS,
            tool_choice=choice,
            parallel_tool_calls=False,
            reasoning={"effort": "none"},
            max_output_tokens=300,
        )
        (call,) = response.output
        assert call.type == "function_call"
        assert call.name in names

    def test_calls_can_be_forbidden(self, client: openai.OpenAI) -> None:
        response = client.responses.create(
            model="caller", input=PROMPT, tools=TOOLS, tool_choice="none"
        )
        assert [item.type for item in response.output] == ["message"]

    def test_results_go_back(self, client: openai.OpenAI) -> None:
        talk: list[Any] = [{"role": "user", "content": PROMPT}]
        asked = client.responses.create(model="caller", input=talk, tools=TOOLS)
        talk += [item.to_dict() for item in asked.output]
        talk += results(asked)
        told = client.responses.create(model="caller", input=talk, tools=TOOLS)
        assert read_by(told) > read_by(asked) + written_by(asked)


def results(response: Response) -> list[Any]:
    return [
        {"type": "function_call_output", "call_id": item.call_id, "output": "fine"}
        for item in response.output
        if item.type == "function_call"
    ]


def read_by(response: Response) -> int:
    assert response.usage is not None
    return response.usage.input_tokens


def written_by(response: Response) -> int:
    assert response.usage is not None
    return response.usage.output_tokens


class TestThinking:
    def test_what_has_a_form_may_be_thought_about_first(self, client: openai.OpenAI) -> None:
        form: Any = {
            "type": "json_schema",
            "name": "answer",
            "schema": {"type": "string", "enum": ["Forty-two."]},
        }
        response = client.responses.create(model="thinker", input=PROMPT, text={"format": form})
        thought, _ = response.output
        assert thought.type == "reasoning"
        assert thought.summary[0].text.strip() == "Hm, hm."
        assert response.output_text == '"Forty-two."'

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize("reasoning", [None, {"effort": "low", "summary": "auto"}])
    def test_thoughts_are_items(self, stream: bool, reasoning: Any, client: openai.OpenAI) -> None:
        response = get(client, stream=stream, model="thinker", input=PROMPT, reasoning=reasoning)
        thought, _ = response.output
        assert thought.type == "reasoning"
        assert thought.summary[0].text.strip() == "Hm, hm."
        assert response.output_text == "Forty-two."
        assert response.usage is not None
        spent = response.usage.output_tokens_details.reasoning_tokens
        assert 0 < spent < response.usage.output_tokens

    @pytest.mark.parametrize("stream", [True, False])
    def test_clients_can_carry_thoughts(self, stream: bool, client: openai.OpenAI) -> None:
        """Some keep a reasoning item only with what they take for its encrypted content."""
        asked = get(
            client,
            stream=stream,
            model="thinker",
            input=PROMPT,
            store=False,
            include=["reasoning.encrypted_content"],
        )
        thought, said = asked.output
        assert thought.type == "reasoning"
        prompt: Any = {"role": "user", "content": PROMPT}
        item: Any = thought.to_dict()
        answer: Any = said.to_dict()
        whole, carried, foreign, nothing = (
            client.responses.input_tokens.count(
                model="thinker", input=[prompt, *thoughts, answer]
            ).input_tokens
            for thoughts in (
                [item],
                [item | {"summary": []}],
                [item | {"summary": [], "encrypted_content": "gAAAAB"}],
                [],
            )
        )
        assert whole == carried > foreign == nothing
        unasked, _ = client.responses.create(model="thinker", input=PROMPT).output
        assert "encrypted_content" not in unasked.to_dict()

    def test_a_model_that_can_not_think_refuses_to_make_an_effort(
        self, client: openai.OpenAI
    ) -> None:
        with pytest.raises(openai.BadRequestError, match="does not support thinking"):
            client.responses.create(model="tiny", input=PROMPT, reasoning={"effort": "low"})


class TestStoredResponses:
    def test_a_conversation_goes_on(self, client: openai.OpenAI) -> None:
        asked = client.responses.create(model="caller", input=PROMPT, tools=TOOLS)
        told = client.responses.create(
            model="caller", input=results(asked), tools=TOOLS, previous_response_id=asked.id
        )
        talk: list[Any] = [
            {"role": "user", "content": PROMPT},
            *(item.to_dict() for item in asked.output),
            *results(asked),
        ]
        at_once = client.responses.create(model="caller", input=talk, tools=TOOLS)
        assert told.previous_response_id == asked.id
        assert read_by(told) == read_by(at_once)
        again = client.responses.create(
            model="caller", input="And then?", tools=TOOLS, previous_response_id=told.id
        )
        assert read_by(again) > read_by(told) + written_by(told)

    @pytest.mark.parametrize("stream", [True, False])
    def test_they_can_be_had_again_and_forgotten(self, stream: bool, client: openai.OpenAI) -> None:
        response = get(client, stream=stream, model="thinker", input=PROMPT)
        kept = client.responses.retrieve(response.id)
        assert kept.output_text == response.output_text
        assert kept.usage == response.usage
        client.responses.delete(response.id)
        for use in (client.responses.retrieve, client.responses.delete):
            with pytest.raises(openai.NotFoundError, match="not found"):
                use(response.id)

    def test_unless_the_client_objects(self, client: openai.OpenAI) -> None:
        response = client.responses.create(model="thinker", input=PROMPT, store=False)
        with pytest.raises(openai.NotFoundError, match="not found"):
            client.responses.retrieve(response.id)

    def test_what_one_of_them_answers_can_be_looked_at(self, client: openai.OpenAI) -> None:
        asked = client.responses.create(model="caller", input=PROMPT, tools=TOOLS)
        told = client.responses.create(
            model="caller", input=results(asked), tools=TOOLS, previous_response_id=asked.id
        )
        listed = list(client.responses.input_items.list(told.id, order="asc", limit=2))
        prompt, *said = listed[: 1 + len(asked.output)]
        assert prompt.type == "message"
        assert prompt.content[0].to_dict() == {"type": "input_text", "text": PROMPT}
        assert (prompt.role, prompt.status) == ("user", "completed")
        assert [item.to_dict() for item in said] == [item.to_dict() for item in asked.output]
        fed = listed[len(asked.output) + 1 :]
        assert [item.type for item in fed] == ["function_call_output"] * 2
        assert len({item.id for item in listed}) == len(listed)
        page = client.responses.input_items.list(told.id)
        assert [item.id for item in page.data] == [item.id for item in reversed(listed)]
        assert page.has_more is False
        (original,) = client.responses.input_items.list(asked.id).data
        assert original.id == prompt.id

    @pytest.mark.parametrize(
        "query", [{"limit": 0}, {"limit": 101}, {"after": "msg_no"}, {"order": "up"}]
    )
    def test_a_page_that_can_not_be(self, query: Any, client: openai.OpenAI) -> None:
        response = client.responses.create(model="thinker", input=PROMPT)
        with pytest.raises(openai.BadRequestError, match="expected") as caught:
            client.responses.input_items.list(response.id, **query)
        assert caught.value.param in query

    @pytest.mark.parametrize("stream", [True, False])
    def test_their_items_can_be_referred_to(self, stream: bool, client: openai.OpenAI) -> None:
        """So do Vercel's AI SDK, and all that is built on it."""
        asked = get(client, stream=stream, model="caller", input=PROMPT, tools=TOOLS)
        talk: list[Any] = [
            {"role": "user", "content": PROMPT},
            *({"type": "item_reference", "id": item.id} for item in asked.output),
            *results(asked),
        ]
        told = client.responses.create(model="caller", input=talk, tools=TOOLS)
        talk[1:3] = [item.to_dict() for item in asked.output[:2]]
        at_once = client.responses.create(model="caller", input=talk, tools=TOOLS)
        assert read_by(told) == read_by(at_once) > read_by(asked)
        counted = client.responses.input_tokens.count(model="caller", input=talk, tools=TOOLS)
        assert counted.input_tokens == read_by(told)

    def test_items_that_are_not_there(self, client: openai.OpenAI) -> None:
        gone = client.responses.create(model="thinker", input=PROMPT, store=False)
        for item in gone.output:
            reference: Any = {"type": "item_reference", "id": item.id}
            with pytest.raises(openai.NotFoundError, match=f"'{item.id}' not found") as caught:
                client.responses.create(model="thinker", input=[reference])
            assert caught.value.type == "invalid_request_error"

    def test_what_is_not_there_can_not_go_on(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="'resp_no' not found") as caught:
            client.responses.create(model="tiny", input=PROMPT, previous_response_id="resp_no")
        assert caught.value.code == "previous_response_not_found"


class TestCountTokens:
    def test_it_is_what_a_response_has(self, client: openai.OpenAI) -> None:
        request: Any = {"model": "caller", "input": PROMPT, "tools": TOOLS, "instructions": "Go."}
        counted = client.responses.input_tokens.count(**request)
        assert counted.input_tokens == read_by(client.responses.create(**request))

    def test_an_unknown_model(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match='model "nosuch" not found'):
            client.responses.input_tokens.count(model="nosuch", input=PROMPT)


class TestErrors:
    @pytest.mark.parametrize("stream", [True, False])
    def test_an_unknown_model(self, stream: bool, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError, match='model "nosuch" not found, try pulling'):
            client.responses.create(model="nosuch", input=PROMPT, stream=stream)

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"input": [{"type": "web_search_call", "id": "x"}]}, r"input\[0\]\.type: expected"),
            ({"tools": TOOLS}, "does not support tools"),
            ({"input": [{"role": "user", "content": [IMAGE]}]}, "does not support images"),
            (
                {
                    "text": {
                        "format": {"type": "json_schema", "name": "n", "schema": {"type": "no"}}
                    }
                },
                "invalid JSON schema in format",
            ),
        ],
    )
    def test_what_can_not_be_done(
        self, stream: bool, fields: dict[str, Any], message: str, client: openai.OpenAI
    ) -> None:
        request: Any = {"model": "tiny", "input": PROMPT, "stream": stream} | fields
        with pytest.raises(openai.BadRequestError, match=message) as caught:
            client.responses.create(**request)
        assert caught.value.type == "invalid_request_error"

    def test_a_conversation_that_is_too_long(self, client: openai.OpenAI) -> None:
        long = "word " * 200
        with pytest.raises(
            openai.BadRequestError, match=f"length is {SMALL_CONTEXT} tok"
        ) as caught:
            client.responses.create(model="small", input=long)
        assert caught.value.code == "context_length_exceeded"
        cut = client.responses.create(
            model="small", input=long, truncation="auto", max_output_tokens=1
        )
        assert read_by(cut) <= SMALL_CONTEXT
        assert cut.usage is not None
        details = cut.usage.model_dump()["input_tokens_details"]
        assert details["dropped_tokens"] > 200 - SMALL_CONTEXT
        fits = client.responses.create(model="small", input=PROMPT, truncation="auto")
        assert fits.usage is not None
        assert "dropped_tokens" not in fits.usage.model_dump()["input_tokens_details"]

    def test_a_stream_that_breaks_off_says_so(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        stream = client.responses.create(model="tiny", input=PROMPT, stream=True)
        assert next(stream).type == "response.created"
        kill_reader(server)
        *_, last = stream
        assert last.type == "response.failed"
        assert last.response.status == "failed"
        assert last.response.error is not None
        assert "model runner has unexpectedly stopped" in last.response.error.message
