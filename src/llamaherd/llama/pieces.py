"""Long texts in pieces whose tokens, one after the other, are those of the whole.

llama.cpp's tokenizers take quadratic time for two kinds of text, so that a megabyte of it keeps a
thread busy for minutes and can't be interrupted: for each special token it walks over all that came
before (``tokenizer_st_partition`` in llama-vocab.cpp), and for each character that SentencePiece
spells in bytes it copies all tokens so far (``resegment``, which reserves room for no more).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

#: How long a piece is at least, in characters: long enough for the calls to cost little.
SIZE: Final = 4096

#: How many places are tried one after the other before some are passed over: a text may be made of
#: special tokens that overlap.
_TRIES: Final = 32

#: C's ``isspace``, by which llama.cpp strips what stands beside some special tokens.
_SPACES: Final = " \t\n\v\f\r"


class Piece(NamedTuple):
    """``goes_on`` says that no new text begins here, before which a space would be put."""

    text: str
    goes_on: bool


class _Cut(NamedTuple):
    """A piece ends at ``end`` and the next begins at ``start``."""

    end: int
    start: int
    goes_on: bool


@dataclass(frozen=True, slots=True)
class Cutter:
    """Where texts for one vocabulary may be cut.

    ``always`` are the special tokens that are found in any text, ``special`` those found only where
    special tokens are parsed. Those in ``strips_left`` take the white space before them away; some
    take that behind them if it ``strips_right``. ``letters`` are the characters of all tokens, None
    where other characters don't matter.
    """

    always: Sequence[str]
    special: Sequence[str]
    strips_left: Collection[str] = ()
    strips_right: bool = False
    letters: frozenset[str] | None = None

    def pieces(self, text: str, *, parse_special: bool, size: int = SIZE) -> Iterator[Piece]:
        """Pieces of at least ``size`` characters, the last one excepted.

        They are much longer only where nothing makes a tokenizer slow, or where special tokens
        overlap each other all along, as line breaks do where several are a token too.
        """
        seams = _Seams(self, text, parse_special=parse_special)
        start, goes_on = 0, False
        while (cut := seams.after(start, size)) is not None:
            yield Piece(text[start : cut.end], goes_on)
            start, goes_on = cut.start, cut.goes_on
        yield Piece(text[start:], goes_on)

    def tokenize(
        self,
        text: str,
        whole: Callable[[str], list[int]],
        *,
        parse_special: bool,
        size: int = SIZE,
    ) -> list[int]:
        """What ``whole`` would make of ``text``, by its answers about the pieces.

        ``whole`` parses special tokens likewise, and puts none around a text.
        """
        tokens: list[int] = []
        for piece, goes_on in self.pieces(text, parse_special=parse_special, size=size):
            found = whole(piece)
            if goes_on:
                # The piece begins with a character that is spelled in bytes, a token for each.
                first = piece[0]
                del found[: len(whole(first)) - len(first.encode())]
            tokens += found
        return tokens


class _Seams:
    """The places at which one text may be cut, asked for from its beginning to its end."""

    def __init__(self, cutter: Cutter, text: str, *, parse_special: bool) -> None:
        characters = frozenset(text)
        tokens = (*cutter.always, *(cutter.special if parse_special else ()))
        self._cutter = cutter
        self._text = text
        self._tokens = tuple(
            token for token in tokens if characters.issuperset(token) and token in text
        )
        self._longest = max(map(len, self._tokens), default=0)
        self._next = dict.fromkeys(self._tokens, -1)
        foreign = characters - cutter.letters if cutter.letters is not None else ()
        self._foreign = re.compile(f"[{re.escape(''.join(foreign))}]") if foreign else None
        self._next_foreign = -1

    def after(self, start: int, size: int) -> _Cut | None:
        """Where the piece that begins at ``start`` may end after ``size`` characters or more.

        None where there is no such place.
        """
        at, tries = start + size, 0
        while at < len(self._text):
            token, foreign = self._first_token(at), self._first_foreign(at)
            at = min(token, foreign)
            if at == len(self._text):
                return None
            cut = self._before_token(at) if token < foreign else self._before_foreign(at, start)
            if cut is not None:
                return cut
            tries += 1
            at += 1 if tries % _TRIES else size
        return None

    def _first_token(self, at: int) -> int:
        for token, place in self._next.items():
            if place < at:
                found = self._text.find(token, at)
                self._next[token] = found if found >= 0 else len(self._text)
        return min(self._next.values(), default=len(self._text))

    def _first_foreign(self, at: int) -> int:
        if self._foreign is None:
            return len(self._text)
        if self._next_foreign < at:
            found = self._foreign.search(self._text, at)
            self._next_foreign = found.start() if found else len(self._text)
        return self._next_foreign

    def _before_token(self, at: int) -> _Cut | None:
        """llama.cpp cuts texts in front of special tokens, too: what is between them stands alone.

        It takes the longest first, so only one that no other overlaps is sure to be found.
        """
        text = self._text
        token = max((one for one in self._tokens if text.startswith(one, at)), key=len)
        start, end = max(at - self._longest + 1, 0), at + len(token)
        for other in self._tokens:
            place = text.find(other, start, end + len(other) - 1)
            while place >= 0:
                if place != at and place + len(other) > at:
                    return None
                place = text.find(other, place + 1, end + len(other) - 1)
        end = at
        if token in self._cutter.strips_left:
            while end > 0 and text[end - 1] in _SPACES:
                end -= 1
        return _Cut(end, at, goes_on=False)

    def _before_foreign(self, at: int, start: int) -> _Cut | None:
        """A character that is in no token is merged with nothing before it, and is in no special
        token. Where it might be the first behind one, a space would be put before it; where it is
        white space, it might be taken away with what stands before it."""
        text, cutter = self._text, self._cutter
        behind = at
        while cutter.strips_right and behind > start and text[behind - 1] in _SPACES:
            behind -= 1
        might_be_first = behind > start and text.endswith(self._tokens, start, behind)
        if might_be_first or (cutter.strips_left and text[at] in _SPACES):
            return None
        return _Cut(at, at, goes_on=True)
