"""What a call of a tool is made of, whatever a family writes around it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from msgspec import Struct

from llamaherd.messages import Tool, ToolCall, ToolCallFunction
from llamaherd.prompt.parsers.json_values import decode, read_json, read_string
from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source


class Keys(Struct, frozen=True):
    """The members of a call's JSON object that hold its name and its arguments; the first counts.

    Most families write ``name`` and ``arguments``, Llama ``parameters``, Command R ``tool_name``.
    """

    name: tuple[str, ...] = ("name", "tool_name")
    arguments: tuple[str, ...] = ("arguments", "parameters")

    @property
    def opening(self) -> frozenset[str]:
        """What the first member of a call's object may be."""
        return frozenset((*self.name, *self.arguments, "type", "function", "id", "tool_call_id"))


USUAL_KEYS: Final = Keys()


class Toolbox:
    """The tools that a request offers; a call of anything else is no call, as in Ollama."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._properties = {str(tool.function.get("name", "")): _properties(tool) for tool in tools}

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._properties)

    def properties(self, name: str) -> Mapping[str, Any]:
        """The schemas of a tool's parameters by their names, in the order of its definition."""
        return self._properties[name]

    def require(self, name: str) -> None:
        """Raises ``Malformed`` if there is no tool of this name."""
        if name not in self._properties:
            raise Malformed

    def call(self, name: str, arguments: Any) -> ToolCall:
        """Arguments as an object, as JSON text of one, or None; raises ``Malformed``."""
        self.require(name)
        if isinstance(arguments, str) and arguments.strip():
            arguments = decode(arguments)
        if not arguments and arguments in (None, "", {}):
            arguments = {}
        if not isinstance(arguments, dict):
            raise Malformed
        return ToolCall(ToolCallFunction(name, arguments))

    def call_of(self, value: Any, keys: Keys = USUAL_KEYS) -> ToolCall:
        """The call that a JSON object describes; raises ``Malformed``."""
        if isinstance(value, dict) and isinstance(value.get("function"), dict):
            value = value["function"]
        if not isinstance(value, dict):
            raise Malformed
        name = next((value[key] for key in keys.name if key in value), None)
        # Some models write {"type": "function", "function": "name", …}.
        name = value.get("function") if name is None else name
        if not isinstance(name, str):
            raise Malformed
        return self.call(name, next((value[key] for key in keys.arguments if key in value), None))


def _properties(tool: Tool) -> Mapping[str, Any]:
    parameters = tool.function.get("parameters")
    properties = parameters.get("properties") if isinstance(parameters, dict) else None
    return properties if isinstance(properties, dict) else {}


def read_calls(source: Source, toolbox: Toolbox, keys: Keys = USUAL_KEYS) -> Reading[None]:
    """Calls as JSON: a list of objects, or objects with only white space between."""
    if (yield from source.peek()) == "[":
        yield from _read_list(source, toolbox, keys)
        return
    while True:
        yield from _read_object(source, toolbox, keys)
        end = source.position
        yield from source.skip(SPACE)
        if source.text[source.position : source.position + 1] != "{":
            source.position = end
            return


def _read_list(source: Source, toolbox: Toolbox, keys: Keys) -> Reading[None]:
    """Commas may be missing: the history that Ollama's templates show to a model lacks them."""
    yield from source.literal("[")
    while True:
        yield from source.skip(SPACE)
        yield from _read_object(source, toolbox, keys)
        if (yield from source.optional("]")):
            return
        yield from source.optional(",")


def _read_object(source: Source, toolbox: Toolbox, keys: Keys) -> Reading[None]:
    """The first member's name already tells most objects from calls."""
    start = source.position
    yield from source.literal("{")
    yield from source.skip(SPACE)
    if (yield from read_string(source)) not in keys.opening:
        raise Malformed
    source.position = start
    yield toolbox.call_of((yield from read_json(source)), keys)
