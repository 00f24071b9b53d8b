"""An engine with a model that sees, asked as the server asks it."""

from __future__ import annotations

from pathlib import Path

from llamaherd.engine.pictures import Parts
from llamaherd.engine.vision import Viewer
from llamaherd.llama.loader import LoadedModel, ModelSpec, load
from llamaherd.runner.protocol import Generate, Placed
from tests.support.engine import GREEDY, Desk, Reply
from tests.support.mtmd_oracle import MARKER, Answer, Question
from tests.support.pictures import png


def loaded(model: Path, projector: Path, n_batch: int = 64) -> LoadedModel:
    spec = ModelSpec(
        model=model, projector=projector, n_ctx=256, n_slots=3, n_batch=n_batch, threads=1
    )
    return load(spec, lambda _: None)


class Room:
    """An engine with its model and viewer."""

    def __init__(self, model: LoadedModel) -> None:
        assert model.projector is not None
        self.model = model
        self.viewer = Viewer(model.projector, most_cells=128)
        self.desk = Desk(model.backend, n_slots=3)

    def read(self, question: Question, number: int) -> tuple[Generate, list[Parts]]:
        """As the server does it: texts between images are tokenized one by one."""
        tokens: list[int] = []
        placed: list[Placed] = []
        images = iter(question.images)
        for index, text in enumerate(question.prompt.split(MARKER)):
            if index:
                image = next(images)
                placed.append(
                    Placed(len(tokens), image if isinstance(image, bytes) else png(image))
                )
            tokens += self.model.backend.vocabulary.tokenize(
                text, add_special=index == 0, parse_special=True
            )
        request = Generate(number, tokens, GREEDY, question.n_predict, images=placed)
        return request, [self.viewer.see(each.image) for each in placed]

    def tokenize(self, text: str, *, opens: bool) -> list[int]:
        vocabulary = self.model.backend.vocabulary
        return vocabulary.tokenize(text, add_special=opens, parse_special=True)

    def ask(self, question: Question, number: int = 1) -> Reply:
        return self.desk.ask(*self.read(question, number))


def check(reply: Reply, answer: Answer) -> None:
    tokens = reply.end.tokens
    assert tokens == answer.tokens[: len(tokens)], "the oracle goes on after a token that ends"
    assert len(tokens) == len(answer.tokens) or reply.end.reason == "stop"
    assert reply.end.prompt_count == answer.n_tokens
