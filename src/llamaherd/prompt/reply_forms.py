"""What a reply must be: thinking first, then calls of tools or what ``format`` asks for.

The thinking is free, and its end is where the rest begins, whatever tokens the model ends it with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import msgspec

from llamaherd.errors import FieldError, FormatError
from llamaherd.grammar import Blank, Exactly, Form, Grammar, InOrder, OneOf, Until, optional
from llamaherd.messages import Think, Tool, ToolChoice
from llamaherd.prompt.channels import Channels, channels_of
from llamaherd.prompt.frames import frame_of
from llamaherd.prompt.parsers.recognise import recognise_writing
from llamaherd.prompt.parsers.writing import signatures_of
from llamaherd.prompt.tags import thinking_tags
from llamaherd.prompt.template import PromptTemplate

_NO_FUNCTION: Final = 'tool_choice: there is no function "{}" among the tools'

_FREE: Final = ToolChoice()


def offered_tools(tools: Sequence[Tool], choice: ToolChoice) -> list[Tool]:
    """The tools that the model is told of and may call. Raises ``FieldError``."""
    names = {tool.function.get("name") for tool in tools}
    for name in choice.names:
        if name not in names:
            raise FieldError(_NO_FUNCTION.format(name), "tool_choice")
    if choice.mode == "required" and not tools:
        raise FieldError("tool_choice: there are no tools to be called", "tool_choice")
    if choice.mode == "none":
        return []
    return [tool for tool in tools if not choice.names or tool.function.get("name") in choice.names]


def reply_form(
    template: PromptTemplate,
    prompt: str,
    *,
    tools: Sequence[Tool] = (),
    choice: ToolChoice = _FREE,
    think: Think = None,
    grammar: Grammar | None = None,
) -> Form | None:
    """What the reply to ``prompt`` must be, None if it is free.

    ``tools`` are those that are offered. Where they need not be called, a ``grammar`` holds for a
    reply that calls none. Raises ``FormatError`` if calls are required and can't be guaranteed.
    """
    calls = None
    if choice.mode == "required":
        calls, grammar = _calls(template, prompt, tools, choice, relaxed=False), None
    elif tools and grammar:
        calls = _possible_calls(template, prompt, tools, choice)
    if channels := channels_of(template):
        return _in_channels(channels, calls, grammar)
    frame = frame_of(template, think)
    answer: Form | None = grammar
    if frame:
        answer = frame.around(grammar, prompt) if grammar else None
        calls = frame.before(calls, prompt) if calls else None
    alternatives = tuple(form for form in (calls, answer) if form)
    if not alternatives:
        return None
    body = alternatives[0] if len(alternatives) == 1 else OneOf(alternatives)
    return InOrder((_thinking(template, prompt), body)) if think else body


def _calls(
    template: PromptTemplate,
    prompt: str,
    tools: Sequence[Tool],
    choice: ToolChoice,
    *,
    relaxed: bool,
) -> Form:
    channels = channels_of(template)
    writing = channels.calls if channels else recognise_writing(template)
    if writing is None:
        raise FormatError("tool_choice: calls can't be required in the way this model writes them")
    if frame := frame_of(template):
        opening = writing.opening.removeprefix(frame.begun_by(prompt))
        writing = msgspec.structs.replace(writing, opening=opening)
    signatures = signatures_of(tools, relaxed=relaxed, number=writing.next_number(prompt))
    return writing.form(signatures, several=choice.parallel)


def _possible_calls(
    template: PromptTemplate, prompt: str, tools: Sequence[Tool], choice: ToolChoice
) -> Form | None:
    """None where tools can't be called within a grammar: then what was asked for is the format."""
    try:
        return _calls(template, prompt, tools, choice, relaxed=True)
    except FormatError:
        return None


def _in_channels(channels: Channels, calls: Form | None, grammar: Grammar | None) -> Form | None:
    """A model that answers in channels always may think."""
    answer = InOrder((Exactly(channels.answer), grammar)) if grammar else None
    alternatives = tuple(form for form in (calls, answer) if form)
    return InOrder((optional(channels.thoughts), OneOf(alternatives))) if alternatives else None


def _thinking(template: PromptTemplate, prompt: str) -> Form:
    tags = thinking_tags(template)
    rest = (Until(tags.closing), Blank())
    if prompt.rstrip().endswith(tags.opening):
        return InOrder(rest)
    return optional(InOrder((Blank(), Exactly(tags.opening), *rest)))
