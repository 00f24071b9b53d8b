"""Images within sequences of tokens.

To a model that sees, an image is a run of embeddings, or several, one for each slice, with tokens
before, between and after. In a sequence every embedding takes a cell, as a token does. So that
sequences compare as lists of numbers, each of these cells has a number of its own: below 0, and the
same for the same place in the same image only.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from llamaherd.errors import PromptError
from llamaherd.llama.backend import Embeddings, Positions, Shown

#: A picture has fewer cells than two to the power of this.
_CELL_BITS: Final = 24


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A run of embeddings.

    ``key`` (of any size, from 0) belongs to this content alone. An embedding in a picture that
    begins at position p is at ``places + p * moves``, each of shape (axes, length). The next token
    is ``span`` positions after the beginning. ``mutual`` embeddings see each other, so they must be
    evaluated together; others see what is before them, as tokens do.
    """

    key: int
    embeddings: Embeddings
    places: Positions
    moves: Positions
    span: int
    mutual: bool

    @property
    def length(self) -> int:
        return len(self.embeddings)

    def cells(self) -> list[int]:
        """The numbers of its cells."""
        first = -(self.key << _CELL_BITS) - 1
        return list(range(first, first - self.length, -1))

    def shown(self, position: int, start: int, length: int) -> Shown:
        """``length`` of the embeddings from ``start`` on, in a picture that begins at this."""
        part = slice(start, start + length)
        positions = self.places[:, part] + position * self.moves[:, part]
        return Shown(self.embeddings[part], positions, self.mutual)


#: What a model is shown for one image.
Parts = Sequence[list[int] | Picture]


@dataclass(frozen=True, slots=True)
class Stretch:
    """Where a picture lies: ``length`` cells from ``start``, which take ``span`` positions.

    The ``picture`` itself is there as long as it may have to be evaluated.
    """

    start: int
    length: int
    span: int
    picture: Picture | None

    @property
    def end(self) -> int:
        return self.start + self.length


class Stretches:
    """The pictures of one sequence, in their order. Indexes and lengths count cells."""

    __slots__ = ("_all", "_starts")

    def __init__(self, stretches: Iterable[Stretch] = ()) -> None:
        self._all: Final = tuple(stretches)
        self._starts: Final = [stretch.start for stretch in self._all]

    def __bool__(self) -> bool:
        return bool(self._all)

    @property
    def longest_mutual(self) -> int:
        """The most cells that must be evaluated together."""
        pictures = (stretch.picture for stretch in self._all)
        return max((each.length for each in pictures if each and each.mutual), default=0)

    def at(self, index: int) -> Stretch | None:
        """The stretch in which the cell at ``index`` lies."""
        number = bisect_right(self._starts, index) - 1
        if number < 0 or self._all[number].end <= index:
            return None
        return self._all[number]

    def position(self, index: int) -> int:
        """Of the cell at ``index``, unless that lies within a picture."""
        before = self._all[: bisect_right(self._starts, index - 1)] if self._all else ()
        return index - sum(stretch.length - stretch.span for stretch in before)

    def tokens_from(self, index: int, most: int) -> int:
        """How many of ``most`` cells from ``index`` on come before the next picture."""
        number = bisect_right(self._starts, index - 1)
        return most if number == len(self._all) else min(most, self._starts[number] - index)

    def any_in(self, start: int, end: int) -> bool:
        """Whether any of the cells from ``start`` to ``end`` is of a picture."""
        return self.at(start) is not None or self.tokens_from(start, end - start) < end - start

    def whole(self, length: int) -> int:
        """The most that the first ``length`` cells have without cutting a picture."""
        cut = self.at(length)
        return length if cut is None else cut.start

    def whole_end(self, length: int) -> int:
        """The least that the first cells have if they are to be ``length`` and cut no picture."""
        cut = self.at(length)
        return length if cut is None or cut.start == length else cut.end

    def first(self, length: int) -> Stretches:
        """Those that lie in the first ``length`` cells, of which no more will be evaluated."""
        kept = self._all[: bisect_right(self._starts, length - 1)]
        return Stretches(replace(stretch, picture=None) for stretch in kept)

    def without(self, start: int, end: int) -> Stretches:
        """After the cells from ``start`` to ``end``, which cut no picture, have gone."""
        return Stretches(
            stretch
            if stretch.start < start
            else replace(stretch, start=stretch.start - end + start)
            for stretch in self._all
            if not start <= stretch.start < end
        )


NO_PICTURES: Final = Stretches()


def weave(
    tokens: Sequence[int], images: Sequence[tuple[int, Parts]]
) -> tuple[list[int], Stretches]:
    """The cells of a prompt in which each image stands before the token at its index.

    Raises ``PromptError`` for an index outside the prompt, or one before that of the last image.
    """
    cells: list[int] = []
    stretches: list[Stretch] = []
    done = 0
    for index, parts in images:
        if not done <= index <= len(tokens):
            raise PromptError(f"an image stands at {index} in a prompt of {len(tokens)} tokens")
        cells += tokens[done:index]
        done = index
        for part in parts:
            if isinstance(part, Picture):
                stretches.append(Stretch(len(cells), part.length, part.span, part))
                cells += part.cells()
            else:
                cells += part
    cells += tokens[done:]
    return cells, Stretches(stretches)
