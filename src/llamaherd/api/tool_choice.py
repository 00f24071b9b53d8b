"""``tool_choice`` as OpenAI's clients send it, and the clients of our own API may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from llamaherd.api import gojson
from llamaherd.errors import FieldError
from llamaherd.messages import ToolChoice

_MODES: Final = {
    "auto": ToolChoice(),
    "none": ToolChoice("none"),
    "required": ToolChoice("required"),
    "any": ToolChoice("required"),
}


_FUNCTION: Final = {
    "type": "object",
    "properties": {
        "type": {"const": "function"},
        "function": {
            "type": "object",
            "properties": {"name": {"type": "string"}},
            "required": ["name"],
        },
    },
    "required": ["type", "function"],
}
_SCHEMA: Final = {
    "anyOf": [
        {"type": "string", "enum": list(_MODES)},
        _FUNCTION,
        {
            "type": "object",
            "properties": {
                "type": {"const": "allowed_tools"},
                "allowed_tools": {
                    "type": "object",
                    "properties": {
                        "mode": {"type": "string", "enum": ["auto", "required"]},
                        "tools": {"type": "array", "items": _FUNCTION, "minItems": 1},
                    },
                    "required": ["tools"],
                },
            },
            "required": ["type", "allowed_tools"],
        },
    ]
}


@gojson.described(_SCHEMA)
def read_choice(value: Any, path: str) -> ToolChoice:
    """A choice: "auto", "none", "required", a function or ``allowed_tools``. Raises ``FieldError``.

    A function is ``{"type": "function", "function": {"name": …}}``, as in OpenAI's older API, or
    ``{"type": "function", "name": …}``; one that is named is called once.
    """
    match value:
        case str() if value in _MODES:
            return _MODES[value]
        case {"type": "function"}:
            return ToolChoice("required", (_name(value, "tool_choice"),), parallel=False)
        case {"type": "allowed_tools", "allowed_tools": dict(allowed)}:
            return _allowed(allowed, "tool_choice.allowed_tools")
        case {"type": "allowed_tools"}:
            return _allowed(value, "tool_choice")
    raise _wrong("tool_choice", '"none", "auto", "required" or a function', value)


def chosen(given: Mapping[str, Any]) -> ToolChoice:
    """The choice of a request's fields, ``parallel_tool_calls`` among them."""
    choice: ToolChoice = given.get("tool_choice", ToolChoice())
    parallel = choice.parallel and given.get("parallel_tool_calls", True)
    return msgspec.structs.replace(choice, parallel=parallel)


def _allowed(value: dict[str, Any], place: str) -> ToolChoice:
    mode, tools = value.get("mode", "auto"), value.get("tools")
    if mode not in ("auto", "required"):
        raise _wrong(f"{place}.mode", '"auto" or "required"', mode)
    if not isinstance(tools, list) or not tools:
        raise _wrong(f"{place}.tools", "a list of functions", tools)
    names = [_name(tool, f"{place}.tools[{index}]") for index, tool in enumerate(tools)]
    return ToolChoice(mode, tuple(names))


def _name(value: Any, place: str) -> str:
    match value:
        case {"type": "function", "function": {"name": str(name)}}:
            return name
        case {"type": "function", "name": str(name)}:
            return name
    raise _wrong(place, "a function with its name", value)


def _wrong(place: str, expected: str, value: Any) -> FieldError:
    found = f'"{value[:40]}"' if isinstance(value, str) else gojson.json_type(value)
    return FieldError(f"{place}: expected {expected}, not {found}", place)
