"""The engine on llama.cpp, with tiny models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaherd.llama.binding import LlamaBackend
from llamaherd.llama.loader import ModelSpec, load
from llamaherd.runner.protocol import Generate, Sampling
from tests.support.engine import GREEDY, Desk, Reply
from tests.support.models import write_model, write_sliding_window_model
from tests.support.recurrent_models import write_recurrent_model

PROMPTS = [
    "Once upon a time",
    "Once upon a time there was a cat",
    "One day, a girl named Lily went to the park with her mom. She saw a",
    "The",
]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf")


def backend_of(
    model: Path, *, n_ctx: int = 256, n_slots: int = 3, **fields: object
) -> LlamaBackend:
    spec = ModelSpec(
        model=model,
        n_ctx=n_ctx,
        n_slots=n_slots,
        n_batch=64,
        threads=1,
        **fields,  # type: ignore[arg-type]
    )
    return load(spec, lambda _: None).backend


@pytest.fixture
def backend(model: Path) -> Iterator[LlamaBackend]:
    backend = backend_of(model)
    yield backend
    backend.close()


def tokens_of(backend: LlamaBackend, text: str) -> list[int]:
    return backend.vocabulary.tokenize(text, add_special=True, parse_special=True)


def ask(backend: LlamaBackend, text: str, sampling: Sampling = GREEDY, **fields: object) -> Reply:
    """The reply of a fresh engine with one slot."""
    fields.setdefault("num_predict", 24)
    prompt = tokens_of(backend, text)
    return Desk(backend).ask(Generate(1, prompt, sampling, **fields))  # type: ignore[arg-type]


def test_text_is_that_of_the_reply_tokens(backend: LlamaBackend) -> None:
    reply = ask(backend, PROMPTS[0])
    pieces = b"".join(map(backend.piece, reply.end.tokens))
    assert reply.text == pieces.decode()
    assert len(set(reply.end.tokens)) > 8
    assert (reply.end.reason, reply.end.stop) == ("length", "")
    assert reply.counted == reply.end.eval_count
    assert reply.end.prompt_count == len(tokens_of(backend, PROMPTS[0]))


def test_the_figures_are_durations(backend: LlamaBackend) -> None:
    end = ask(backend, PROMPTS[2]).end
    assert 0 < end.prompt_duration < 10**9
    assert 0 < end.eval_duration < 10**9


def test_replies_together_are_those_alone(backend: LlamaBackend, model: Path) -> None:
    together = Desk(backend, n_slots=3)
    for number, text in enumerate(PROMPTS):
        together.engine.submit(Generate(number, tokens_of(backend, text), GREEDY, 24))
    together.finish()
    for number, text in enumerate(PROMPTS):
        fresh = backend_of(model)
        assert together.replies[number].text == ask(fresh, text).text
        fresh.close()


def test_a_reused_prefix_gives_the_same_text(backend: LlamaBackend) -> None:
    desk = Desk(backend)
    prompt = tokens_of(backend, PROMPTS[2])
    first = desk.ask(Generate(1, prompt, GREEDY, 24))
    again = desk.ask(Generate(2, prompt, GREEDY, 24))
    assert again.end.cached_count == len(prompt) - 1
    assert again.text == first.text
    branch = [*prompt[:-2], *tokens_of(backend, "dog")[1:]]
    shared = desk.ask(Generate(3, branch, GREEDY, 24))
    assert shared.end.cached_count == len(prompt) - 2
    assert desk.ask(Generate(4, prompt, GREEDY, 24)).text == first.text


def test_a_long_prompt_is_read_in_chunks(backend: LlamaBackend, model: Path) -> None:
    text = " ".join(PROMPTS * 4)
    reply = ask(backend, text)
    assert reply.end.prompt_count > 2 * backend.batch.capacity
    whole = load(
        ModelSpec(model=model, n_ctx=256, n_slots=1, n_batch=256, threads=1), lambda _: None
    ).backend
    assert reply.text == ask(whole, text).text
    whole.close()


def test_seeds_reproduce_beside_other_requests(backend: LlamaBackend) -> None:
    sampling = Sampling(seed=11, temperature=1.5)
    alone = ask(backend, PROMPTS[0], sampling)
    desk = Desk(backend, n_slots=3)
    for number, text in enumerate([PROMPTS[1], PROMPTS[0], PROMPTS[3]]):
        desk.engine.submit(Generate(number, tokens_of(backend, text), sampling, 24))
    assert desk.finish()[1].text == alone.text
    assert ask(backend, PROMPTS[0], Sampling(seed=12, temperature=1.5)).text != alone.text


@pytest.mark.parametrize("mirostat", [1, 2])
def test_mirostat_writes(backend: LlamaBackend, mirostat: int) -> None:
    assert ask(backend, PROMPTS[0], Sampling(mirostat=mirostat, seed=1)).end.eval_count == 24


def test_a_stop_string_ends_the_reply_and_is_not_in_it(backend: LlamaBackend) -> None:
    free = ask(backend, PROMPTS[0]).text
    stop = free[10:14]
    reply = ask(backend, PROMPTS[0], stop=[stop])
    assert reply.text == free[: free.index(stop)]
    assert (reply.end.reason, reply.end.stop) == ("stop", stop)
    assert free.startswith(b"".join(map(backend.piece, reply.end.tokens)).decode())


def test_the_models_own_end(backend: LlamaBackend) -> None:
    reply = ask(backend, PROMPTS[0], Sampling(temperature=0, logit_bias={2: 1000.0}))
    assert (reply.text, reply.end.reason, reply.end.eval_count) == ("", "stop", 1)


def test_masked_tokens_are_not_written(backend: LlamaBackend) -> None:
    used = set(ask(backend, PROMPTS[0]).end.tokens)
    masks = dict.fromkeys(used, float("-inf"))
    reply = ask(backend, PROMPTS[0], Sampling(temperature=0, logit_bias=masks))
    assert not used & set(reply.end.tokens)


def test_a_full_context_shifts_and_goes_on(model: Path) -> None:
    backend = backend_of(model, n_ctx=64, n_slots=1)
    reply = ask(backend, PROMPTS[1], num_predict=150)
    assert (reply.end.reason, reply.end.eval_count) == ("length", 150)
    assert len(set(reply.end.tokens[-40:])) > 5
    backend.close()


def test_shifting_by_moving_is_like_shifting_anew_in_kind(model: Path) -> None:
    """Where cells can't be moved, what remains is evaluated again."""
    backend = backend_of(model, n_ctx=64, n_slots=1)
    backend.can_shift = False
    reply = ask(backend, PROMPTS[1], num_predict=150)
    assert (reply.end.reason, reply.end.eval_count) == ("length", 150)
    backend.close()


def test_without_shift_a_full_context_is_the_end(model: Path) -> None:
    backend = backend_of(model, n_ctx=64, n_slots=1)
    end = ask(backend, PROMPTS[1], num_predict=-1, shift=False).end
    assert end.reason == "length"
    assert end.prompt_count + end.eval_count == 65
    backend.close()


def test_a_long_prompt_is_cut_to_the_context(model: Path) -> None:
    backend = backend_of(model, n_ctx=64, n_slots=1)
    prompt = tokens_of(backend, "the cat sat " * 60)
    end = Desk(backend).ask(Generate(1, prompt, GREEDY, 4)).end
    assert (end.prompt_count, end.dropped_count) == (64, len(prompt) - 64)
    backend.close()


def test_a_cancelled_prompt_leaves_the_others_unharmed(backend: LlamaBackend) -> None:
    desk = Desk(backend, n_slots=2)
    desk.engine.submit(Generate(1, tokens_of(backend, PROMPTS[0]), GREEDY, 24))
    desk.engine.step()
    desk.engine.submit(Generate(2, tokens_of(backend, " ".join(PROMPTS * 4)), GREEDY, 24))
    desk.engine.step()
    desk.engine.interrupt(2)
    desk.engine.step()
    desk.engine.cancel(2)
    desk.finish()
    assert 2 not in desk.replies
    assert desk.replies[1].text == ask(backend, PROMPTS[0]).text


def test_a_quantised_model_and_cache(tmp_path: Path) -> None:
    model = write_model(tmp_path / "q8.gguf", ftype="q8_0", n_embd=256)
    backend = backend_of(model, kv_cache_type="q8_0")
    assert ask(backend, PROMPTS[0]).end.eval_count == 24
    backend.close()


# --- models that can't go back to any point ----------------------------------------------------


@pytest.fixture(scope="module", params=["sliding window", "recurrent"])
def forgetful(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    if request.param == "recurrent":
        return write_recurrent_model(folder / "recurrent.gguf")
    return write_sliding_window_model(folder / "window.gguf", window=16)


def conversation(model: Path, n_slots: int) -> list[Reply]:
    """Three turns, each going on from the reply before, then the first again."""
    backend = backend_of(model, n_slots=n_slots)
    desk = Desk(backend, n_slots)
    replies = []
    prompt = tokens_of(backend, PROMPTS[1])
    for turn in range(3):
        replies.append(desk.ask(Generate(turn, list(prompt), GREEDY, 30)))
        prompt += [*replies[-1].end.tokens, *tokens_of(backend, PROMPTS[3])[1:]]
    replies.append(desk.ask(Generate(3, tokens_of(backend, PROMPTS[1]), GREEDY, 30)))
    backend.close()
    return replies


def test_such_models_go_on_from_whole_sequences(forgetful: Path) -> None:
    replies = conversation(forgetful, n_slots=2)
    assert [bool(reply.end.cached_count) for reply in replies[:3]] == [False, True, True]
    assert replies[3].text == replies[0].text


def test_what_they_reuse_gives_the_same_text(forgetful: Path) -> None:
    backend = backend_of(forgetful, n_slots=2)
    prompt = tokens_of(backend, PROMPTS[1])
    for number, reply in enumerate(conversation(forgetful, n_slots=2)[:3]):
        fresh = Desk(backend).ask(Generate(number, list(prompt), GREEDY, 30))
        assert reply.text == fresh.text
        prompt += [*reply.end.tokens, *tokens_of(backend, PROMPTS[3])[1:]]
    backend.close()


def test_their_replies_together_are_those_alone(forgetful: Path) -> None:
    backend = backend_of(forgetful, n_slots=3)
    alone = [ask(backend, text).text for text in PROMPTS]
    desk = Desk(backend, n_slots=3)
    for number, text in enumerate(PROMPTS):
        desk.engine.submit(Generate(number, tokens_of(backend, text), GREEDY, 24))
    desk.finish()
    assert [desk.replies[number].text for number in range(4)] == alone
    backend.close()


def test_a_window_is_reused_only_where_it_reaches_back_far_enough(forgetful: Path) -> None:
    backend, fresh = backend_of(forgetful, n_slots=2), backend_of(forgetful, n_slots=2)
    desk = Desk(backend, 2)
    long = tokens_of(backend, " ".join(PROMPTS))
    for kept in range(10, len(long), 3):
        desk.ask(Generate(1, long, GREEDY, 8))
        branch = Generate(2, [*long[:kept], *tokens_of(backend, PROMPTS[3])[1:]], GREEDY, 8)
        assert desk.ask(branch).text == Desk(fresh, 2).ask(branch).text
    backend.close()
    fresh.close()


def test_their_context_shifts_by_reading_again(forgetful: Path) -> None:
    backend = backend_of(forgetful, n_ctx=64, n_slots=1)
    assert ask(backend, PROMPTS[1], num_predict=150).end.eval_count == 150
    backend.close()
