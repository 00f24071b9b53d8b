"""The log-probabilities of a reply's tokens: what they are, and which tokens are told."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.engine.likelihood import EXCLUDED, Trace, log_sum_exp, most_likely
from llamaherd.engine.stopping import ReplyText
from llamaherd.grammar import Grammar
from llamaherd.llama.backend import Batch
from llamaherd.llama.binding import LlamaBackend
from llamaherd.llama.loader import ModelSpec, load
from llamaherd.runner.protocol import Generate, Sampling
from tests.support.backend import FakeBackend, encode
from tests.support.engine import GREEDY, Desk, Reply
from tests.support.models import write_model

PROMPT = "Once upon a time"


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    model = write_model(tmp_path_factory.mktemp("likelihood") / "tiny.gguf")
    spec = ModelSpec(model=model, n_ctx=256, n_slots=2, n_batch=64, threads=1)
    backend = load(spec, lambda _: None).backend
    yield backend
    backend.close()


def ask(backend: LlamaBackend, sampling: Sampling = GREEDY, **fields: object) -> Reply:
    prompt = backend.vocabulary.tokenize(PROMPT, add_special=True, parse_special=True)
    fields = {"num_predict": 12, "top_logprobs": 0} | fields
    return Desk(backend).ask(Generate(1, prompt, sampling, **fields))  # type: ignore[arg-type]


# --- the numbers ----------------------------------------------------------------------------


def test_they_are_the_softmax_of_what_the_model_computes(backend: LlamaBackend) -> None:
    """Evaluating prompt and reply in one batch gives the logits at every place of the reply."""
    reply = ask(backend, num_predict=3)
    prompt = backend.vocabulary.tokenize(PROMPT, add_special=True, parse_special=True)
    backend.truncate(0, 0)
    fill(backend.batch, [*prompt, *reply.end.tokens[:-1]], wanted=3)
    backend.decode()
    for place, (token, told) in enumerate(zip(reply.end.tokens, reply.logprobs, strict=True)):
        logits = backend.logits(len(prompt) - 1 + place).astype(np.float64)
        expected = logits[token] - np.log(np.exp(logits).sum())
        assert told.logprob == pytest.approx(expected, abs=1e-4)
        assert told.piece == backend.piece(token)
    backend.truncate(0, 0)


def fill(batch: Batch, tokens: list[int], *, wanted: int) -> None:
    """The whole sequence, its last ``wanted`` rows with logits."""
    batch.clear()
    batch.extend(tokens, 0, 0, want=1)
    batch.wanted[len(tokens) - wanted : len(tokens)] = 1


def test_all_alternatives_make_up_certainty(backend: LlamaBackend) -> None:
    (token, *_) = ask(backend, top_logprobs=backend.n_vocab).logprobs
    assert len(token.top) == backend.n_vocab
    assert sum(math.exp(one.logprob) for one in token.top) == pytest.approx(1, abs=1e-5)
    logprobs = [one.logprob for one in token.top]
    assert logprobs == sorted(logprobs, reverse=True)


def test_the_greedy_choice_is_the_likeliest(backend: LlamaBackend) -> None:
    for token in ask(backend, top_logprobs=2).logprobs:
        assert (token.piece, token.logprob) == (token.top[0].piece, token.top[0].logprob)
        assert len(token.top) == 2


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=5, seed=1),
        Sampling(temperature=0, logit_bias={300: 50.0}),
        Sampling(temperature=0, repeat_penalty=9.0, presence_penalty=9.0, repeat_last_n=-1),
        Sampling(temperature=1, top_k=1, top_p=0.1),
    ],
)
def test_how_the_token_was_chosen_changes_nothing(
    sampling: Sampling, backend: LlamaBackend
) -> None:
    plain = ask(backend, num_predict=1, top_logprobs=backend.n_vocab).logprobs[0]
    other = ask(backend, sampling, num_predict=1, top_logprobs=backend.n_vocab).logprobs[0]
    assert other.top == plain.top
    assert (other.piece, other.logprob) in [(one.piece, one.logprob) for one in other.top]


def test_asking_changes_no_reply(backend: LlamaBackend) -> None:
    sampling = Sampling(seed=4, temperature=1.5)
    told = ask(backend, sampling, top_logprobs=5)
    assert told.text == ask(backend, sampling, top_logprobs=None).text
    assert b"".join(token.piece for token in told.logprobs).decode() == told.text


def test_tokens_that_a_grammar_forces_are_certain() -> None:
    backend = FakeBackend(n_ctx=64, model=lambda tokens: ord("t"))
    grammar = Grammar("schema", '{"type": "boolean"}')
    reply = Desk(backend).ask(Generate(1, encode("?"), GREEDY, grammar=grammar, top_logprobs=1))
    chosen, *forced = reply.logprobs
    assert chosen.piece == b"t"
    assert chosen.logprob < 0
    assert [(token.piece, token.logprob, token.top) for token in forced] == [
        (b"r", 0.0, ()),
        (b"u", 0.0, ()),
        (b"e", 0.0, ()),
    ]


@pytest.mark.parametrize("top_logprobs", [None, 0])
def test_forced_tokens_after_a_stop_string_are_none_of_the_reply(top_logprobs: int | None) -> None:
    backend = FakeBackend(n_ctx=64, model=lambda tokens: ord("t"))
    grammar = Grammar("schema", '{"type": "boolean"}')
    request = Generate(
        1, encode("?"), GREEDY, grammar=grammar, stop=["r"], top_logprobs=top_logprobs
    )
    reply = Desk(backend).ask(request)
    assert (reply.text, reply.end.tokens) == ("t", [ord("t")])
    assert reply.end.eval_count == len("tr")


@given(st.lists(st.floats(-80, 80, width=32), min_size=1, max_size=300), st.integers(0, 20))
@settings(max_examples=60, deadline=None)
def test_the_likeliest_come_first(values: list[float], n: int) -> None:
    logits = np.array(values, np.float32)
    found = most_likely(logits, n)
    expected = sorted(range(len(values)), key=lambda token: (-logits[token], token))
    assert found.tolist() == expected[:n]
    assert log_sum_exp(logits) == pytest.approx(
        math.log(math.fsum(math.exp(value) for value in logits.tolist())), abs=1e-4
    )


def test_an_excluded_token_has_a_number_too() -> None:
    trace = Trace(ReplyText(), 2, bytes_of)
    trace.chose(0, np.array([0.0, -np.inf], np.float32))
    trace.push(1)
    (token,) = trace.take()
    assert [one.logprob for one in token.top] == [0.0, EXCLUDED]


# --- which are told, and when ---------------------------------------------------------------


def bytes_of(token: int) -> bytes:
    return bytes([token])


def test_a_token_comes_with_the_text_that_completes_it() -> None:
    trace = Trace(ReplyText(["END"]), 0, bytes_of)
    told = []
    for byte in "aé Enough".encode():
        trace.forced(byte)
        text = trace.push(1)
        told.append((text, b"".join(token.piece for token in trace.take())))
    assert told[:5] == [
        ("a", b"a"),
        ("", b""),
        ("é", "é".encode()),
        (" ", b" "),
        ("", b""),
    ]
    assert told[5] == ("En", b"En")


def test_what_a_stop_string_cuts_is_not_told(backend: LlamaBackend) -> None:
    free = ask(backend)
    stop = free.text[10:14]
    cut = ask(backend, stop=[stop])
    assert cut.text == free.text[: free.text.index(stop)]
    told = b"".join(token.piece for token in cut.logprobs).decode()
    assert cut.text.startswith(told)
    assert cut.logprobs == free.logprobs[: len(cut.logprobs)]
    (following, *_) = free.logprobs[len(cut.logprobs) :]
    assert len(told + following.piece.decode()) > len(cut.text)


PIECES = st.lists(st.binary(max_size=4) | st.text("aé🐪#", max_size=3).map(str.encode), max_size=12)
STOPS = st.lists(st.text("aé#", min_size=1, max_size=3), max_size=2)


@given(PIECES, STOPS, st.integers(1, 3))
@settings(max_examples=300, deadline=None)
def test_however_the_text_is_cut_each_token_comes_once_and_never_before_its_text(
    pieces: list[bytes], stops: list[str], step: int
) -> None:
    text = ReplyText(stops)
    trace = Trace(text, 0, pieces.__getitem__)
    given, taken = "", []
    for start in range(0, len(pieces), step):
        numbers = range(start, min(start + step, len(pieces)))
        for number in numbers:
            trace.forced(number)
        given += trace.push(len(numbers))
        taken += [token.piece for token in trace.take()]
        assert len(b"".join(taken).decode("utf-8", "replace")) <= len(given)
        if text.stopped:
            break
    given += trace.finish()
    taken += [token.piece for token in trace.take()]
    alone = ReplyText(stops)
    assert given == alone.push(b"".join(pieces)) + alone.finish()
    assert taken == pieces[: len(taken)]
    if text.stopped:
        assert len(b"".join(pieces[: len(taken) + 1]).decode("utf-8", "replace")) > len(given)
    else:
        assert taken == pieces
