"""Model options: their types and ranges."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.errors import OptionError, OptionOutOfRange
from llamaherd.options import OPTIONS, check_option, check_options, resolve_options

NUMBERS = st.integers() | st.integers(-(10**400), 10**400) | st.floats()
VALUES = NUMBERS | st.none() | st.booleans() | st.text() | st.lists(st.text() | NUMBERS)


@given(st.sampled_from(sorted(OPTIONS)), VALUES)
def test_any_value_is_right_or_refused_by_name(name: str, value: Any) -> None:
    try:
        checked = check_option(name, value)
    except OptionError as error:
        refusal = error.message
    else:
        refusal = ""
    if refusal:
        assert refusal.startswith(f'option "{name}" must be')
        return
    kinds: dict[str, Any] = {
        "int": int,
        "float32": (int, float),
        "bool": (bool, type(None)),
        "[]string": tuple,
    }
    assert isinstance(checked, kinds[OPTIONS[name].kind])


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e39, -1e39, 10**400, -(10**400)])
def test_what_single_precision_can_not_hold_is_refused(value: float) -> None:
    with pytest.raises(OptionError, match="must be a finite number"):
        check_option("presence_penalty", value)


def test_there_may_be_so_many_stop_strings() -> None:
    assert len(check_option("stop", ["x"] * 1024)) == 1024
    with pytest.raises(OptionOutOfRange, match='"stop" must be at most 1024 strings, not 1025'):
        check_option("stop", ["x"] * 1025)


def test_whole_floats_count_as_integers() -> None:
    assert check_option("top_k", 5.0) == 5


def test_null_means_the_default() -> None:
    assert check_option("temperature", None) == OPTIONS["temperature"].default


def test_unknown_options_are_left_out() -> None:
    assert check_options({"seed": 1, "colour": "red"}) == {"seed": 1}


def test_later_options_win() -> None:
    options = resolve_options({"seed": 1, "top_k": 2}, {"seed": 3})
    assert (options["seed"], options["top_k"]) == (3, 2)
