"""Messages as the chat templates of Hugging Face models know them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from llamaherd.messages import Message, Tool, ToolCall

#: A message as a template sees it.
Turn: TypeAlias = dict[str, Any]


class CallStyle(Struct, frozen=True):
    """In what ways templates differ about messages that call tools.

    ``null_content`` says that a message without text has the content None. ``json_arguments`` says
    that a call's arguments are JSON text instead of a mapping. ``own_ids`` says that calls have ids
    of ours whatever the client's are: Mistral's templates refuse all but nine letters and digits.
    ``single_calls`` says that a message has one call at most, as Llama 3's templates demand.
    """

    null_content: bool = False
    json_arguments: bool = False
    own_ids: bool = False
    single_calls: bool = False


#: The most usual first.
CALL_STYLES: Final = tuple(
    CallStyle(null_content, json_arguments, own_ids, single_calls)
    for single_calls in (False, True)
    for own_ids in (False, True)
    for null_content in (False, True)
    for json_arguments in (False, True)
)


def conversation(messages: Sequence[Message], style: CallStyle) -> list[Turn]:
    """The messages as dicts, with the members that Transformers' documentation names.

    Every tool call gets an id, and every result the id and name of its call: some templates insist
    on them, but Ollama's clients need not send any.
    """
    turns: list[Turn] = []
    open_calls: list[_OpenCall] = []
    number = 0
    for message in messages:
        turn: Turn = {"role": message.role, "content": message.content}
        if message.thinking:
            turn["reasoning_content"] = turn["thinking"] = message.thinking
        if message.tool_calls:
            if style.null_content and not message.content:
                turn["content"] = None
            turn["tool_calls"] = calls = []
            for call in message.tool_calls:
                shown = call.id if call.id and not style.own_ids else f"call{number:05d}"
                calls.append(_call(call, shown, style))
                open_calls.append(_OpenCall(call.id or shown, call.function.name, shown))
                number += 1
        if message.role == "tool":
            turn["tool_call_id"], turn["name"] = _answered(message, open_calls)
        turns.append(turn)
    return list(_one_call_each(turns)) if style.single_calls else turns


class _OpenCall(Struct, frozen=True):
    """A call that has no result yet, with the id that the template is ``shown``."""

    id: str
    name: str
    shown: str


def _call(call: ToolCall, shown: str, style: CallStyle) -> Turn:
    arguments: Any = call.function.arguments
    if style.json_arguments:
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "type": "function",
        "id": shown,
        "function": {"name": call.function.name, "arguments": arguments},
    }


def _answered(message: Message, open_calls: list[_OpenCall]) -> tuple[str, str]:
    """Id and name of the call whose result this is; the call is then no longer open."""
    for index, call in enumerate(open_calls):
        if message.tool_call_id in ("", call.id) and message.tool_name in ("", call.name):
            del open_calls[index]
            return call.shown, call.name
    return message.tool_call_id, message.tool_name


def _one_call_each(turns: Sequence[Turn]) -> Iterator[Turn]:
    """The conversation as if tools had been called one after the other, each with its result."""
    index = 0
    while index < len(turns):
        turn = turns[index]
        index += 1
        calls = turn.get("tool_calls", ())
        if len(calls) < 2:
            yield turn
            continue
        results = list(takewhile(lambda later: later["role"] == "tool", turns[index:]))
        index += len(results)
        for call in calls:
            yield {**turn, "tool_calls": [call]}
            turn = {"role": turn["role"], "content": None if turn["content"] is None else ""}
            own = (n for n, result in enumerate(results) if result["tool_call_id"] == call["id"])
            if (place := next(own, None)) is not None:
                yield results.pop(place)
        yield from results


def in_usual_order(messages: Sequence[Message]) -> list[Message]:
    """The same in the order of roles that every template takes.

    Agents remind a model of something while it works. A system message that isn't the first is the
    user's then, and what the user says right after a tool's result is part of that.
    """
    ordered: list[Message] = []
    for index, message in enumerate(messages):
        if message.role == "system" and index:
            message = msgspec.structs.replace(message, role="user")
        if message.role == "user" and ordered and ordered[-1].role == "tool":
            result = ordered.pop()
            message = msgspec.structs.replace(
                result,
                content="\n\n".join(filter(None, (result.content, message.content))),
                images=[*result.images, *message.images],
            )
        ordered.append(message)
    return ordered


def definitions(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The tools as Transformers makes them of functions.

    That always gives them a description and parameters, so templates count on it, but clients may
    leave both out where there is nothing to say.
    """
    return [
        {"type": tool.type or "function", "function": _completed(tool.function, _FUNCTION)}
        for tool in tools
    ]


_PARAMETERS: Final[Mapping[str, Any]] = {"type": "object", "properties": {}}
_FUNCTION: Final[Mapping[str, Any]] = {"name": "", "description": "", "parameters": _PARAMETERS}


def _completed(given: dict[str, Any], usual: Mapping[str, Any]) -> dict[str, Any]:
    """The object with all ``usual`` members; null, as in Go's JSON, is as good as none."""
    completed = {name: value for name, value in given.items() if value is not None}
    for name, value in usual.items():
        found = completed.setdefault(name, value)
        if isinstance(value, Mapping) and isinstance(found, dict):
            completed[name] = _completed(found, value)
    return completed
