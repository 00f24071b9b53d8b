"""What the server's models are shown and asked, and what llama.cpp's own loop says to it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.support.mtmd_oracle import MARKER, Answer, Question, ask_oracle
from tests.support.pictures import picture, png
from tests.support.server import RunningServer, digest_of
from tests.support.vision import Kind, VisionModel, write_vision_model

CAT: Final = png(picture(1))
DOG: Final = png(picture(2))
#: Shown by one test alone.
BIRD: Final = png(picture(3))

#: What an image takes of the context with the model ``llava``.
TOKENS: Final = 16

#: Every message with its role, and nothing else.
TEMPLATE: Final = "{{ range .Messages }}<{{ .Role }}>{{ .Content }}\n{{ end }}<assistant>"

#: The most probable tokens, as the oracle takes them.
GREEDY: Final = {"temperature": 0, "repeat_penalty": 1, "num_predict": 8}

#: Prompts by names, as ``TEMPLATE`` or nobody makes them.
QUESTIONS: Final = {
    "cat": Question(f"<user>{MARKER}What is it?\n<assistant>", [picture(1)]),
    "dog": Question(f"<user>{MARKER}What is it?\n<assistant>", [picture(2)]),
    "none": Question("<user>What is it?\n<assistant>"),
    "both": Question(f"<user>{MARKER}{MARKER}What is it?\n<assistant>", [picture(1), picture(2)]),
    "labelled": Question(
        f"<user>The first:\n\n{MARKER}\n\nThe second:\n\n{MARKER}\n<assistant>",
        [picture(1), picture(2)],
    ),
    "placed": Question(f"<user>Is {MARKER} like {MARKER}?\n<assistant>", [picture(1), picture(2)]),
    "only": Question(f"<user>{MARKER}\n<assistant>", [picture(1)]),
    "raw": Question(f"Once {MARKER} upon {MARKER} a time", [picture(2), picture(1)]),
    "two turns": Question(
        f"<user>{MARKER}What is it?\n<assistant>A cat.\n<user>{MARKER}And this?\n<assistant>",
        [picture(1), picture(2)],
    ),
    "later": Question(
        f"<user>{MARKER}What is it?\n<assistant>A cat.\n<user>Really?\n<assistant>", [picture(1)]
    ),
    "other later": Question(
        f"<user>{MARKER}What is it?\n<assistant>A cat.\n<user>Really?\n<assistant>", [picture(3)]
    ),
    "all roles": Question(
        f"<system>{MARKER}Look.\n<user>Once\n<tool>{MARKER}found\n<assistant>",
        [picture(1), picture(2)],
    ),
}


@dataclass(frozen=True)
class Sight:
    """A model that sees, and what it is to say to the questions."""

    kind: Kind
    files: VisionModel
    answers: dict[str, Answer]

    @classmethod
    def of(cls, folder: Path, kind: Kind) -> Sight:
        files = write_vision_model(folder, kind)
        answers = ask_oracle(files, *QUESTIONS.values(), as_served=True)
        return cls(kind, files, dict(zip(QUESTIONS, answers, strict=True)))

    def text(self, name: str) -> str:
        return self.answers[name].text

    def count(self, name: str) -> int:
        """How many tokens the prompt has, those of its images included."""
        return self.answers[name].n_tokens


def add(server: RunningServer, name: str, *files: Path, **request: Any) -> None:
    """Create a model from GGUF files."""
    digests = {}
    for file in files:
        digests[file.name] = digest_of(file.read_bytes())
        assert server.upload(file, digests[file.name]).status in (200, 201)
    server.create(name, files=digests, **{"template": TEMPLATE, "parameters": GREEDY, **request})


def b64(content: bytes) -> str:
    return base64.b64encode(content).decode()


def data_url(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{b64(content)}"
