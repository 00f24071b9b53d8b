"""Messages as the chat templates of Hugging Face models know them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from msgspec import Struct

from llamaherd.messages import Message, ToolCall


class CallStyle(Struct, frozen=True):
    """In what two ways templates differ about a message that calls tools.

    ``null_content`` says that a message without text has the content None. ``json_arguments`` says
    that a call's arguments are JSON text instead of a mapping.
    """

    null_content: bool = False
    json_arguments: bool = False


#: The most usual first.
CALL_STYLES = (
    CallStyle(),
    CallStyle(json_arguments=True),
    CallStyle(null_content=True),
    CallStyle(null_content=True, json_arguments=True),
)


def conversation(messages: Sequence[Message], style: CallStyle) -> list[dict[str, Any]]:
    """The messages as dicts, with the members that Transformers' documentation names.

    Every tool call gets an id, and every result the id and name of its call: some templates insist
    on them, with nine letters and digits for Mistral's, but Ollama's clients need not send any.
    """
    converted: list[dict[str, Any]] = []
    open_calls: list[tuple[str, str]] = []
    number = 0
    for message in messages:
        turn: dict[str, Any] = {"role": message.role, "content": message.content}
        if message.thinking:
            turn["reasoning_content"] = turn["thinking"] = message.thinking
        if message.tool_calls:
            if style.null_content and not message.content:
                turn["content"] = None
            turn["tool_calls"] = calls = []
            for call in message.tool_calls:
                calls.append(_call(call, number, style))
                open_calls.append((calls[-1]["id"], call.function.name))
                number += 1
        if message.role == "tool":
            turn["tool_call_id"], turn["name"] = _answered(message, open_calls)
        converted.append(turn)
    return converted


def _call(call: ToolCall, number: int, style: CallStyle) -> dict[str, Any]:
    arguments: Any = call.function.arguments
    if style.json_arguments:
        arguments = json.dumps(arguments, ensure_ascii=False)
    return {
        "type": "function",
        "id": call.id or f"call{number:05d}",
        "function": {"name": call.function.name, "arguments": arguments},
    }


def _answered(message: Message, open_calls: list[tuple[str, str]]) -> tuple[str, str]:
    """Id and name of the call whose result this is; the call is then no longer open."""
    for index, (call_id, name) in enumerate(open_calls):
        if message.tool_call_id in ("", call_id) and message.tool_name in ("", name):
            return open_calls.pop(index)
    return message.tool_call_id, message.tool_name
