"""``/v1/completions`` with ``echo`` and ``logprobs``: how likely the tokens of a prompt are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import openai
import pytest
from openai.types import Completion, CompletionChoice

from tests.openai_api.models import CONTEXT, ENDLESS
from tests.support.server import RunningServer

TEXT = "Once upon a time there was a dog"
#: What chunks of another size may change in a number.
CLOSE = 1e-4


def tokens_of(server: RunningServer, text: str, model: str = "tiny") -> list[int]:
    """Without BOS."""
    body = {"model": model, "text": text, "add_special": False}
    found: list[int] = server.post("/api/tokenize", **body).json()["tokens"]
    return found


def score(client: openai.OpenAI, prompt: Any, **fields: Any) -> Completion:
    asked: Any = {"model": "tiny", "max_tokens": 0, "logprobs": 2, "temperature": 0} | fields
    reply: Completion = client.completions.create(prompt=prompt, echo=True, **asked)
    return reply


def known_tokens(server: RunningServer) -> float:
    """Tokens of prompts that weren't read, since they were in the cache."""
    figures = server.request("GET", "/metrics").text
    name = 'llamaherd_prompt_tokens_cached_total{model="tiny:latest"} '
    return float(figures.partition(name)[2].partition("\n")[0] or 0)


def logprobs_of(choice: CompletionChoice) -> Any:
    """Whose fields may have null, which the client's types leave out."""
    assert choice.logprobs is not None
    return choice.logprobs


class TestShape:
    @pytest.mark.parametrize("text", [TEXT, "Héllo 🐪!\n\n  x", " begins with a space", "<s>Once"])
    def test_the_tokens_spell_the_prompt(self, text: str, client: openai.OpenAI) -> None:
        (choice,) = score(client, text).choices
        assert (choice.text.replace("<s> ", "<s>"), choice.finish_reason) == (text, "length")
        told = logprobs_of(choice)
        assert (told.token_logprobs[0], told.top_logprobs[0]) == (None, None)
        assert all(logprob < 0 for logprob in told.token_logprobs[1:])
        for token, logprob, top in zip(
            told.tokens[1:], told.token_logprobs[1:], told.top_logprobs[1:], strict=True
        ):
            assert top[token] == logprob
            assert 2 <= len(top) <= 3
        ends = [*told.text_offset[1:], len(choice.text)]
        spelt = [choice.text[start:end] for start, end in zip(told.text_offset, ends, strict=True)]
        for token, part in zip(told.tokens, spelt, strict=True):
            assert token == part or token.startswith("bytes:")

    def test_the_reply_goes_on_from_it(self, client: openai.OpenAI) -> None:
        (choice,) = score(client, TEXT, max_tokens=4).choices
        (only,) = score(client, TEXT).choices
        told, prompt = logprobs_of(choice), logprobs_of(only)
        count = len(prompt.tokens)
        assert told.tokens[:count] == prompt.tokens
        assert len(told.tokens) == len(told.token_logprobs) == count + 4
        assert choice.text == "".join(told.tokens)
        assert told.text_offset[count] == len(TEXT)

    def test_without_alternatives(self, client: openai.OpenAI) -> None:
        told = logprobs_of(score(client, TEXT, logprobs=0).choices[0])
        assert told.top_logprobs is None
        assert None not in told.token_logprobs[1:]

    @pytest.mark.parametrize("max_tokens", [0, 5])
    def test_a_stream_adds_up_to_the_same(self, max_tokens: int, client: openai.OpenAI) -> None:
        fields: Any = {"max_tokens": max_tokens, "n": 2, "seed": 1, "temperature": 1}
        whole = score(client, [TEXT, "A dog"], **fields)
        chunks: Any = score(client, [TEXT, "A dog"], stream=True, **fields)
        parts: list[list[Any]] = [[] for _ in whole.choices]
        for chunk in chunks:
            (part,) = chunk.choices
            parts[part.index].append(part)
        for choice, pieces in zip(whole.choices, parts, strict=True):
            assert "".join(part.text for part in pieces) == choice.text
            assert pieces[-1].finish_reason == choice.finish_reason
            told = [part.logprobs for part in pieces if part.logprobs]
            tokens, offsets, logprobs = (
                list(chain.from_iterable(getattr(part, name) for part in told))
                for name in ("tokens", "text_offset", "token_logprobs")
            )
            assert tokens == logprobs_of(choice).tokens
            assert offsets == logprobs_of(choice).text_offset
            assert logprobs[0] is None
            assert logprobs[1:] == pytest.approx(logprobs_of(choice).token_logprobs[1:], abs=CLOSE)

    def test_many_prompts_and_choices_come_in_order(self, client: openai.OpenAI) -> None:
        prompts = ["Once upon", "There was", "A dog"]
        reply = score(client, prompts, n=2, max_tokens=3, temperature=1, seed=7)
        assert [choice.index for choice in reply.choices] == list(range(6))
        for number, choice in enumerate(reply.choices):
            prompt = prompts[number // 2]
            assert choice.text.startswith(prompt)
            assert logprobs_of(choice).text_offset[-3] == len(prompt)
        assert reply.usage is not None
        assert reply.usage.completion_tokens == 18

    @pytest.mark.parametrize("max_tokens", [0, 3])
    def test_a_prompt_is_scored_once_for_all_its_choices(
        self, max_tokens: int, client: openai.OpenAI, server: RunningServer
    ) -> None:
        prompt = f"{TEXT} who was scored {max_tokens} times " + "and " * 200
        count = len(tokens_of(server, prompt)) + 1
        before = known_tokens(server)
        choices = score(client, prompt, n=4, max_tokens=max_tokens, temperature=1).choices
        assert known_tokens(server) - before >= 3 * (count - 1)
        told = [logprobs_of(choice).token_logprobs[: count - 1] for choice in choices]
        assert told == [told[0]] * 4
        assert {len(logprobs_of(choice).tokens) for choice in choices} == {count - 1 + max_tokens}

    def test_the_best_are_found_by_what_they_write(self, client: openai.OpenAI) -> None:
        fields: Any = {"max_tokens": 4, "temperature": 1, "seed": 5}
        echoed = score(client, TEXT, n=1, best_of=3, model="raw", **fields).choices[0]
        plain = client.completions.create(model="raw", prompt=TEXT, n=1, best_of=3, **fields)
        assert echoed.text == TEXT + plain.choices[0].text


class TestNumbers:
    def test_they_are_those_that_the_tokens_had_when_they_were_written(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        written: Any = server.post(
            "/api/generate",
            model="raw",
            prompt=TEXT,
            stream=False,
            logprobs=True,
            options={"num_predict": 30, "temperature": 1, "seed": 3},
        ).json()
        told = logprobs_of(score(client, [1, *written["context"]]).choices[0])
        expected = [token["logprob"] for token in written["logprobs"]]
        assert told.token_logprobs[-30:] == pytest.approx(expected, abs=CLOSE)
        assert told.tokens[-30:] == [token["token"] for token in written["logprobs"]]

    def test_what_is_cached_changes_nothing(self, client: openai.OpenAI) -> None:
        prompt = "A prompt that nobody has sent before"
        first = score(client, prompt)
        client.completions.create(model="raw", prompt=prompt, max_tokens=3)
        second = score(client, prompt)
        assert logprobs_of(second.choices[0]).token_logprobs[1:] == pytest.approx(
            logprobs_of(first.choices[0]).token_logprobs[1:], abs=CLOSE
        )
        assert second.usage is not None
        assert second.usage.prompt_tokens_details is None

    def test_a_prompt_is_scored_without_the_template(self, client: openai.OpenAI) -> None:
        bare, wrapped = (score(client, TEXT, model=model).choices[0] for model in ("raw", "caller"))
        assert logprobs_of(bare).tokens == logprobs_of(wrapped).tokens
        usage = score(client, TEXT, model="fim").usage
        assert usage is not None
        assert usage.prompt_tokens == len(logprobs_of(bare).tokens) + 1  # BOS


def loglikelihood(reply: Completion, contexts: Sequence[int]) -> list[tuple[float, bool]]:
    """As EleutherAI's lm-evaluation-harness reads a reply (``LocalCompletionsAPI``).

    ``contexts`` are the tokens of each prompt that aren't scored; the last token of a choice is
    taken for the reply's.
    """
    found = []
    choices = sorted(reply.choices, key=lambda one: one.index)
    for choice, length in zip(choices, contexts, strict=True):
        told = logprobs_of(choice)
        logprobs = told.token_logprobs[length:-1]
        tops = told.top_logprobs[length:-1]
        greedy = all(
            logprob == max(top.values()) for logprob, top in zip(logprobs, tops, strict=True)
        )
        found.append((sum(logprobs), greedy))
    return found


#: What the harness sends with its prompts.
HARNESS: Any = {"temperature": 0, "max_tokens": 1, "logprobs": 1, "seed": 1234}


class TestEvaluationHarness:
    def test_tokens_are_scored_as_they_are(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        """In a batch, with and without BOS, whatever the model's template."""
        tokens = tokens_of(server, TEXT)
        prompts = [tokens, [1, *tokens]]
        reply = score(client, prompts, **HARNESS)
        for choice, prompt in zip(reply.choices, prompts, strict=True):
            assert len(logprobs_of(choice).tokens) == len(prompt) + 1
        found = loglikelihood(reply, [3, 4])
        text = score(client, TEXT, model="raw").choices[0]
        expected = sum(logprobs_of(text).token_logprobs[3:])
        assert found[1][0] == pytest.approx(expected, abs=10 * CLOSE)
        assert found[0][0] != pytest.approx(expected, abs=10 * CLOSE)

    def test_texts_have_the_tokens_of_a_tokenizer_without_bos(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        prompt = tokens_of(server, TEXT)
        reply = score(client, TEXT, **HARNESS)
        assert len(logprobs_of(reply.choices[0]).tokens) == len(prompt) + 1

    def test_what_the_model_would_write_is_greedy(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        context = [1, *tokens_of(server, TEXT)]
        written: Any = server.post(
            "/api/generate",
            model="raw",
            prompt=TEXT,
            stream=False,
            options={"temperature": 0, "num_predict": 5, "repeat_penalty": 1},
        ).json()["context"][-5:]
        other = [*written[:-1], 300]
        prompts = [[*context, *written], [*context, *other]]
        reply = score(client, prompts, **HARNESS)
        (likely, greedy), (unlikely, not_greedy) = loglikelihood(reply, [len(context)] * 2)
        assert (greedy, not_greedy) == (True, False)
        assert likely > unlikely

    def test_the_reply_has_a_token_even_if_it_ends_at_once(
        self, client: openai.OpenAI, server: RunningServer
    ) -> None:
        """After its last words the model has nothing to say but its end."""
        last = tokens_of(server, "Forty-two.", model="thinker")[-2:]
        reply = score(client, [last], model="thinker", **HARNESS)
        (choice,) = reply.choices
        assert choice.finish_reason == "stop"
        assert len(logprobs_of(choice).tokens) == len(last) + 1
        assert logprobs_of(choice).text_offset[-1] == len(choice.text)
        ((likely, greedy),) = loglikelihood(reply, [1])
        assert likely == pytest.approx(0, abs=CLOSE)
        assert greedy


class TestRefusals:
    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("prompt", "fields", "message"),
        [
            ("word " * 2 * CONTEXT, {}, "exceeds the context length"),
            ([1, 512], {}, "token 512 is not in the vocabulary"),
            (TEXT, {"model": "nosuch"}, "not found"),
            ("word " * 2 * CONTEXT, {"n": 3}, "exceeds the context length"),
            (TEXT, {"suffix": "end"}, "suffix: "),
            (TEXT, {"logit_bias": {"99999": 1}}, "logit_bias names token 99999"),
        ],
    )
    def test_what_can_not_be_scored(
        self, prompt: Any, fields: dict[str, Any], message: str, stream: bool, client: openai.OpenAI
    ) -> None:
        with pytest.raises(openai.APIStatusError, match=message) as caught:
            score(client, prompt, stream=stream, **fields)
        assert caught.value.status_code in (400, 404)

    def test_an_empty_prompt_has_nothing_to_score(self, client: openai.OpenAI) -> None:
        (choice,) = score(client, "").choices
        assert (choice.text, choice.logprobs) == ("", None)

    def test_a_client_that_goes_away_stops_them(self, client: openai.OpenAI) -> None:
        """The model serves four at a time, so none that goes on may be left."""
        for _ in range(2):
            chunks: Any = score(
                client, ["word " * 1500] * 4, max_tokens=4000, logit_bias=ENDLESS, stream=True
            )
            assert next(iter(chunks)).choices
            chunks.close()
        assert score(client, TEXT).choices
