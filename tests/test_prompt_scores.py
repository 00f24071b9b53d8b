"""The log-probabilities of a prompt's tokens, on the engine: what they are, and what they cost."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.events import ReadToken, WrittenToken
from llamaherd.llama.backend import CacheFull, DecodeAborted
from llamaherd.llama.binding import LlamaBackend
from llamaherd.llama.loader import ModelSpec, load
from llamaherd.runner.protocol import Generate, Sampling
from tests.support.backend import END, VOCABULARY, FakeBackend, encode, write_letters
from tests.support.engine import GREEDY, Desk, Reply
from tests.support.models import write_model, write_sliding_window_model
from tests.support.recurrent_models import write_recurrent_model

TEXT = "Once upon a time there was a little girl who had a dog and a cat"

#: How much chunks of another size may change a number. With a cache of 16-bit numbers it is more.
CLOSE = 1e-4


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("scores") / "tiny.gguf")


def loaded(
    model: Path, *, n_slots: int = 3, n_batch: int = 64, n_outputs: int = 64
) -> LlamaBackend:
    spec = ModelSpec(
        model=model,
        n_ctx=256,
        n_slots=n_slots,
        n_batch=n_batch,
        threads=1,
        kv_cache_type="f32",
        n_outputs=n_outputs,
    )
    return load(spec, lambda _: None).backend


@pytest.fixture(scope="module")
def backend(model: Path) -> Iterator[LlamaBackend]:
    backend = loaded(model)
    yield backend
    backend.close()


def tokens_of(backend: LlamaBackend, text: str = TEXT) -> list[int]:
    return backend.vocabulary.tokenize(text, add_special=True, parse_special=True)


def scoring(number: int, prompt: list[int], sampling: Sampling = GREEDY, **fields: int) -> Generate:
    options = {"num_predict": 0, "top_logprobs": 3} | fields
    return Generate(number, prompt, sampling, score_prompt=True, tell_end=True, **options)  # type: ignore[arg-type]


def assert_same(found: Sequence[ReadToken], expected: Sequence[ReadToken | WrittenToken]) -> None:
    assert [token.piece for token in found] == [token.piece for token in expected]
    for one, other in zip(found, expected, strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=CLOSE)
        top = [likely.logprob for likely in other.top]
        assert [likely.logprob for likely in one.top] == pytest.approx(top, abs=CLOSE)


# --- the numbers ----------------------------------------------------------------------------


def test_they_are_those_that_the_tokens_had_when_they_were_written(backend: LlamaBackend) -> None:
    prompt = tokens_of(backend)
    for sampling in (GREEDY, Sampling(temperature=1.5, seed=3)):
        request = Generate(1, prompt, sampling, num_predict=30, top_logprobs=3)
        written = Desk(backend).ask(request)
        reply = Desk(backend).ask(scoring(1, [*prompt, *written.end.tokens]))
        assert_same(reply.prompt[len(prompt) :], written.logprobs)


def test_every_token_is_told_and_nothing_comes_before_the_first(backend: LlamaBackend) -> None:
    prompt = tokens_of(backend)
    told = Desk(backend).ask(scoring(1, prompt)).prompt
    assert [token.piece for token in told] == [backend.piece(token) for token in prompt]
    assert (told[0].logprob, told[0].top) == (None, ())
    for token in told[1:]:
        assert token.logprob is not None
        assert token.logprob <= token.top[0].logprob <= 0
        assert len(token.top) == 3


def test_a_reply_follows_as_it_would_without(backend: LlamaBackend) -> None:
    prompt = tokens_of(backend)
    free = Desk(backend).ask(Generate(1, prompt, GREEDY, num_predict=8, top_logprobs=1))
    reply = Desk(backend).ask(scoring(1, prompt, num_predict=8, top_logprobs=1))
    assert (reply.text, reply.end.tokens) == (free.text, free.end.tokens)
    assert [token.piece for token in reply.logprobs] == [token.piece for token in free.logprobs]


@pytest.mark.parametrize(("n_batch", "n_outputs"), [(8, 8), (64, 8), (64, 0)])
def test_the_size_of_the_chunks_changes_nothing(
    n_batch: int, n_outputs: int, model: Path, backend: LlamaBackend
) -> None:
    """With room for few logits, a batch takes no more of the prompt than that."""
    small = loaded(model, n_batch=n_batch, n_outputs=n_outputs)
    try:
        prompt = tokens_of(backend)
        reply = Desk(small).ask(scoring(1, prompt))
        assert len(reply.scored) > 1
        assert_same(reply.prompt, Desk(backend).ask(scoring(1, prompt)).prompt)
    finally:
        small.close()


def test_what_was_read_before_is_read_again(backend: LlamaBackend) -> None:
    prompt = tokens_of(backend)
    fresh = Desk(backend).ask(scoring(1, prompt))
    desk = Desk(backend)
    desk.ask(Generate(1, prompt, GREEDY, num_predict=4))
    again = desk.ask(scoring(2, prompt))
    assert again.end.cached_count == 0
    assert_same(again.prompt, fresh.prompt)
    after = desk.ask(Generate(3, prompt, GREEDY, num_predict=1))
    assert after.end.cached_count == len(prompt) - 1


def test_others_in_the_batch_change_nothing(backend: LlamaBackend) -> None:
    one, other = tokens_of(backend), tokens_of(backend, "The dog was happy and ran to the park")
    alone = [Desk(backend).ask(scoring(1, prompt)).prompt for prompt in (one, other)]
    free = Desk(backend).ask(Generate(1, one, GREEDY, num_predict=20)).text
    desk = Desk(backend, n_slots=3)
    desk.engine.submit(Generate(1, one, GREEDY, num_predict=20))
    desk.engine.step()
    desk.engine.submit(scoring(2, one))
    desk.engine.submit(scoring(3, other))
    replies = desk.finish()
    assert replies[1].text == free
    assert_same(replies[2].prompt, alone[0])
    assert_same(replies[3].prompt, alone[1])


@pytest.mark.parametrize("kind", ["recurrent", "sliding window"])
def test_models_that_can_not_go_back(kind: str, tmp_path: Path) -> None:
    """Their contexts have room for the logits of one token of each sequence, unless for more."""
    path = tmp_path / "model.gguf"
    if kind == "recurrent":
        write_recurrent_model(path)
    else:
        write_sliding_window_model(path, window=16)
    backend = loaded(path, n_slots=1)
    tight = loaded(path, n_slots=1, n_outputs=0)
    try:
        prompt = tokens_of(backend)
        desk = Desk(backend)
        written = desk.ask(Generate(1, prompt, GREEDY, num_predict=20, top_logprobs=3))
        for one in (desk, Desk(tight)):
            reply = one.ask(scoring(2, [*prompt, *written.end.tokens]))
            assert_same(reply.prompt[len(prompt) :], written.logprobs)
    finally:
        backend.close()
        tight.close()


# --- what they cost, and what comes between -------------------------------------------------


def test_nobody_else_computes_more_logits_than_it_needs() -> None:
    backend = FakeBackend(n_batch=16, n_outputs=16)
    desk = Desk(backend, n_slots=2)
    desk.engine.submit(Generate(1, encode("a prompt that is read"), GREEDY, num_predict=1))
    wanted = []
    while desk.engine.busy:
        desk.engine.step()
        wanted.append(int(backend.batch.wanted[: backend.batch.size].sum()))
    assert sum(wanted) == 1


def test_a_prompt_that_would_be_cut_is_refused(backend: LlamaBackend) -> None:
    long = [*tokens_of(backend), *[300] * backend.n_ctx]
    reply = Desk(backend).ask(scoring(1, long))
    assert reply.failed is not None
    assert reply.failed.status == 400
    assert "exceeds the context length" in reply.failed.message


def test_a_prompt_as_long_as_the_context_is_scored(backend: LlamaBackend) -> None:
    prompt = [backend.bos, *[300] * (backend.n_ctx - 1)]
    reply = Desk(backend).ask(scoring(1, prompt, num_predict=1))
    assert len(reply.prompt) == backend.n_ctx
    assert len(reply.logprobs) == 1


def test_nothing_comes_after_a_cancellation() -> None:
    backend = FakeBackend(n_ctx=64, n_batch=8)
    desk = Desk(backend)
    desk.engine.submit(scoring(1, encode("a prompt of several batches")))
    desk.engine.step()
    told = len(desk.replies[1].scored)
    desk.engine.cancel(1)
    desk.finish()
    assert len(desk.replies[1].scored) == told == 1
    assert desk.ask(scoring(2, encode("free again"))).prompt


def test_the_token_that_ends_the_reply_is_told() -> None:
    """Clients take the last token for the one that was written."""
    backend = FakeBackend(model=lambda _: END)
    reply = Desk(backend).ask(scoring(1, encode("ab"), num_predict=1, top_logprobs=1))
    assert (reply.text, reply.end.reason, reply.end.tokens) == ("", "stop", [])
    (end,) = reply.logprobs
    assert end.logprob == end.top[0].logprob > -1
    unasked = Desk(backend).ask(Generate(1, encode("ab"), GREEDY, num_predict=1, top_logprobs=1))
    assert unasked.logprobs == []


CERTAIN = 10 - math.log(math.exp(10) + VOCABULARY - 1)
UNLIKELY = CERTAIN - 10


@settings(max_examples=60, deadline=None)
@given(
    prompts=st.lists(st.text("abc", min_size=1, max_size=40), min_size=1, max_size=4),
    n_batch=st.integers(4, 32),
    n_outputs=st.integers(4, 32),
    failures=st.lists(st.sampled_from([DecodeAborted, CacheFull]), max_size=3),
    forgets=st.booleans(),
    asynchronous=st.booleans(),
)
def test_whatever_happens_each_token_is_told_once_and_rightly(
    prompts: list[str],
    n_batch: int,
    n_outputs: int,
    failures: list[type[Exception]],
    forgets: bool,
    asynchronous: bool,
) -> None:
    backend = FakeBackend(
        n_batch=n_batch, n_outputs=n_outputs, forgets=forgets, asynchronous=asynchronous
    )
    desk = Desk(backend, n_slots=3)
    for number, prompt in enumerate(prompts):
        desk.engine.submit(scoring(number, encode(prompt), num_predict=2, top_logprobs=0))
    desk.engine.step()
    backend.failures += failures
    for number, reply in desk.finish().items():
        if reply.failed is not None:
            assert CacheFull in failures
            continue
        tokens = encode(prompts[number])
        assert [told.piece for told in reply.prompt] == [backend.piece(token) for token in tokens]
        assert reply.prompt[0].logprob is None
        for place, told in enumerate(reply.prompt[1:], 1):
            likeliest = write_letters(tuple(tokens[:place]))
            expected = CERTAIN if tokens[place] == likeliest else UNLIKELY
            assert told.logprob == pytest.approx(expected, abs=1e-5)


def test_a_reply_is_as_it_was() -> None:
    """Only where it is asked for are there scores."""
    reply: Reply = Desk(FakeBackend()).ask(Generate(1, encode("ab"), GREEDY, num_predict=1))
    assert reply.scored == []
