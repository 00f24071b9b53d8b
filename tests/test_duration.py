"""Durations as Go reads and writes them, and keep-alives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.duration import (
    FOREVER,
    HOUR,
    MINUTE,
    SECOND,
    InvalidDuration,
    format_duration,
    keep_alive,
    parse_duration,
)


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("5m", 5 * MINUTE),
        ("1h30m", HOUR + 30 * MINUTE),
        ("-1.5s", -3 * SECOND // 2),
        (".5s", SECOND // 2),
        ("350µs", 350_000),
        ("0" * 5_000 + "1s", SECOND),
        ("0." + "3" * 5_000 + "s", 333_333_333),
    ],
)
def test_a_duration_is_a_sum_of_numbers_with_units(text: str, nanoseconds: int) -> None:
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", 'time: invalid duration ""'),
        ("m", 'time: invalid duration "m"'),
        ("5", 'time: missing unit in duration "5"'),
        ("5x", 'time: unknown unit "x" in duration "5x"'),
        ("9223372037s", 'time: invalid duration "9223372037s"'),
    ],
)
def test_anything_else_is_refused_in_gos_words(text: str, error: str) -> None:
    with pytest.raises(InvalidDuration) as caught:
        parse_duration(text)
    assert str(caught.value) == error


def test_a_number_too_long_for_python_to_read_is_refused() -> None:
    with pytest.raises(InvalidDuration):
        parse_duration("9" * 5_000 + "s")


@given(st.integers(-FOREVER, FOREVER))
def test_what_is_written_reads_back(nanoseconds: int) -> None:
    assert parse_duration(format_duration(nanoseconds)) == nanoseconds


@given(st.text(max_size=20) | st.floats() | st.integers())
def test_a_keep_alive_is_never_negative(value: str | float | int) -> None:
    try:
        nanoseconds = keep_alive(value)
    except InvalidDuration:
        return
    assert 0 <= nanoseconds <= FOREVER


@pytest.mark.parametrize("value", [-1, "-1", "-5m", -0.5, 1e300, 10**400, "1e400", "inf"])
def test_a_keep_alive_that_is_negative_or_beyond_measure_is_for_ever(value: str | float) -> None:
    assert keep_alive(value) == FOREVER
