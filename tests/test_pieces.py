"""Long texts are tokenized in pieces, and nobody can tell."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.cria.bundle import WEIGHTS
from llamaherd.llama.pieces import Cutter
from llamaherd.llama.vocabulary import Vocabulary
from tests.support.encoders import write_encoder
from tests.support.evaluate import vocabulary as opened_vocabulary
from tests.support.models import write_model

#: What vocabularies may take apart, put together or take away.
PARTS = (
    *("a", "b", " ", "\n", "é", "日", "\x01", "▁", "once ", "<", "s", "/", ">", "|"),
    *("<s>", "</s>", "<unk>", "[CLS]", "[SEP]", "<|x|>", "<|x|>|>", "<tool_call>", "\n\n"),
    *("<|fim_prefix|>", "<|end|>", "  "),
)

#: Longest is found first, and what of it overlaps others isn't.
EXTRA = ("<|x|>", "<|x|>|>", "\n\n", "<tool_call>")


@pytest.fixture(scope="module")
def vocabularies(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Vocabulary]]:
    folder = tmp_path_factory.mktemp("vocabularies")
    no_prefix: Any = {"tokenizer.ggml.add_space_prefix": False}
    files = {
        "sentencepiece": write_model(folder / "spm.gguf", extra_tokens=EXTRA),
        "no prefix": write_model(folder / "plain.gguf", extra_tokens=EXTRA, metadata=no_prefix),
        "word pieces": write_encoder(folder / "wpm.gguf"),
        "byte pairs": WEIGHTS,
    }
    with ExitStack() as opened:
        yield {name: opened.enter_context(opened_vocabulary(path)) for name, path in files.items()}


@pytest.mark.parametrize("name", ["sentencepiece", "no prefix", "word pieces", "byte pairs"])
@given(text=st.lists(st.sampled_from(PARTS), max_size=40).map("".join), parse_special=st.booleans())
def test_the_tokens_are_those_of_the_whole(
    text: str, parse_special: bool, name: str, vocabularies: dict[str, Vocabulary]
) -> None:
    vocabulary = vocabularies[name]

    def whole(part: str) -> list[int]:
        return vocabulary.tokenize(part, add_special=False, parse_special=parse_special)

    for size in (1, 5):
        found = vocabulary.cutter.tokenize(text, whole, parse_special=parse_special, size=size)
        assert found == whole(text)


@pytest.mark.parametrize("name", ["sentencepiece", "word pieces", "byte pairs"])
@pytest.mark.parametrize("part", ["<s> a", "[CLS]", "\x01", "日a", "<|x|>\n", "<|end|>"])
def test_what_stands_around_a_long_text(
    part: str, name: str, vocabularies: dict[str, Vocabulary]
) -> None:
    vocabulary = vocabularies[name]
    count = 40_000 // len(part)
    found = vocabulary.tokenize(part * count, add_special=True, parse_special=True)
    short = vocabulary.tokenize(part * 50, add_special=True, parse_special=True)
    one = len(vocabulary.tokenize(part * 51, add_special=True, parse_special=True)) - len(short)
    assert found[:20] == short[:20]
    assert found[-20:] == short[-20:]
    assert len(found) == len(short) + (count - 50) * one


@pytest.mark.parametrize(
    ("cutter", "text"),
    [
        (Cutter(("<s>",), ()), "<s>"),
        (Cutter((), ("<s>",)), "a<s> "),
        (Cutter((), ("<s>",), strips_left={"<s>"}), "  <s>"),
        (Cutter(("<s>", "<|x|>"), ("a<s>b",)), "<s>a<s>b<|x|>"),
        (Cutter((), (), letters=frozenset("ab ")), "\n"),
        (Cutter(("<s>",), (), letters=frozenset("<s>ab")), "aaaa\x01<s>\x01"),
    ],
)
def test_no_piece_is_long_where_a_tokenizer_is_slow(cutter: Cutter, text: str) -> None:
    pieces = [piece.text for piece in cutter.pieces(text * 5000, parse_special=True, size=100)]
    assert max(map(len, pieces)) < 150
    assert "".join(pieces).replace(" ", "") == (text * 5000).replace(" ", "")


def test_other_texts_stay_whole() -> None:
    text = "no special token, and no foreign letter </s>"
    cutter = Cutter(("<s>",), ("</s>",), letters=frozenset(text))
    assert [*cutter.pieces(text, parse_special=False, size=1)] == [(text, False)]


def test_so_do_tokens_that_overlap_all_along() -> None:
    """Which of them are found depends on all that came before."""
    cutter = Cutter(("\n", "\n\n"), ())
    assert [*cutter.pieces("\n" * 99, parse_special=True, size=1)] == [("\n" * 99, False)]
