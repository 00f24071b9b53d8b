"""The tools of OpenAI's Responses API, as functions that any model can call.

A ``custom`` tool takes a text instead of arguments: the model is offered a function of one string.
The tools of a ``namespace`` get its name in front. ``Toolset`` knows what a call is meant for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final, Literal

import msgspec
from msgspec import Struct

from llamaherd.api.fields import Fields
from llamaherd.api.tool_choice import read_choice
from llamaherd.errors import FieldError
from llamaherd.messages import Tool, ToolCallFunction, ToolChoice

_OFFERED: Final = ("function", "custom", "namespace")

#: Tools that OpenAI's servers run. Agents offer them whatever the model, so they are left out; the
#: answer's ``tools`` don't have them. Tools that the client runs but OpenAI's models know by heart
#: (``local_shell``, ``computer``, …) are refused: an agent would be left without.
_HOSTED: Final = (
    "web_search",
    "web_search_2025_08_26",
    "web_search_preview",
    "web_search_preview_2025_03_11",
    "file_search",
    "code_interpreter",
    "image_generation",
    "mcp",
    "tool_search",
    "programmatic_tool_calling",
)

#: The only argument of what stands for a custom tool.
_INPUT: Final = "input"

Kind = Literal["function", "custom"]


class Offer(Struct, frozen=True):
    """A tool that the model is offered, and what it is for the client."""

    tool: Tool
    kind: Kind
    name: str
    namespace: str = ""


class Toolset:
    """The tools of one request; ``given`` are those of its ``tools`` that the model is offered."""

    def __init__(self, offers: list[Offer], given: list[dict[str, Any]]) -> None:
        self.given: Final = given
        self._offers = {offer.tool.function["name"]: offer for offer in offers}

    @property
    def tools(self) -> list[Tool]:
        return [offer.tool for offer in self._offers.values()]

    def offer(self, called: str) -> Offer | None:
        """What the model means by this name; None if it wasn't offered."""
        return self._offers.get(called)


def read_tools(request: Fields) -> Toolset:
    """Raises ``BadRequest``."""
    offers: list[Offer] = []
    given = []
    for tool in request.objects("tools"):
        if tool.get("type") in _HOSTED:
            continue
        offers += _offers(tool)
        given.append(tool.raw)
    names = [offer.tool.function["name"] for offer in offers]
    for number, name in enumerate(names):
        if name in names[:number]:
            raise FieldError(f'tools: there are two tools of the name "{name}"', "tools")
    return Toolset(offers, given)


def _offers(tool: Fields) -> Iterator[Offer]:
    if tool.one_of("type", _OFFERED) != "namespace":
        yield _offer(tool, "")
        return
    namespace = tool.needed("name")
    for inner in tool.objects("tools"):
        inner.one_of("type", ("function", "custom"))
        yield _offer(inner, namespace)


def _offer(tool: Fields, namespace: str) -> Offer:
    name = tool.needed("name")
    function: dict[str, Any] = {"name": offered_name(name, namespace)}
    description = tool.string("description")
    if tool.get("type") == "function":
        if description:
            function["description"] = description
        function["parameters"] = tool.mapping("parameters") or {"type": "object", "properties": {}}
        return Offer(Tool("function", function), "function", name, namespace)
    wanted = _grammar(tool.object("format"))
    function["description"] = "\n\n".join(filter(None, (description, wanted)))
    function["parameters"] = {
        "type": "object",
        "properties": {_INPUT: {"type": "string", "description": "The whole input, as it is"}},
        "required": [_INPUT],
    }
    return Offer(Tool("function", function), "custom", name, namespace)


def _grammar(form: Fields) -> str:
    """What the model is told of the form of the input; nobody holds it to that."""
    if form.one_of("type", ("text", "grammar"), "text") == "text":
        return ""
    syntax = form.one_of("syntax", ("lark", "regex"))
    return f"The input must match this {syntax} grammar:\n{form.needed('definition')}"


def offered_name(name: str, namespace: str) -> str:
    """The name by which the model knows a tool."""
    if not namespace:
        return name
    return f"{namespace}{name}" if namespace.endswith("__") else f"{namespace}__{name}"


def custom_call(name: str, text: str) -> ToolCallFunction:
    """A call of a custom tool as the model wrote it."""
    return ToolCallFunction(name, {_INPUT: text})


def custom_input(arguments: dict[str, Any]) -> str:
    """The text that a custom tool is called with; arguments of another form are kept as JSON."""
    match arguments:
        case {"input": str(text), **others} if not others:
            return text
    return json.dumps(arguments, ensure_ascii=False)


def read_tool_choice(request: Fields) -> ToolChoice:
    """``tool_choice`` with ``parallel_tool_calls``. Raises ``BadRequest``."""
    value = request.get("tool_choice")
    choice = ToolChoice() if value is None else read_choice(_as_function(value), "tool_choice")
    if request.boolean("parallel_tool_calls", default=True):
        return choice
    return msgspec.structs.replace(choice, parallel=False)


def _as_function(value: Any) -> Any:
    """A choice in which custom tools are the functions as which the model is offered them."""
    match value:
        case {"type": "custom"}:
            return {**value, "type": "function"}
        case {"type": "allowed_tools", "tools": list(tools)}:
            return {**value, "tools": [_as_function(tool) for tool in tools]}
    return value
