"""A prompt's tokens as parts of its text, however they cut it."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.events import Echo, ReadToken
from llamaherd.generation.scoring import PromptReading, ScoredPrompt
from llamaherd.runner.protocol import Scored


def echoes(text: str, pieces: Sequence[bytes], *, hidden: int = 0, size: int = 1) -> list[Echo]:
    """What is read of messages of ``size`` tokens each; the tokens have the logprobs -1, -2, …"""
    reading = PromptReading(ScoredPrompt(text, [0] * len(pieces), hidden))
    tokens = [ReadToken(piece, -number or None) for number, piece in enumerate(pieces)]
    starts = range(0, len(tokens), size)
    parts = [tokens[start : start + size] for start in starts]
    return [reading.echo(Scored(1, part, part is parts[-1])) for part in parts]


def told(found: Sequence[Echo]) -> list[tuple[bytes, float | None]]:
    return [(token.piece, token.logprob) for echo in found for token in echo.tokens]


@pytest.mark.parametrize(
    ("text", "pieces", "expected"),
    [
        ("Once upon", [b" Once", b" upon"], [b"Once", b" upon"]),
        (" Once", [b" ", b" Once"], [b" ", b"Once"]),
        (" Once", [b" Once"], [b" Once"]),
        ("<s>Once", [b"<s>", b" Once"], [b"<s>", b"Once"]),
        ("<s> Once", [b"<s>", b" Once"], [b"<s>", b" Once"]),
        ("a  b", [b" a", b" ", b" b"], [b"a", b" ", b" b"]),
    ],
)
def test_a_space_that_the_text_does_not_have_is_taken_off(
    text: str, pieces: list[bytes], expected: list[bytes]
) -> None:
    found = echoes(text, pieces)
    assert "".join(echo.text for echo in found) == text
    assert [piece for piece, _ in told(found)] == expected


def test_the_first_token_of_the_text_has_no_logprob() -> None:
    pieces = [b"<s>", b" Once", b" upon"]
    assert told(echoes("Once upon", pieces, hidden=1)) == [(b"Once", None), (b" upon", -2)]
    assert told(echoes("<s> Once upon", pieces)) == [
        (b"<s>", None),
        (b" Once", -1),
        (b" upon", -2),
    ]


def test_a_text_that_the_vocabulary_changes_is_told_as_it_was_read() -> None:
    found = echoes("ＡB", [b" A", b"B"], size=2)
    assert [(echo.text, len(echo.tokens)) for echo in found] == [(" AB", 2)]


@given(
    st.text("aé🐪 ", min_size=1, max_size=12),
    st.lists(st.integers(1, 40), max_size=12, unique=True),
    st.integers(1, 4),
    st.booleans(),
)
def test_each_part_is_spelt_by_its_tokens(
    text: str, cuts: list[int], size: int, broken: bool
) -> None:
    """Also where the prompt's tokens end inside a character."""
    raw = text.encode() + b"\xe2\x82" * broken
    ends = [*sorted(cut for cut in cuts if cut < len(raw)), len(raw)]
    pieces = [raw[start:end] for start, end in zip([0, *ends], ends, strict=False)]
    expected = raw.decode("utf-8", "replace")
    found = echoes(expected, pieces, size=size)
    assert "".join(echo.text for echo in found) == expected
    assert [piece for piece, _ in told(found)] == pieces
    for echo in found:
        spelt = b"".join(token.piece for token in echo.tokens)
        assert spelt.decode("utf-8", "replace") == echo.text
