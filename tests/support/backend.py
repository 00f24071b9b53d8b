"""A backend without a model: a strict simulation of llama.cpp's memory over a byte vocabulary.

Every mistake that would corrupt llama.cpp's state is an assertion here: tokens out of order,
copies into a slot in use, shifts of cells that others share. The "model" writes a letter that
depends on every token before it, so two sequences agree only if their memories do. An embedding in
the place of a token counts as the negative of its first number.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

import numpy as np

from llamaherd.llama.backend import (
    Batch,
    CacheFull,
    DecodeAborted,
    Logits,
    Shown,
    Step,
    TokenIds,
    TokenTable,
)

BOS = 256
END = 257
VOCABULARY = 258

Model = Callable[[tuple[int, ...]], int]


def write_letters(tokens: tuple[int, ...]) -> int:
    """The default model: a letter by the checksum of all tokens."""
    return ord("a") + crc32(repr(tokens).encode()) % 26


def encode(text: str) -> list[int]:
    return [BOS, *text.encode()]


@dataclass(eq=False)
class _Cell:
    """``reach`` is the last position that it takes on any axis."""

    token: int
    position: int
    reach: int
    slots: set[int] = field(default_factory=set)


class ArgmaxChain:
    def pick(self, logits: Logits, ids: TokenIds | None) -> int:
        best = int(logits.argmax())
        return best if ids is None else int(ids[best])

    def close(self) -> None:
        pass


class FakeBackend:
    """``forgets`` False is a recurrent model: a sequence can't go back but to its beginning."""

    asynchronous = False
    bos = BOS
    add_bos = True
    newline: int | None = ord("\n")
    n_vocab = VOCABULARY

    def __init__(
        self,
        *,
        n_ctx: int = 64,
        n_seq: int = 4,
        n_cells: int | None = None,
        n_batch: int = 32,
        n_outputs: int = 0,
        can_shift: bool = True,
        forgets: bool = True,
        asynchronous: bool = False,
        model: Model = write_letters,
    ) -> None:
        self.n_ctx = n_ctx
        self.n_seq = n_seq
        self.n_outputs = n_outputs or n_seq
        self.n_cells = n_cells if n_cells is not None else n_ctx * n_seq
        self.can_shift = can_shift
        self.forgets = forgets
        self.asynchronous = asynchronous
        self.batch = Batch(n_batch)
        self.model = model
        self.decoded: list[list[tuple[int, int, int]]] = []
        self.failures: list[type[Exception]] = []
        self.shown: list[tuple[int, bool]] = []
        self._aborted = False
        self._cells: list[_Cell] = []
        self._wanted: dict[int, tuple[int, ...]] = {}

    def piece(self, token: int) -> bytes:
        return bytes([token]) if token < 256 else b""

    def is_end(self, token: int) -> bool:
        return token == END

    def token_table(self) -> TokenTable:
        pieces = [self.piece(token) for token in range(self.n_vocab)]
        return TokenTable(pieces, special=frozenset({BOS, END}), ends=[END])

    def contents(self, slot: int) -> tuple[int, ...]:
        """The tokens of a sequence, in the order of their positions."""
        cells = sorted(self._of(slot), key=lambda cell: cell.position)
        end = 0
        for cell in cells:
            assert cell.position <= end, "a gap in the memory"
            end = max(end, cell.reach + 1)
        return tuple(cell.token for cell in cells)

    def _end(self, slot: int) -> int:
        """The next position of a sequence."""
        return max((cell.reach + 1 for cell in self._of(slot)), default=0)

    def decode(self) -> None:
        batch = self.batch
        assert 0 < batch.size <= batch.capacity
        assert batch.wanted[: batch.size].sum() <= self.n_outputs, "no room for so many logits"
        if self._aborted or (self.failures and self.failures[0] is DecodeAborted):
            self._aborted = False
            self.failures[:1] = []
            raise DecodeAborted
        if self.failures:
            raise self.failures.pop(0)("a failure for a test")
        if len(self._cells) + batch.size > self.n_cells:
            raise CacheFull
        self._wanted.clear()
        if batch.shown is not None:
            self._decode_shown(batch.shown)
            return
        rows = []
        for row in range(batch.size):
            token, position, slot = (
                int(array[row]) for array in (batch.tokens, batch.positions, batch.slots)
            )
            before = self.contents(slot)
            end = self._end(slot)
            assert position == end, f"slot {slot} goes on at {end}, not {position}"
            assert len(before) < self.n_ctx, "beyond the context"
            self._cells.append(_Cell(token, position, position, {slot}))
            rows.append((token, position, slot))
            if batch.wanted[row]:
                self._wanted[row] = (*before, token)
        self.decoded.append(rows)

    def _decode_shown(self, shown: Shown) -> None:
        size, slot = self.batch.size, int(self.batch.slots[0])
        assert size == len(shown.embeddings) == shown.positions.shape[1]
        assert (self.batch.slots[:size] == slot).all()
        held = self._of(slot)
        for row, (embedding, axes) in enumerate(
            zip(shown.embeddings, shown.positions.T, strict=True)
        ):
            # Either where the sequence goes on, or within the picture that it ends with.
            ends = {self._end(slot), max((cell.position for cell in held), default=0)}
            assert int(axes[0]) in ends or row
            token, position = -int(embedding[0]), int(axes[0])
            self._cells.append(_Cell(token, position, int(axes.max()), {slot}))
            if self.batch.wanted[row]:
                self._wanted[row] = self.contents(slot)
        assert len(self._of(slot)) <= self.n_ctx, "beyond the context"
        self.shown.append((size, shown.mutual))

    def wait(self) -> None:
        pass

    def logits(self, row: int) -> Logits:
        logits = np.zeros(self.n_vocab, np.float32)
        logits[self.model(self._wanted[row])] = 10
        return logits

    def chain(self, steps: Sequence[Step]) -> ArgmaxChain:
        return ArgmaxChain()

    def abort(self) -> None:
        self._aborted = True

    def can_truncate(self, slot: int, length: int) -> bool:
        held = max((cell.position + 1 for cell in self._of(slot)), default=0)
        return length in (0, held) or (self.forgets and held > 0)

    def truncate(self, slot: int, length: int) -> None:
        assert length == self._end(slot) or self.can_truncate(slot, length)
        for cell in self._of(slot):
            if cell.position >= length:
                cell.slots.discard(slot)
        self._sweep()

    def copy(self, source: int, target: int, length: int) -> None:
        assert not self._of(target), "the target is in use"
        assert length == self._end(source) or self.can_truncate(source, length)
        for cell in self._of(source):
            if cell.position < length:
                cell.slots.add(target)

    def shift(self, slot: int, keep: int, discard: int) -> None:
        assert self.can_shift
        for cell in self._of(slot):
            if keep <= cell.position < keep + discard:
                cell.slots.discard(slot)
            elif cell.position >= keep + discard:
                assert cell.slots == {slot}, "a shift of cells that others share"
                cell.position -= discard
                cell.reach -= discard
        self._sweep()

    def _of(self, slot: int) -> list[_Cell]:
        assert 0 <= slot < self.n_seq
        return [cell for cell in self._cells if slot in cell.slots]

    def _sweep(self) -> None:
        self._cells = [cell for cell in self._cells if cell.slots]
