"""The package ``openai`` against the real server."""

from __future__ import annotations

import base64
import json
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any

import openai
import pytest
from openai.types import CompletionChoice
from openai.types.chat import ChatCompletionChunk, ChatCompletionMessageParam
from pydantic import BaseModel

from tests.support.models import write_model, write_parrot
from tests.support.server import RunningServer, running_server

#: Large enough that a reply without an end takes minutes.
CONTEXT = 8192
#: Keeps the model from ending its reply.
ENDLESS = {"2": -100}
HELLO: list[ChatCompletionMessageParam] = [{"role": "user", "content": "Once upon a time"}]
TEMPLATE = """{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}<|{{ .Role }}|>
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}{{ range .ToolCalls }}
<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}
{{ end }}<|assistant|>
"""
CALLS = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}\n'
    '</tool_call>\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
)
TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "get_time", "parameters": {"type": "object"}}},
]
PICTURE = f"data:image/png;base64,{base64.b64encode(b'not looked at').decode()}"


class Point(BaseModel):
    x: int
    visible: bool


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("openai")
    settings = {"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_CONTEXT_LENGTH": str(CONTEXT)}
    with running_server(folder, **settings) as server:
        server.add("tiny", write_model(folder / "tiny.gguf", n_ctx=CONTEXT))
        server.create("someone/seeded:v1", "tiny", parameters={"seed": 5, "temperature": 0})
        server.create("fim", "tiny", template="<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>")
        server.create("raw", "tiny", template="{{ .Prompt }}")
        caller = write_parrot(folder / "caller.gguf", f"Let me see.\n{CALLS}")
        server.add("caller", caller, template=TEMPLATE)
        thinker = write_parrot(folder / "thinker.gguf", "<think>\nHm.\n</think>\n\nForty-two.")
        server.add("thinker", thinker, template=TEMPLATE)
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    url = f"http://{server.host}/v1/"
    with openai.OpenAI(base_url=url, api_key="ollama", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server: RunningServer) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://{server.host}/v1/"
    async with openai.AsyncOpenAI(base_url=url, api_key="ollama", max_retries=0) as client:
        yield client


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


class TestCompletions:
    def test_whole_and_streamed(self, client: openai.OpenAI) -> None:
        whole = client.completions.create(
            model="tiny", prompt="Once upon", max_tokens=6, temperature=0
        )
        (choice,) = whole.choices
        assert choice.finish_reason == "length"
        *chunks, usage = client.completions.create(
            model="tiny",
            prompt="Once upon",
            max_tokens=6,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
        assert "".join(chunk.choices[0].text for chunk in chunks) == choice.text != ""
        assert chunks[-1].choices[0].finish_reason == "length"
        assert (usage.choices, usage.usage) == ([], whole.usage)

    def test_many_prompts(self, client: openai.OpenAI) -> None:
        prompts = ["Once upon", "There was", "A dog"]
        alone = [
            client.completions.create(model="tiny", prompt=prompt, max_tokens=6, temperature=0)
            for prompt in prompts
        ]
        together = client.completions.create(
            model="tiny", prompt=prompts, max_tokens=6, temperature=0
        )
        assert [choice.text for choice in together.choices] == [
            reply.choices[0].text for reply in alone
        ]
        assert together.usage is not None
        assert together.usage.total_tokens == sum(
            reply.usage.total_tokens for reply in alone if reply.usage
        )

    def test_tokens_stand_for_their_text(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        """The context of a model without a template begins with the tokens of the prompt."""
        native = server.post(
            "/api/generate",
            model="raw",
            prompt="Once upon",
            stream=False,
            options={"num_predict": 4, "temperature": 0, "top_p": 1},
        ).json()
        tokens = native["context"][:-4]
        reply = client.completions.create(
            model="raw", prompt=[tokens], max_tokens=4, temperature=0, echo=True
        )
        assert reply.choices[0].text == f"Once upon{native['response']}"

    @pytest.mark.parametrize("stream", [True, False])
    def test_echo(self, stream: bool, server: RunningServer) -> None:
        body = {"model": "tiny", "prompt": "Once upon", "echo": True, "max_tokens": 0}
        answer = server.post("/v1/completions", stream=stream, **body)
        first = answer.text.removeprefix("data: ").splitlines()[0]
        assert json.loads(first)["choices"][0]["text"] == "Once upon"

    def test_the_middle_is_filled_in(self, client: openai.OpenAI) -> None:
        longer, shorter = (
            client.completions.create(model="fim", prompt="Once", suffix=suffix, max_tokens=2)
            for suffix in ("the end of it", "end")
        )
        assert longer.usage is not None
        assert shorter.usage is not None
        assert longer.usage.prompt_tokens > shorter.usage.prompt_tokens


class TestLogprobs:
    def test_of_a_chat_are_those_of_its_text(self, client: openai.OpenAI) -> None:
        reply = client.chat.completions.create(
            model="tiny", messages=HELLO, max_tokens=8, logprobs=True, top_logprobs=3, seed=1
        )
        (choice,) = reply.choices
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert b"".join(bytes(token.bytes or []) for token in tokens).decode() == (
            choice.message.content
        )
        for token in tokens:
            assert token.logprob <= token.top_logprobs[0].logprob <= 0
            assert len(token.top_logprobs) == 3

    def test_in_a_stream_they_come_with_their_text(self, client: openai.OpenAI) -> None:
        chunks = client.chat.completions.create(
            model="tiny",
            messages=HELLO,
            max_tokens=8,
            temperature=0,
            logprobs=True,
            stream=True,
        )
        for chunk in chunks:
            (choice,) = chunk.choices
            tokens = (choice.logprobs and choice.logprobs.content) or []
            assert "".join(token.token for token in tokens) == choice.delta.content

    def test_the_client_puts_the_stream_together(self, client: openai.OpenAI) -> None:
        with client.chat.completions.stream(
            model="thinker", messages=HELLO, logprobs=True
        ) as stream:
            reply = stream.get_final_completion()
        (choice,) = reply.choices
        assert choice.logprobs is not None
        tokens = choice.logprobs.content or []
        assert "".join(token.token for token in tokens) == choice.message.content

    def test_thinking_and_calls_have_theirs_too(self, client: openai.OpenAI) -> None:
        reply = client.chat.completions.create(
            model="caller", messages=HELLO, tools=TOOLS, logprobs=True
        )
        (choice,) = reply.choices
        assert choice.logprobs is not None
        written = "".join(token.token for token in choice.logprobs.content or [])
        assert written == f"Let me see.\n{CALLS}"

    @pytest.mark.parametrize("stream", [True, False])
    def test_of_a_completion(self, stream: bool, server: RunningServer) -> None:
        body = {"model": "tiny", "prompt": "Once", "max_tokens": 8, "temperature": 0}
        answer = server.post("/v1/completions", stream=stream, logprobs=2, **body)
        parts = [
            json.loads(line.removeprefix("data: "))["choices"][0]
            for line in answer.text.splitlines()
            if line and line != "data: [DONE]"
        ]
        text = "".join(part["text"] for part in parts)
        told = [part["logprobs"] for part in parts if "logprobs" in part]
        tokens = [token for one in told for token in one["tokens"]]
        assert "".join(tokens) == text
        offsets = [offset for one in told for offset in one["text_offset"]]
        assert offsets == [sum(map(len, tokens[:index])) for index in range(len(tokens))]
        for one in told:
            for token, logprob, top in zip(
                one["tokens"], one["token_logprobs"], one["top_logprobs"], strict=True
            ):
                assert top[token] == logprob == max(top.values())
                assert len(top) == 2

    def test_of_a_completion_without_alternatives(self, client: openai.OpenAI) -> None:
        reply = client.completions.create(model="tiny", prompt="Once", max_tokens=4, logprobs=0)
        logprobs = reply.choices[0].logprobs
        assert logprobs is not None
        assert len(logprobs.tokens or []) == 4
        assert logprobs.top_logprobs is None


class TestBestOf:
    def test_the_likeliest_are_told_of(self, client: openai.OpenAI) -> None:
        """The same seeds written one by one show what there was to choose from."""
        fields: dict[str, Any] = {"model": "tiny", "prompt": "Once upon", "max_tokens": 8}
        alone = [
            client.completions.create(**fields, seed=seed, logprobs=0).choices[0]
            for seed in range(5, 9)
        ]
        ranked = sorted(alone, key=mean_logprob, reverse=True)
        reply = client.completions.create(**fields, seed=5, n=2, best_of=4)
        assert [choice.text for choice in reply.choices] == [one.text for one in ranked[:2]]
        assert [choice.index for choice in reply.choices] == [0, 1]
        assert all(choice.logprobs is None for choice in reply.choices)
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 4 * 8

    def test_for_each_prompt(self, client: openai.OpenAI) -> None:
        prompts = ["Once upon", "There was"]
        fields: dict[str, Any] = {"model": "tiny", "max_tokens": 8, "seed": 5, "best_of": 2}
        together = client.completions.create(prompt=prompts, **fields)
        alone = [client.completions.create(prompt=prompt, **fields) for prompt in prompts]
        assert [choice.text for choice in together.choices] == [
            reply.choices[0].text for reply in alone
        ]


def mean_logprob(choice: CompletionChoice) -> float:
    assert choice.logprobs is not None
    logprobs = choice.logprobs.token_logprobs or []
    return sum(logprobs) / len(logprobs)


class TestUsage:
    def test_what_was_known_of_the_prompt(self, client: openai.OpenAI) -> None:
        fields: dict[str, Any] = {
            "model": "tiny",
            "prompt": "A prompt asked twice",
            "max_tokens": 1,
        }
        client.completions.create(**fields)
        usage = client.completions.create(**fields).usage
        assert usage is not None
        assert usage.prompt_tokens_details is not None
        assert usage.prompt_tokens_details.cached_tokens == usage.prompt_tokens - 1

    def test_what_was_dropped_of_it(self, client: openai.OpenAI) -> None:
        long = "word " * (2 * CONTEXT)
        usage = client.chat.completions.create(
            model="tiny",
            messages=[{"role": "user", "content": long}, *HELLO],
            max_tokens=1,
        ).usage
        assert usage is not None
        assert usage.prompt_tokens < 100
        details = usage.model_dump()["prompt_tokens_details"]
        assert details["dropped_tokens"] > CONTEXT


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


class TestErrors:
    @pytest.mark.parametrize("stream", [True, False])
    def test_an_unknown_model(self, stream: bool, client: openai.OpenAI) -> None:
        with pytest.raises(openai.NotFoundError) as caught:
            client.chat.completions.create(model="nosuch", messages=HELLO, stream=stream)
        assert caught.value.body == {
            "message": 'model "nosuch" not found, try pulling it first',
            "type": "api_error",
            "param": None,
            "code": None,
        }

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"model": "raw", "tools": TOOLS}, "does not support tools"),
            ({"reasoning_effort": "low"}, "does not support thinking"),
            (
                {
                    "messages": [
                        {
                            "role": "user",
                            "content": [{"type": "image_url", "image_url": {"url": PICTURE}}],
                        }
                    ]
                },
                "does not support images",
            ),
            ({"messages": [{"role": "boss", "content": "x"}]}, 'invalid role: "boss"'),
            ({"logit_bias": {"99999": 1}}, "logit_bias names token 99999, there are 512"),
            (
                {
                    "response_format": {
                        "type": "json_schema",
                        "json_schema": {"name": "t", "schema": {"type": "float"}},
                    }
                },
                "invalid JSON schema in format",
            ),
        ],
    )
    @pytest.mark.parametrize("stream", [True, False])
    def test_what_a_model_can_not_do(
        self, stream: bool, fields: dict[str, Any], message: str, client: openai.OpenAI
    ) -> None:
        request: dict[str, Any] = {"model": "tiny", "messages": HELLO, "stream": stream} | fields
        with pytest.raises(openai.BadRequestError, match=message) as caught:
            client.chat.completions.create(**request)
        assert caught.value.type == "api_error"

    def test_what_can_not_be_read(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="between 1 and 128") as caught:
            client.chat.completions.create(model="tiny", messages=HELLO, n=0)
        error = caught.value
        assert (error.type, error.param, error.code) == (
            "invalid_request_error",
            "n",
            "integer_below_min_value",
        )

    def test_tokens_that_the_model_does_not_have(self, client: openai.OpenAI) -> None:
        with pytest.raises(openai.BadRequestError, match="token 512 is not in the vocabulary"):
            client.completions.create(model="tiny", prompt=[1, 512])

    def test_a_stream_that_breaks_off_raises(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        stream = client.chat.completions.create(
            model="tiny", messages=HELLO, n=2, stream=True, logit_bias=ENDLESS
        )
        assert next(stream).choices
        reading = [line for line in server.log if "reads a prompt" in line][-1]
        os.kill(int(reading.partition("runner ")[2].split()[0]), signal.SIGKILL)
        with pytest.raises(openai.APIError, match="model runner has unexpectedly stopped"):
            list(stream)

    def test_a_client_that_goes_away_stops_all_choices(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        """The model serves four at a time, so none that goes on may be left."""
        for _ in range(2):
            stream = client.chat.completions.create(
                model="tiny", messages=HELLO, n=4, stream=True, logit_bias=ENDLESS
            )
            assert next(stream).choices
            stream.close()
        assert client.chat.completions.create(model="tiny", messages=HELLO, max_tokens=1).choices
