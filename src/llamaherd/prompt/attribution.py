"""Which tokens a reply's events were made of, where a parser stands between text and events."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Sequence

import msgspec

from llamaherd.events import Logprobs, Text, Thinking, WrittenToken
from llamaherd.prompt.replies import Part

_new_decoder = codecs.getincrementaldecoder("utf-8")


class Attribution:
    """Gives every token to the event that its text ended in, or else to the next one.

    Parsers pass on texts as the model wrote them, so they are found again in what it wrote. What
    lies before such a text, tags and calls, comes with the event before it if that is a call, else
    with the text. All tokens are given out once, in their order.
    """

    def __init__(self) -> None:
        self._text = ""
        self._start = 0  # the place of ``_text`` in the whole reply, in characters
        self._decoder = _new_decoder("replace")
        self._decoded = 0
        self._waiting: deque[tuple[int, WrittenToken]] = deque()

    def add(self, text: str, logprobs: Sequence[WrittenToken]) -> None:
        """The model has written ``text``, with which ``logprobs`` came."""
        self._text += text
        for token in logprobs:
            self._decoded += len(self._decoder.decode(token.piece))
            undecoded, _ = self._decoder.getstate()
            self._waiting.append((self._decoded + bool(undecoded), token))

    def give(self, events: Sequence[Part]) -> Sequence[Part]:
        """The events that came out of the parser, with their tokens."""
        if not events:
            return events
        ends = self._ends(events)
        return [
            msgspec.structs.replace(event, logprobs=self._up_to(end))
            for event, end in zip(events, ends, strict=True)
        ]

    def rest(self) -> Logprobs:
        """All tokens that no event was made of."""
        rest = tuple(token for _, token in self._waiting)
        self._waiting.clear()
        return rest

    def _ends(self, events: Sequence[Part]) -> list[int]:
        """Up to where in the reply each event reaches."""
        spans: list[tuple[int, int] | None] = []
        at = 0
        for event in events:
            span = self._find(event, at)
            at = span[1] if span else at
            spans.append(span)
        ends = []
        following = len(self._text)
        for span in reversed(spans):
            ends.append(self._start + (following if span is None else span[1]))
            following = following if span is None else span[0]
        ends.reverse()
        self._forget(ends[-1])
        return ends

    def _find(self, event: Part, at: int) -> tuple[int, int] | None:
        """Where the event's text stands in the text at hand; None for one without."""
        if not isinstance(event, (Text, Thinking)):
            return None
        start = self._text.find(event.text, at)
        return (start, start + len(event.text)) if start >= 0 else None

    def _forget(self, end: int) -> None:
        """Nothing before ``end`` will be searched for."""
        self._text = self._text[end - self._start :]
        self._start = end

    def _up_to(self, end: int) -> Logprobs:
        found = []
        while self._waiting and self._waiting[0][0] <= end:
            found.append(self._waiting.popleft()[1])
        return tuple(found)
