"""MiniMax M3, whose tags have a mark of their own before them and arguments their own names.

::

    ]<]minimax[>[<tool_call>
    ]<]minimax[>[<invoke name="get_weather">]<]minimax[>[<city>Paris]<]minimax[>[</city>
    ]<]minimax[>[<days>]<]minimax[>[<item>1]<]minimax[>[</item>]<]minimax[>[</days>
    ]<]minimax[>[</invoke>
    ]<]minimax[>[</tool_call>

without the line breaks inside of ``invoke``. Objects and lists are tags within tags: an object's
members by their keys, a list's elements as ``item``. Anything else stands as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from llamaherd.errors import FormatError
from llamaherd.grammar import Exactly, Form, InOrder, Repeated, optional
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import MAX_DEPTH
from llamaherd.prompt.parsers.parameters import check_name, is_text, read_value, write_text
from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.writing import Parameter, Signature, Writing

_MARK: Final = "]<]minimax[>["
_CALLS: Final = f"{_MARK}<tool_call>"
_CALLS_END: Final = f"{_MARK}</tool_call>"
_INVOKE: Final = f'{_MARK}<invoke name="'
_INVOKE_END: Final = f"{_MARK}</invoke>"

_TAG: Final = re.compile(r"[^<>\s]*")

#: The tag of a list's element.
_ITEM: Final = "item"

#: The keywords of schemas whose values are written as tags within tags.
_OF_OBJECTS: Final = frozenset(
    ("type", "properties", "required", "additionalProperties", "title", "description")
)
_OF_LISTS: Final = frozenset(("type", "items", "minItems", "maxItems", "title", "description"))

#: The most elements of a list whose schema has no bound.
_MOST_ITEMS: Final = 64


def _read(source: Source, toolbox: Toolbox) -> Reading[None]:
    yield from source.literal(_CALLS)
    yield from source.skip(SPACE)
    yield from source.literal(_INVOKE)
    yield from _read_call(source, toolbox)
    while (yield from source.optional(_INVOKE)):
        yield from _read_call(source, toolbox)
    yield from source.optional(_CALLS_END)


def _read_call(source: Source, toolbox: Toolbox) -> Reading[None]:
    name = yield from source.until('">')
    toolbox.require(name)
    arguments: dict[str, Any] = {}
    while not (yield from source.optional(_INVOKE_END)):
        yield from source.skip(SPACE)
        yield from source.literal(f"{_MARK}<")
        key = yield from _read_tag(source)
        schema = toolbox.properties(name).get(key)
        arguments[key] = yield from _read_value(source, schema, key, MAX_DEPTH)
    yield toolbox.call(name, arguments)


def _read_tag(source: Source) -> Reading[str]:
    tag = yield from source.skip(_TAG)
    yield from source.literal(">")
    if not tag:
        raise Malformed
    return tag


def _read_value(source: Source, schema: Any, tag: str, depth: int) -> Reading[Any]:
    """What stands before the end of this tag, which is read too."""
    if depth == 0:
        raise Malformed
    start = source.position
    if (yield from source.optional(f"{_MARK}<")) and (yield from source.peek()) != "/":
        return (yield from _read_members(source, schema, tag, depth))
    source.position = start
    value = yield from read_value(source, schema, f"{_MARK}</{tag}>", exact=True)
    return {"array": [], "object": {}}.get(_kind(schema), value) if value == "" else value


def _read_members(source: Source, schema: Any, tag: str, depth: int) -> Reading[Any]:
    """The members of an object or the elements of a list, the first of which has been opened."""
    members: list[tuple[str, Any]] = []
    while True:
        name = yield from _read_tag(source)
        value = yield from _read_value(source, _schema_of(schema, name), name, depth - 1)
        members.append((name, value))
        yield from source.skip(SPACE)
        yield from source.literal(f"{_MARK}<")
        if (yield from source.peek()) == "/":
            yield from source.literal(f"/{tag}>")
            break
    if _kind(schema) != "object" and all(name == _ITEM for name, _ in members):
        return [value for _, value in members]
    return dict(members)


def _kind(schema: Any) -> Any:
    return schema.get("type") if isinstance(schema, Mapping) else None


def _schema_of(schema: Any, name: str) -> Any:
    """The schema of a member or of an element, None if it isn't told."""
    if not isinstance(schema, Mapping):
        return None
    properties = schema.get("properties")
    if isinstance(properties, Mapping) and name in properties:
        return properties[name]
    return schema.get("items") if name == _ITEM else None


def _write(signature: Signature) -> Form:
    head = Exactly(f'{_INVOKE}{signature.name}">')
    return InOrder((head, _members(signature.parameters()), Exactly(_INVOKE_END)))


def _members(parameters: Iterable[Parameter]) -> Form:
    """Raises ``FormatError``."""
    return InOrder(
        tuple(
            _element(parameter) if parameter.required else optional(_element(parameter))
            for parameter in parameters
        )
    )


def _element(parameter: Parameter) -> Form:
    """A value between its tags. Raises ``FormatError``."""
    check_name(parameter)
    if parameter.name.startswith("/"):
        raise FormatError(f"{parameter.field}: as a tag this name would be the end of another")
    opening, closing = Exactly(f"{_MARK}<{parameter.name}>"), f"{_MARK}</{parameter.name}>"
    schema = parameter.schema
    if is_text(schema):
        return InOrder((opening, write_text(parameter, closing, without=_MARK, exact=True)))
    value: Form
    match schema:
        case {"type": "object", "properties": dict(members)} if _is_plain(schema, members):
            required = schema.get("required", [])
            value = _members(
                parameter.part(name, member, required=name in required)
                for name, member in members.items()
            )
        case {"type": "array", "items": dict(items)} if schema.keys() <= _OF_LISTS:
            least, most = parameter.bounds(schema, "minItems", "maxItems")
            most = max(least, _MOST_ITEMS) if most is None else most
            value = Repeated(_element(parameter.part(_ITEM, items)), least, most)
        case _:
            value = parameter.value()
    return InOrder((opening, value, Exactly(closing)))


def _is_plain(schema: Mapping[str, Any], members: Mapping[str, Any]) -> bool:
    """Whether an object's schema says no more than what its members are."""
    required = schema.get("required", [])
    return (
        schema.keys() <= _OF_OBJECTS
        and all(isinstance(member, dict) for member in members.values())
        and isinstance(required, list)
        and all(name in members for name in required)
    )


FORMAT: Final = CallFormat(
    "minimax",
    {_CALLS: _read},
    marks=(_MARK,),
    writings=(Writing(_write, opening=f"{_CALLS}\n", separator="\n", closing=f"\n{_CALLS_END}"),),
)
