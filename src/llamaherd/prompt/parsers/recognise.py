"""Which way of writing calls a model has, told by its template.

A template shows a model its own earlier calls in the very form in which it is to write new ones.
So the model's format is the one that reads back what the template writes.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from llamaherd.errors import LlamaherdError
from llamaherd.events import ToolCalls
from llamaherd.messages import Message, Tool, ToolCall, ToolCallFunction
from llamaherd.prompt.parsers import (
    apertus,
    command_r,
    deepseek,
    firefunction,
    functionary,
    gemma,
    gigachat,
    glm,
    granite,
    hermes,
    invoke,
    kimi,
    kimi_k3,
    llama,
    minicpm,
    minimax,
    mistral,
    phi,
    pythonic,
    solar,
    step,
)
from llamaherd.prompt.parsers.calls import USUAL_KEYS, Keys, Toolbox
from llamaherd.prompt.parsers.stream import CallFormat, CallParser
from llamaherd.prompt.parsers.tagged import tagged
from llamaherd.prompt.parsers.writing import Writing, json_call
from llamaherd.prompt.template import GoTemplate, PromptTemplate, Values

#: The formats with tags of their own; the more telling first.
TAGGED: Final = (
    phi.FORMAT,
    granite.FORMAT,
    glm.FORMAT,
    hermes.FORMAT,
    mistral.FORMAT,
    command_r.FORMAT,
    deepseek.FORMAT,
    firefunction.FORMAT,
    kimi.FORMAT,
    kimi_k3.FORMAT,
    invoke.FORMAT,
    minimax.FORMAT,
    step.FORMAT,
    functionary.FORMAT,
    gigachat.FORMAT,
    gemma.FORMAT,
    apertus.FORMAT,
    minicpm.FORMAT,
    solar.FORMAT,
    pythonic.FORMAT,
)

#: For a template that tells nothing.
FALLBACK: Final = llama.FORMAT

#: A tag is a word or two; what is longer than this is something else that a template writes.
_LONGEST_TAG: Final = 40


@lru_cache(maxsize=64)
def recognise_calls(template: PromptTemplate) -> CallFormat:
    """The format in which a model with this template calls tools."""
    marked = [form for form in TAGGED if any(mark in template.text for mark in form.marks)]
    if written := _render(template, _CALL):
        for form in (*marked, *TAGGED):
            if _reads_back(form, written):
                return form
        return _own_format(template, written) or FALLBACK
    return next(iter(marked), FALLBACK)


@lru_cache(maxsize=64)
def recognise_writing(template: PromptTemplate) -> Writing | None:
    """In which of its format's ways a model with this template writes calls; None if in no way."""
    writings = recognise_calls(template).writings
    shown = template.text + _render(template, _CALL)
    marked = (writing for writing in writings if writing.mark in shown)
    return next(marked, writings[-1] if writings else None)


@lru_cache(maxsize=64)
def hides_calls(template: PromptTemplate) -> bool:
    """Whether a chat template that offers tools leaves out the calls of earlier messages.

    A Go template is taken at its word: Ollama shows its models no more either.
    """
    if isinstance(template, GoTemplate) or "tools" not in template.capabilities:
        return False
    shown = _conversation(template, _CALL)
    return shown is not None and _KEY not in shown


_NAME: Final = "probed_tool"
_KEY: Final = "probed_key"
_ARGUMENTS: Final = {_KEY: "probed_value"}
_FUNCTION: Final = ToolCallFunction(_NAME, dict(_ARGUMENTS))
_CALL: Final = Message(role="assistant", tool_calls=[ToolCall(_FUNCTION)])

#: In place of the call, a text whose characters no tag has.
_NO_CALL: Final = Message(role="assistant", content="\u2063\u2063")

#: Templates show their tools' names too, so the tools have to be others.
_OTHER_TOOL: Final = Tool(
    "function",
    {
        "name": "other",
        "description": "other",
        "parameters": {
            "type": "object",
            "properties": {"other": {"type": "string", "description": "other"}},
        },
    },
)
_TOOLBOX: Final = Toolbox([Tool("function", {"name": _NAME})])


def _render(template: PromptTemplate, answer: Message) -> str:
    """A conversation with this answer; empty if the template doesn't take it or hides the call."""
    text = _conversation(template, answer) or ""
    return text if answer is not _CALL or _KEY in text else ""


def _conversation(template: PromptTemplate, answer: Message) -> str | None:
    """None if the template doesn't take it."""
    messages = (
        Message(role="user", content="go"),
        answer,
        Message(role="tool", content="done", tool_name=_NAME),
    )
    try:
        return template.render(Values(messages=messages, tools=(_OTHER_TOOL,)))
    except LlamaherdError:
        return None


def _reads_back(form: CallFormat, written: str) -> bool:
    parser = CallParser(form, _TOOLBOX)
    events = [*parser.feed(written), *parser.finish()]
    calls = [call for event in events if isinstance(event, ToolCalls) for call in event.calls]
    return [call.function for call in calls] == [_FUNCTION]


def _own_format(template: PromptTemplate, written: str) -> CallFormat | None:
    """A format of JSON after a tag that no family we know has, or with keys of its own."""
    plain = _render(template, _NO_CALL)
    start = _shared(written, plain)
    rest = _shared(written[::-1], plain[::-1])
    answer = written[start : len(written) - rest] if plain else written
    for opening, value, closing in _objects(answer):
        keys = _keys_of(value)
        if keys is None:
            continue
        tag = opening.strip().removesuffix("[").rstrip()
        if not plain or len(tag) > _LONGEST_TAG or "\n" in tag:
            tag = ""
        if not tag and keys == USUAL_KEYS:
            return None
        end = closing.strip().removeprefix("]").lstrip() if tag else ""
        listed = opening.rstrip().endswith("[")
        writing = Writing(
            json_call(keys.name[0], keys.arguments[0]),
            opening=opening.lstrip() if tag else "",
            separator=", " if listed and tag else "\n",
            closing=closing.rstrip() if tag else "",
            names=None,
        )
        return CallFormat("template", {tag or "{": tagged(tag, end, keys)}, writings=(writing,))
    return None


def _shared(one: str, other: str) -> int:
    """With how many characters both begin."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((index for index, (a, b) in pairs if a != b), min(len(one), len(other)))


def _objects(text: str) -> Iterator[tuple[str, Any, str]]:
    """The JSON objects in a text, each with what stands before and after it."""
    decoder = json.JSONDecoder()
    for position, character in enumerate(text):
        if character == "{":
            try:
                value, end = decoder.raw_decode(text, position)
            except (ValueError, RecursionError):
                continue
            yield text[:position], value, text[end:]


def _keys_of(value: Any) -> Keys | None:
    """The keys of a call's object with those that stand for name and arguments first."""
    if isinstance(value, dict) and isinstance(value.get("function"), dict):
        value = value["function"]
    if not isinstance(value, dict):
        return None
    name = [key for key in value if value[key] == _NAME]
    arguments = [key for key in value if value[key] in (_ARGUMENTS, json.dumps(_ARGUMENTS))]
    if not name or not arguments:
        return None
    if name[0] in USUAL_KEYS.name and arguments[0] in USUAL_KEYS.arguments:
        return USUAL_KEYS
    return Keys(name=(name[0], *USUAL_KEYS.name), arguments=(arguments[0], *USUAL_KEYS.arguments))
