"""Conversations made harder, for the second part of training: what could be guessed before has to
be read now.

Tools lose the verb that everybody gives them. Names follow a word that is written as names are,
so that being the first capital of a sentence no longer tells a name.
"""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any, Final

import msgspec

from llamaherd.messages import Message, Tool
from training.world.conversation import Conversation
from training.world.words import made_up

_RENAMED: Final = 0.6
_LED_IN: Final = 0.4

#: What a name may follow, beside words that there aren't.
_LEADS: Final = "See Greet Visit Hear Remember Notice Thank Help Find Take Then Maybe Dear".split()

#: Where a sentence begins.
_START: Final = r"(?:^|(?<=[.:!?] )|(?<=\n))"


def harder(random: Random, talk: Conversation) -> Conversation:
    messages = tuple(talk.messages)
    tools = talk.tools
    if tools and random.random() < _RENAMED:
        names = _new_names(random, [str(tool.function["name"]) for tool in tools])
        tools = tuple(_renamed_tool(tool, names) for tool in tools)
        messages = tuple(_renamed(message, names) for message in messages)
    pairs = zip(messages, (*messages[1:], None), strict=True)
    messages = tuple(_led_in(random, message, answer) for message, answer in pairs)
    return Conversation(messages, tools)


def _new_names(random: Random, names: list[str]) -> dict[str, str]:
    """Each with its first part replaced, or with one before it if it has only one."""
    found: dict[str, str] = {}
    for name in names:
        _, _, rest = name.partition("_")
        new = f"{made_up(random, random.randint(1, 2))}_{rest or name}"
        found[name] = name if new in found.values() else new
    return found


def _renamed_tool(tool: Tool, names: dict[str, str]) -> Tool:
    return Tool(tool.type, tool.function | {"name": names[str(tool.function["name"])]})


def _renamed(message: Message, names: dict[str, str]) -> Message:
    calls = [
        msgspec.structs.replace(
            call,
            function=msgspec.structs.replace(call.function, name=names[call.function.name]),
        )
        for call in message.tool_calls
    ]
    thinking = message.thinking
    for old, new in names.items():
        thinking = thinking.replace(f"I call {old}.", f"I call {new}.")
    tool_name = names.get(message.tool_name, message.tool_name)
    return msgspec.structs.replace(
        message, tool_calls=calls, thinking=thinking, tool_name=tool_name
    )


def _led_in(random: Random, message: Message, answer: Message | None) -> Message:
    """A question whose answer is a record, with a word before the name that it begins with."""
    name = str(record_in(answer).get("name", ""))
    if message.role != "user" or not name or random.random() > _LED_IN:
        return message
    lead = random.choice(_LEADS) if random.random() < 0.5 else made_up(random, 1).capitalize()
    return led_in(message, name, lead)


def led_in(message: Message, name: str, lead: str) -> Message:
    """With the ``lead`` before the name, if a sentence begins with it."""
    content = re.sub(f"{_START}{re.escape(name)}", f"{lead} {name}", message.content, count=1)
    return msgspec.structs.replace(message, content=content)


def record_in(answer: Message | None) -> dict[str, Any]:
    """What the answer says in JSON; nothing if it is something else."""
    if answer is None or not answer.content.startswith("{"):
        return {}
    record: dict[str, Any] = json.loads(answer.content)
    return record
