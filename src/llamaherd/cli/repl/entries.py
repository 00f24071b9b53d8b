"""What a person enters, put together from lines: messages, and commands that begin with a slash.

A message of several lines stands between triple quotes, or is pasted as a whole. Pure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

QUOTES: Final = '"""'

_QUOTED_SYSTEM: Final = re.compile(r'/set\s+system\s+"""')


@dataclass(frozen=True, slots=True)
class Message:
    """Text for the model."""

    text: str


@dataclass(frozen=True, slots=True)
class SystemMessage:
    """A system message that was given between triple quotes."""

    text: str


@dataclass(frozen=True, slots=True)
class CommandLine:
    """One line that begins with a slash."""

    text: str


Entry = Message | SystemMessage | CommandLine


class Composer:
    """Collects lines until they are an entry.

    What is pasted comes as one text of several lines. Triple quotes close a message only at the
    end of such a text: a program that is pasted may have some of its own.
    """

    def __init__(self) -> None:
        self._kind: type[Message | SystemMessage] = Message
        self._begun: list[str] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a message waits for its closing quotes."""
        return self._begun is not None

    def reset(self) -> None:
        """Forget a message that was begun."""
        self._begun = None

    def feed(self, text: str) -> Entry | None:
        """The entry that ``text`` completes; None if there is none, or it isn't complete yet."""
        if self._begun is not None:
            return self._collect(self._begun, text)
        if text.startswith(QUOTES):
            self._kind = Message
            return self._collect([], text.removeprefix(QUOTES))
        if quoted := _QUOTED_SYSTEM.match(text):
            self._kind = SystemMessage
            return self._collect([], text[quoted.end() :])
        line = text.strip("\n")
        if line.startswith("/") and "\n" not in line:
            return CommandLine(line)
        return Message(text) if text.strip() else None

    def _collect(self, begun: list[str], text: str) -> Entry | None:
        part = text.removesuffix(QUOTES)
        self._begun = [*begun, part]
        if part == text:
            return None
        whole = "\n".join(self._begun)
        self.reset()
        if self._kind is SystemMessage:
            # Ollama puts no line break after the quotes that open one.
            whole = whole.removeprefix("\n")
        return self._kind(whole) if whole.strip() else None
