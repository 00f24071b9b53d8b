"""``/v1/completions``."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest
from openai.types import CompletionChoice

from tests.support.server import RunningServer


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


def mean_logprob(choice: CompletionChoice) -> float:
    assert choice.logprobs is not None
    logprobs = choice.logprobs.token_logprobs or []
    return sum(logprobs) / len(logprobs)


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
