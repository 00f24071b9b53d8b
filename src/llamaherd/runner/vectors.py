"""Embeddings as the server gets them from a runner."""

from __future__ import annotations

import sys
from array import array
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from llamaherd.runner.inbox import failure
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Embed, Embedded, InputFailure, Vectors


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The answer to ``request``: the vector of each input, None where there is a failure instead.

    A vector is as ``protocol.Vectors`` has it. ``tokens`` is the sum over all inputs.
    """

    request: Embed
    vectors: Sequence[bytes | None]
    tokens: int
    failures: Sequence[InputFailure]

    def numbers(self, index: int) -> list[float] | None:
        """A vector as numbers."""
        vector = self.vectors[index]
        if vector is None:
            return None
        numbers = array("d" if self.request.decimal else "f", vector)
        if sys.byteorder == "big":
            numbers.byteswap()
        return numbers.tolist()


async def embed(runner: Runner, request: Embed) -> Embeddings:
    """Have ``runner`` answer ``request``, whose number is chosen here.

    Raises ``RunnerDied``, and what is wrong with the request as a whole.
    """
    found: list[Vectors] = []
    with runner.exchange(lambda number: msgspec.structs.replace(request, id=number)) as inbox:
        while isinstance(message := await inbox.get(), Vectors):
            found.append(message)
    if not isinstance(message, Embedded):
        raise failure(message)
    vectors: list[bytes | None] = [None] * len(message.counts)
    size = message.width * (8 if request.decimal else 4)
    for part in found:
        for place, index in enumerate(part.indexes):
            vectors[index] = part.data[place * size : (place + 1) * size]
    return Embeddings(request, vectors, sum(message.counts), message.failures)
