"""Log-probabilities and usage, of both kinds of completions."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.openai_api.models import CONTEXT, HELLO, TOOLS
from tests.support.agents import CALLS
from tests.support.server import RunningServer


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

    @pytest.mark.parametrize("stream", [True, False])
    def test_what_was_thought(self, stream: bool, client: openai.OpenAI) -> None:
        fields: Any = {"model": "thinker", "messages": HELLO, "reasoning_effort": "low"}
        if stream:
            fields |= {"stream": True, "stream_options": {"include_usage": True}}
            *_, last = client.chat.completions.create(**fields)
        else:
            last = client.chat.completions.create(**fields)
        spent = last.usage.completion_tokens_details.reasoning_tokens
        assert 0 < spent < last.usage.completion_tokens

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

    def test_also_in_a_stream_without_usage(self, client: openai.OpenAI) -> None:
        *_, last = client.completions.create(
            model="tiny", prompt="word " * (2 * CONTEXT), max_tokens=1, stream=True
        )
        assert last.choices[0].model_dump()["prompt_dropped_count"] > CONTEXT
