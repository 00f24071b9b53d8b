"""Which tokens a reply's events were made of, where a parser stands between text and events."""

from __future__ import annotations

import codecs
from collections import deque
from collections.abc import Iterator, Sequence, Set

import msgspec

from llamaherd.events import Logprobs, Text, Thinking, WrittenToken
from llamaherd.prompt.replies import Part

_new_decoder = codecs.getincrementaldecoder("utf-8")


class Attribution:
    """Gives every token to the event that its text ended in, or else to the next one.

    Parsers pass on texts as the model wrote them, so they are found again in what it wrote. A short
    text may stand in a tag before it too, which has tokens of its own: so one is looked for first
    where tokens begin and end. What lies before such a text, tags and calls, comes with the event
    before it if that is a call, else with the text. All tokens are given out once, in their order.
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
        edges = {end - self._start for end, _ in self._waiting}
        at = 0
        for event in events:
            span = self._find(event, at, edges)
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

    def _find(self, event: Part, at: int, edges: Set[int]) -> tuple[int, int] | None:
        """Where the event's text stands in the text at hand, from ``at`` on; None for one without.

        ``edges`` are the places where tokens end.
        """
        if not isinstance(event, (Text, Thinking)):
            return None
        begun = first = None
        for span in self._places(event.text, at):
            first = first or span
            if span[0] == at or self._begins_token(span[0], edges):
                begun = begun or span
                if span[1] in edges:
                    return span
        return begun or first

    def _places(self, text: str, at: int) -> Iterator[tuple[int, int]]:
        while (start := self._text.find(text, at)) >= 0:
            at = start + max(len(text), 1)
            yield start, start + len(text)

    def _begins_token(self, place: int, edges: Set[int]) -> bool:
        """Whether a token begins there or with the white space before it, which parsers drop."""
        while place not in edges and place and self._text[place - 1].isspace():
            place -= 1
        return place in edges

    def _forget(self, end: int) -> None:
        """Nothing before ``end`` will be searched for."""
        self._text = self._text[end - self._start :]
        self._start = end

    def _up_to(self, end: int) -> Logprobs:
        found = []
        while self._waiting and self._waiting[0][0] <= end:
            found.append(self._waiting.popleft()[1])
        return tuple(found)
