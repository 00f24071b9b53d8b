"""Conversations as lists of OpenAI's items, in our own terms.

What a model says in one go is several items (reasoning, messages, calls); for us it is one message.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any, Final

from llamaherd.api import openai_messages
from llamaherd.api.fields import Fields
from llamaherd.api.responses_objects import new_id
from llamaherd.api.responses_tools import custom_call, offered_name
from llamaherd.errors import FieldError
from llamaherd.messages import Message, ToolCall, ToolCallFunction, composed

_ITEMS: Final = (
    "message",
    "reasoning",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
)
_ROLES: Final = {
    "user": "user",
    "assistant": "assistant",
    "system": "system",
    "developer": "system",
}
_PARTS: Final = ("input_text", "output_text", "input_image", "refusal")

#: What the ids of items of each type begin with, as OpenAI's do.
_PREFIXES: Final = {
    "message": "msg",
    "reasoning": "rs",
    "function_call": "fc",
    "function_call_output": "fco",
    "custom_tool_call": "ctc",
    "custom_tool_call_output": "ctco",
}

#: Marks the ``encrypted_content`` that was made here.
_CARRIED: Final = "llamaherd."

#: An item by its id. Raises an ``LlamaherdError`` where there is none.
Find = Callable[[str], dict[str, Any]]

#: A blank line, as in OpenAI's older API; what a model said is put together as it was.
_BETWEEN_PARTS: Final = "\n\n"


def items_of(request: Fields, find: Find) -> list[Any]:
    """The ``input`` as items: a text is a user's message, and references are what they refer to.

    Raises ``BadRequest``, and what ``find`` raises.
    """
    value = request.get("input")
    if isinstance(value, str):
        return [{"type": "message", "role": "user", "content": value}]
    if value is not None and not isinstance(value, list):
        raise request.wrong("input", "a string or an array of items")
    return _with_references(request, request.array("input"), find)


def _with_references(request: Fields, items: list[Any], find: Find) -> list[Any]:
    """The items with those that are referred to; each once, or a small request could be huge."""
    found = []
    referred: set[str] = set()
    for number, item in enumerate(items):
        match item:
            case {"type": "item_reference"}:
                reference = Fields(item, request.element("input", number))
                item_id = reference.text("id")
                if item_id in referred:
                    place = reference.place("id")
                    raise FieldError(f'{place}: "{item_id}" is referred to twice', place)
                referred.add(item_id)
                found.append(find(item_id))
            case _:
                found.append(item)
    return found


def shown(items: list[Any]) -> list[dict[str, Any]]:
    """Items that ``messages`` takes, with all that clients which look at them again expect.

    Each has a type, an id and a status, and the content of a message is an array of parts.
    """
    found = []
    for item in items:
        kind = item.get("type") or "message"
        whole = item | {"type": kind}
        whole["id"] = item.get("id") or new_id(_PREFIXES[kind])
        whole["status"] = item.get("status") or "completed"
        if kind == "message" and isinstance(item["content"], str):
            part: dict[str, Any] = {"type": "input_text", "text": item["content"]}
            if item["role"] == "assistant":
                part |= {"type": "output_text", "annotations": []}
            whole["content"] = [part]
        found.append(whole)
    return found


def messages(items: list[Any], earlier: int = 0) -> list[Message]:
    """The conversation. Raises ``BadRequest``.

    The first ``earlier`` items are from requests before this one, and don't count in the places
    that errors name.
    """
    conversation = _Conversation()
    for number, value in enumerate(items):
        item = Fields(value, f"input[{number - earlier}]")
        match item.one_of("type", _ITEMS, "message"):
            case "message":
                conversation.message(item)
            case "reasoning":
                conversation.turn().thinking += _thoughts(item)
            case "function_call" | "custom_tool_call":
                conversation.call(item)
            case "function_call_output" | "custom_tool_call_output":
                conversation.result(item)
    return conversation.messages


class _Conversation:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._called: dict[str, str] = {}

    def message(self, item: Fields) -> None:
        role = _ROLES[item.one_of("role", _ROLES)]
        text, images = _content(item, "content", "" if role == "assistant" else _BETWEEN_PARTS)
        if role == "assistant":
            self.turn().content += text
        else:
            self.messages.append(Message(role, text, images=images))

    def turn(self, *, calls: bool = False) -> Message:
        """The model's message that an item goes on with: its text is its end, but for calls."""
        last = self.messages[-1] if self.messages else Message("")
        if last.role == "assistant" and (calls or last.tool_calls or not last.content):
            return last
        self.messages.append(Message("assistant"))
        return self.messages[-1]

    def call(self, item: Fields) -> None:
        turn = self.turn(calls=True)
        name = offered_name(item.needed("name"), item.string("namespace"))
        call_id = item.needed("call_id")
        if item.get("type") == "custom_tool_call":
            function = custom_call(name, item.text("input"))
        else:
            place = item.place("arguments")
            arguments = openai_messages.arguments(item.text("arguments"), place)
            function = ToolCallFunction(name, arguments)
        function.index = len(turn.tool_calls)
        turn.tool_calls.append(ToolCall(function, call_id))
        self._called[call_id] = name

    def result(self, item: Fields) -> None:
        call_id = item.needed("call_id")
        text, images = _content(item, "output", _BETWEEN_PARTS)
        name = self._called.get(call_id, "")
        self.messages.append(
            Message("tool", text, images=images, tool_name=name, tool_call_id=call_id)
        )


def _thoughts(item: Fields) -> str:
    """Of thoughts that both stand there and are summed up, those that stand there."""
    parts = item.objects("content") or item.objects("summary")
    if not parts:
        return _brought_back(item.string("encrypted_content"))
    return "".join(part.text("text") for part in parts)


def carried(thoughts: str) -> str:
    """The ``encrypted_content`` in which a client keeps thoughts and brings them back.

    Nothing is encrypted: whoever holds it may read them in the summary too.
    """
    return _CARRIED + base64.b64encode(thoughts.encode("utf-8", "replace")).decode()


def _brought_back(content: str) -> str:
    """The thoughts in an ``encrypted_content``; what others encrypted tells us nothing."""
    if not content.startswith(_CARRIED):
        return ""
    try:
        return base64.b64decode(content.removeprefix(_CARRIED), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""


def _content(item: Fields, name: str, between: str) -> tuple[str, list[bytes]]:
    """Text and images of a text or an array of parts."""
    value = item.get(name)
    if isinstance(value, str):
        return value, []
    if not isinstance(value, list):
        raise item.wrong(name, "a string or an array of parts")
    parts: list[str | bytes] = []
    for part in item.objects(name):
        match part.one_of("type", _PARTS):
            case "input_image":
                url = part.needed("image_url")
                parts.append(openai_messages.image(url, part.place("image_url")))
            case "refusal":
                parts.append(part.text("refusal"))
            case _:
                parts.append(part.text("text"))
    return composed(parts, between)
