"""Models that see, on llama.cpp: the engine writes what llama.cpp's own loop writes.

``tests.support.mtmd_oracle`` runs that loop; expected replies are greedy.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from llamaherd.engine.failures import failure_of
from llamaherd.engine.pictures import Picture
from llamaherd.engine.vision import Viewer, most_cells
from llamaherd.errors import LoadError, PromptError
from llamaherd.llama import vision
from llamaherd.llama.backend import EncodeFailed, Outline, Pixels
from llamaherd.llama.loader import ModelSpec, load
from llamaherd.llama.vision import Projector
from tests.support.models import write_model
from tests.support.mtmd_oracle import MARKER, Answer, Question, ask_oracle
from tests.support.pictures import picture, png
from tests.support.room import Room, check, loaded
from tests.support.vision import KINDS, Kind, VisionModel, write_projector, write_vision_model

CAT, DOG = picture(1), picture(2)

#: Tokens of every reply.
LENGTH = 12

QUESTIONS = {
    "a cat": Question(f"Once {MARKER} upon a time", [CAT], LENGTH),
    "a dog": Question(f"Once {MARKER} upon a time", [DOG], LENGTH),
    "two": Question(f"{MARKER}{MARKER} there was a cat", [DOG, CAT], LENGTH),
    "none": Question("Once upon a time", [], LENGTH),
    "more of the cat": Question(f"Once {MARKER} upon a time there was", [CAT], LENGTH),
}


@dataclass
class Eyes:
    """A model that sees, and what llama.cpp's own loop answers to the questions."""

    kind: Kind
    files: VisionModel
    answers: dict[str, Answer]


@pytest.fixture(scope="module", params=KINDS)
def eyes(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Eyes:
    kind: Kind = request.param
    files = write_vision_model(tmp_path_factory.mktemp(kind), kind)
    answers = ask_oracle(files, *QUESTIONS.values())
    return Eyes(kind, files, dict(zip(QUESTIONS, answers, strict=True)))


@pytest.fixture
def room(eyes: Eyes) -> Iterator[Room]:
    model = loaded(eyes.files.model, eyes.files.projector)
    yield Room(model)
    model.close()


@pytest.mark.parametrize("name", QUESTIONS)
def test_replies_are_those_of_llama_cpp(eyes: Eyes, room: Room, name: str) -> None:
    check(room.ask(QUESTIONS[name]), eyes.answers[name])


def test_also_all_at_once(eyes: Eyes, room: Room) -> None:
    for number, question in enumerate(QUESTIONS.values()):
        room.desk.engine.submit(*room.read(question, number))
    replies = room.desk.finish()
    for number, name in enumerate(QUESTIONS):
        check(replies[number], eyes.answers[name])


def test_also_in_small_pieces(eyes: Eyes) -> None:
    """Gemma's images are never cut, however small the batch is to be."""
    model = loaded(eyes.files.model, eyes.files.projector, n_batch=9)
    room = Room(model)
    for name in QUESTIONS:
        check(room.ask(QUESTIONS[name]), eyes.answers[name])
    model.close()


def test_also_when_every_third_step_is_given_up(eyes: Eyes, room: Room) -> None:
    """As when others are cancelled: what was read before stays, or this would never end."""
    engine = room.desk.engine
    for number, (name, question) in enumerate(QUESTIONS.items()):
        engine.submit(*room.read(question, number))
        for step in range(3 * LENGTH + 30):
            if step % 3 == 1:
                room.model.backend.abort()
            engine.step()
        assert not engine.busy
        check(room.desk.replies[number], eyes.answers[name])


def test_a_conversation_reads_its_image_once(eyes: Eyes, room: Room) -> None:
    first = room.ask(QUESTIONS["a cat"])
    reply = room.ask(QUESTIONS["more of the cat"], 2)
    check(reply, eyes.answers["more of the cat"])
    assert reply.end.cached_count >= first.end.prompt_count


def test_images_are_never_confused(eyes: Eyes, room: Room) -> None:
    for number, name in enumerate(["a cat", "a dog", "a cat", "two", "a dog"]):
        check(room.ask(QUESTIONS[name], number), eyes.answers[name])


# --- looking ------------------------------------------------------------------------------------


def test_an_image_counts_what_it_takes(eyes: Eyes, room: Room) -> None:
    around = [*room.tokenize("Once ", opens=True), *room.tokenize(" upon a time", opens=False)]
    assert room.viewer.count(png(CAT)) == eyes.answers["a cat"].n_tokens - len(around) > 0


def test_what_was_seen_is_not_encoded_again(room: Room) -> None:
    seen = room.viewer.see(png(CAT))
    assert room.viewer.see(png(CAT)) is seen
    assert room.viewer.see(png(DOG)) is not seen


def test_the_images_seen_least_recently_are_forgotten(room: Room) -> None:
    assert room.model.projector is not None
    cells = room.viewer.count(png(CAT))
    two_images = 2 * cells * room.model.projector.width * 4
    viewer = Viewer(room.model.projector, most_cells=128, kept_bytes=two_images)
    cat, dog = viewer.see(png(CAT)), viewer.see(png(DOG))
    assert viewer.see(png(CAT)) is cat
    viewer.see(png(picture(3)))
    assert viewer.see(png(CAT)) is cat
    assert viewer.see(png(DOG)) is not dog


def test_images_that_were_only_counted_take_no_memory(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of the many messages that don't fit the context any more."""
    projector = room.model.projector
    assert projector is not None
    made_ready = []
    outline = projector.outline

    def watched(pixels: Pixels) -> list[list[int] | Outline]:
        made_ready.append(weakref.ref(found := Outlines(outline(pixels))))
        return found

    monkeypatch.setattr(projector, "outline", watched)
    images = [png(picture(seed)) for seed in range(20)]
    counts = [room.viewer.count(image) for image in images]
    assert len(made_ready) == 20
    assert sum(each() is not None for each in made_ready) == 8
    assert [room.viewer.count(image) for image in images] == counts
    assert len(made_ready) == 20
    for image in images[12:]:
        room.viewer.see(image)
    assert len(made_ready) == 20
    room.viewer.see(images[0])
    assert len(made_ready) == 21


class Outlines(list[list[int] | Outline]):
    """A list that can be watched."""


def test_an_image_that_takes_too_much_is_made_smaller(eyes: Eyes, room: Room) -> None:
    assert room.model.projector is not None
    large = png(picture(1, 600, 400))
    free = Viewer(room.model.projector, most_cells=10_000).count(large)
    bound = Viewer(room.model.projector, most_cells=100).count(large)
    if eyes.kind == "qwen2vl":
        assert bound <= 100 < free
    else:
        assert bound == free, "as many for every size, or for every size that large"


def test_also_one_that_no_batch_takes(tmp_path: Path) -> None:
    """An encoder's images of any size may be such that all of one must be evaluated together."""
    files = write_vision_model(tmp_path, "qwen2vl")
    model = loaded(files.model, files.projector, n_batch=64)
    assert model.projector is not None
    assert most_cells(model.projector, 256, 64) == 128
    model.projector.mutual = True
    room = Room(model)
    question = Question(f"Once {MARKER} upon a time", [picture(1, 600, 400)], LENGTH)
    assert "a larger num_batch is needed" in str(room.desk.ask(*room.read(question, 1)).failed)
    room.viewer = Viewer(model.projector, most_cells(model.projector, 256, 64))
    assert room.desk.ask(*room.read(question, 2)).end.prompt_count <= 64 + 5
    model.close()


def test_also_one_that_the_encoder_bounds_by_itself(tmp_path: Path) -> None:
    """Of 4 megapixels and of 6 an encoder of Qwen's makes 4096 tokens; fewer only of less."""
    files = write_vision_model(tmp_path, "qwen2vl")
    model = loaded(files.model, files.projector)
    assert model.projector is not None
    large = png(picture(1, 2450, 2450))
    assert Viewer(model.projector, most_cells=10_000).count(large) > 4000
    assert 0 < Viewer(model.projector, most_cells=3000).count(large) <= 3000
    model.close()


def test_what_no_shrinking_makes_small_enough_stays_as_it_is(room: Room) -> None:
    assert room.model.projector is not None
    whole = room.viewer.count(png(CAT))
    assert 1 < Viewer(room.model.projector, most_cells=1).count(png(CAT)) <= whole


def test_an_encoder_that_fails_is_no_fault_of_the_image(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where an accelerator has no memory left; later there may be some."""
    with monkeypatch.context() as patch:
        patch.setattr(vision._M, "mtmd_encode_chunk", lambda *_: 1)
        with pytest.raises(EncodeFailed, match="could not encode an image: ") as caught:
            room.viewer.see(png(CAT))
    assert failure_of(1, caught.value).status == 500
    assert room.viewer.see(png(CAT))


@pytest.mark.parametrize(("width", "height"), [(1, 1), (2, 1), (7, 300), (300, 7), (27, 29)])
def test_images_of_odd_sizes_are_seen(room: Room, width: int, height: int) -> None:
    parts = room.viewer.see(png(picture(1, width, height)))
    assert any(isinstance(part, Picture) for part in parts)


def test_an_image_that_an_encoder_can_not_take_is_refused(eyes: Eyes, room: Room) -> None:
    line = png(picture(1, 1, 3000))
    if eyes.kind == "idefics3":
        with pytest.raises(PromptError, match="invalid image: an image of 1 x 3000 can't be used"):
            room.viewer.see(line)
    else:
        assert room.viewer.see(line)


def test_a_vocabulary_without_the_tokens_around_an_image_is_told(tmp_path: Path) -> None:
    model = loaded(
        write_model(tmp_path / "m.gguf"), write_projector(tmp_path / "p.gguf", "idefics3")
    )
    assert model.projector is not None
    with pytest.raises(
        PromptError, match="vocabulary has no token for what stands around an image"
    ):
        Viewer(model.projector, most_cells=128).see(png(CAT))
    model.close()


# --- loading ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "there is no such file"),
        (b"", "failed to read magic"),
        (b"GGUF", "failed to read header"),
        (
            "another width",
            r"mismatch between text model \(n_embd = 64\) and mmproj \(n_embd = 32\)",
        ),
        ("a text model", "Failed to load CLIP model"),
    ],
    ids=["missing", "empty", "damaged", "another width", "a text model"],
)
def test_an_unsuitable_projector_is_named(
    tmp_path: Path, content: bytes | str | None, reason: str
) -> None:
    model, projector = write_model(tmp_path / "model.gguf"), tmp_path / "projector.gguf"
    if content == "another width":
        write_projector(projector, "llava", n_embd=32)
    elif content == "a text model":
        write_model(projector)
    elif isinstance(content, bytes):
        projector.write_bytes(content)
    with pytest.raises(LoadError, match=reason) as caught:
        loaded(model, projector)
    assert caught.value.message.startswith(f"unable to load projector {projector}: ")


def test_a_projector_is_freed_where_the_model_fails_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    closed = []
    close = Projector.close

    def watched(projector: Projector) -> None:
        close(projector)
        closed.append(projector)

    monkeypatch.setattr(Projector, "close", watched)
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(b"GGUF")
    files = write_vision_model(tmp_path, "llava")
    spec = ModelSpec(
        model=files.model,
        projector=files.projector,
        adapters=[adapter],
        n_ctx=64,
        n_slots=1,
        n_batch=64,
        threads=1,
    )
    with pytest.raises(LoadError, match="unable to load adapter"):
        load(spec, lambda _: None)
    assert len(closed) == 1


def test_the_projector_counts_in_the_memory(room: Room, eyes: Eyes) -> None:
    spec = ModelSpec(model=eyes.files.model, n_ctx=256, n_slots=3, n_batch=64, threads=1)
    blind = load(spec, lambda _: None)
    more = room.model.memory.model - blind.memory.model
    assert more == eyes.files.projector.stat().st_size
    assert room.model.memory.compute > blind.memory.compute
    blind.close()
