"""From the text that a model writes to the events that a client gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llamaherd.events import Text, Thinking, ToolCalls
from llamaherd.messages import Tool
from llamaherd.prompt.channels import ChannelParser, writes_channels
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.recognise import recognise_calls
from llamaherd.prompt.parsers.stream import CallParser
from llamaherd.prompt.tags import TagSplitter, thinking_tags
from llamaherd.prompt.template import PromptTemplate, Think

Part = Text | Thinking | ToolCalls


class ReplyParser(Protocol):
    """Turns one reply into events, piece by piece; each call is an event of its own."""

    def feed(self, text: str) -> Sequence[Part]: ...

    def finish(self) -> Sequence[Part]:
        """What was held back, once the reply has come to its end."""


class TaggedReplyParser:
    """Takes thinking and then tool calls out of one reply; either may be None."""

    def __init__(self, thinking: TagSplitter | None, calls: CallParser | None) -> None:
        self._thinking = thinking
        self._calls = calls

    def feed(self, text: str) -> Sequence[Part]:
        return self._without_calls(self._thinking.feed(text) if self._thinking else [Text(text)])

    def finish(self) -> Sequence[Part]:
        parts = self._without_calls(self._thinking.finish() if self._thinking else [])
        return [*parts, *(self._calls.finish() if self._calls else [])]

    def _without_calls(self, parts: Sequence[Text | Thinking]) -> list[Part]:
        found: list[Part] = []
        for part in parts:
            if self._calls and isinstance(part, Text):
                found += self._calls.feed(part.text)
            else:
                found.append(part)
        return found


def is_plain(template: PromptTemplate, *, tools: Sequence[Tool], think: Think) -> bool:
    """Whether a reply is nothing but text and needs no parser.

    As in Ollama, thinking is looked for only if it was asked for, calls only if there are tools.
    A model that answers in channels always does.
    """
    return not tools and not think and not writes_channels(template)


def reply_parser(
    template: PromptTemplate, prompt: str, *, tools: Sequence[Tool] = (), think: Think = None
) -> ReplyParser:
    """What parses the reply to ``prompt``."""
    toolbox = Toolbox(tools)
    if writes_channels(template):
        return ChannelParser(toolbox)
    thinking = None
    if think:
        tags = thinking_tags(template)
        thinking = TagSplitter(tags, opened=prompt.rstrip().endswith(tags.opening))
    calls = CallParser(recognise_calls(template), toolbox) if tools else None
    return TaggedReplyParser(thinking, calls)
