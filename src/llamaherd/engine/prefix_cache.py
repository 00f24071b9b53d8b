"""What lies in the backend's memory, kept so that prompts that begin alike are read once.

A finished sequence stays in its slot as a cached prefix. A new prompt takes over the longest
beginning of itself that any slot holds, of running sequences too: cells are shared, not copied.
Cached prefixes go, least recently used first, when a slot or cells are needed, and when together
they hold more than one sequence may, for attention has to step over every cell in use.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Sequence
from typing import Final

from llamaherd.engine.pictures import NO_PICTURES, Stretch, Stretches
from llamaherd.llama.backend import Backend

#: Sharing less than this with another conversation isn't worth its bookkeeping.
_LEAST_SHARED: Final = 8


class Slot:
    """One sequence of the memory: ``tokens[:evaluated]`` are in it, the rest is yet to come.

    Of them ``pictures`` are no tokens. ``shared`` leading cells may belong to other slots as well.
    """

    __slots__ = ("_undisturbed", "evaluated", "last_used", "number", "pictures", "shared", "tokens")

    def __init__(self, number: int) -> None:
        self.number: Final = number
        self.tokens: list[int] = []
        self.pictures = NO_PICTURES
        self.evaluated = 0
        self.shared = 0
        self.last_used = 0
        self._undisturbed = sys.maxsize

    @property
    def pending(self) -> int:
        """How many tokens are yet to be evaluated."""
        return len(self.tokens) - self.evaluated

    @property
    def ahead(self) -> Stretch | None:
        """The picture that is to be evaluated next, if it isn't a token's turn."""
        return self.pictures.at(self.evaluated) if self.pictures else None

    def position(self, length: int) -> int:
        """How many positions the first ``length`` cells take."""
        return self.pictures.position(length) if self.pictures else length

    @property
    def pure(self) -> int:
        """How many evaluated tokens were computed with exactly the tokens before them in place.

        Those that a context shift moved were computed with tokens that are gone.
        """
        return min(self.evaluated, self._undisturbed)

    def hold(self, length: int) -> None:
        """The memory now has the first ``length`` tokens."""
        self.evaluated = length
        self.shared = min(self.shared, length)
        if length <= self._undisturbed:
            self._undisturbed = sys.maxsize

    def moved(self, keep: int, discard: int) -> None:
        """The memory now has the evaluated tokens without ``discard`` after the first ``keep``."""
        self.evaluated -= discard
        self.shared = min(self.shared, keep)
        self._undisturbed = min(self._undisturbed, keep)


class PrefixCache:
    """Hands out the slots of a backend, all empty at first, and takes them back as they are."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._free: list[Slot] = []
        self._cached: list[Slot] = []
        self._active: list[Slot] = []
        self._clock = itertools.count(1)
        for number in reversed(range(backend.n_seq)):
            self._empty(Slot(number))

    def acquire(
        self, prompt: Sequence[int], pictures: Stretches = NO_PICTURES, *, reuse: bool = True
    ) -> Slot:
        """A slot for ``prompt`` with as much of it evaluated as was found, at most all but one.

        Without ``reuse`` none of it is. There is a slot as long as fewer are in use than the
        backend has.
        """
        source, length = self._longest_match(prompt) if reuse else (None, 0)
        if source is None:
            slot = self._take_free()
        elif source in self._cached and self._is_superseded(source, length, prompt):
            slot = self._take_over(source, length)
        else:
            slot = self._branch(source, length)
        slot.tokens = list(prompt)
        slot.pictures = pictures
        slot.last_used = next(self._clock)
        self._active.append(slot)
        return slot

    def release(self, slot: Slot) -> None:
        """Take a slot back; what it holds serves later prompts, as far as it is pure."""
        self._active.remove(slot)
        length = slot.pictures.whole(slot.pure)
        if length == 0 or not self._can_truncate(slot, length):
            self._empty(slot)
            return
        self._truncate(slot, length)
        del slot.tokens[length:]
        slot.pictures = slot.pictures.first(length)
        slot.last_used = next(self._clock)
        self._drop_duplicates(slot)
        self._cached.append(slot)
        while len(self._cached) > 1 and self._idle_tokens() > self._backend.n_ctx:
            self.evict()

    def discard(self, slot: Slot) -> None:
        """Take a slot back whose memory is in doubt."""
        self._active.remove(slot)
        self._empty(slot)

    def evict(self) -> bool:
        """Forget the cached prefix that was used least recently; False when there is none."""
        return self._evict(keep=None)

    def restore(self, slot: Slot) -> None:
        """After a failed evaluation: back to the evaluated tokens, or to none where impossible."""
        self._go_back(slot, slot.evaluated)

    def shift(self, slot: Slot, keep: int, discard: int) -> None:
        """Drop ``discard`` tokens after the first ``keep`` of an active slot.

        A picture that this would cut goes whole. The cells behind them move where the backend can
        do that and nobody running shares them; otherwise what is behind is evaluated again.
        """
        end = slot.pictures.whole_end(keep + discard)
        keep = slot.pictures.whole(keep)
        discard = end - keep
        if self._backend.can_shift and slot.evaluated >= end and self._own_cells(slot, end):
            self._backend.shift(slot.number, keep, discard)
            slot.moved(keep, discard)
        else:
            self._go_back(slot, min(keep, slot.pure))
        del slot.tokens[keep:end]
        slot.pictures = slot.pictures.without(keep, end)

    def _longest_match(self, prompt: Sequence[int]) -> tuple[Slot | None, int]:
        best: tuple[Slot | None, int] = (None, 0)
        wanted = list(prompt[:-1])
        for slot in (*self._cached, *self._active):
            length = common_prefix(slot.tokens[: slot.pure], wanted)
            length = slot.pictures.whole(length)
            if length > best[1] and self._can_truncate(slot, length):
                best = slot, length
        source, length = best
        if source is not None and length < _LEAST_SHARED:
            same_prompt = source in self._cached and self._is_superseded(source, length, prompt)
            return best if same_prompt else (None, 0)
        return best

    def _is_superseded(self, cached: Slot, length: int, prompt: Sequence[int]) -> bool:
        """Whether nobody will miss what ``cached`` holds beyond ``length``.

        So it is when the prompt goes on from it, or asks the same again for another reply.
        """
        return length == cached.evaluated or length == len(prompt) - 1

    def _take_over(self, cached: Slot, length: int) -> Slot:
        self._cached.remove(cached)
        self._truncate(cached, length)
        return cached

    def _branch(self, source: Slot, length: int) -> Slot:
        if not self._free and not self._evict(keep=source):
            return self._take_over(source, length)
        slot = self._free.pop()
        self._backend.copy(source.number, slot.number, source.position(length))
        slot.hold(length)
        slot.shared = length
        source.shared = max(source.shared, length)
        source.last_used = next(self._clock)
        return slot

    def _take_free(self) -> Slot:
        if not self._free:
            self.evict()
        return self._free.pop()

    def _evict(self, keep: Slot | None) -> bool:
        candidates = [slot for slot in self._cached if slot is not keep]
        if not candidates:
            return False
        oldest = min(candidates, key=lambda slot: slot.last_used)
        self._cached.remove(oldest)
        self._empty(oldest)
        return True

    def _drop_duplicates(self, slot: Slot) -> None:
        """Forget cached prefixes that are the beginning of what ``slot`` holds."""
        for other in list(self._cached):
            if slot.tokens[: other.evaluated] == other.tokens:
                self._cached.remove(other)
                self._empty(other)

    def _idle_tokens(self) -> int:
        return sum(slot.evaluated for slot in self._cached)

    def _own_cells(self, slot: Slot, start: int) -> bool:
        """Make the cells from ``start`` on the slot's own; False if a running sequence shares."""
        if slot.shared <= start:
            return True
        held = slot.tokens[: slot.evaluated]
        for other in (*self._active, *self._cached):
            if other is slot or other.shared <= start:
                continue
            if common_prefix(held, other.tokens[: other.evaluated]) <= start:
                continue
            if other in self._active:
                return False
            self._cached.remove(other)
            self._empty(other)
        return True

    def _can_truncate(self, slot: Slot, length: int) -> bool:
        if length == slot.evaluated:
            # After a picture the last position in the memory may not be the last that it takes.
            return True
        return self._backend.can_truncate(slot.number, slot.position(length))

    def _go_back(self, slot: Slot, length: int) -> None:
        """To the first ``length`` cells without a part of a picture, or to none if impossible."""
        kept = slot.pictures.whole(length)
        possible = self._backend.can_truncate(slot.number, slot.position(kept))
        self._truncate(slot, kept if possible else 0)

    def _truncate(self, slot: Slot, length: int) -> None:
        self._backend.truncate(slot.number, slot.position(length))
        slot.hold(length)

    def _empty(self, slot: Slot) -> None:
        self._truncate(slot, 0)
        slot.tokens = []
        slot.pictures = NO_PICTURES
        self._free.append(slot)


def common_prefix(a: list[int], b: list[int]) -> int:
    """How many leading tokens two lists share, by comparing halves at C speed."""
    low, high = 0, min(len(a), len(b))
    if a[:high] == b[:high]:
        return high
    while high - low > 1:
        middle = (low + high) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle
    return low
