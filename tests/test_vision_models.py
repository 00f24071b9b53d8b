"""The models that see, of the tests' own making, as llama.cpp's multimodal library runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.support.mtmd_oracle import MARKER, Answer, Question, ask_oracle
from tests.support.pictures import picture, png
from tests.support.vision import KINDS, Kind, write_vision_model

#: The tokens and positions of each chunk of an image, 64 pixels wide and 48 high.
LAYOUTS: dict[Kind, list[tuple[int, int]]] = {
    "llava": [(16, 16)],
    "gemma3": [(16, 16)],
    # Four columns and three rows of patches, which take as many positions as the longer side.
    "qwen2vl": [(12, 4)],
    # Two by two tiles, and then the whole image.
    "idefics3": [(4, 4)] * 5,
}

PROMPT = f"Once {MARKER} upon a time"


def images(answer: Answer) -> list[tuple[int, int]]:
    return [(chunk.n_tokens, chunk.n_pos) for chunk in answer.chunks if chunk.tokens is None]


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_written_depends_on_the_image(kind: Kind, tmp_path: Path) -> None:
    one, same, from_file, other, none = ask_oracle(
        write_vision_model(tmp_path, kind),
        Question(PROMPT, [picture(1)]),
        Question(PROMPT, [picture(1)]),
        Question(PROMPT, [png(picture(1))]),
        Question(PROMPT, [picture(2)]),
        Question(PROMPT.replace(MARKER, "")),
    )

    assert images(one) == LAYOUTS[kind]
    assert [chunk.non_causal for chunk in one.chunks if chunk.tokens is None] == [
        kind == "gemma3"
    ] * len(LAYOUTS[kind])
    assert images(none) == []
    assert np.isfinite(one.logits).all()
    for equal in (same, from_file):
        assert equal.tokens == one.tokens
        assert np.array_equal(equal.logits, one.logits)
    for different in (other, none):
        assert different.tokens != one.tokens
        assert np.abs(different.logits - one.logits).max() > 1


def test_the_order_of_images_matters(tmp_path: Path) -> None:
    model = write_vision_model(tmp_path, "llava")
    prompt = f"{MARKER} and {MARKER} then"

    forth, back = ask_oracle(
        model,
        Question(prompt, [picture(1), picture(2)]),
        Question(prompt, [picture(2), picture(1)]),
    )

    assert forth.n_tokens == back.n_tokens
    assert forth.tokens != back.tokens


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_arguments_give_the_same_bytes(kind: Kind, tmp_path: Path) -> None:
    first, second = (tmp_path / name for name in ("first", "second"))
    for directory in (first, second):
        directory.mkdir()

    one, again = write_vision_model(first, kind), write_vision_model(second, kind)

    assert one.model.read_bytes() == again.model.read_bytes()
    assert one.projector.read_bytes() == again.projector.read_bytes()
