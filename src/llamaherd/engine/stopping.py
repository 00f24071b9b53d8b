"""From the bytes of tokens to text that is final.

Text leaves only as whole UTF-8 and never past what may become a stop string. How the bytes are cut
into tokens makes no difference to the text.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence

_new_decoder = codecs.getincrementaldecoder("utf-8")


class ReplyText:
    """The text of one reply, ended by the first of ``stops`` to be completed.

    Where two stop strings are completed by the same character, the one that began first counts.
    An empty stop string is none. After the stop, ``stop`` is the one that was completed, and
    ``excess`` how many of the last bytes that were pushed are not in the text.
    """

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._first = frozenset(stop[0] for stop in self._stops)
        self._reach = max(map(len, self._stops), default=0) - 1
        self._decoder = _new_decoder("replace")
        self._held = ""
        self.stop = ""
        self.excess = 0

    @property
    def stopped(self) -> bool:
        return self.stop != ""

    @property
    def pending(self) -> int:
        """How many characters are held back; one that is still incomplete counts too."""
        undecoded, _ = self._decoder.getstate()
        return len(self._held) + bool(undecoded)

    def push(self, piece: bytes) -> str:
        """The text that the bytes make final; nothing more once ``stopped``."""
        if self.stopped:
            self.excess += len(piece)
            return ""
        text = self._decoder.decode(piece)
        if not self._stops:
            return text
        text = self._held + text
        found = self._find_stop(text)
        if found is not None:
            return self._cut(text, *found)
        safe = len(text) - self._undecided(text)
        self._held = text[safe:]
        return text[:safe]

    def finish(self) -> str:
        """The text still held back; bytes that never became a character are U+FFFD."""
        if self.stopped:
            return ""
        text, self._held = self._held + self._decoder.decode(b"", True), ""
        found = self._find_stop(text)
        return text if found is None else self._cut(text, *found)

    def _cut(self, text: str, cut: int, stop: str) -> str:
        self.stop = stop
        self._held = ""
        undecoded, _ = self._decoder.getstate()
        self.excess = len(text[cut:].encode()) + len(undecoded)
        return text[:cut]

    def _find_stop(self, text: str) -> tuple[int, str] | None:
        """Where the stop string begins that is completed first, and which it is."""
        found = [
            (start + len(stop), start, stop)
            for stop in self._stops
            if (start := text.find(stop)) >= 0
        ]
        return min(found)[1:] if found else None

    def _undecided(self, text: str) -> int:
        """The length of the longest end of ``text`` that begins a stop string."""
        tail = text[-self._reach :] if self._reach else ""
        for start, character in enumerate(tail):
            if character in self._first:
                end = tail[start:]
                if any(stop.startswith(end) for stop in self._stops):
                    return len(end)
        return 0
