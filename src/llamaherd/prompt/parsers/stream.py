"""Taking the tool calls out of a text while it is being written."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

import msgspec
from msgspec import Struct

from llamaherd.events import Text, ToolCalls
from llamaherd.messages import ToolCall
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.source import Malformed, Reading, Source
from llamaherd.prompt.parsers.writing import Writing

#: Reads from the opening of a call, included, to the end of whatever belongs to it.
CallReader: TypeAlias = Callable[[Source, Toolbox], Reading[None]]


class CallFormat(Struct, frozen=True):
    """How a family writes calls: by the texts with which they open, what reads them from there.

    No opening begins with another. ``marks`` in a template tell the family too, for templates that
    explain the format to the model but do not write calls themselves. ``writings`` are the ways in
    which calls can be demanded of the model, of which the last has no mark or is the most usual.
    """

    name: str
    readers: Mapping[str, CallReader]
    marks: tuple[str, ...] = ()
    writings: tuple[Writing, ...] = ()


class CallParser:
    """Splits a text into calls and what stands around them.

    What could still be the beginning of a call is held back; if it turns out to be none, or calls
    a tool that isn't there, it is text again. White space next to calls alone is dropped. How the
    text is cut into pieces makes no difference but in how the events' texts are cut.
    """

    def __init__(self, form: CallFormat, toolbox: Toolbox) -> None:
        self._readers = form.readers
        self._openings = re.compile("|".join(map(re.escape, form.readers)))
        self._toolbox = toolbox
        self._source = Source()
        self._reading: Reading[None] | None = None
        self._given = 0  # up to where the source's text has been given out
        self._blank = ""
        self._at_border = True
        self._found = False  # whether the reader at work has found a call
        self._count = 0
        self._events: list[Text | ToolCalls] = []

    def feed(self, text: str) -> list[Text | ToolCalls]:
        self._source.text += text
        return self._advance()

    def finish(self) -> list[Text | ToolCalls]:
        """What was held back, once the text has come to its end."""
        self._source.ended = True
        events = self._advance()
        if self._blank and not self._count:
            events.append(Text(self._blank))
        return events

    def _advance(self) -> list[Text | ToolCalls]:
        while self._reading or self._find_opening():
            if not self._read():
                break
        if not self._reading:
            self._source.text = self._source.text[self._given :]
            self._given = 0
        events, self._events = self._events, []
        return events

    def _find_opening(self) -> bool:
        source = self._source
        match = self._openings.search(source.text, self._given)
        if match is None:
            self._give(len(source.text) - (0 if source.ended else self._possible_opening()))
            return False
        self._give(match.start())
        source.position = match.start()
        self._found = False
        self._reading = self._readers[match[0]](source, self._toolbox)
        return True

    def _possible_opening(self) -> int:
        """How many of the last characters may be the beginning of an opening."""
        text = self._source.text
        longest = min(max(map(len, self._readers)) - 1, len(text) - self._given)
        for length in range(longest, 0, -1):
            if any(opening.startswith(text[-length:]) for opening in self._readers):
                return length
        return 0

    def _read(self) -> bool:
        """Go on reading; False if that needs more text."""
        assert self._reading
        try:
            for call in self._reading:
                if call is None:
                    return False
                self._give_call(call)
            self._given = self._source.position
        except Malformed:
            # What is left may hold another call, but not where this reader began.
            if not self._found:
                self._give(self._given + 1)
        self._reading = None
        return True

    def _give_call(self, call: ToolCall) -> None:
        function = msgspec.structs.replace(call.function, index=self._count)
        self._count += 1
        self._found = True
        self._events.append(ToolCalls([msgspec.structs.replace(call, function=function)]))
        self._given = self._source.position
        self._blank = ""
        self._at_border = True

    def _give(self, end: int) -> None:
        text = self._blank + self._source.text[self._given : end]
        self._given = end
        if self._at_border and not text.strip():
            self._blank = text
            return
        self._blank = ""
        if not text:
            return
        self._at_border = False
        match self._events:
            case [*_, Text(before)]:
                self._events[-1] = Text(before + text)
            case _:
                self._events.append(Text(text))
