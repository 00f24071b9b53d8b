"""Replies in channels, as OpenAI's gpt-oss writes them ("harmony").

::

    <|channel|>analysis<|message|>thinking<|end|>
    <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{…}<|call|>
    <|start|>assistant<|channel|>final<|message|>answer<|return|>

without the line breaks. Such a model always thinks; how much is what ``think`` says in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from llamaherd.events import Text, Thinking, ToolCalls
from llamaherd.grammar import Exactly, InOrder, Until
from llamaherd.messages import ToolCall
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.source import Malformed
from llamaherd.prompt.parsers.writing import Writing, named_call
from llamaherd.prompt.template import PromptTemplate

_OPENINGS: Final = ("<|start|>", "<|channel|>")
_MESSAGE: Final = "<|message|>"
_BOUNDARY: Final = re.compile(r"<\|(?:end|call|return)\|>|(?=<\|start\|>)")
_MARKS: Final = ("<|start|>", "<|end|>", "<|call|>", "<|return|>")
_RECIPIENT: Final = re.compile(r"to=(?:functions\.)?([\w.-]+)")

#: No header is longer, in characters; what is, is text.
_LONGEST_HEADER: Final = 512

#: The forms in which a reply after ``<|start|>assistant`` has its parts; what ends the reply isn't
#: in them.
THOUGHTS: Final = InOrder(
    (
        Exactly("<|channel|>analysis<|message|>"),
        Until("<|end|>"),
        Exactly("<|start|>assistant"),
    )
)
ANSWER: Final = f"<|channel|>final{_MESSAGE}"
CALLS: Final = Writing(
    named_call("<|channel|>commentary to=functions.", f" <|constrain|>json{_MESSAGE}"),
    several=False,
)


def writes_channels(template: PromptTemplate) -> bool:
    return "<|channel|>" in template.text and _MESSAGE in template.text


class ChannelParser:
    """Splits the messages of a reply into thinking, text and calls while they are being written.

    A call of a tool that isn't there, or with arguments that are no object, is text.
    """

    def __init__(self, toolbox: Toolbox) -> None:
        self._toolbox = toolbox
        self._held = ""
        self._header: str | None = None  # of the message being read, None before it is complete
        self._refused = 0  # 1 where what is held begins like a header but isn't one
        self._count = 0

    def feed(self, text: str) -> list[Text | Thinking | ToolCalls]:
        self._held += text
        return list(self._read(ended=False))

    def finish(self) -> list[Text | Thinking | ToolCalls]:
        """What was held back, once the reply has come to its end."""
        return list(self._read(ended=True))

    def _read(self, *, ended: bool) -> Iterator[Text | Thinking | ToolCalls]:
        while self._held:
            if self._header is None and not self._read_header(ended=ended):
                return
            boundary = _BOUNDARY.search(self._held, self._refused)
            if boundary is None:
                yield from self._read_unfinished(ended=ended)
                return
            yield from self._give(self._held[: boundary.start()], complete=True)
            self._held = self._held[boundary.end() :]
            self._header = None
            self._refused = 0

    def _read_header(self, *, ended: bool) -> bool:
        """Whether the message that comes next has begun. One without a header is the answer."""
        head, found, rest = self._held.partition(_MESSAGE)
        if found and head.startswith(_OPENINGS) and len(head) <= _LONGEST_HEADER:
            self._header, self._held = head, rest
            return True
        begins = head.startswith(_OPENINGS) or any(mark.startswith(head) for mark in _OPENINGS)
        if (
            begins
            and not found
            and not ended
            and len(self._held) <= _LONGEST_HEADER + len(_MESSAGE)
        ):
            return False
        self._header = ""
        self._refused = 1
        return True

    def _read_unfinished(self, *, ended: bool) -> Iterator[Text | Thinking | ToolCalls]:
        """What is there of the message's text, unless it is a call, which must be whole."""
        if self._recipient() and not ended:
            return
        kept = 0 if ended else _possible_mark(self._held)
        end = len(self._held) - kept
        text, self._held = self._held[:end], self._held[end:]
        if text:
            self._refused = 0
        yield from self._give(text, complete=ended)

    def _recipient(self) -> str:
        """The tool that the message calls, if it does."""
        found = _RECIPIENT.search(self._header or "")
        return found[1] if found else ""

    def _give(self, text: str, *, complete: bool) -> Iterator[Text | Thinking | ToolCalls]:
        if not text:
            return
        if complete and (name := self._recipient()):
            try:
                yield ToolCalls([self._call(name, text)])
            except Malformed:
                yield Text(text)
        else:
            yield Thinking(text) if "analysis" in (self._header or "") else Text(text)

    def _call(self, name: str, text: str) -> ToolCall:
        call = self._toolbox.call(name, text)
        call.function.index = self._count
        self._count += 1
        return call


def _possible_mark(text: str) -> int:
    """How many of the last characters may be the beginning of a mark."""
    longest = min(len(text), max(map(len, _MARKS)) - 1)
    return next(
        (n for n in range(longest, 0, -1) if any(mark.startswith(text[-n:]) for mark in _MARKS)), 0
    )
