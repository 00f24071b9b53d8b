"""How much of the prompts to read in one step."""

from __future__ import annotations

from typing import Final

#: How long reading prompts may hold up replies that are being written, in nanoseconds.
_PAUSE: Final = 150_000_000

#: Shorter chunks than this would slow the reading itself down.
_SMALLEST_CHUNK: Final = 32

#: Weight of the latest measurement of the reading speed.
_NEWEST: Final = 0.3


class PromptPacer:
    """Sizes the prompt chunks of a step: all that fits when nobody is waiting for text, else what
    this machine reads in a pause that a reader of the replies hardly notices."""

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._tokens_per_ns: float | None = None

    def budget(self, *, writing: int) -> int:
        """Prompt tokens for the next step, in which ``writing`` replies grow by a token each."""
        room = self._capacity - writing
        if not writing:
            return room
        if self._tokens_per_ns is None:
            return min(room, _SMALLEST_CHUNK)
        return min(room, max(_SMALLEST_CHUNK, int(self._tokens_per_ns * _PAUSE)))

    def measured(self, tokens: int, duration: int) -> None:
        """A step that read ``tokens`` of prompts took ``duration`` nanoseconds."""
        if tokens < _SMALLEST_CHUNK or duration <= 0:
            return
        speed = tokens / duration
        before = self._tokens_per_ns
        self._tokens_per_ns = speed if before is None else before + _NEWEST * (speed - before)
