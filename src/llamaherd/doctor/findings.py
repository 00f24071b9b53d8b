"""What an examination finds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from llamaherd.cli.formatting import human_bytes


class Size(int):
    """Bytes: a number in JSON, with a unit for people."""

    def __str__(self) -> str:
        return human_bytes(int(self))


#: Plain values, as JSON has them.
Fact = str | int | bool | None | Sequence[str]


@dataclass(frozen=True, slots=True)
class Problem:
    """What is wrong, and what the person can do about it."""

    text: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Section:
    """One subject; ``facts`` in the order to show them, under names for people."""

    title: str
    facts: Mapping[str, Fact]
    problems: Sequence[Problem] = ()
