"""Continuous batching, the prefix cache and context shifts, on a backend that checks every move."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.engine.batch import PromptPacer
from llamaherd.engine.prefix_cache import PrefixCache, common_prefix
from llamaherd.llama.backend import DecodeAborted, DecodeFailed
from llamaherd.runner.protocol import Failed, Generate, Sampling
from tests.support.backend import BOS, END, FakeBackend, encode, write_letters
from tests.support.engine import GREEDY, Desk, Reply

STORY = "Once upon a time there was "


def request(number: int, prompt: str, num_predict: int = 6, **fields: object) -> Generate:
    return Generate(number, encode(prompt), GREEDY, num_predict, **fields)  # type: ignore[arg-type]


def continuation(prompt: list[int], length: int) -> str:
    """What the model writes with nothing else in the way."""
    tokens = list(prompt)
    for _ in range(length):
        tokens.append(write_letters(tuple(tokens)))
    return bytes(tokens[len(prompt) :]).decode()


# --- batching -------------------------------------------------------------------------------


def test_requests_advance_together() -> None:
    backend = FakeBackend(n_seq=3)
    desk = Desk(backend, n_slots=2)
    desk.engine.submit(request(1, "ab"))
    desk.engine.submit(request(2, "xyz"))
    desk.finish()
    assert {slot for _, _, slot in backend.decoded[1]} == {0, 1}
    assert len(backend.decoded) == 6
    assert desk.replies[1].text == continuation(encode("ab"), 6)
    assert desk.replies[2].text == continuation(encode("xyz"), 6)


def test_a_request_beyond_the_slots_waits_for_one() -> None:
    desk = Desk(FakeBackend(n_seq=2), n_slots=1)
    for number in (1, 2, 3):
        desk.engine.submit(request(number, f"prompt {number}"))
    assert [reply.text for reply in desk.finish().values()] == [
        continuation(encode(f"prompt {number}"), 6) for number in (1, 2, 3)
    ]


def test_replies_flow_on_while_a_long_prompt_is_read() -> None:
    backend = FakeBackend(n_ctx=256, n_batch=40)
    desk = Desk(backend, n_slots=2)
    desk.engine.submit(request(1, "a", num_predict=50))
    desk.engine.step()
    desk.engine.submit(request(2, STORY * 8))
    written = len(desk.replies[1].chunks)
    desk.engine.step()
    desk.engine.step()
    assert len(desk.replies[1].chunks) == written + 2
    assert 2 not in desk.replies
    desk.finish()
    assert desk.replies[2].text == continuation(encode(STORY * 8), 6)


def test_cancelling_frees_the_slot_at_once_and_nothing_more_is_sent() -> None:
    desk = Desk(FakeBackend(), n_slots=1)
    desk.engine.submit(request(1, "a", num_predict=50))
    desk.engine.submit(request(2, "b"))
    desk.engine.submit(request(3, "never started"))
    desk.engine.step()
    desk.engine.cancel(1)
    desk.engine.cancel(3)
    desk.engine.cancel(99)
    before = list(desk.replies[1].chunks)
    desk.finish()
    assert desk.replies[1].chunks == before
    assert desk.replies[1].finished is None
    assert desk.replies[2].text == continuation(encode("b"), 6)
    assert 3 not in desk.replies


@pytest.mark.parametrize("asynchronous", [True, False])
def test_a_concluded_reply_ends_where_it_is(asynchronous: bool) -> None:
    desk = Desk(FakeBackend(asynchronous=asynchronous), n_slots=1)
    desk.engine.submit(request(1, "a", num_predict=50, top_logprobs=0))
    desk.engine.submit(request(2, "b"))
    for _ in range(3):
        desk.engine.step()
    desk.engine.conclude(99)
    desk.engine.conclude(1)
    reply = desk.replies[1]
    assert reply.text == continuation(encode("a"), reply.end.eval_count)
    assert 0 < reply.end.eval_count < 5
    assert (reply.end.reason, reply.counted) == ("stop", reply.end.eval_count)
    assert bytes(reply.end.tokens).decode() == reply.text
    assert len(reply.logprobs) == reply.end.eval_count
    desk.engine.conclude(1)
    assert desk.finish()[2].text == continuation(encode("b"), 6)


class Interrupting(FakeBackend):
    """Calls ``interrupt`` while it decodes."""

    interrupt: Callable[[], None] = staticmethod(lambda: None)

    def decode(self) -> None:
        self.interrupt()
        super().decode()


def test_interrupting_a_prompt_that_is_read_aborts_the_step() -> None:
    backend = Interrupting(n_ctx=256, n_batch=16)
    desk = Desk(backend, n_slots=2)
    desk.engine.submit(request(1, "short"))
    desk.engine.step()
    desk.engine.submit(request(2, STORY * 5))
    desk.engine.step()
    backend.interrupt = lambda: desk.engine.interrupt(1)
    decoded = len(backend.decoded)
    desk.engine.step()
    assert len(backend.decoded) == decoded + 1
    backend.interrupt = lambda: desk.engine.interrupt(2)
    desk.engine.step()
    assert len(backend.decoded) == decoded + 1
    desk.engine.cancel(2)
    assert desk.finish()[1].text == continuation(encode("short"), 6)


def test_between_steps_there_is_nothing_to_interrupt() -> None:
    """The backend may embed then, for other requests."""
    backend = FakeBackend(n_ctx=256, n_batch=16)
    desk = Desk(backend)
    desk.engine.submit(request(1, STORY * 5))
    desk.engine.step()
    desk.engine.interrupt(1)
    decoded = len(backend.decoded)
    desk.engine.step()
    assert len(backend.decoded) == decoded + 1


@pytest.mark.parametrize("forgets", [True, False])
def test_an_aborted_step_is_repeated(forgets: bool) -> None:
    backend = FakeBackend(forgets=forgets)
    backend.failures = [DecodeAborted]
    reply = Desk(backend).ask(request(1, "abc"))
    assert reply.text == continuation(encode("abc"), 6)


def test_a_failed_evaluation_fails_its_requests_and_the_engine_goes_on() -> None:
    backend = FakeBackend()
    desk = Desk(backend, n_slots=2)
    desk.engine.submit(request(1, "a"))
    desk.engine.submit(request(2, "b"))
    backend.failures = [DecodeFailed]
    desk.finish()
    assert desk.replies[1].failed is not None
    assert desk.replies[2].failed is not None
    assert desk.ask(request(3, "a")).text == continuation(encode("a"), 6)


def test_a_request_that_raises_fails_alone(caplog: pytest.LogCaptureFixture) -> None:
    def model(tokens: tuple[int, ...]) -> int:
        if tokens[1] == ord("!") and len(tokens) > 3:
            raise ArithmeticError("no probabilities")
        return write_letters(tokens)

    desk = Desk(FakeBackend(model=model), n_slots=2)
    desk.engine.submit(request(1, "!"))
    desk.engine.submit(request(2, "fine"))
    desk.finish()
    assert desk.replies[1].failed == Failed(1, "no probabilities")
    assert desk.replies[2].text == continuation(encode("fine"), 6)
    assert "request 1 failed" in caplog.text


# --- the end of a reply ---------------------------------------------------------------------


def test_the_model_ends_its_reply() -> None:
    def model(tokens: tuple[int, ...]) -> int:
        return END if len(tokens) == 5 else ord("x")

    end = Desk(FakeBackend(model=model)).ask(request(1, "ab", num_predict=-1)).end
    assert (end.reason, end.eval_count, end.tokens) == ("stop", 3, [ord("x")] * 2)


@pytest.mark.parametrize(("num_predict", "written"), [(0, 0), (1, 1), (5, 5), (-1, 640)])
def test_the_number_of_tokens(num_predict: int, written: int) -> None:
    """An endless reply is ended after ten contexts."""
    end = Desk(FakeBackend(n_ctx=64)).ask(request(1, "ab", num_predict=num_predict)).end
    assert (end.reason, end.eval_count, len(end.tokens)) == ("length", written, written)


@pytest.mark.parametrize(
    "fields", [{"num_predict": -2}, {"num_predict": -1, "shift": False}], ids=["-2", "no shift"]
)
def test_until_the_context_is_full(fields: dict[str, int]) -> None:
    prompt = encode("ab")
    end = Desk(FakeBackend(n_ctx=20)).ask(Generate(1, prompt, GREEDY, **fields)).end  # type: ignore[arg-type]
    assert end.reason == "length"
    # The last token is written but can't be evaluated any more.
    assert len(prompt) + end.eval_count == 21


def test_the_tokens_of_a_stop_string_are_not_in_the_reply() -> None:
    def model(tokens: tuple[int, ...]) -> int:
        return b"one END two"[len(tokens) - 2]

    reply = Desk(FakeBackend(model=model)).ask(request(1, "a", 20, stop=["END"]))
    assert reply.text == "one "
    assert bytes(reply.end.tokens) == b"one "
    assert (reply.end.reason, reply.end.eval_count) == ("stop", 7)


def test_a_character_of_several_tokens_leaves_whole() -> None:
    def model(tokens: tuple[int, ...]) -> int:
        return "a🐪b🐪".encode()[len(tokens) - 2]

    desk = Desk(FakeBackend(model=model))
    assert desk.ask(request(1, "x", 6)).chunks == ["a", "🐪", "b"]
    assert desk.ask(request(2, "x", 8)).chunks[3:] == ["\N{REPLACEMENT CHARACTER}"]


@pytest.mark.parametrize("asynchronous", [False, True])
def test_on_a_device_text_is_written_while_the_next_step_runs(asynchronous: bool) -> None:
    desk = Desk(FakeBackend(asynchronous=asynchronous))
    desk.engine.submit(request(1, "ab", 3))
    desk.engine.step()
    assert bool(desk.replies) == (not asynchronous)
    desk.finish()
    assert desk.replies[1].text == continuation(encode("ab"), 3)


# --- prompts --------------------------------------------------------------------------------


def test_a_prompt_that_fills_the_context_is_read_whole() -> None:
    prompt = encode("x" * 19)
    end = Desk(FakeBackend(n_ctx=20)).ask(Generate(1, prompt, GREEDY, 3)).end
    assert (end.prompt_count, end.dropped_count) == (20, 0)


def test_a_longer_prompt_loses_its_middle() -> None:
    """The first ``num_keep`` tokens stay, not counting BOS, and as many of the last as fit."""
    seen = []

    def model(tokens: tuple[int, ...]) -> int:
        seen.append(tokens)
        return ord("x")

    backend = FakeBackend(n_ctx=10, model=model)
    end = Desk(backend).ask(Generate(1, encode("abcdefghijklmno"), GREEDY, 1, num_keep=2)).end
    assert (end.prompt_count, end.dropped_count) == (10, 6)
    assert seen[0] == (BOS, *b"ab", *b"ijklmno")


def test_without_truncation_a_longer_prompt_is_refused() -> None:
    reply = Desk(FakeBackend(n_ctx=10)).ask(request(1, "x" * 10, truncate=False))
    assert reply.failed is not None
    assert reply.failed.message == "the input length exceeds the context length"
    assert reply.failed.status == 400


@pytest.mark.parametrize(
    ("prompt", "message"),
    [
        ([], "no input provided"),
        ([BOS, 258], "the prompt has tokens outside 0 to 257"),
        ([-1], "the prompt has tokens outside 0 to 257"),
    ],
)
def test_prompts_that_cannot_be_read_are_refused(prompt: list[int], message: str) -> None:
    desk = Desk(FakeBackend())
    reply = desk.ask(Generate(1, prompt, GREEDY))
    assert reply.failed is not None
    assert (reply.failed.message, reply.failed.status) == (message, 400)
    assert desk.ask(request(2, "fine")).finished is not None


def test_a_bias_for_a_token_that_does_not_exist_is_refused() -> None:
    reply = Desk(FakeBackend()).ask(Generate(1, [BOS], Sampling(logit_bias={258: 1.0})))
    assert reply.failed is not None
    assert reply.failed.status == 400


# --- context shift --------------------------------------------------------------------------


@pytest.mark.parametrize("can_shift", [True, False])
@pytest.mark.parametrize("forgets", [True, False])
def test_a_full_context_drops_half_of_what_may_go(can_shift: bool, forgets: bool) -> None:
    seen = []

    def model(tokens: tuple[int, ...]) -> int:
        seen.append(tokens)
        return ord("a") + len(seen) % 26

    backend = FakeBackend(n_ctx=12, can_shift=can_shift, forgets=forgets, model=model)
    end = Desk(backend).ask(Generate(1, encode("keepdrop"), GREEDY, 20, num_keep=4)).end
    assert (end.reason, end.eval_count) == ("length", 20)
    shifted = next(after for before, after in pairwise(seen) if len(after) < len(before))
    assert shifted == (BOS, *b"keep", *b"pbcde")


def test_a_shift_leaves_running_requests_that_share_the_prompt_alone() -> None:
    backend = FakeBackend(n_ctx=24, n_seq=4)
    desk = Desk(backend, n_slots=2)
    shared = "a shared prompt"
    desk.engine.submit(request(1, shared, num_predict=40, num_keep=2))
    desk.engine.step()
    desk.engine.submit(request(2, shared + "!", num_predict=7))
    for _ in range(8):
        desk.engine.step()
    assert desk.finish()[2].text == continuation(encode(shared + "!"), 7)
    assert desk.replies[2].end.cached_count == 16
    assert desk.replies[1].end.eval_count == 40


@pytest.mark.parametrize("aborted", [False, True])
def test_what_a_shift_moved_is_not_reused(aborted: bool) -> None:
    backend = FakeBackend(n_ctx=24)
    desk = Desk(backend)
    desk.engine.submit(request(1, "a prompt", num_predict=60, num_keep=8))
    for _ in range(40):
        desk.engine.step()
    backend.failures = [DecodeAborted] * aborted
    end = desk.finish()[1].end
    tail = [*encode("a prompt"), *end.tokens[-10:]]
    again = desk.ask(Generate(2, tail, GREEDY, 1)).end
    assert again.cached_count <= 9


# --- the prefix cache -----------------------------------------------------------------------


def test_the_same_prompt_again_is_reused_but_for_its_last_token() -> None:
    desk = Desk(FakeBackend())
    first = desk.ask(request(1, STORY))
    again = desk.ask(request(2, STORY))
    assert again.text == first.text
    assert again.end.cached_count == len(encode(STORY)) - 1
    assert again.end.prompt_count == first.end.prompt_count


def test_a_conversation_goes_on_from_its_last_reply() -> None:
    desk = Desk(FakeBackend())
    first = desk.ask(request(1, STORY))
    longer = [*encode(STORY), *first.end.tokens, *b" and then"]
    again = desk.ask(Generate(2, longer, GREEDY, 4))
    # The last token of a reply is written without being evaluated.
    assert again.end.cached_count == len(encode(STORY)) + 5
    assert again.text == continuation(longer, 4)


def test_another_conversation_shares_the_beginning_and_both_stay() -> None:
    desk = Desk(FakeBackend(n_ctx=256))
    desk.ask(request(1, STORY + "a cat"))
    other = desk.ask(request(2, STORY + "a dog"))
    assert other.end.cached_count == len(encode(STORY)) + 2
    assert desk.ask(request(3, STORY + "a cat, fat")).end.cached_count >= len(encode(STORY)) + 5
    assert desk.ask(request(4, STORY + "a dog, big")).end.cached_count >= len(encode(STORY)) + 5


def test_running_requests_are_shared_from_too() -> None:
    desk = Desk(FakeBackend(), n_slots=2)
    desk.engine.submit(request(1, STORY + "one", num_predict=30))
    desk.engine.step()
    desk.engine.step()
    reply = desk.ask(request(2, STORY + "two"))
    assert reply.end.cached_count == len(encode(STORY))
    assert reply.text == continuation(encode(STORY + "two"), 6)


def test_a_recurrent_model_reuses_whole_sequences_only() -> None:
    desk = Desk(FakeBackend(forgets=False))
    first = desk.ask(request(1, STORY))
    assert desk.ask(request(2, STORY)).end.cached_count == 0
    longer = [*encode(STORY), *first.end.tokens, *b" and"]
    again = desk.ask(Generate(3, longer, GREEDY, 4))
    assert again.end.cached_count > len(encode(STORY))
    assert again.text == continuation(longer, 4)


def test_the_oldest_prefix_goes_when_cells_run_out() -> None:
    backend = FakeBackend(n_ctx=40, n_seq=6, n_cells=60)
    desk = Desk(backend)
    for number, letter in enumerate("abcdef"):
        prompt = letter * 20
        assert desk.ask(request(number, prompt)).text == continuation(encode(prompt), 6)


def test_idle_prefixes_hold_no_more_than_one_sequence_may() -> None:
    backend = FakeBackend(n_ctx=40, n_seq=8)
    cache = PrefixCache(backend)
    for letter in b"abcdef":
        slot = cache.acquire([letter] * 20)
        slot.evaluated = 0
        for position in range(20):
            backend.batch.clear()
            backend.batch.add(letter, position, slot.number)
            backend.decode()
        slot.evaluated = 20
        cache.release(slot)
    kept = [slot for slot in range(8) if backend.contents(slot)]
    assert len(kept) == 2


def test_without_room_the_youngest_request_fails() -> None:
    backend = FakeBackend(n_ctx=40, n_seq=2, n_cells=30)
    desk = Desk(backend, n_slots=2)
    desk.engine.submit(request(1, "a" * 10, num_predict=10))
    desk.engine.submit(request(2, "b" * 15, num_predict=10))
    desk.finish()
    assert desk.replies[1].text == continuation(encode("a" * 10), 10)
    assert desk.replies[2].failed is not None
    assert "memory is full" in desk.replies[2].failed.message


@settings(deadline=None, max_examples=100)
@given(st.lists(st.integers(0, 2), max_size=20), st.lists(st.integers(0, 2), max_size=20))
def test_common_prefix(a: list[int], b: list[int]) -> None:
    length = common_prefix(a, b)
    assert a[:length] == b[:length]
    assert length == min(len(a), len(b)) or a[length] != b[length]


words = st.sampled_from(["Once upon a time ", "there was ", "a cat", "a dog", "!", "x" * 30])
arrivals = st.lists(
    st.tuples(
        st.lists(words, min_size=1, max_size=4).map("".join),
        st.integers(0, 60),  # num_predict
        st.integers(-1, 10),  # num_keep
        st.lists(st.text("abc", min_size=1, max_size=2), max_size=1),  # stop
        st.integers(0, 3),  # steps before the next arrival
        st.booleans(),  # cancelled then
        st.booleans(),  # one evaluation is aborted
    ),
    min_size=1,
    max_size=8,
)


@settings(deadline=None, max_examples=200)
@given(
    arrivals=arrivals,
    n_slots=st.integers(1, 3),
    spare=st.integers(0, 2),
    forgets=st.booleans(),
    can_shift=st.booleans(),
    asynchronous=st.booleans(),
)
def test_every_reply_is_what_it_would_be_alone(
    arrivals: list[tuple[str, int, int, list[str], int, bool, bool]],
    n_slots: int,
    spare: int,
    forgets: bool,
    can_shift: bool,
    asynchronous: bool,
) -> None:
    """Whatever runs beside it, is cancelled, aborted, shared, shifted or evicted."""

    def backend(n_seq: int, n_slots: int) -> FakeBackend:
        return FakeBackend(
            n_ctx=40,
            n_seq=n_seq,
            n_cells=40 * n_slots,
            forgets=forgets,
            can_shift=can_shift,
            asynchronous=asynchronous,
        )

    shared = backend(n_slots + spare, n_slots)
    desk = Desk(shared, n_slots)
    alone: dict[int, Reply] = {}
    for number, (prompt, num_predict, num_keep, stop, steps, cancel, abort) in enumerate(arrivals):
        question = request(number, prompt, num_predict, num_keep=num_keep, stop=stop)
        desk.engine.submit(question)
        if abort:
            shared.failures.append(DecodeAborted)
        for _ in range(steps):
            desk.engine.step()
        if cancel:
            desk.engine.cancel(number)
        else:
            alone[number] = Desk(backend(1, 1)).ask(question)
    desk.finish()
    for number, reply in alone.items():
        assert desk.replies[number].text == reply.text
        assert desk.replies[number].end.tokens == reply.end.tokens
        assert desk.replies[number].end.reason == reply.end.reason


# --- pace -----------------------------------------------------------------------------------


def test_nobody_waiting_for_text_means_the_largest_chunk() -> None:
    assert PromptPacer(512).budget(writing=0) == 512


def test_chunks_beside_replies_take_a_bearable_pause() -> None:
    pacer = PromptPacer(512)
    assert pacer.budget(writing=2) == 32
    pacer.measured(512, 2_000_000_000)
    assert pacer.budget(writing=2) == 38
    for _ in range(50):
        pacer.measured(512, 100_000_000)
    assert pacer.budget(writing=2) == 510
