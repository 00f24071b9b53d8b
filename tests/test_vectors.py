"""Numbers of 4 bytes, printed as shortly as Go prints them."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.engine.vectors import encoded, finished, shortest

FLOATS = st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1)


def rows(numbers: list[float]) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    return np.array([numbers], np.float32)


@given(FLOATS)
def test_they_are_the_same_numbers(numbers: list[float]) -> None:
    assert (shortest(rows(numbers)).astype(np.float32) == rows(numbers)).all()


@given(
    st.lists(st.floats(2**-20, 2**20, width=32) | st.floats(-1, -(2**-20), width=32), min_size=1)
)
def test_and_as_short_as_can_be(numbers: list[float]) -> None:
    for number, short in zip(rows(numbers)[0], shortest(rows(numbers))[0], strict=True):
        digits = repr(float(short)).replace(".", "").replace("-", "").strip("0").partition("e")[0]
        least = str(number).replace(".", "").replace("-", "").strip("0").partition("e")[0]
        assert len(digits) <= len(least)


def test_examples() -> None:
    numbers = [0.1, -0.0017403729, 7.226851e-33, 0.0, 123456.79, 1e-6]
    assert shortest(rows(numbers)).tolist() == [
        [0.1, -0.0017403729, float(np.float32(7.226851e-33)), 0.0, 123456.79, 1e-6]
    ]


def test_bytes_are_little_endian() -> None:
    assert encoded(rows([1.0]), decimal=False) == b"\x00\x00\x80\x3f"
    assert encoded(rows([1.0]), decimal=True) == b"\x00\x00\x00\x00\x00\x00\xf0\x3f"


def test_a_vector_of_nothing_stays_one() -> None:
    assert finished(rows([0, 0]), dimensions=0, normalize=True).tolist() == [[0, 0]]


@given(FLOATS)
def test_normalised_numbers_are_finite(numbers: list[float]) -> None:
    result = finished(rows(numbers), dimensions=0, normalize=True)
    assert np.isfinite(result).all()
    assert np.linalg.norm(result.astype(np.float64)) < 1 + 1e-6
