"""How a token is chosen: every documented option, on llama.cpp's own samplers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.engine.sampling import BrokenLogits, TokenSampler, chain_steps, top_candidates
from llamaherd.llama.backend import InvalidToken, Logits, Step
from llamaherd.llama.library import C
from llamaherd.llama.samplers import CandidateArray, SamplerChain
from llamaherd.runner.protocol import Sampling
from tests.support.backend import FakeBackend

PLAIN = Sampling(repeat_penalty=1.0, top_k=0, top_p=1.0, temperature=1.0)


class Vocabulary(FakeBackend):
    """A backend that only has llama.cpp's samplers."""

    def __init__(self, size: int, n_ctx: int = 64) -> None:
        super().__init__(n_ctx=n_ctx)
        self.n_vocab = size
        self.newline = 3
        self._candidates = CandidateArray(size)

    def chain(self, steps: Sequence[Step]) -> SamplerChain:  # type: ignore[override]
        return SamplerChain(self.n_vocab, self._candidates, steps)


def logits_of(*values: float) -> Logits:
    return np.array(values, np.float32)


def draw(
    options: Sampling, logits: Logits, count: int = 1, prompt: Sequence[int] = ()
) -> list[int]:
    """Tokens drawn one after another, the model being of the same opinion each time."""
    sampler = TokenSampler(options, Vocabulary(len(logits)), prompt)
    tokens = [sampler.sample(logits.copy()) for _ in range(count)]
    sampler.close()
    return tokens


def changed(options: Sampling, logits: Logits, prompt: Sequence[int]) -> Logits:
    """The logits after bias and penalties."""
    sampler = TokenSampler(options, Vocabulary(len(logits)), prompt)
    copy = logits.copy()
    sampler.sample(copy)
    sampler.close()
    return copy


def randomly(seed: int, size: int) -> Logits:
    return np.asarray(np.random.default_rng(seed).standard_normal(size) * 4, np.float32)


def test_the_steps_come_in_ollamas_order() -> None:
    options = Sampling(top_k=5, typical_p=0.9, top_p=0.8, min_p=0.1, temperature=0.7, seed=1)
    assert [step.name for step in chain_steps(options)] == [
        "top_k", "typical", "top_p", "min_p", "temp", "dist",
    ]  # fmt: skip


def test_steps_that_change_nothing_are_left_out() -> None:
    assert [step.name for step in chain_steps(PLAIN)] == ["temp", "dist"]


@pytest.mark.parametrize(("version", "name"), [(1, "mirostat"), (2, "mirostat_v2")])
def test_mirostat_takes_the_place_of_the_filters(version: int, name: str) -> None:
    options = Sampling(mirostat=version, mirostat_tau=4, mirostat_eta=0.2, seed=7, top_k=5)
    assert chain_steps(options) == (Step("temp", (0.8,)), Step(name, (7, 4, 0.2)))  # type: ignore[arg-type]
    assert len(set(draw(options, randomly(1, 500), 40))) > 5


def test_temperature_0_takes_the_most_likely_token() -> None:
    logits = randomly(2, 300)
    assert draw(Sampling(temperature=0, repeat_penalty=1.0), logits, 3) == [logits.argmax()] * 3


def test_top_k_1_does_too() -> None:
    assert draw(Sampling(top_k=1, repeat_penalty=1.0), logits_of(1, 3, 2), 20) == [1] * 20


def test_top_k_leaves_so_many() -> None:
    options = Sampling(top_k=2, top_p=1.0, repeat_penalty=1.0, seed=1)
    assert set(draw(options, logits_of(1, 1.1, 1.2, 1.3), 100)) == {2, 3}


def test_top_p_leaves_the_most_likely_that_reach_it() -> None:
    options = Sampling(top_p=0.6, repeat_penalty=1.0, temperature=1.0, seed=1)
    logits = np.log(logits_of(0.5, 0.3, 0.15, 0.05))
    assert set(draw(options, logits, 200)) == {0, 1}


def test_min_p_leaves_those_near_the_most_likely() -> None:
    options = Sampling(min_p=0.4, top_p=1.0, repeat_penalty=1.0, temperature=1.0, seed=1)
    logits = np.log(logits_of(0.5, 0.3, 0.15, 0.05))
    assert set(draw(options, logits, 200)) == {0, 1}


def test_typical_p_leaves_those_of_expected_surprise() -> None:
    options = Sampling(typical_p=0.25, top_p=1.0, repeat_penalty=1.0, temperature=1.0, seed=1)
    logits = np.log(logits_of(0.4, 0.3, 0.2, 0.1))
    assert set(draw(options, logits, 200)) == {1}


def test_a_high_temperature_evens_out() -> None:
    logits = logits_of(4, 0, 0, 0)
    cold = draw(Sampling(temperature=0.5, top_p=1.0, repeat_penalty=1.0, seed=1), logits, 200)
    hot = draw(Sampling(temperature=50, top_p=1.0, repeat_penalty=1.0, seed=1), logits, 200)
    assert cold.count(0) > 190
    assert hot.count(0) < 80


def test_the_same_seed_draws_the_same() -> None:
    logits = randomly(3, 400)
    options = Sampling(seed=42, repeat_penalty=1.0)
    assert draw(options, logits, 30) == draw(options, logits, 30)
    assert draw(options, logits, 30) != draw(Sampling(seed=43, repeat_penalty=1.0), logits, 30)


def test_seed_minus_1_draws_anew() -> None:
    logits = randomly(3, 400)
    options = Sampling(seed=-1, repeat_penalty=1.0)
    assert draw(options, logits, 40) != draw(options, logits, 40)


@pytest.mark.parametrize("seed", [2**32 - 1, -7, 2**63 - 1])
def test_any_other_seed_is_reproducible(seed: int) -> None:
    options = Sampling(seed=seed, repeat_penalty=1.0)
    assert draw(options, randomly(3, 400), 30) == draw(options, randomly(3, 400), 30)


def test_a_bias_is_added_and_minus_infinity_masks() -> None:
    logits = logits_of(1, 2, 3)
    assert draw(Sampling(temperature=0, logit_bias={0: 5.0}), logits) == [0]
    masked = Sampling(temperature=1.0, logit_bias={2: -np.inf, 1: -np.inf}, repeat_penalty=1.0)
    assert draw(masked, logits, 20) == [0] * 20


def test_a_bias_outside_the_vocabulary_is_refused() -> None:
    with pytest.raises(InvalidToken, match="token 3, there are 3"):
        draw(Sampling(logit_bias={3: 1.0}), logits_of(1, 2, 3))


@pytest.mark.parametrize("temperature", [0, 0.8])
@pytest.mark.parametrize("value", [np.nan, -np.inf])
def test_logits_without_a_choice_are_an_error(temperature: float, value: float) -> None:
    with pytest.raises(BrokenLogits):
        draw(Sampling(temperature=temperature, repeat_penalty=1.0), logits_of(*[value] * 20))


# --- penalties ------------------------------------------------------------------------------


def test_penalties_see_the_end_of_the_prompt() -> None:
    options = Sampling(temperature=0, repeat_penalty=2.0, repeat_last_n=2)
    assert changed(options, logits_of(4, 4, 4, -4), [0, 1, 3]).tolist() == [4, 2, 4, -8]


def test_penalties_see_what_was_drawn() -> None:
    options = Sampling(temperature=0, repeat_penalty=1.0, presence_penalty=1.5)
    assert draw(options, logits_of(3, 2, 1), 3) == [0, 1, 0]


def test_the_frequency_penalty_counts() -> None:
    options = Sampling(temperature=0, repeat_penalty=1.0, frequency_penalty=0.5)
    assert changed(options, logits_of(4, 4, 4), [0, 1, 1]).tolist() == [3.5, 3, 4]


@pytest.mark.parametrize(("last_n", "penalised"), [(0, []), (1, [2]), (2, [1, 2]), (-1, [0, 1, 2])])
def test_how_far_penalties_look_back(last_n: int, penalised: list[int]) -> None:
    options = Sampling(temperature=0, repeat_penalty=2.0, repeat_last_n=last_n)
    after = changed(options, logits_of(4, 4, 4, 4), [0, 1, 2])
    assert np.flatnonzero(after < 4).tolist() == penalised


def test_the_newline_can_be_exempt() -> None:
    options = Sampling(temperature=0, repeat_penalty=2.0, penalize_newline=False)
    assert changed(options, logits_of(4, 4, 4, 4), [2, 3]).tolist() == [4, 4, 2, 4]


def test_a_repeat_penalty_of_0_is_none() -> None:
    options = Sampling(temperature=0, repeat_penalty=0.0)
    assert changed(options, logits_of(4, 4), [0]).tolist() == [4, 4]


@settings(deadline=None, max_examples=50)
@given(
    tokens=st.lists(st.integers(0, 19), max_size=40),
    last_n=st.integers(1, 30),
    repeat=st.floats(0.5, 2, width=32),
    frequency=st.floats(-1, 1, width=32),
    presence=st.floats(-1, 1, width=32),
    seed=st.integers(0, 1000),
)
def test_penalties_are_those_of_llama_cpp(
    tokens: list[int], last_n: int, repeat: float, frequency: float, presence: float, seed: int
) -> None:
    logits = randomly(seed, 20)
    options = Sampling(
        temperature=0,
        repeat_last_n=last_n,
        repeat_penalty=repeat,
        frequency_penalty=frequency,
        presence_penalty=presence,
    )
    theirs = CandidateArray(20)
    theirs.fill(logits, None)
    sampler = C.llama_sampler_init_penalties(20, last_n, repeat, frequency, presence)
    for token in tokens:
        C.llama_sampler_accept(sampler, token)
    C.llama_sampler_apply(sampler, theirs.reference)
    C.llama_sampler_free(sampler)
    expected = theirs.logits.tolist()
    assert changed(options, logits, tokens) == pytest.approx(expected, rel=1e-5, abs=1e-5)


# --- large vocabularies ---------------------------------------------------------------------


@settings(deadline=None, max_examples=100)
@given(
    size=st.integers(1, 3000),
    k=st.integers(1, 100),
    seed=st.integers(0, 2**32),
    masked=st.floats(0, 1),
)
def test_the_candidates_include_the_k_best(size: int, k: int, seed: int, masked: float) -> None:
    random = np.random.default_rng(seed)
    logits = randomly(seed, size)
    logits[random.random(size) < masked] = -np.inf
    ids = top_candidates(logits, k)
    assert (np.diff(ids) > 0).all()
    best = np.sort(logits)[::-1][:k]
    assert np.sort(logits[ids])[::-1][:k].tolist() == best.tolist()


@pytest.mark.parametrize("top_k", [1, 40, 500])
def test_choosing_candidates_first_changes_no_draw(top_k: int) -> None:
    size = 20_000
    options = Sampling(seed=5, top_k=top_k, temperature=2.0, top_p=0.95, repeat_penalty=1.0)
    rounds = [randomly(number, size) for number in range(20)]
    sampler = TokenSampler(options, Vocabulary(size), ())
    whole = Vocabulary(size).chain(chain_steps(options))
    ours = [sampler.sample(logits.copy()) for logits in rounds]
    assert ours == [whole.pick(logits, None) for logits in rounds]


def test_a_chain_that_was_closed_twice_is_closed() -> None:
    chain = Vocabulary(10).chain(chain_steps(PLAIN))
    chain.close()
    chain.close()
