"""Images in the engine: batching, the prefix cache and context shifts on the strict backend."""

from __future__ import annotations

import weakref
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.engine.pictures import Parts, Picture, weave
from llamaherd.llama.backend import DecodeAborted
from llamaherd.runner.protocol import Generate, Placed
from tests.support.backend import FakeBackend, encode, write_letters
from tests.support.engine import GREEDY, Desk, Reply, make_picture


class Question:
    """Texts and pictures by turns, as a request with what the model is shown for its images."""

    def __init__(self, *parts: str | Picture) -> None:
        self.tokens = encode("")
        self.placed: list[Placed] = []
        self.images: list[Parts] = []
        for part in parts:
            if isinstance(part, str):
                self.tokens += part.encode()
            else:
                self.placed.append(Placed(len(self.tokens), b"an image"))
                self.images.append([part])

    def request(self, number: int = 1, num_predict: int = 6, **fields: object) -> Generate:
        return Generate(
            number,
            self.tokens,
            GREEDY,
            num_predict,
            images=self.placed,
            **fields,  # type: ignore[arg-type]
        )

    def ask(self, desk: Desk, number: int = 1, num_predict: int = 6, **fields: object) -> Reply:
        return desk.ask(self.request(number, num_predict, **fields), self.images)

    def submit(self, desk: Desk, number: int, num_predict: int = 6) -> None:
        desk.engine.submit(self.request(number, num_predict), self.images)

    def continuation(self, length: int) -> str:
        """What the model writes with nothing else in the way."""
        images = [
            (placed.at, parts) for placed, parts in zip(self.placed, self.images, strict=True)
        ]
        cells, _ = weave(self.tokens, images)
        pictures = [part for parts in self.images for part in parts if isinstance(part, Picture)]
        numbers = {
            cell: -int(embedding[0])
            for picture in pictures
            for cell, embedding in zip(picture.cells(), picture.embeddings, strict=True)
        }
        tokens = [numbers.get(cell, cell) for cell in cells]
        for _ in range(length):
            tokens.append(write_letters(tuple(tokens)))
        return bytes(tokens[len(cells) :]).decode()


CAT, DOG = make_picture(1, 9), make_picture(2, 9)
WHOLE = make_picture(3, 9, mutual=True)
GRID = make_picture(4, 9, grid=True)


@pytest.mark.parametrize("picture", [CAT, WHOLE, GRID], ids=["row", "mutual", "grid"])
@pytest.mark.parametrize("asynchronous", [True, False])
def test_the_reply_follows_from_text_and_images(picture: Picture, asynchronous: bool) -> None:
    question = Question("see ", picture, picture, " and ", DOG, "!")
    reply = question.ask(Desk(FakeBackend(asynchronous=asynchronous)))
    assert reply.text == question.continuation(6)
    assert (reply.end.prompt_count, reply.end.cached_count) == (1 + 4 + 18 + 5 + 9 + 1, 0)


def test_a_prompt_may_end_with_an_image() -> None:
    question = Question("see ", CAT)
    assert question.ask(Desk(FakeBackend())).text == question.continuation(6)


def test_an_image_is_read_in_as_many_pieces_as_the_batch_demands() -> None:
    backend = FakeBackend(n_batch=4)
    question = Question("see ", CAT, "!")
    assert question.ask(Desk(backend)).text == question.continuation(6)
    assert [size for size, _ in backend.shown] == [4, 4, 1]


def test_embeddings_that_see_each_other_are_read_at_once_or_refused() -> None:
    backend = FakeBackend(n_batch=9)
    Question("see ", WHOLE).ask(Desk(backend))
    assert backend.shown == [(9, True)]
    refused = Question("see ", WHOLE).ask(Desk(FakeBackend(n_batch=8))).failed
    assert refused is not None
    assert (refused.status, refused.message) == (
        400,
        "an image takes 9 tokens at once, a batch 8: a larger num_batch is needed",
    )


def test_replies_flow_on_while_an_image_is_read() -> None:
    backend = FakeBackend(n_ctx=128, n_batch=40)
    desk = Desk(backend, n_slots=2)
    writing, viewing = Question("a"), Question("see ", make_picture(9, 90), "!")
    writing.submit(desk, 1, num_predict=60)
    desk.engine.step()
    viewing.submit(desk, 2)
    while len(backend.shown) < 3:
        desk.engine.step()
    assert 2 not in desk.replies
    assert len(desk.replies[1].chunks) >= 3
    desk.finish()
    assert desk.replies[1].text == writing.continuation(60)
    assert desk.replies[2].text == viewing.continuation(6)


def having_looked(question: Question, backend: FakeBackend) -> Desk:
    """An engine that has read the question's image, or its first piece."""
    desk = Desk(backend, n_slots=1)
    question.submit(desk, 1)
    while not backend.shown:
        desk.engine.step()
    return desk


def test_giving_up_while_an_image_is_read_leaves_nothing_behind() -> None:
    question = Question("see ", GRID, "!")
    desk = having_looked(question, FakeBackend(n_batch=2))
    desk.engine.cancel(1)
    reply = question.ask(desk, 2)
    assert reply.text == question.continuation(6)
    assert reply.end.cached_count == 1 + 4, "what was read before the image"


def test_an_aborted_piece_is_read_again() -> None:
    backend = FakeBackend(n_batch=4)
    question = Question("see ", GRID, "!")
    desk = having_looked(question, backend)
    backend.failures.append(DecodeAborted)
    assert desk.finish()[1].text == question.continuation(6)


@pytest.mark.parametrize("picture", [CAT, WHOLE, GRID], ids=["row", "mutual", "grid"])
def test_an_image_that_was_read_whole_survives_an_abort_behind_it(picture: Picture) -> None:
    backend = FakeBackend()
    question = Question("see ", picture, " what?")
    desk = having_looked(question, backend)
    backend.failures.append(DecodeAborted)
    assert desk.finish()[1].text == question.continuation(6)
    assert len(backend.shown) == 1


# --- the prefix cache ---------------------------------------------------------------------------


@pytest.mark.parametrize("picture", [CAT, WHOLE, GRID], ids=["row", "mutual", "grid"])
def test_the_next_question_about_an_image_does_not_read_it_again(picture: Picture) -> None:
    backend = FakeBackend()
    desk = Desk(backend)
    first = Question("see ", picture, " what?").ask(desk)
    backend.shown.clear()
    again = Question("see ", picture, f" what?{first.text} why?")
    reply = again.ask(desk, 2)
    assert backend.shown == []
    assert reply.text == again.continuation(6)
    assert reply.end.cached_count == 1 + 4 + 9 + 6 + 6 - 1


@pytest.mark.parametrize("picture", [CAT, WHOLE, GRID], ids=["row", "mutual", "grid"])
def test_an_image_is_shared_whole_or_not_at_all(picture: Picture) -> None:
    desk = Desk(FakeBackend())
    longer = Question("have a look at ", picture, "!")
    longer.ask(desk, 1)
    ending = Question("have a look at ", picture)
    reply = ending.ask(desk, 2)
    assert reply.text == ending.continuation(6)
    assert reply.end.cached_count == 1 + len("have a look at ")


def test_another_image_at_the_same_place_is_not_taken_for_it() -> None:
    desk = Desk(FakeBackend())
    Question("have a look at ", CAT, " what?").ask(desk, 1)
    other = Question("have a look at ", DOG, " what?")
    reply = other.ask(desk, 2)
    assert reply.text == other.continuation(6)
    assert reply.end.cached_count == 1 + len("have a look at ")


@pytest.mark.parametrize("picture", [CAT, WHOLE, GRID], ids=["row", "mutual", "grid"])
def test_another_question_about_an_image_shares_it(picture: Picture) -> None:
    desk = Desk(FakeBackend())
    Question("see ", picture, " what?").ask(desk, 1)
    other = Question("see ", picture, " no, how?")
    reply = other.ask(desk, 2)
    assert reply.text == other.continuation(6)
    assert reply.end.cached_count == 1 + 4 + 9 + 1


def test_a_finished_sequence_holds_no_embeddings() -> None:
    desk = Desk(FakeBackend())
    picture = make_picture(1, 9)
    embeddings = weakref.ref(picture.embeddings)
    Question("see ", picture, " what?").ask(desk)
    assert embeddings() is not None
    del picture
    assert embeddings() is None


# --- what doesn't fit ---------------------------------------------------------------------------


def refusal(question: Question, num_keep: int = 4) -> str:
    failed = question.ask(Desk(FakeBackend(n_ctx=64)), num_keep=num_keep).failed
    assert failed is not None
    assert failed.status == 400
    return failed.message


@pytest.mark.parametrize(
    ("parts", "num_keep", "kept"),
    [
        (("x" * 50, CAT, " and?"), 8, ("x" * 49, CAT, " and?")),
        (("see ", CAT, "x" * 51), 13, ("see ", CAT, "x" * 50)),
    ],
    ids=["before the image", "behind"],
)
def test_a_prompt_is_cut_beside_its_images(
    parts: tuple[str | Picture, ...], num_keep: int, kept: tuple[str | Picture, ...]
) -> None:
    desk = Desk(FakeBackend(n_ctx=64))
    reply = Question(*parts).ask(desk, num_predict=1, num_keep=num_keep)
    assert reply.text == Question(*kept).continuation(1)
    assert (reply.end.dropped_count, reply.end.prompt_count) == (1, 64)


@pytest.mark.parametrize("num_keep", [0, 4, 8, 12])
def test_a_prompt_is_not_cut_where_an_image_is(num_keep: int) -> None:
    """Else the model would answer without having seen it."""
    assert refusal(Question("see ", CAT, " and " + "x" * 60), num_keep) == (
        "the prompt takes 79 tokens, 9 of them for images, and can't be cut to fit the context of"
        " 64"
    )


def test_an_image_for_which_there_is_no_room_is_refused() -> None:
    for question, size in (
        (Question("x" * 10, make_picture(1, 60)), 60),
        (Question(make_picture(1, 64), "!"), 64),
        (Question("see ", CAT, make_picture(2, 90), " what?"), 99),
    ):
        assert f" tokens, {size} of them for images, and can't be cut" in refusal(question)


@pytest.mark.parametrize(
    ("can_shift", "picture"), [(True, CAT), (False, CAT), (False, GRID)], ids=str
)
def test_a_full_context_loses_images_whole(can_shift: bool, picture: Picture) -> None:
    backend = FakeBackend(n_ctx=32, can_shift=can_shift)
    question = Question("see ", picture, " what?")
    reply = question.ask(Desk(backend), num_predict=40, num_keep=6)
    assert (reply.end.reason, reply.end.eval_count) == ("length", 40)
    room = 32 - reply.end.prompt_count
    assert reply.text[: room + 1] == question.continuation(room + 1)


def test_a_short_image_is_read_again_by_batches_of_one() -> None:
    """As it lies behind what a context that can't shift has lost."""
    backend = FakeBackend(n_ctx=32, n_batch=1, can_shift=False)
    question = Question("x" * 20, make_picture(1, 4), "!")
    reply = question.ask(Desk(backend, n_slots=1), num_predict=12, num_keep=4)
    assert (reply.end.reason, reply.end.eval_count) == ("length", 12)


def test_a_prompt_with_images_is_not_scored() -> None:
    failed = Question("see ", CAT).ask(Desk(FakeBackend()), score_prompt=True).failed
    assert failed is not None
    assert (failed.status, failed.message) == (400, "a prompt with images can't be scored")


# --- everything at once -------------------------------------------------------------------------


@st.composite
def questions(draw: st.DrawFn, *, grid: bool, mutual: bool) -> Question:
    """Few words and few images, so that prompts begin alike."""
    words = st.sampled_from(["Once upon a time ", "there was ", "a cat", "!", "x" * 20])
    pictures = st.sampled_from(
        [make_picture(key, 4 + key, grid=grid, mutual=mutual) for key in range(3)]
    )
    return Question(*draw(st.lists(words | pictures, min_size=1, max_size=5)))


@settings(deadline=None, max_examples=150)
@given(data=st.data(), grid=st.booleans(), mutual=st.booleans(), asynchronous=st.booleans())
def test_every_reply_is_what_it_would_be_alone(
    data: st.DataObject, grid: bool, mutual: bool, asynchronous: bool
) -> None:
    """Whatever runs beside it, is cancelled, aborted, shared, shifted or evicted."""
    forgets, can_shift = data.draw(st.booleans()), data.draw(st.booleans()) and not grid

    def backend(n_seq: int, n_slots: int) -> FakeBackend:
        return FakeBackend(
            n_ctx=40,
            n_seq=n_seq,
            n_cells=40 * n_slots,
            n_batch=8,
            forgets=forgets,
            can_shift=can_shift,
            asynchronous=asynchronous,
        )

    n_slots = data.draw(st.integers(1, 3))
    shared = backend(n_slots + data.draw(st.integers(0, 2)), n_slots)
    desk = Desk(shared, n_slots)
    alone: dict[int, Reply] = {}
    arrivals: Sequence[Question] = data.draw(
        st.lists(questions(grid=grid, mutual=mutual), min_size=1, max_size=6)
    )
    for number, question in enumerate(arrivals):
        num_predict = data.draw(st.integers(0, 60))
        question.submit(desk, number, num_predict)
        if data.draw(st.booleans()):
            shared.failures.append(DecodeAborted)
        for _ in range(data.draw(st.integers(0, 4))):
            desk.engine.step()
        if data.draw(st.booleans()):
            desk.engine.cancel(number)
        else:
            alone[number] = question.ask(Desk(backend(1, 1)), number, num_predict)
    desk.finish()
    for number, expected in alone.items():
        reply = desk.replies[number]
        assert reply.text == expected.text
        if expected.failed is None:
            assert reply.end.tokens == expected.end.tokens
            assert reply.end.reason == expected.end.reason
        else:
            assert reply.failed is not None
            assert reply.failed.message == expected.failed.message
