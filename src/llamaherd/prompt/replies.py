"""From the text that a model writes to the events that a client gets."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from llamaherd.events import Text, Thinking, ToolCalls
from llamaherd.messages import Think, Tool
from llamaherd.prompt.channels import ChannelParser, channels_of
from llamaherd.prompt.frames import Unframer, Unwrapper, frame_of, unframed
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.recognise import recognise_calls
from llamaherd.prompt.parsers.stream import CallParser
from llamaherd.prompt.tags import TagSplitter, thinking_tags
from llamaherd.prompt.template import PromptTemplate

Part = Text | Thinking | ToolCalls


class ReplyParser(Protocol):
    """Turns one reply into events, piece by piece; each call is an event of its own."""

    def feed(self, text: str) -> Sequence[Part]: ...

    def finish(self) -> Sequence[Part]:
        """What was held back, once the reply has come to its end."""


class _Stage(Protocol):
    """Takes something out of the text that it is given."""

    def feed(self, text: str) -> Sequence[Part]: ...

    def finish(self) -> Sequence[Part]: ...


class TaggedReplyParser:
    """Takes thinking, then the frame of the answer, then tool calls out of one reply.

    Each may be None. ``begun`` is what the prompt already has of the reply.
    """

    def __init__(
        self,
        thinking: TagSplitter | None,
        calls: CallParser | None,
        frame: Unframer | Unwrapper | None = None,
        begun: str = "",
    ) -> None:
        self._stages: list[_Stage] = [stage for stage in (thinking, frame, calls) if stage]
        self._begun = begun

    def feed(self, text: str) -> Sequence[Part]:
        text, self._begun = self._begun + text, ""
        return self._pass_on([Text(text)], self._stages)

    def finish(self) -> Sequence[Part]:
        parts: list[Part] = []
        for index, stage in enumerate(self._stages):
            parts += self._pass_on(stage.finish(), self._stages[index + 1 :])
        return parts

    def _pass_on(self, parts: Sequence[Part], stages: Sequence[_Stage]) -> Sequence[Part]:
        """What the ``stages`` one after the other make of the texts."""
        for stage in stages:
            found: list[Part] = []
            for part in parts:
                found += stage.feed(part.text) if isinstance(part, Text) else [part]
            parts = found
        return parts


def is_plain(template: PromptTemplate, *, tools: Sequence[Tool], think: Think) -> bool:
    """Whether a reply is nothing but text and needs no parser.

    As in Ollama, thinking is looked for only if it was asked for, calls only if there are tools.
    A model that answers in channels or in a frame always does.
    """
    framed = channels_of(template) or frame_of(template, think)
    return not tools and not think and not framed


def reply_parser(
    template: PromptTemplate, prompt: str, *, tools: Sequence[Tool] = (), think: Think = None
) -> ReplyParser:
    """What parses the reply to ``prompt``."""
    toolbox = Toolbox(tools)
    if channels := channels_of(template):
        return ChannelParser(toolbox, channels)
    thinking = None
    if think:
        tags = thinking_tags(template)
        thinking = TagSplitter(tags, opened=prompt.rstrip().endswith(tags.opening))
    calls = CallParser(recognise_calls(template), toolbox) if tools else None
    frame = frame_of(template, think)
    if frame is None:
        return TaggedReplyParser(thinking, calls)
    return TaggedReplyParser(thinking, calls, unframed(frame), frame.begun_by(prompt))
