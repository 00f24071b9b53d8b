"""Replies in channels, as OpenAI's gpt-oss writes them ("harmony"), and Meta's Muse Glimmer.

::

    <|channel|>analysis<|message|>thinking<|end|>
    <|start|>assistant<|channel|>commentary to=functions.f <|constrain|>json<|message|>{…}<|call|>
    <|start|>assistant<|channel|>final<|message|>answer<|return|>

    to=self<|message|>thinking<|eom|>
    <|start|>assistant to=f<|message|><atem:function_calls>…</atem:function_calls><|eom|>
    <|start|>assistant to=user<|message|>answer<|eot|>

without the line breaks. Such a model always thinks; how much is what ``think`` says in the prompt.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Final

from msgspec import Struct

from llamaherd.events import Text, Thinking, ToolCalls
from llamaherd.grammar import Exactly, Form, InOrder, Until
from llamaherd.messages import ToolCall
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.invoke import FORMAT as INVOKE
from llamaherd.prompt.parsers.invoke import invocation
from llamaherd.prompt.parsers.source import Malformed
from llamaherd.prompt.parsers.stream import CallParser
from llamaherd.prompt.parsers.writing import Signature, Writing, named_call
from llamaherd.prompt.template import PromptTemplate

_START: Final = "<|start|>"
_MESSAGE: Final = "<|message|>"

#: No header is longer, in characters; what is, is text.
_LONGEST_HEADER: Final = 512


class Channels(Struct, frozen=True):
    """How a family writes the messages of a reply.

    ``marks`` in a template tell the family. A header begins with one of ``openings`` and ends with
    ``<|message|>``, a message with one of ``ends``. Its ``recipient`` is a tool that it calls, by
    what ``read_calls`` makes of name and text or raises ``Malformed``. It is thinking if ``thinks``
    is in the header.

    ``thoughts`` and ``calls`` are the forms of such parts of a reply after ``<|start|>assistant``,
    without what ends the reply; ``answer`` is an answer's header.
    """

    marks: tuple[str, ...]
    openings: tuple[str, ...]
    ends: tuple[str, ...]
    thinks: str
    recipient: re.Pattern[str]
    read_calls: Callable[[Toolbox, str, str], list[ToolCall]]
    thoughts: Form
    answer: str
    calls: Writing

    @property
    def boundary(self) -> re.Pattern[str]:
        """What stands between two messages, nothing before a header."""
        return re.compile("|".join((*map(re.escape, self.ends), f"(?={re.escape(_START)})")))


def _json_call(toolbox: Toolbox, name: str, text: str) -> list[ToolCall]:
    return [toolbox.call(name, text)]


HARMONY: Final = Channels(
    marks=("<|channel|>", _MESSAGE),
    openings=(_START, "<|channel|>"),
    ends=("<|end|>", "<|call|>", "<|return|>"),
    thinks="analysis",
    recipient=re.compile(r"to=(?:functions\.)?([\w.-]+)"),
    read_calls=_json_call,
    thoughts=InOrder(
        (
            Exactly(f"<|channel|>analysis{_MESSAGE}"),
            Until("<|end|>"),
            Exactly(f"{_START}assistant"),
        )
    ),
    answer=f"<|channel|>final{_MESSAGE}",
    calls=Writing(
        named_call("<|channel|>commentary to=functions.", f" <|constrain|>json{_MESSAGE}"),
        several=False,
    ),
)


def _tagged_calls(toolbox: Toolbox, name: str, text: str) -> list[ToolCall]:
    """The calls in their tags, where the name is told again."""
    parser = CallParser(INVOKE, toolbox)
    calls: list[ToolCall] = []
    for event in (*parser.feed(text), *parser.finish()):
        if isinstance(event, ToolCalls):
            calls += event.calls
        elif event.text.strip():
            raise Malformed
    if not calls:
        raise Malformed
    return calls


def _tagged_form(signature: Signature) -> Form:
    head = Exactly(f" to={signature.name}{_MESSAGE}")
    tags = invocation("atem:", "<atem:function_calls>\n", "\n</atem:function_calls>")
    return InOrder((head, tags(signature)))


GLIMMER: Final = Channels(
    marks=("<atem:function_calls>", "<|eom|>"),
    openings=(_START, " to="),
    ends=("<|eom|>", "<|eot|>"),
    thinks="to=self",
    recipient=re.compile(r"to=(?!(?:self|user)(?:[^\w.-]|$))([\w.-]+)"),
    read_calls=_tagged_calls,
    thoughts=InOrder(
        (Exactly(f" to=self{_MESSAGE}"), Until("<|eom|>"), Exactly(f"{_START}assistant"))
    ),
    answer=f" to=user{_MESSAGE}",
    calls=Writing(_tagged_form, several=False),
)

CHANNELS: Final = (HARMONY, GLIMMER)


def channels_of(template: PromptTemplate) -> Channels | None:
    """How models with this template write messages, None if they don't."""
    found = (family for family in CHANNELS if all(mark in template.text for mark in family.marks))
    return next(found, None)


class ChannelParser:
    """Splits the messages of a reply into thinking, text and calls while they are being written.

    A call of a tool that isn't there, or with arguments that are no object, is text.
    """

    def __init__(self, toolbox: Toolbox, channels: Channels = HARMONY) -> None:
        self._toolbox = toolbox
        self._channels = channels
        self._boundary = channels.boundary
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
            boundary = self._boundary.search(self._held, self._refused)
            if boundary is None:
                yield from self._read_unfinished(ended=ended)
                return
            yield from self._give(self._held[: boundary.start()], complete=True)
            self._held = self._held[boundary.end() :]
            self._header = None
            self._refused = 0

    def _read_header(self, *, ended: bool) -> bool:
        """Whether the message that comes next has begun. One without a header is the answer."""
        openings = self._channels.openings
        head, found, rest = self._held.partition(_MESSAGE)
        if found and head.startswith(openings) and len(head) <= _LONGEST_HEADER:
            self._header, self._held = head, rest
            return True
        begins = head.startswith(openings) or any(mark.startswith(head) for mark in openings)
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
        kept = 0 if ended else self._possible_mark()
        end = len(self._held) - kept
        text, self._held = self._held[:end], self._held[end:]
        if text:
            self._refused = 0
        yield from self._give(text, complete=ended)

    def _recipient(self) -> str:
        """The tool that the message calls, if it does."""
        found = self._channels.recipient.search(self._header or "")
        return found[1] if found else ""

    def _give(self, text: str, *, complete: bool) -> Iterator[Text | Thinking | ToolCalls]:
        if not text:
            return
        if complete and (name := self._recipient()):
            try:
                calls = self._channels.read_calls(self._toolbox, name, text)
            except Malformed:
                yield Text(text)
                return
            for call in calls:
                call.function.index = self._count
                self._count += 1
                yield ToolCalls([call])
        else:
            thinks = self._channels.thinks in (self._header or "")
            yield Thinking(text) if thinks else Text(text)

    def _possible_mark(self) -> int:
        """How many of the last characters may be the beginning of a mark."""
        marks = (_START, *self._channels.ends)
        text = self._held
        longest = min(len(text), max(map(len, marks)) - 1)
        lengths = range(longest, 0, -1)
        return next((n for n in lengths if any(mark.startswith(text[-n:]) for mark in marks)), 0)
