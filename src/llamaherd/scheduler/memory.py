"""Amounts of memory, and how much of it is left beside the models that are loaded."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of main memory and of the accelerators' memory."""

    host: int = 0
    vram: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.host + other.host, self.vram + other.vram)

    def __sub__(self, other: Memory) -> Memory:
        return Memory(self.host - other.host, self.vram - other.vram)

    def fits(self, room: Memory) -> bool:
        return self.host <= room.host and self.vram <= room.vram

    @property
    def total(self) -> int:
        return self.host + self.vram


def total(amounts: Iterable[Memory]) -> Memory:
    return sum(amounts, Memory())


def at_least(first: Memory, second: Memory) -> Memory:
    """The larger of each kind."""
    return Memory(max(first.host, second.host), max(first.vram, second.vram))


def at_most(first: Memory, second: Memory) -> Memory:
    """The smaller of each kind."""
    return Memory(min(first.host, second.host), min(first.vram, second.vram))


def gibibytes(count: int) -> str:
    return f"{count / 2**30:.1f} GiB"
