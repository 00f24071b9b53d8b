"""The package ``anthropic`` against the real server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import anthropic
import pytest
from anthropic.types import MessageParam
from pydantic import BaseModel

from tests.support.agents import SMALL_CONTEXT, add_agents, kill_reader
from tests.support.server import RunningServer, running_server

HELLO: list[MessageParam] = [{"role": "user", "content": "Once upon a time"}]
TOOLS: Any = [
    {"name": "get_weather", "description": "The weather", "input_schema": {"type": "object"}},
    {"name": "get_time", "input_schema": {"type": "object"}},
]
BARE_TOOLS: Any = [
    {"name": tool["name"], "input_schema": {"type": "object", "additionalProperties": False}}
    for tool in TOOLS
]
ADAPTIVE: Any = {"type": "adaptive"}
#: What the API still takes, and the package has no argument for.
GREEDY = {"temperature": 0}


class Point(BaseModel):
    x: int
    visible: bool


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("anthropic")
    with running_server(folder) as server:
        add_agents(server, folder)
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[anthropic.Anthropic]:
    url = f"http://{server.host}"
    with anthropic.Anthropic(base_url=url, api_key="ollama", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server: RunningServer) -> AsyncIterator[anthropic.AsyncAnthropic]:
    url = f"http://{server.host}"
    async with anthropic.AsyncAnthropic(base_url=url, api_key="ollama", max_retries=0) as client:
        yield client


class TestMessages:
    def test_a_whole_message(self, client: anthropic.Anthropic) -> None:
        message = client.messages.create(
            model="tiny", max_tokens=6, messages=HELLO, system="Be brief.", extra_body=GREEDY
        )
        assert (message.type, message.role, message.model) == ("message", "assistant", "tiny")
        (block,) = message.content
        assert block.type == "text"
        assert block.text
        assert (message.stop_reason, message.stop_sequence) == ("max_tokens", None)
        assert message.usage.output_tokens == 6

    def test_a_stream_says_the_same(self, client: anthropic.Anthropic) -> None:
        request: Any = {"model": "tiny", "max_tokens": 6, "messages": HELLO, "extra_body": GREEDY}
        whole = client.messages.create(**request)
        with client.messages.stream(**request) as stream:
            events = list(stream)
            message = stream.get_final_message()
            assert stream.response.headers["content-type"] == "text/event-stream"
        text = "".join(event.text for event in events if event.type == "text")
        (block,) = message.content
        assert block.type == "text"
        assert [part.to_dict() for part in whole.content] == [{"type": "text", "text": text}]
        assert block.text == text
        assert message.stop_reason == whole.stop_reason
        assert message.usage.output_tokens == 6
        start = events[0]
        assert start.type == "message_start"
        assert start.message.usage.input_tokens == tokens_read(whole)

    @pytest.mark.anyio
    async def test_without_blocking(self, async_client: anthropic.AsyncAnthropic) -> None:
        request: Any = {"model": "tiny", "max_tokens": 6, "messages": HELLO, "extra_body": GREEDY}
        whole = await async_client.messages.create(**request)
        async with async_client.messages.stream(**request) as stream:
            text = "".join([text async for text in stream.text_stream])
        assert whole.content[0].to_dict() == {"type": "text", "text": text}

    def test_each_answer_has_an_id(self, client: anthropic.Anthropic) -> None:
        first, second = (
            client.messages.with_raw_response.create(
                model="tiny", max_tokens=1, messages=HELLO, stream=stream
            )
            for stream in (False, True)
        )
        assert first.headers["request-id"] == first.headers["x-request-id"]
        assert second.headers["request-id"] != first.headers["request-id"]

    @pytest.mark.parametrize("stream", [True, False])
    def test_which_stop_sequence_ended_it(self, stream: bool, client: anthropic.Anthropic) -> None:
        request: Any = {
            "model": "thinker",
            "max_tokens": 50,
            "messages": HELLO,
            "stop_sequences": ["?", "-tw"],
            "thinking": ADAPTIVE,
        }
        message = get(client, stream=stream, **request)
        assert message.content[-1].to_dict() == {"type": "text", "text": "Forty"}
        assert (message.stop_reason, message.stop_sequence) == ("stop_sequence", "-tw")

    def test_what_was_read_before_is_told(self, client: anthropic.Anthropic) -> None:
        request: Any = {"model": "tiny", "max_tokens": 1, "messages": HELLO, "system": "Twice."}
        first, second = (client.messages.create(**request) for _ in range(2))
        assert second.usage.cache_read_input_tokens
        assert tokens_read(first) == tokens_read(second)

    def test_the_end_of_the_context_is_an_end(self, client: anthropic.Anthropic) -> None:
        message = client.messages.create(model="small", max_tokens=1000, messages=HELLO)
        assert message.stop_reason == "model_context_window_exceeded"
        assert tokens_read(message) + message.usage.output_tokens >= SMALL_CONTEXT

    def test_a_schema_from_a_class(self, client: anthropic.Anthropic) -> None:
        message = client.messages.parse(
            model="tiny", max_tokens=100, messages=HELLO, output_format=Point
        )
        assert isinstance(message.parsed_output, Point)


def tokens_read(message: anthropic.types.Message) -> int:
    return message.usage.input_tokens + (message.usage.cache_read_input_tokens or 0)


def get(client: anthropic.Anthropic, *, stream: bool, **request: Any) -> anthropic.types.Message:
    """The message, whole or put together by the client."""
    if not stream:
        message: anthropic.types.Message = client.messages.create(**request)
        return message
    with client.messages.stream(**request) as events:
        return events.get_final_message()


class TestTools:
    @pytest.mark.parametrize("stream", [True, False])
    def test_calls(self, stream: bool, client: anthropic.Anthropic) -> None:
        message = get(
            client, stream=stream, model="caller", max_tokens=200, messages=HELLO, tools=TOOLS
        )
        said, weather, time = message.content
        assert said.type == "text"
        assert said.text.strip() == "Let me see."
        assert weather.type == time.type == "tool_use"
        assert (weather.name, weather.input) == ("get_weather", {"city": "Zürich", "days": 2})
        assert (time.name, time.input) == ("get_time", {})
        assert weather.id.startswith("toolu_")
        assert weather.id != time.id
        assert message.stop_reason == "tool_use"

    @pytest.mark.parametrize(
        ("choice", "names"),
        [
            ({"type": "any"}, {"get_weather", "get_time"}),
            ({"type": "any", "disable_parallel_tool_use": True}, {"get_weather", "get_time"}),
            ({"type": "tool", "name": "get_time"}, {"get_time"}),
        ],
    )
    def test_calls_can_be_demanded(
        self, choice: Any, names: set[str], client: anthropic.Anthropic
    ) -> None:
        message = client.messages.create(
            model="willing",
            max_tokens=300,
            messages=HELLO,
            tools=BARE_TOOLS,
            tool_choice=choice,
            extra_body=GREEDY,
        )
        calls = [block for block in message.content if block.type == "tool_use"]
        assert message.stop_reason == "tool_use"
        assert {call.name for call in calls} <= names
        assert len(calls) == 1 or choice == {"type": "any"}

    def test_calls_can_be_forbidden(self, client: anthropic.Anthropic) -> None:
        message = client.messages.create(
            model="caller",
            max_tokens=200,
            messages=HELLO,
            tools=TOOLS,
            tool_choice={"type": "none"},
        )
        assert (message.stop_reason, len(message.content)) == ("end_turn", 1)

    def test_results_go_back(self, client: anthropic.Anthropic) -> None:
        asked = client.messages.create(model="caller", max_tokens=200, messages=HELLO, tools=TOOLS)
        results: Any = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "fine"}
            for block in asked.content
            if block.type == "tool_use"
        ]
        talk: list[MessageParam] = [
            *HELLO,
            {"role": "assistant", "content": asked.content},
            {"role": "user", "content": results},
        ]
        told = client.messages.create(model="caller", max_tokens=200, messages=talk, tools=TOOLS)
        assert tokens_read(told) > tokens_read(asked) + asked.usage.output_tokens

    @pytest.mark.parametrize("stream", [True, False])
    def test_the_package_s_own_loop_calls_functions(
        self, stream: bool, client: anthropic.Anthropic
    ) -> None:
        called: list[Any] = []

        @anthropic.beta_tool
        def get_weather(city: str, days: int) -> str:
            called.append((city, days))
            return "fine"

        @anthropic.beta_tool
        def get_time() -> str:
            called.append("time")
            return "noon"

        runner: Any = client.beta.messages.tool_runner(
            model="caller",
            max_tokens=200,
            messages=[{"role": "user", "content": "Once upon a time"}],
            tools=[get_weather, get_time],
            max_iterations=2,
            stream=stream,
            betas=["interleaved-thinking-2025-05-14"],
        )
        for turn in runner:
            message = turn.get_final_message() if stream else turn
            assert message.stop_reason == "tool_use"
        assert called == [("Zürich", 2), "time"] * 2

    def test_conversations_are_not_held_here(self, client: anthropic.Anthropic) -> None:
        thread = client.beta.messages.thread(model="tiny", max_tokens=2)
        with pytest.raises(anthropic.BadRequestError, match="thread: not supported") as caught:
            thread.send({"role": "user", "content": "Once upon a time"})
        assert caught.value.error_code == "thread_unsupported_request"


class TestThinking:
    @pytest.mark.parametrize("stream", [True, False])
    def test_thoughts_are_blocks(self, stream: bool, client: anthropic.Anthropic) -> None:
        message = get(
            client,
            stream=stream,
            model="thinker",
            max_tokens=2000,
            messages=HELLO,
            thinking={"type": "enabled", "budget_tokens": 1024},
        )
        thought, said = message.content
        assert thought.type == "thinking"
        assert thought.thinking.strip() == "Hm, hm."
        assert thought.signature
        assert said.type == "text"
        assert said.text == "Forty-two."
        details = message.usage.output_tokens_details
        assert details is not None
        assert 0 < details.thinking_tokens < message.usage.output_tokens

    def test_thoughts_go_back(self, client: anthropic.Anthropic) -> None:
        request: Any = {"model": "thinker", "max_tokens": 50, "thinking": ADAPTIVE}
        said = client.messages.create(messages=HELLO, **request)
        with_thoughts, without = (
            client.messages.count_tokens(
                model="thinker",
                messages=[*HELLO, {"role": "assistant", "content": content}, *HELLO],
            )
            for content in (said.content, said.content[1:])
        )
        assert with_thoughts.input_tokens > without.input_tokens

    def test_a_model_that_can_not_think_answers_without(self, client: anthropic.Anthropic) -> None:
        message = client.messages.create(
            model="tiny", max_tokens=2, messages=HELLO, thinking=ADAPTIVE
        )
        assert [block.type for block in message.content] == ["text"]


class TestCountTokens:
    @pytest.mark.parametrize("model", ["tiny", "caller"])
    def test_it_is_what_a_message_has(self, model: str, client: anthropic.Anthropic) -> None:
        request: Any = {"model": model, "messages": HELLO, "system": "Be brief."}
        if model == "caller":
            request["tools"] = TOOLS
        counted = client.messages.count_tokens(**request)
        message = client.messages.create(max_tokens=1, **request)
        assert counted.input_tokens == tokens_read(message)

    def test_more_than_fits_is_counted_too(self, client: anthropic.Anthropic) -> None:
        counted = client.messages.count_tokens(
            model="small", messages=[{"role": "user", "content": "word " * 200}]
        )
        assert counted.input_tokens > SMALL_CONTEXT


class TestErrors:
    @pytest.mark.parametrize("stream", [True, False])
    def test_an_unknown_model(self, stream: bool, client: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.NotFoundError) as caught:
            client.messages.create(model="nosuch", max_tokens=1, messages=HELLO, stream=stream)
        error = caught.value
        assert error.type == "not_found_error"
        assert error.api_message == "model 'nosuch' not found, try pulling it first"
        assert isinstance(error.body, dict)
        assert error.body["request_id"] == error.request_id

    def test_what_can_not_be_read(self, client: anthropic.Anthropic) -> None:
        content: Any = [{"type": "video"}]
        with pytest.raises(
            anthropic.BadRequestError, match=r"messages\.0\.content\.0\.type"
        ) as caught:
            client.messages.create(
                model="tiny", max_tokens=1, messages=[{"role": "user", "content": content}]
            )
        assert caught.value.type == "invalid_request_error"

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"model": "tiny", "tools": TOOLS}, "does not support tools"),
            (
                {
                    "model": "tiny",
                    "messages": [
                        {
                            "role": "user",
                            "content": [
                                {
                                    "type": "image",
                                    "source": {
                                        "type": "base64",
                                        "media_type": "image/png",
                                        "data": "aW1hZ2U=",
                                    },
                                }
                            ],
                        }
                    ],
                },
                "does not support images",
            ),
            (
                {"model": "small", "messages": [{"role": "user", "content": "word " * 200}]},
                rf"prompt is too long: \d+ tokens > {SMALL_CONTEXT} maximum",
            ),
        ],
    )
    def test_what_a_model_can_not_do(
        self, stream: bool, fields: dict[str, Any], message: str, client: anthropic.Anthropic
    ) -> None:
        request: Any = {"max_tokens": 1, "messages": HELLO, "stream": stream} | fields
        with pytest.raises(anthropic.BadRequestError, match=message) as caught:
            client.messages.create(**request)
        assert caught.value.type == "invalid_request_error"

    def test_a_stream_that_breaks_off_raises(
        self, client: anthropic.Anthropic, server: RunningServer
    ) -> None:
        stream = client.messages.create(model="tiny", max_tokens=8000, messages=HELLO, stream=True)
        assert next(stream).type == "message_start"
        kill_reader(server)
        with pytest.raises(
            anthropic.APIStatusError, match="model runner has unexpectedly"
        ) as caught:
            list(stream)
        assert caught.value.type == "api_error"

    def test_pages_may_send_the_client_s_headers(self, server: RunningServer) -> None:
        answer = server.request(
            "OPTIONS",
            "/v1/messages",
            headers={"Origin": "http://localhost", "Access-Control-Request-Method": "POST"},
        )
        allowed = answer.headers["access-control-allow-headers"].lower().split(",")
        assert {"x-api-key", "anthropic-version", "anthropic-beta"} <= set(allowed)
        # The package's tool runner names itself in it.
        assert "x-stainless-helper" in allowed


class TestModels:
    def test_all_of_them(self, client: anthropic.Anthropic) -> None:
        page = client.models.list()
        names = [model.id for model in page.data]
        assert set(names) >= {"tiny:latest", "thinker:latest"}
        assert (page.first_id, page.last_id, page.has_more) == (names[0], names[-1], False)
        model = page.data[0]
        assert (model.type, model.display_name, model.lifecycle) == ("model", names[0], "active")
        assert model.created_at.year > 2020
        assert [model.created_at for model in page.data] == sorted(
            (model.created_at for model in page.data), reverse=True
        )

    def test_in_pages(self, client: anthropic.Anthropic) -> None:
        names = [model.id for model in client.models.list()]
        page = client.models.list(limit=2)
        assert ([model.id for model in page.data], page.has_more) == (names[:2], True)
        assert [model.id for model in client.models.list(limit=2)] == names
        backward = client.models.list(limit=2, before_id=names[-1])
        assert [model.id for model in backward.data] == names[-3:-1]
        shown = [*backward.data, *backward.get_next_page().data]
        assert [model.id for model in shown][:3] == [*names[-3:-1], names[-5]]

    def test_one_of_them(self, client: anthropic.Anthropic) -> None:
        model = client.models.retrieve("thinker")
        assert (model.id, model.type) == ("thinker", "model")
        listed = {model.id: model for model in client.beta.models.list()}
        assert model.created_at == listed["thinker:latest"].created_at

    def test_one_that_is_not_there(self, client: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.NotFoundError, match="model 'nosuch' not found") as caught:
            client.models.retrieve("nosuch")
        body: Any = caught.value.body
        assert body["error"]["type"] == "not_found_error"
        assert caught.value.request_id == body["request_id"]

    @pytest.mark.parametrize("query", [{"limit": 0}, {"limit": 1001}, {"after_id": "nosuch"}])
    def test_a_page_that_can_not_be(self, query: Any, client: anthropic.Anthropic) -> None:
        with pytest.raises(anthropic.BadRequestError, match=f"{next(iter(query))}: expected"):
            client.models.list(**query)
