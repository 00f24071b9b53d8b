"""Conversations and tools as OpenAI's clients send them, in our own terms."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Any, Final

import msgspec

from llamaherd.api import gojson
from llamaherd.errors import FieldError
from llamaherd.messages import Message, Tool, ToolCall, ToolCallFunction, composed

_DATA_URL: Final = re.compile(r"data:[^,]*;base64,", re.IGNORECASE)

#: Roles that others know under another name.
_ROLES: Final = {"developer": "system", "function": "tool"}

#: A blank line, as between neighbouring messages of one role: Ollama makes a message of each part.
_BETWEEN_PARTS: Final = "\n\n"

_PARTS: Final = {
    "type": "array",
    "items": {
        "anyOf": [
            {
                "type": "object",
                "properties": {"type": {"const": "text"}, "text": {"type": "string"}},
                "required": ["type", "text"],
            },
            {
                "type": "object",
                "properties": {
                    "type": {"const": "image_url"},
                    "image_url": {
                        "type": "object",
                        "properties": {
                            "url": {"type": "string", "pattern": "^data:image/[a-z]+;base64,"}
                        },
                        "required": ["url"],
                    },
                },
                "required": ["type", "image_url"],
            },
        ]
    },
}

_FUNCTION: Final = gojson.object_of(
    {"name": gojson.string, "arguments": gojson.anything}, "openai.Function"
)
_TOOL_CALL: Final = gojson.object_of(
    {"id": gojson.string, "type": gojson.string, "function": _FUNCTION}, "openai.ToolCall"
)
_MESSAGE: Final = gojson.object_of(
    {
        "role": gojson.string,
        "content": gojson.described({"anyOf": [{"type": "string"}, _PARTS]})(gojson.anything),
        "reasoning": gojson.string,
        "reasoning_content": gojson.string,
        "tool_calls": gojson.list_of(_TOOL_CALL, "openai.ToolCall"),
        "function_call": _FUNCTION,
        "tool_call_id": gojson.string,
        "name": gojson.string,
    },
    "openai.Message",
)
_MESSAGES: Final = gojson.list_of(_MESSAGE, "openai.Message")
_TOOLS: Final = gojson.list_of(
    gojson.object_of({"type": gojson.string, "function": gojson.mapping}, "api.Tool"), "api.Tool"
)


@gojson.described(_MESSAGES)
def messages(value: Any, path: str) -> list[Message]:
    """The ``messages`` of a request; results of tools get the name that the call had."""
    called: dict[str, str] = {}
    found = []
    for index, given in enumerate(_MESSAGES(value, path)):
        place = f"messages[{index}]"
        role = given.get("role", "").lower()
        text, images = _content(given.get("content"), role, f"{place}.content")
        calls = _tool_calls(given, place)
        called |= {call.id: call.function.name for call in calls}
        call_id = given.get("tool_call_id", "")
        is_result = role in ("tool", "function")
        found.append(
            Message(
                role=_ROLES.get(role, role),
                content=text,
                thinking=given.get("reasoning") or given.get("reasoning_content", ""),
                images=images,
                tool_calls=calls,
                tool_name=(given.get("name") or called.get(call_id, "")) if is_result else "",
                tool_call_id=call_id,
            )
        )
    return found


def _content(value: Any, role: str, place: str) -> tuple[str, list[bytes]]:
    """Text and images of a message; what a model says may be empty beside its tool calls."""
    if isinstance(value, str):
        return value, []
    if value is None and role in ("assistant", "tool", "function"):
        return "", []
    if not isinstance(value, list):
        kind = gojson.json_type(value)
        raise _refusal(place, f"expected a string or an array of parts, not {kind}")
    parts: list[str | bytes] = []
    for index, part in enumerate(value):
        match part:
            case {"type": "text", "text": str(text)} | {"type": "refusal", "refusal": str(text)}:
                parts.append(text)
            case {"type": "image_url", "image_url": {"url": str(url)} | str(url)}:
                parts.append(image(url, f"{place}[{index}].image_url"))
            case _:
                raise _refusal(f"{place}[{index}]", _unknown_part(part))
    return composed(parts, _BETWEEN_PARTS)


def _refusal(place: str, problem: str) -> FieldError:
    return FieldError(f"{place}: {problem}", place)


def _unknown_part(part: Any) -> str:
    expected = "expected an object of type text or image_url"
    if not isinstance(part, dict):
        return f"{expected}, not {gojson.json_type(part)}"
    kind = part.get("type")
    if kind in ("text", "refusal", "image_url"):
        return f'"{kind}" is missing or of the wrong type'
    return f"{expected}, not {msgspec.json.encode(kind).decode()}"


def image(url: str, place: str) -> bytes:
    """The bytes of a data URL. Other URLs would make the server fetch what strangers name."""
    head = _DATA_URL.match(url)
    if head is None:
        raise _refusal(place, "expected a data URL with base64, data:image/png;base64,…")
    try:
        return base64.b64decode("".join(url[head.end() :].split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise _refusal(place, "illegal base64 data") from error


def _tool_calls(message: dict[str, Any], place: str) -> list[ToolCall]:
    """The calls of a message; before there were tools, a message had one ``function_call``."""
    calls = []
    for index, call in enumerate(message.get("tool_calls", ())):
        where = f"{place}.tool_calls[{index}].function"
        function = _called(call.get("function", {}), where, index)
        calls.append(ToolCall(function, call.get("id", "")))
    if not calls and "function_call" in message:
        calls.append(ToolCall(_called(message["function_call"], f"{place}.function_call")))
    return calls


def _called(function: dict[str, Any], place: str, index: int = 0) -> ToolCallFunction:
    called_with = arguments(function.get("arguments"), f"{place}.arguments")
    return ToolCallFunction(function.get("name", ""), called_with, index)


def arguments(value: Any, place: str) -> dict[str, Any]:
    """Arguments of a call, which OpenAI has as the text of a JSON object."""
    if isinstance(value, str):
        try:
            value = msgspec.json.decode(value) if value.strip() else {}
        except (msgspec.MsgspecError, RecursionError) as error:
            raise _refusal(place, f"invalid tool call arguments: {error}") from error
    if value is None:
        return {}
    if not isinstance(value, dict):
        kind = gojson.json_type(value)
        raise _refusal(place, f"invalid tool call arguments: {kind} instead of object")
    return value


@gojson.described(_TOOLS)
def tools(value: Any, path: str) -> list[Tool]:
    found = []
    for index, tool in enumerate(_TOOLS(value, path)):
        kind = tool.get("type", "function")
        if kind != "function":
            raise _refusal(f"tools[{index}].type", f'only "function" is supported, not "{kind}"')
        if not isinstance(tool.get("function", {}).get("name"), str):
            raise _refusal(f"tools[{index}].function.name", "expected a string")
        found.append(Tool(kind, tool["function"]))
    return found
