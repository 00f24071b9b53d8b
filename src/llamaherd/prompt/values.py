"""Messages and tools as Ollama's Go templates see them.

The types follow Ollama's own: structs of messages and of tools whose fields a template may read,
print or turn into JSON, and maps that print as JSON (a call's arguments, a tool's properties).
Only what these types have room for reaches a template, in JSON too: of a property's schema that is
``anyOf``, ``type``, ``items``, ``description``, ``enum``, ``properties`` and ``required``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NoReturn

from llamaherd.errors import BadRequest
from llamaherd.messages import Message, Tool, ToolCall
from llamaherd.prompt import go_json
from llamaherd.prompt.go_values import GoList, GoMap, GoStruct, from_json


def go_messages(messages: Sequence[Message]) -> GoList:
    return GoList(map(_message, messages), type_name="[]*template.templateMessage")


def go_tools(tools: Sequence[Tool]) -> GoList:
    """Raises ``BadRequest`` naming the field of a definition that has a wrong type."""
    typed = _list(map(_tool, tools), "template.templateTools")
    typed.text = go_json.marshal(typed)
    return typed


def _message(message: Message) -> GoStruct:
    fields = {
        "Role": message.role,
        "Content": message.content,
        "Thinking": message.thinking,
        "Images": _list(message.images, "[]api.ImageData"),
        "ToolCalls": _list(map(_tool_call, message.tool_calls), "[]template.templateToolCall"),
        "ToolName": message.tool_name,
        "ToolCallID": message.tool_call_id,
    }
    return GoStruct("template.templateMessage", fields)


def _tool_call(call: ToolCall) -> GoStruct:
    members = {name: from_json(value) for name, value in call.function.arguments.items()}
    arguments = GoMap(members, type_name="template.templateArgs")
    arguments.text = go_json.marshal(arguments)
    function = GoStruct(
        "template.templateToolCallFunction",
        {"Index": call.function.index, "Name": call.function.name, "Arguments": arguments},
    )
    return GoStruct("template.templateToolCall", {"ID": call.id, "Function": function})


def _tool(tool: Tool) -> GoStruct:
    definition = _Schema(from_json(tool.function), "function")
    function = _struct(
        "template.templateToolFunction",
        ("Name", "name", definition.text("name")),
        ("Description", "description", definition.text("description")),
        ("Parameters", "parameters", _parameters(definition.member("parameters"))),
    )
    return _struct(
        "template.templateTool",
        ("Type", "type", tool.type),
        ("Items", "items,omitempty", None),
        ("Function", "function", function),
    )


def _parameters(schema: _Schema) -> GoStruct:
    return _struct(
        "template.templateToolFunctionParameters",
        ("Type", "type", schema.text("type")),
        ("Defs", "$defs,omitempty", schema.any("$defs")),
        ("Items", "items,omitempty", schema.any("items")),
        ("Required", "required,omitempty", schema.texts("required")),
        ("Properties", "properties", _properties(schema)),
    )


def _properties(schema: _Schema) -> GoMap:
    properties = {name: _property(member) for name, member in schema.members("properties").items()}
    typed = GoMap(properties, type_name="template.templateProperties")
    typed.nil = not schema.has("properties")
    typed.text = "{}" if typed.nil else go_json.marshal(typed)
    return typed


def _property(schema: _Schema) -> GoStruct:
    types = schema.types()
    nested = {name: _property(member) for name, member in schema.members("properties").items()}
    return _struct(
        "api.ToolProperty",
        ("AnyOf", "anyOf,omitempty", _list(map(_property, schema.choices()), "[]api.ToolProperty")),
        ("Type", "type,omitempty", types),
        ("Items", "items,omitempty", schema.any("items")),
        ("Description", "description,omitempty", schema.text("description")),
        ("Enum", "enum,omitempty", _list(schema.list_of("enum"), "[]interface {}")),
        # Nested properties keep their order in JSON, as a struct does and a map doesn't.
        ("Properties", "properties,omitempty", _ordered(nested) if nested else None),
        ("Required", "required,omitempty", schema.texts("required")),
        in_json={"type": types[0]} if len(types) == 1 else {},
    )


def _ordered(properties: Mapping[str, GoStruct]) -> GoStruct:
    return GoStruct("api.ToolPropertiesMap", {}, json=properties)


def _struct(
    type_name: str,
    *members: tuple[str, str, object],
    in_json: Mapping[str, object] = MappingProxyType({}),
) -> GoStruct:
    """A struct from Go name, JSON name (with ``,omitempty`` where Go's tag has it) and value.

    ``in_json`` holds the values that turn into JSON differently.
    """
    json: dict[str, object] = {}
    for _, tag, value in members:
        name, _, omit = tag.partition(",")
        if not omit or value not in (None, "", []):
            json[name] = in_json.get(name, value)
    return GoStruct(type_name, {name: value for name, _, value in members}, json=json)


def _list(items: Iterable[object], type_name: str, text: str | None = None) -> GoList:
    """A slice, which is nil when it is empty, as for a field that a client left out."""
    typed = GoList(items, type_name=type_name, text=text)
    typed.nil = not typed
    return typed


class _Schema:
    """A JSON object of a tool's definition, read by type; ``path`` names it in errors."""

    def __init__(self, value: object, path: str) -> None:
        if value is not None and not isinstance(value, dict):
            raise BadRequest(f"invalid tool: {path} must be an object")
        self._value: dict[str, object] = value or {}
        self._path = path

    def has(self, name: str) -> bool:
        return self._value.get(name) is not None

    def any(self, name: str) -> object:
        return self._value.get(name)

    def text(self, name: str) -> str:
        value = self._value.get(name)
        if value is not None and not isinstance(value, str):
            self._refuse(name, "a string")
        return value or ""

    def list_of(self, name: str) -> list[object]:
        value = self._value.get(name)
        if value is not None and not isinstance(value, list):
            self._refuse(name, "a list")
        return value or []

    def texts(self, name: str, wanted: str = "a list of strings") -> GoList:
        items = self.list_of(name)
        if not all(isinstance(item, str) for item in items):
            self._refuse(name, wanted)
        return _list(items, "[]string")

    def types(self) -> GoList:
        """One type or several: it prints as the name itself if it is one."""
        if isinstance(self._value.get("type"), str):
            names: list[object] = [self.text("type")]
        else:
            names = list(self.texts("type", "a string or a list of strings"))
        text = str(names[0]) if len(names) == 1 else f"[{' '.join(map(str, names))}]"
        return _list(names, "api.PropertyType", text=text if names else "")

    def member(self, name: str) -> _Schema:
        return _Schema(self._value.get(name), f"{self._path}.{name}")

    def members(self, name: str) -> dict[str, _Schema]:
        owner = self.member(name)
        return {key: owner.member(key) for key in owner._value}

    def choices(self) -> Iterator[_Schema]:
        for index, item in enumerate(self.list_of("anyOf")):
            yield _Schema(item, f"{self._path}.anyOf[{index}]")

    def _refuse(self, name: str, wanted: str) -> NoReturn:
        raise BadRequest(f"invalid tool: {self._path}.{name} must be {wanted}")
