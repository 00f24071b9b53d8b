"""What the engine needs from an inference library: the seam between ``engine`` and ``llama``.

The memory of a backend holds many *sequences*, each identified by a small number (its *slot*) and
made of tokens at positions 0, 1, 2, …. A token's keys and values live in a *cell*; sequences that
began alike may share cells, which ``copy`` arranges without copying data. Embeddings, such as an
image's, may stand in the place of tokens; with M-RoPE they take fewer positions than cells.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt

Logits = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float32]
TokenIds = npt.NDArray[np.int32]

#: Shape (n, width): what stands in a sequence in the place of n tokens.
Embeddings = npt.NDArray[np.float32]

#: Shape (axes, n): the position of each, on one axis or, with M-RoPE, on four.
Positions = npt.NDArray[np.int32]

#: Shape (height, width, 3): the red, green and blue of an image.
Pixels = npt.NDArray[np.uint8]


class CacheFull(Exception):
    """No room for the batch; the memory is as it was before."""


class DecodeAborted(Exception):
    """``abort`` was called during ``decode``; part of the batch may be in the memory."""


class DecodeFailed(Exception):
    """The library could not evaluate the batch; part of it may be in the memory."""


class UnusableImage(ValueError):
    """An image that a model can't be shown, because of its size for example."""


class EncodeFailed(Exception):
    """The library could not compute the embeddings of an image."""


class InvalidText(ValueError):
    """A text that the vocabulary can't represent."""


class InvalidToken(ValueError):
    """A token number outside the vocabulary."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of choosing a token, by llama.cpp's name for it: ``top_k``, ``top_p``, ``dist``, …

    The last step of a chain (``dist``, ``mirostat``, ``mirostat_v2``) takes one of the candidates.
    """

    name: Literal["top_k", "typical", "top_p", "min_p", "temp", "dist", "mirostat", "mirostat_v2"]
    arguments: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class TokenTable:
    """A vocabulary as a grammar needs it.

    ``pieces`` are the bytes of each token, ``special`` the tokens that no text stands for, ``ends``
    those that end a reply. ``tokenizer`` are the addresses of the ``llama_vocab`` and of
    ``llama_tokenize``, None where not every text is safe to be tokenized.
    """

    pieces: Sequence[bytes]
    special: frozenset[int]
    ends: Sequence[int]
    tokenizer: tuple[int, int] | None = None


class Chain(Protocol):
    """Steps with their state (random numbers, mirostat's surprise); ``close`` frees it."""

    def pick(self, logits: Logits, ids: TokenIds | None) -> int:
        """The chosen token. ``logits[i]`` belongs to ``ids[i]``, or to token ``i`` without ids."""

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Shown:
    """Embeddings that a batch has instead of tokens; with ``mutual`` each sees all the others."""

    embeddings: Embeddings
    positions: Positions
    mutual: bool


class Batch:
    """Tokens to evaluate in one ``decode``, in arrays that a backend reads in place.

    For each of the first ``size`` rows: the token, its position, its slot, and whether its logits
    are wanted. Where there is something ``shown``, it takes the place of all tokens and positions.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity: Final = capacity
        self.size = 0
        self.tokens = np.zeros(capacity, np.int32)
        self.positions = np.zeros(capacity, np.int32)
        self.slots = np.zeros(capacity, np.int32)
        self.wanted = np.zeros(capacity, np.int8)
        self.shown: Shown | None = None

    def clear(self) -> None:
        self.size = 0
        self.shown = None

    def add(self, token: int, position: int, slot: int) -> int:
        """Add one token whose logits are wanted; its row."""
        row = self.size
        self.tokens[row] = token
        self.positions[row] = position
        self.slots[row] = slot
        self.wanted[row] = 1
        self.size = row + 1
        return row

    def extend(self, tokens: Sequence[int], position: int, slot: int, *, want: int) -> int:
        """Add a run of tokens from ``position`` on, wanting the last ``want``; the last's row."""
        start, end = self.size, self.size + len(tokens)
        self.tokens[start:end] = tokens
        self.positions[start:end] = np.arange(position, position + len(tokens))
        self.slots[start:end] = slot
        self.wanted[start:end] = 0
        self.wanted[end - want : end] = 1
        self.size = end
        return end - 1

    def show(self, shown: Shown, slot: int, *, want: int) -> int:
        """Fill the empty batch with embeddings, wanting the last ``want``; the last's row."""
        size = len(shown.embeddings)
        self.shown = shown
        self.slots[:size] = slot
        self.wanted[:size] = 0
        self.wanted[size - want : size] = 1
        self.size = size
        return size - 1


class Backend(Protocol):
    """A loaded model with its memory. Other threads may call only ``abort`` and ``token_table``.

    ``n_ctx`` is the longest sequence in tokens, ``n_seq`` the number of slots, and ``n_outputs``,
    at least as many, of how many tokens of a batch the logits may be wanted. ``add_bos`` is whether
    a prompt begins with ``bos``. ``newline`` is the token of a line feed, if there is one.
    ``asynchronous`` says that ``decode`` may return before the work is done.
    """

    n_ctx: int
    n_seq: int
    n_outputs: int
    n_vocab: int
    bos: int
    add_bos: bool
    newline: int | None
    asynchronous: bool
    can_shift: bool
    batch: Batch

    def piece(self, token: int) -> bytes:
        """The text of a token, special tokens included; it may end inside a character."""

    def is_end(self, token: int) -> bool:
        """Whether the model ends its reply with this token."""

    def token_table(self) -> TokenTable:
        """The whole vocabulary, for grammars; takes a second where it is large."""

    def decode(self) -> None:
        """Evaluate ``batch``. Raises ``CacheFull``, ``DecodeAborted`` or ``DecodeFailed``."""

    def wait(self) -> None:
        """Until the work that ``decode`` started is done; nothing where that is synchronous."""

    def logits(self, row: int) -> Logits:
        """The logits of a row of the last batch: a writable view, valid until the next decode."""

    def chain(self, steps: Sequence[Step]) -> Chain:
        """A new chain of samplers, run in this order."""

    def abort(self) -> None:
        """Make the running ``decode``, if any, give up soon. Callable from any thread."""

    def can_truncate(self, slot: int, length: int) -> bool:
        """Whether the sequence can go back to its first ``length`` positions.

        It may end before: with M-RoPE the last cell of an image isn't at the last of its positions.
        Recurrent and hybrid models can't forget, and a sliding window has lost what is behind it.
        """

    def truncate(self, slot: int, length: int) -> None:
        """Keep a sequence's first ``length`` positions; 0 always works and empties the slot."""

    def copy(self, source: int, target: int, length: int) -> None:
        """Let the empty slot ``target`` share the first ``length`` positions of ``source``."""

    def shift(self, slot: int, keep: int, discard: int) -> None:
        """Drop ``discard`` tokens after the first ``keep`` and close the gap.

        The shifted cells change for every sequence that shares them. Needs ``can_shift``.
        """


class VectorBackend(Protocol):
    """What turns sequences of tokens into vectors, some of them together.

    Other threads may call only ``abort``. ``slots`` are the numbers of its sequences, ``n_ctx`` is
    the longest of them in tokens. ``width`` is the length of a vector. One that ``ranks`` gives
    scores for pairs of texts, ``rank_template`` with "{query}" and "{document}" making one of two.

    A ``whole`` backend wants every sequence complete in the batch of ``embed``. Otherwise ``read``
    takes a sequence in pieces, all but its last token, and ``embed`` only that; all sequences
    together have at most ``n_ctx`` tokens then.
    """

    n_ctx: int
    width: int
    slots: Sequence[int]
    whole: bool
    ranks: bool
    rank_template: str | None
    batch: Batch

    def read(self) -> None:
        """Evaluate ``batch``. Raises ``CacheFull``, ``DecodeAborted`` or ``DecodeFailed``."""

    def embed(self) -> None:
        """Evaluate ``batch``, whose sequences all end in it; raises as ``read``."""

    def vector(self, slot: int, row: int) -> Vector:
        """That of a sequence which ended in ``row`` of the last batch; valid until the next."""

    def forget(self, slot: int) -> None:
        """Empty the sequence."""

    def abort(self) -> None:
        """Make the running evaluation, if any, give up soon. Callable from any thread."""


@dataclass(frozen=True, slots=True, eq=False)
class Outline:
    """A run of embeddings that can be computed: how many, and where they will be.

    An embedding in a run that begins at position p is at ``places + p * moves``, each of shape
    (axes, length). The next token is ``span`` positions after the beginning. ``source`` is the
    backend's.
    """

    source: object
    length: int
    span: int
    places: Positions
    moves: Positions


class VisionBackend(Protocol):
    """What makes an image into embeddings, of ``width`` numbers each.

    ``mutual`` ones of an image see each other, so they must be evaluated together.
    """

    width: int
    mutual: bool

    def outline(self, pixels: Pixels) -> list[list[int] | Outline]:
        """What stands for an image: tokens, and runs of embeddings. Raises ``UnusableImage``."""

    def encode(self, outline: Outline) -> Embeddings:
        """The embeddings of a run. Raises ``EncodeFailed``."""
