"""``config.json``: a model's hyperparameters, read with care."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from llamaherd.errors import BadRequest

CONFIG_FILE: Final = "config.json"

#: No model comes near, and what is reckoned from two of them still fits 64 bits.
MAX_COUNT: Final = (1 << 31) - 1

_REQUIRED: Final = object()


class Config:
    """Values by Hugging Face's names. Every getter raises ``BadRequest`` that names the key.

    A getter takes several names where models differ, and the first that is there counts; ``null``
    counts as not there.
    """

    def __init__(self, values: dict[str, Any], where: str = CONFIG_FILE) -> None:
        self._values = values
        self._where = where

    def __iter__(self) -> Iterator[str]:
        """The keys, as they are written."""
        return iter(self._values)

    def get(self, *names: str) -> Any:
        """The value as it is, None if there is none."""
        found = (self._values.get(name) for name in names)
        return next((value for value in found if value is not None), None)

    def count(self, *names: str, default: int | None = None, least: int = 1) -> int:
        """A whole number, positive unless ``least`` says otherwise."""
        value = self._value(names, _REQUIRED if default is None else default)
        if type(value) is not int or not least <= value <= MAX_COUNT:
            raise self.wrong(names[0], f"a whole number from {least}", value)
        return value

    def number(self, *names: str, default: float | None = None) -> float:
        value = self._value(names, _REQUIRED if default is None else default)
        if type(value) not in (int, float) or not math.isfinite(value) or abs(value) > 1e30:
            raise self.wrong(names[0], "a number", value)
        return float(value)

    def numbers(self, name: str) -> list[float]:
        values = self._value((name,), _REQUIRED)
        if not isinstance(values, list):
            raise self.wrong(name, "a list of numbers", values)
        return [Config({name: value}, self._where).number(name) for value in values]

    def flag(self, name: str, *, default: bool) -> bool:
        value = self._value((name,), default)
        if not isinstance(value, bool):
            raise self.wrong(name, "true or false", value)
        return value

    def text(self, *names: str, default: str = "") -> str:
        value = self._value(names, default)
        if not isinstance(value, str):
            raise self.wrong(names[0], "a string", value)
        return value

    def section(self, *names: str, defaults: Mapping[str, Any] | None = None) -> Config:
        """An object within, empty if there is none, over ``defaults`` for what it leaves out."""
        value = self._value(names, {})
        if not isinstance(value, dict):
            raise self.wrong(names[0], "an object", value)
        section = Config(value, f"{self._where}: {names[0]}")
        return section.over(defaults) if defaults else section

    def over(self, defaults: Mapping[str, Any]) -> Config:
        """The same, with ``defaults`` for what isn't there."""
        given = {name: value for name, value in self._values.items() if value is not None}
        return Config({**defaults, **given}, self._where)

    def require(self, name: str, *allowed: Any) -> None:
        """The engine knows but these values; not there is allowed."""
        value = self.get(name)
        if value is not None and value not in allowed:
            expected = " or ".join(repr(each) for each in allowed)
            raise self.wrong(name, f"{expected}, as the engine knows no other", value)

    def wrong(self, name: str, expected: str, value: Any) -> BadRequest:
        shown = repr(value)
        shown = shown if len(shown) <= 80 else shown[:77] + "..."
        return BadRequest(f"{self._where}: {name}: expected {expected}, not {shown}")

    def _value(self, names: tuple[str, ...], default: Any) -> Any:
        value = self.get(*names)
        if value is not None:
            return value
        if default is _REQUIRED:
            raise BadRequest(f"{self._where}: {names[0]} is missing")
        return default
