"""GGUF files that were split into shards, by their names: ``model-00001-of-00003.gguf``."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Self

from llamaherd.gguf import GGUF
from llamaherd.store.files import store_errors

#: The key that says of how many shards a file is one.
SPLIT_PREFIX: Final = "split."
COUNT: Final = f"{SPLIT_PREFIX}count"

_NAME: Final = re.compile(r"(?P<model>.+)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf")


@dataclass(frozen=True, slots=True)
class ShardName:
    """``number`` counts from 1."""

    model: str
    number: int
    count: int

    @classmethod
    def parse(cls, file: str) -> Self | None:
        """None for a name that isn't a shard's."""
        match = _NAME.fullmatch(file)
        if match is None:
            return None
        return cls(match["model"], int(match["number"]), int(match["count"]))

    def sibling(self, number: int) -> Self:
        return replace(self, number=number)

    def __str__(self) -> str:
        return f"{self.model}-{self.number:05}-of-{self.count:05}.gguf"


def is_shard(path: Path) -> bool:
    """Raises ``InvalidGGUF`` and ``StoreError`` for what can't be read so far."""
    with store_errors("open", path):
        gguf = GGUF.open(path)
    with gguf:
        return gguf.get(COUNT, int, 0) > 1
