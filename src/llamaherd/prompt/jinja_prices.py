"""What a chat template may use up, and what its operations cost.

Everything that a template does has an ``Allowance`` of time, of steps (iterations and calls) and of
characters made. What could make much out of little is priced from its operands, before it runs.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, ItemsView, Iterator, KeysView, Mapping, ValuesView
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final

from jinja2.exceptions import SecurityError
from jinja2.utils import Namespace

#: What one rendering may do. A chat of a thousand messages takes some ten thousand steps and 50 ms
#: with most templates; some look back from every message over all before it.
MAX_STEPS: Final = 5_000_000
MAX_CHARACTERS: Final = 32 * 1024 * 1024
MAX_SECONDS: Final = 5.0

#: The largest integer that arithmetic may make, in bits; beyond it multiplication gets slow.
_MAX_BITS: Final = 4096

#: A field of a format string whose width or precision has four digits or is an argument.
_WIDE_FIELD: Final = re.compile(
    r"%[^a-zA-Z%]*(?:\*|[0-9]{4}) | \{[^{}]*:[^{}]*(?:\{|[0-9]{4})", re.VERBOSE
)
_MAX_FIELD: Final = 1000


class Allowance:
    """What is left to one use of a template; spending more raises ``SecurityError``."""

    def __init__(self) -> None:
        self._steps = MAX_STEPS
        self._characters = MAX_CHARACTERS
        self._deadline = time.monotonic() + MAX_SECONDS

    def step(self) -> None:
        self._steps -= 1
        if self._steps < 0 or time.monotonic() > self._deadline:
            raise SecurityError("the template runs for too long")

    def spend(self, characters: int) -> None:
        self._characters -= characters
        if self._characters < 0:
            raise SecurityError("the template makes too much text")


_allowance: Final[ContextVar[Allowance]] = ContextVar("allowance")


@contextmanager
def allowance() -> Iterator[None]:
    """All compiling and rendering inside shares one fresh ``Allowance``; none goes without."""
    token = _allowance.set(Allowance())
    try:
        yield
    finally:
        _allowance.reset(token)


def step() -> None:
    _allowance.get().step()


def spend(characters: int) -> None:
    _allowance.get().spend(characters)


def size(value: Any) -> int:
    """About how many characters ``value`` prints; what is shared counts as often as it prints."""
    characters = 0
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, str):
            characters += len(item)
        elif isinstance(item, Mapping):
            pending.extend(item)
            pending.extend(item.values())
        elif isinstance(item, _COLLECTIONS):
            pending.extend(item)
        elif isinstance(item, Namespace):
            raise SecurityError("a namespace can't be printed or put into a list")
        characters += 2
        if characters > MAX_CHARACTERS:
            raise SecurityError("the template makes too much text")
        step()
    return characters


_COLLECTIONS: Final = (list, tuple, set, frozenset, KeysView, ValuesView, ItemsView)


# --- prices: characters that an operation makes at most, from its operands ---------------------


def _product(left: Any, right: Any) -> int:
    for many, times in ((left, right), (right, left)):
        if isinstance(many, (str, bytes, list, tuple)) and isinstance(times, int):
            return _length(many) * max(times, 0)
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() + right.bit_length())
    return 0


def _power(left: Any, right: Any) -> int:
    if isinstance(left, int) and isinstance(right, int):
        _check_bits(left.bit_length() * max(right, 0))
    return 0


def _check_bits(bits: int) -> None:
    if bits > _MAX_BITS:
        raise SecurityError("the template makes too large a number")


def _sum(left: Any, right: Any) -> int:
    return _length(left) + _length(right)


def _length(value: Any) -> int:
    if isinstance(value, (list, tuple)):
        return size(value)
    return len(value) if isinstance(value, (str, bytes)) else 0


def formatted(left: Any, right: Any) -> int:
    if isinstance(left, str):
        if _WIDE_FIELD.search(left):
            raise SecurityError("the template formats with too large a width")
        return len(left) * _MAX_FIELD + size(right)
    return 0


OPERATORS: Final[dict[str, Callable[[Any, Any], int]]] = {
    "*": _product,
    "**": _power,
    "+": _sum,
    "%": formatted,
}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        spend(size(value))
    return str(value)


def replaced(value: Any, old: Any, new: Any, *_: Any) -> int:
    text = _text(value)
    return len(text) + text.count(_text(old)) * len(_text(new))


def _indented(value: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    text = _text(value)
    margin = len(width) if isinstance(width, str) else int(width)
    return len(text) + (text.count("\n") + 1) * max(margin, 0)


def _rounded(_: Any, precision: Any = 0, *__: Any) -> int:
    _check_bits(abs(int(precision)) * 4)
    return 0


def as_printed(value: Any, *_: Any, **__: Any) -> int:
    return size(value)


FILTERS: Final[dict[str, Callable[..., int]]] = {
    "format": lambda text, *values, **named: formatted(_text(text), [*values, *named.values()]),
    "indent": _indented,
    "replace": replaced,
    "round": _rounded,
    **dict.fromkeys(
        (
            *("capitalize", "e", "escape", "forceescape", "lower", "safe", "string", "striptags"),
            *("title", "trim", "truncate", "upper", "urlencode", "wordcount"),
        ),
        as_printed,
    ),
}

#: Methods of strings that cost as much as the text is long, in small pieces.
SPLITTING: Final = frozenset({"split", "rsplit", "splitlines"})
