"""Gemma 4 and FunctionGemma, whose arguments are an object with quotes of its own.

::

    <|tool_call>call:get_weather{city:<|"|>Paris<|"|>,days:[1,2]}<tool_call|>
    <start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Final

from llamaherd.errors import FormatError
from llamaherd.grammar import Exactly, Form, Grammar, InOrder, OneOf, Repeated, Until
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.json_values import MAX_DEPTH, decode
from llamaherd.prompt.parsers.python_calls import NAME
from llamaherd.prompt.parsers.source import SPACE, Malformed, Reading, Source
from llamaherd.prompt.parsers.stream import CallFormat, CallReader
from llamaherd.prompt.parsers.writing import (
    CallForm,
    Parameter,
    Signature,
    Writing,
    listed,
)

_GEMMA_4: Final = ("<|tool_call>", "<tool_call|>", '<|"|>')
_FUNCTION_GEMMA: Final = ("<start_function_call>", "<end_function_call>", "<escape>")

_SCALAR: Final = re.compile(r"[\w.+-]*")
_KEY: Final = re.compile(r"[^:{}<>,\s]*")

#: What is the same in JSON and here.
_AS_IN_JSON: Final = ("integer", "number", "boolean", "null")

#: The keywords of a list's schema that are kept.
_OF_LISTS: Final = frozenset(
    ("type", "items", "minItems", "maxItems", "title", "description", "default", "examples")
)

#: And those of a choice's.
_OF_CHOICES: Final = frozenset(("type", "enum", "title", "description", "default", "examples"))

#: Where a schema has no bound.
_MOST_ITEMS: Final = 64


def _reader(opening: str, closing: str, quote: str) -> CallReader:
    def read(source: Source, toolbox: Toolbox) -> Reading[None]:
        yield from source.literal(f"{opening}call:")
        name = yield from source.skip(NAME)
        toolbox.require(name)
        yield from source.skip(SPACE)
        yield toolbox.call(name, (yield from _read_object(source, quote, MAX_DEPTH)))
        yield from source.optional(closing)

    return read


def _read_value(source: Source, quote: str, depth: int) -> Reading[Any]:
    if depth == 0:
        raise Malformed
    match (yield from source.peek()):
        case "{":
            return (yield from _read_object(source, quote, depth))
        case "[":
            return (yield from _read_list(source, quote, depth))
        case "<":
            yield from source.literal(quote)
            return (yield from source.until(quote))
        case _:
            return decode((yield from source.skip(_SCALAR)))


def _read_object(source: Source, quote: str, depth: int) -> Reading[dict[str, Any]]:
    members: dict[str, Any] = {}
    yield from source.literal("{")
    yield from source.skip(SPACE)
    while (yield from source.peek()) != "}":
        if (yield from source.peek()) == "<":
            yield from source.literal(quote)
            key = yield from source.until(quote)
        else:
            key = yield from source.skip(_KEY)
        yield from source.skip(SPACE)
        yield from source.literal(":")
        yield from source.skip(SPACE)
        members[key] = yield from _read_value(source, quote, depth - 1)
        yield from _read_separator(source, "}")
    source.position += 1
    return members


def _read_list(source: Source, quote: str, depth: int) -> Reading[list[Any]]:
    items: list[Any] = []
    yield from source.literal("[")
    yield from source.skip(SPACE)
    while (yield from source.peek()) != "]":
        items.append((yield from _read_value(source, quote, depth - 1)))
        yield from _read_separator(source, "]")
    source.position += 1
    return items


def _read_separator(source: Source, closing: str) -> Reading[None]:
    yield from source.skip(SPACE)
    if (yield from source.peek()) != closing:
        yield from source.literal(",")
        yield from source.skip(SPACE)


def _writer(opening: str, closing: str, quote: str) -> CallForm:
    def write(signature: Signature) -> Form:
        head = Exactly(f"{opening}call:{signature.name}{{")
        members = _members(signature.parameters(), quote)
        return InOrder((head, members, Exactly(f"}}{closing}")))

    return write


def _members(parameters: list[Parameter], quote: str) -> Form:
    members: list[tuple[Form, bool]] = []
    for parameter in parameters:
        if not _KEY.fullmatch(parameter.name) or not parameter.name:
            raise FormatError(f"{parameter.field}: this name can't be written without quotes")
        head = Exactly(f"{parameter.name}:")
        form = InOrder((head, _value(parameter.schema, parameter, quote)))
        members.append((form, parameter.required))
    return listed(members, ",")


def _value(schema: Mapping[str, Any], parameter: Parameter, quote: str) -> Form:
    """Texts, numbers and lists of them; no more is written here."""
    match schema:
        case {"enum": list(texts)} if _are_choices(schema, texts, quote):
            return OneOf(tuple(Exactly(f"{quote}{text}{quote}") for text in texts))
        case {"type": "string"} if not schema.keys() & {"pattern", "const", "enum"}:
            least, most = parameter.bounds(schema, "minLength", "maxLength")
            return InOrder((Exactly(quote), Until(quote, "", least, most)))
        case {"type": kind} if kind in _AS_IN_JSON:
            text = json.dumps(schema, ensure_ascii=False)
            return Grammar("schema", text, parameter.field, parameter.relaxed)
        case {"type": "array", "items": dict(items)} if schema.keys() <= _OF_LISTS:
            item = _value(items, parameter, quote)
            least, most = parameter.bounds(schema, "minItems", "maxItems")
            several = Repeated(item, least, max(least, _MOST_ITEMS) if most is None else most, ",")
            return InOrder((Exactly("["), several, Exactly("]")))
    raise FormatError(f"{parameter.field}: can't be guaranteed in the way this model calls tools")


def _are_choices(schema: Mapping[str, Any], texts: list[Any], quote: str) -> bool:
    """Whether a schema says no more than that a value is one of these texts."""
    return (
        bool(texts)
        and schema.keys() <= _OF_CHOICES
        and schema.get("type", "string") == "string"
        and all(isinstance(text, str) and quote not in text for text in texts)
    )


FORMAT: Final = CallFormat(
    "gemma",
    {tags[0]: _reader(*tags) for tags in (_GEMMA_4, _FUNCTION_GEMMA)},
    marks=(_GEMMA_4[0], _FUNCTION_GEMMA[0]),
    writings=tuple(Writing(_writer(*tags), mark=tags[0]) for tags in (_FUNCTION_GEMMA, _GEMMA_4)),
)
