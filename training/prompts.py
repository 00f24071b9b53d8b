"""Conversations as the model reads them: what the package's TEMPLATE renders, only faster.

``tests/test_cria_training.py`` holds both to be the same text. Which parts are the model's own to
write is known here, and only here.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import Any, Final, NamedTuple

from llamaherd.messages import Message, Tool
from training.world.code import Gap
from training.world.conversation import Conversation

END: Final = "<|end|>"

#: Tokens that steer, and that a reply must not show.
CONTROL: Final = (
    "<|endoftext|>",
    END,
    "<|system|>",
    "<|user|>",
    "<|assistant|>",
    "<|tool|>",
    "<|fim_prefix|>",
    "<|fim_suffix|>",
    "<|fim_middle|>",
)

#: Tokens that the model writes into its replies, for the server to read.
MARKS: Final = ("<think>", "</think>", "<tool_call>", "</tool_call>")


class Segment(NamedTuple):
    """``written`` says that it is the model that writes this text."""

    text: str
    written: bool


def chat(conversation: Conversation, *, spaced: bool = False) -> Iterator[Segment]:
    """All of a conversation, with the end of the last reply.

    ``spaced`` writes the calls of the last reply with spaces in their arguments, as a grammar may
    force them to be, and no template shows them.
    """
    yield Segment(_opening(conversation.messages, conversation.tools), False)
    for message in conversation.messages:
        match message.role:
            case "user":
                yield Segment(f"<|user|>{message.content}{END}", False)
            case "tool":
                yield Segment(f"<|tool|>{message.content}{END}", False)
            case "assistant":
                yield Segment("<|assistant|>" + ("<think>" if message.thinking else ""), False)
                last = message is conversation.messages[-1]
                yield Segment(_reply(message, spaced=spaced and last), True)


def fill(gap: Gap) -> Iterator[Segment]:
    """A gap and what fills it."""
    opening = f"<|fim_prefix|>{gap.prefix}<|fim_suffix|>{gap.suffix}<|fim_middle|>"
    yield Segment(opening, False)
    yield Segment(gap.middle + END, True)


def _opening(messages: Sequence[Message], tools: Sequence[Tool]) -> str:
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    if not system and not tools:
        return ""
    listed = "".join(f"\n{_signature(tool.function)}" for tool in tools)
    return f"<|system|>{system}" + (f"\nTools:{listed}" if tools else "") + END


def _signature(function: dict[str, Any]) -> str:
    properties = function["parameters"]["properties"]
    parameters = ", ".join(
        f"{name}: {'|'.join(schema.get('enum', ())) or schema['type']}"
        for name, schema in sorted(properties.items())
    )
    name, description = str(function["name"]), function["description"]
    return name + (f", {description}" if description else "") + f": {name}({parameters})"


def _reply(message: Message, *, spaced: bool) -> str:
    thinking = f"{message.thinking}</think>" if message.thinking else ""
    separators = (", ", ": ") if spaced else (",", ":")
    calls = "".join(
        _call(call.function.name, call.function.arguments, separators)
        for call in message.tool_calls
    )
    return thinking + message.content + calls + END


def _call(name: str, arguments: dict[str, Any], separators: tuple[str, str]) -> str:
    text = json.dumps(arguments, ensure_ascii=False, separators=separators, sort_keys=True)
    return f'<tool_call>{{"name": "{name}", "arguments": {text}}}</tool_call>'
