"""Images before models that keep a state, which can't go back within what they have read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaherd.runner.protocol import Generate, Placed
from tests.support.engine import GREEDY
from tests.support.mtmd_oracle import MARKER, Answer, Question, ask_oracle
from tests.support.pictures import picture
from tests.support.recurrent_models import write_hybrid_model, write_recurrent_model
from tests.support.room import Room, check, loaded
from tests.support.vision import VisionModel, write_projector

CAT, DOG = picture(1), picture(2)
LENGTH = 8

QUESTIONS = {
    "a cat": Question(f"Once {MARKER} upon a time", [CAT], LENGTH),
    "a dog": Question(f"Once {MARKER} upon a time", [DOG], LENGTH),
    "two": Question(f"{MARKER}{MARKER} there was", [DOG, CAT], LENGTH),
    "none": Question("Once upon a time", [], LENGTH),
}


def write(folder: Path, kind: str) -> VisionModel:
    """A state alone, and one beside attention to places in several dimensions."""
    if kind == "recurrent":
        model = write_recurrent_model(folder / "mamba.gguf")
        return VisionModel(model, write_projector(folder / "mmproj.gguf", "llava"))
    tokens = ["<|vision_start|>", "<|vision_end|>"]
    model = write_hybrid_model(folder / "qwen35.gguf", control_tokens=tokens)
    return VisionModel(model, write_projector(folder / "mmproj.gguf", "qwen2vl"))


@pytest.fixture(scope="module", params=["recurrent", "hybrid"])
def files(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> VisionModel:
    return write(tmp_path_factory.mktemp(request.param), request.param)


@pytest.fixture(scope="module")
def answers(files: VisionModel) -> dict[str, Answer]:
    return dict(zip(QUESTIONS, ask_oracle(files, *QUESTIONS.values()), strict=True))


@pytest.fixture(params=[9, 64], ids="batches of {}".format)
def room(files: VisionModel, request: pytest.FixtureRequest) -> Iterator[Room]:
    model = loaded(files.model, files.projector, n_batch=request.param)
    yield Room(model)
    model.close()


def test_replies_are_those_of_llama_cpp(room: Room, answers: dict[str, Answer]) -> None:
    assert len({answer.text for answer in answers.values()}) == len(answers)
    for number, name in enumerate([*QUESTIONS, *QUESTIONS]):
        check(room.ask(QUESTIONS[name], number), answers[name])


def test_also_all_at_once(room: Room, answers: dict[str, Answer]) -> None:
    for number, question in enumerate(QUESTIONS.values()):
        room.desk.engine.submit(*room.read(question, number))
    replies = room.desk.finish()
    for number, name in enumerate(QUESTIONS):
        check(replies[number], answers[name])


def test_also_when_it_was_given_up_meanwhile(room: Room, answers: dict[str, Answer]) -> None:
    """As others do that read in the same step and are cancelled."""
    for number, (name, question) in enumerate(QUESTIONS.items()):
        room.desk.engine.submit(*room.read(question, number))
        for step in range(5):
            if step % 2:
                room.model.backend.abort()
            room.desk.engine.step()
        check(room.desk.finish()[number], answers[name])


def test_a_conversation_is_gone_on_with(room: Room, files: VisionModel) -> None:
    """With all that was read and written, and another image at its end."""
    request, images = room.read(QUESTIONS["a cat"], 1)
    first = room.desk.ask(request, images)
    assert first.end.reason == "length"
    said = [*request.prompt, *first.end.tokens]
    asked, dog = room.read(Question(f"{MARKER} and", [DOG], LENGTH), 2)
    places = [*request.images, Placed(len(said), asked.images[0].image)]
    later = Generate(2, [*said, *asked.prompt[1:]], GREEDY, LENGTH, images=places)
    reply = room.desk.ask(later, [*images, *dog])
    assert reply.end.cached_count == first.end.prompt_count + LENGTH - 1

    other = loaded(files.model, files.projector)
    alone = Room(other).desk.ask(later, [*images, *dog])
    assert alone.end.cached_count == 0
    assert reply.end.tokens == alone.end.tokens
    other.close()
