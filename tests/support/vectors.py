"""A ``VectorBackend`` without a model, and a desk that collects what an ``Embedder`` sends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from llamaherd.engine.embedding import Embedder
from llamaherd.engine.passages import Passages
from llamaherd.llama.backend import Batch, Vector, VectorBackend
from llamaherd.runner.protocol import Embed, Embedded, RunnerMessage, Vectors

#: More steps than any test needs: an embedder that never ends is a failure, not a hang.
_PATIENCE = 10_000


class FakeVectors:
    """The vector of tokens is their number and their sum; ``whole`` as in the protocol.

    Every mistake that would make llama.cpp compute something else is an assertion here: a gap in a
    sequence, a piece of one that is to be whole, a sequence that wasn't forgotten.
    """

    ranks = False
    rank_template: str | None = None
    width = 2

    def __init__(
        self, *, whole: bool = True, n_seq: int = 4, n_ctx: int = 16, n_batch: int = 16
    ) -> None:
        self.whole = whole
        self.n_ctx = n_ctx
        self.slots: Sequence[int] = range(10, 10 + n_seq)
        self.batch = Batch(n_batch)
        self.failures: list[type[Exception]] = []
        self.batches: list[list[list[int]]] = []
        self.aborted = 0
        self._held: dict[int, list[int]] = {slot: [] for slot in self.slots}

    def read(self) -> None:
        assert not self.whole
        assert not self.batch.wanted[: self.batch.size].any()
        self._take()

    def embed(self) -> None:
        if not self.whole:
            assert self.batch.wanted[: self.batch.size].all()
        self._take()

    def vector(self, slot: int, row: int) -> Vector:
        assert self.batch.slots[row] == slot
        held = self._held[slot]
        infinite = np.inf if 99 in held else 0
        return np.array([len(held) + infinite, sum(held)], np.float32)

    def forget(self, slot: int) -> None:
        self._held[slot] = []

    def abort(self) -> None:
        self.aborted += 1

    def _take(self) -> None:
        size = self.batch.size
        assert 0 < size <= self.batch.capacity
        if self.failures:
            raise self.failures.pop(0)("a failure for a test")
        added: dict[int, list[int]] = {}
        for row in range(size):
            slot = int(self.batch.slots[row])
            held = self._held[slot]
            assert int(self.batch.positions[row]) == len(held), "a gap, or not forgotten"
            held.append(int(self.batch.tokens[row]))
            added.setdefault(slot, []).append(held[-1])
        if not self.whole:
            assert sum(map(len, self._held.values())) <= self.n_ctx
        self.batches.append(list(added.values()))


@dataclass
class Answer:
    """All that was sent for one request."""

    vectors: dict[int, list[float]] = field(default_factory=dict)
    end: Embedded | None = None

    @property
    def failures(self) -> dict[int, tuple[int, str]]:
        assert self.end is not None
        return {failure.index: (failure.status, failure.message) for failure in self.end.failures}


class EmbeddingDesk:
    """An embedder with its messages sorted by request; each request must end exactly once."""

    def __init__(
        self, backend: VectorBackend, make_room: Callable[[], bool] = lambda: False
    ) -> None:
        self.answers: dict[int, Answer] = {}
        self.embedder = Embedder(backend, self._receive, make_room)
        self._decimal: dict[int, bool] = {}

    def _receive(self, messages: Sequence[RunnerMessage]) -> None:
        for message in messages:
            assert isinstance(message, (Vectors, Embedded))
            answer = self.answers.setdefault(message.id, Answer())
            assert answer.end is None, "more after the end"
            if isinstance(message, Embedded):
                answer.end = message
                continue
            kind = "<f8" if self._decimal[message.id] else "<f4"
            rows = np.frombuffer(message.data, kind).reshape(len(message.indexes), -1)
            for index, row in zip(message.indexes, rows.tolist(), strict=True):
                assert index not in answer.vectors
                answer.vectors[index] = row

    def submit(self, passages: Passages) -> None:
        self._decimal[passages.request.id] = passages.request.decimal
        self.embedder.submit(passages)

    def submit_tokens(self, number: int, *inputs: list[int]) -> None:
        """A request for vectors as the model has them."""
        self.submit(Passages(Embed(number, [*inputs], normalize=False), [*inputs]))

    def finish(self) -> dict[int, Answer]:
        """Step until nothing is left to do."""
        for _ in range(_PATIENCE):
            if not self.embedder.busy:
                return self.answers
            self.embedder.step()
        raise AssertionError("the embedder does not come to an end")
