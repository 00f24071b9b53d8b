"""Conversations as Anthropic's clients send them, in our own terms.

A message is a text or a list of blocks. Results of tools are blocks of the user's messages; for us
they are messages of their own.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from itertools import groupby
from typing import Final

from llamaherd.api.fields import Fields, wrong
from llamaherd.errors import BadRequest
from llamaherd.messages import Message, ToolCall, ToolCallFunction, composed

#: The kinds of blocks that a message of each role may have. Thinking that Anthropic encrypted tells
#: nobody else anything, so ``redacted_thinking`` is passed over.
_BLOCKS: Final = {
    "user": ("text", "image", "document", "search_result", "tool_result"),
    "assistant": ("text", "thinking", "redacted_thinking", "tool_use"),
    "system": ("text",),
}
_RESULT_BLOCKS: Final = ("text", "image", "document", "search_result")

#: Between the blocks of one who wrote them as paragraphs. What a model said is cut into blocks
#: where it thought or called tools, and is put together as it was.
_BETWEEN_BLOCKS: Final = "\n\n"


def messages(request: Fields) -> list[Message]:
    """The conversation with its ``system`` prompt in front. Raises ``BadRequest``."""
    found = []
    if system := _content(_blocks(request, "system", _BLOCKS["system"])):
        system.role = "system"
        found.append(system)
    turns = request.objects("messages")
    if not turns:
        raise BadRequest("messages: expected at least one message")
    called: dict[str, str] = {}
    for turn in turns:
        role = turn.one_of("role", _BLOCKS)
        if role == "assistant":
            said = _said(turn)
            called |= {call.id: call.function.name for call in said.tool_calls}
            found.append(said)
        else:
            found += _told(turn, role, called)
    return found


def _said(turn: Fields) -> Message:
    """What the model said: text, thinking and calls in one message."""
    said = Message("assistant")
    for block in _blocks(turn, "content", _BLOCKS["assistant"]):
        match block.get("type"):
            case "text":
                said.content += block.text("text")
            case "thinking":
                said.thinking += block.text("thinking")
            case "tool_use":
                function = ToolCallFunction(
                    block.needed("name"), block.mapping("input") or {}, len(said.tool_calls)
                )
                said.tool_calls.append(ToolCall(function, block.needed("id")))
    return said


def _told(turn: Fields, role: str, called: dict[str, str]) -> list[Message]:
    """What the model was told: the results of tools, and all else, in their order."""
    found: list[Message] = []
    blocks = _blocks(turn, "content", _BLOCKS[role])
    for is_result, group in groupby(blocks, lambda block: block.get("type") == "tool_result"):
        if is_result:
            found += [_result(block, called) for block in group]
        elif message := _content(group):
            message.role = role
            found.append(message)
    if not found:
        raise turn.wrong("content", "content that isn't empty")
    return found


def _result(block: Fields, called: dict[str, str]) -> Message:
    call_id = block.needed("tool_use_id")
    result = _content(_blocks(block, "content", _RESULT_BLOCKS)) or Message("tool")
    result.role = "tool"
    result.tool_call_id = call_id
    result.tool_name = called.get(call_id, "")
    return result


def _blocks(fields: Fields, name: str, kinds: tuple[str, ...]) -> list[Fields]:
    """The blocks, of these ``kinds`` only; a text is a block, nothing is none."""
    value = fields.get(name)
    if isinstance(value, str):
        return fields.elements(name, [{"type": "text", "text": value}] if value else [])
    if value is not None and not isinstance(value, list):
        raise fields.wrong(name, "a string or an array of blocks")
    blocks = fields.objects(name)
    for block in blocks:
        block.one_of("type", kinds)
    return blocks


def _content(blocks: Iterable[Fields]) -> Message | None:
    """A user's message of text and images; None if there is neither."""
    parts: list[str | bytes] = []
    for block in blocks:
        match block.get("type"):
            case "text":
                parts.append(block.text("text"))
            case "image":
                parts.append(_image(block.object("source")))
            case "document":
                parts.append(_document(block))
            case "search_result":
                parts.append(_search_result(block))
    parts = [part for part in parts if part != ""]
    if not parts:
        return None
    text, images = composed(parts, _BETWEEN_BLOCKS)
    return Message("user", text, images=images)


def _image(source: Fields) -> bytes:
    """The bytes of an image. A URL would make the server fetch what strangers name."""
    source.one_of("type", ("base64",))
    data = source.text("data")
    try:
        return base64.b64decode("".join(data.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise wrong(source.place("data"), "base64", data) from error


def _document(block: Fields) -> str:
    """A document of plain text, with its title and context; nothing here can read others."""
    source = block.object("source")
    source.one_of("type", ("text",))
    parts = (block.string("title"), block.string("context"), source.text("data"))
    return "\n".join(filter(None, parts))


def _search_result(block: Fields) -> str:
    content = _content(_blocks(block, "content", ("text",)))
    parts = (block.string("title"), block.string("source"), content.content if content else "")
    return "\n".join(filter(None, parts))
