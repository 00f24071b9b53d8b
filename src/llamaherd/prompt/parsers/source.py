"""Reading a text that is still being written.

A reader is a generator: it yields None to wait for more text, yields each ``ToolCall`` as soon as
that is complete, and returns what it has read. So a grammar can be written down as if the text
were there already, and every character is looked at once.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from typing import Final, TypeAlias, TypeVar

from llamaherd.messages import ToolCall

T = TypeVar("T")

Reading: TypeAlias = Generator[ToolCall | None, None, T]

SPACE: Final = re.compile(r"\s*")


class Malformed(Exception):
    """What looked like the beginning of a call is none."""


class Source:
    """The text as far as it is there; ``position`` is how far it has been read."""

    def __init__(self) -> None:
        self.text = ""
        self.position = 0
        self.ended = False

    def wait(self) -> Reading[None]:
        """Wait for more text; raises ``Malformed`` if none will come."""
        if self.ended:
            raise Malformed
        yield None

    def take(self, count: int) -> Reading[str]:
        """The next ``count`` characters."""
        end = self.position + count
        while len(self.text) < end:
            yield from self.wait()
        taken = self.text[self.position : end]
        self.position = end
        return taken

    def peek(self) -> Reading[str]:
        """The next character, which stays."""
        yield from self.take(1)
        self.position -= 1
        return self.text[self.position]

    def skip(self, pattern: re.Pattern[str]) -> Reading[str]:
        """The longest run of what ``pattern`` matches; it must match the empty text too.

        It must look at single characters, because it goes on from where the text ended before.
        """
        start = self.position
        while True:
            match = pattern.match(self.text, self.position)
            assert match is not None
            self.position = match.end()
            if self.position < len(self.text) or self.ended:
                return self.text[start : self.position]
            yield None

    def literal(self, wanted: str) -> Reading[None]:
        """Exactly this text; anything else is malformed as soon as it differs."""
        for character in wanted:
            if (yield from self.take(1)) != character:
                raise Malformed

    def optional(self, wanted: str) -> Reading[bool]:
        """Whether this text comes next, after white space; if not, nothing is read.

        What a reply that was cut short has of it is read all the same: it is no content.
        """
        start = self.position
        yield from self.skip(SPACE)
        for character in wanted:
            while self.position == len(self.text):
                if self.ended:
                    return False
                yield None
            if (yield from self.take(1)) != character:
                self.position = start
                return False
        return True

    def until(self, mark: str) -> Reading[str]:
        """The text up to ``mark``, which is read too."""
        start = searched = self.position
        while (found := self.text.find(mark, searched)) < 0:
            searched = max(start, len(self.text) - len(mark) + 1)
            yield from self.wait()
        self.position = found + len(mark)
        return self.text[start:found]
