"""How a family writes calls: the forms that its parser reads back as calls, and nothing else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, TypeAlias

from msgspec import Struct

from llamaherd.errors import FormatError
from llamaherd.grammar import Exactly, Form, Grammar, InOrder, OneOf, Repeated, optional
from llamaherd.messages import Tool

#: The most calls in a reply: a model that has nothing to say would call forever.
MOST_CALLS: Final = 16

#: The largest bound for the characters of a text, or the members of a list, written by a form.
_LARGEST_BOUND: Final = 10_000

#: The most parameters of a tool whose form has each by itself.
_MOST_PARAMETERS: Final = 64

#: The most that tools to be called may define in all, in bytes of JSON, for compiling takes time.
_MOST_BYTES: Final = 256 << 10

#: What a name may be where nothing quotes it.
PLAIN_NAME: Final = re.compile(r"[\w.-]+")

#: The keywords of an object's schema that are met parameter by parameter, or say nothing.
_BY_PARAMETER: Final = frozenset(
    (
        *("type", "properties", "required", "additionalProperties", "unevaluatedProperties"),
        *("$defs", "definitions", "$schema", "$id", "$comment"),
        *("title", "description", "default", "examples", "deprecated"),
    )
)

#: With these, properties may be defined elsewhere than in ``properties``.
_DEFINING: Final = frozenset(
    (
        *("additionalProperties", "unevaluatedProperties", "patternProperties", "propertyNames"),
        *("allOf", "anyOf", "oneOf", "if", "then", "else", "dependentSchemas"),
        *("$ref", "$dynamicRef"),
    )
)


_DEFINITIONS: Final = ("$defs", "definitions")
_SHARED: Final = ("#/$defs/", "#/definitions/")


class Parameter(Struct, frozen=True):
    """A parameter of a tool; ``field`` is where its schema is, for errors."""

    name: str
    schema: Mapping[str, Any]
    required: bool
    field: str
    relaxed: bool

    def value(self) -> Grammar:
        """Its value in JSON."""
        text = json.dumps(self.schema, ensure_ascii=False)
        return Grammar("schema", text, self.field, self.relaxed)

    def part(self, name: str, schema: Mapping[str, Any], *, required: bool = True) -> Parameter:
        """A part of its value, as a parameter of its own."""
        return Parameter(name, schema, required, f"{self.field}.{name}", self.relaxed)

    def bounds(self, schema: Mapping[str, Any], lower: str, upper: str) -> tuple[int, int | None]:
        """These keywords of a part of the schema. Raises ``FormatError`` for what are no bounds."""
        least, most = schema.get(lower, 0), schema.get(upper)
        for name, bound in ((lower, least), (upper, most)):
            if bound is not None and not (type(bound) is int and 0 <= bound <= _LARGEST_BOUND):
                raise FormatError(f"{self.field}: {name} must be from 0 to {_LARGEST_BOUND}")
        return least, most


class Signature(Struct, frozen=True):
    """A tool as it is called; ``field`` tells it from the request's others, for errors.

    What of a ``relaxed`` tool's schema can't be guaranteed is left to the model. ``number`` is that
    of the next call in the conversation, for families whose calls have one.
    """

    name: str
    schema: Mapping[str, Any]
    field: str
    relaxed: bool = False
    number: int = 0

    @property
    def quoted(self) -> str:
        """The name in JSON."""
        return json.dumps(self.name, ensure_ascii=False)

    def arguments(self) -> Grammar:
        """The arguments as a JSON object, without any that the tool doesn't define."""
        closed = {} if _DEFINING & self.schema.keys() else {"additionalProperties": False}
        schema = {**self.schema, "type": "object", **closed}
        text = json.dumps(schema, ensure_ascii=False)
        return Grammar("schema", text, f"{self.field}.parameters", self.relaxed)

    def parameters(self) -> list[Parameter]:
        """The arguments one by one. Raises ``FormatError`` if the schema says more than that."""
        place = f"{self.field}.parameters"
        if not self.relaxed and (other := self.schema.keys() - _BY_PARAMETER):
            raise FormatError(
                f'{place}: "{min(other)}" can\'t be guaranteed in the way this model calls tools'
            )
        properties = {
            name: {} if schema is True else schema
            for name, schema in self.schema.get("properties", {}).items()
            if schema is not False
        }
        if len(properties) > _MOST_PARAMETERS:
            raise FormatError(f"{place}.properties: there are more than {_MOST_PARAMETERS}")
        required = self.schema.get("required", ())
        shared = {key: self.schema[key] for key in _DEFINITIONS if key in self.schema}
        if not all(reference.startswith(_SHARED) for reference in _references(self.schema)):
            raise FormatError(
                f"{place}: only references to $defs and definitions can be guaranteed in the way"
                " this model calls tools"
            )
        if unknown := [name for name in required if name not in properties]:
            raise FormatError(f'{place}.required: there is no property "{unknown[0]}"')
        for name, schema in properties.items():
            if not isinstance(schema, dict):
                raise FormatError(f"{place}.properties.{name}: expected a JSON Schema")
        return [
            Parameter(
                name,
                {**shared, **schema} if any(_references(schema)) else schema,
                name in required,
                f"{place}.properties.{name}",
                self.relaxed,
            )
            for name, schema in properties.items()
        ]


def _references(schema: Any) -> Iterator[str]:
    """All that a schema refers to."""
    if isinstance(schema, dict):
        reference = schema.get("$ref")
        if isinstance(reference, str):
            yield reference
        for member in schema.values():
            yield from _references(member)
    elif isinstance(schema, list):
        for member in schema:
            yield from _references(member)


#: The form of one call.
CallForm: TypeAlias = Callable[[Signature], Form]


class Writing(Struct, frozen=True):
    """``opening``, calls with ``separator`` between, ``closing``.

    ``mark`` is in what a template writes if it writes calls in this way, rather than in another
    way of the same family. ``names`` are the tools' names that can be written so. Without
    ``several`` there is one call in a reply. ``numbered`` finds the numbers of calls in a prompt.
    """

    call: CallForm
    opening: str = ""
    separator: str = ""
    closing: str = ""
    mark: str = ""
    names: re.Pattern[str] | None = PLAIN_NAME
    several: bool = True
    numbered: re.Pattern[str] | None = None

    def next_number(self, prompt: str) -> int:
        """One that no call in the prompt has: agents know calls by ids that are made of it."""
        numbers = map(int, self.numbered.findall(prompt)) if self.numbered else ()
        return max(numbers, default=-1) + 1

    def form(self, signatures: Sequence[Signature], *, several: bool) -> Form:
        """At least one call of these tools. Raises ``FormatError``."""
        for signature in signatures:
            if self.names and not self.names.fullmatch(signature.name):
                raise FormatError(
                    f"{signature.field}: this name can't be guaranteed in the way this model calls"
                    " tools"
                )
        most = MOST_CALLS if several and self.several else 1
        call = OneOf(tuple(map(self.call, signatures)))
        calls = Repeated(call, 1, most, self.separator)
        return InOrder((Exactly(self.opening), calls, Exactly(self.closing)))


def signatures_of(
    tools: Sequence[Tool], *, relaxed: bool = False, number: int = 0
) -> list[Signature]:
    """The tools by their names. Raises ``FormatError`` for one that no call can be of."""
    found: dict[str, Signature] = {}
    for index, tool in enumerate(tools):
        name, schema = tool.function.get("name"), tool.function.get("parameters")
        if not isinstance(name, str) or not name:
            raise FormatError(f"tools[{index}].function.name: expected the name of a function")
        field = f'tools["{name}"]'
        schema = {} if schema is None else schema
        if isinstance(schema, dict):
            # Go's clients write null for lists and maps that are empty.
            schema = {key: value for key, value in schema.items() if value is not None}
        if not isinstance(schema, dict) or schema.get("type", "object") != "object":
            raise FormatError(f"{field}.parameters: expected the JSON Schema of an object")
        if not _is_object_schema(schema):
            raise FormatError(f"{field}.parameters: properties or required are of the wrong type")
        found[name] = Signature(name, schema, field, relaxed, number)
    size = sum(len(json.dumps(signature.schema)) for signature in found.values())
    if size > _MOST_BYTES:
        raise FormatError(
            f"tools: to be called they may have {_MOST_BYTES} bytes of parameters, not {size}"
        )
    return list(found.values())


def _is_object_schema(schema: Mapping[str, Any]) -> bool:
    required = schema.get("required", [])
    return (
        isinstance(schema.get("properties", {}), dict)
        and isinstance(required, list)
        and all(isinstance(name, str) for name in required)
    )


def json_call(
    name: str = "name", arguments: str = "arguments", before: str = "", after: str = ""
) -> CallForm:
    """A JSON object with these keys for name and arguments, between two texts."""

    def call(signature: Signature) -> Form:
        head = f"{before}{{{json.dumps(name)}: {signature.quoted}, {json.dumps(arguments)}: "
        return InOrder((Exactly(head), signature.arguments(), Exactly(f"}}{after}")))

    return call


def named_call(before: str, between: str, after: str = "") -> CallForm:
    """The name as it is and the arguments as JSON, with texts around them."""

    def call(signature: Signature) -> Form:
        head = Exactly(f"{before}{signature.name}{between}")
        return InOrder((head, signature.arguments(), Exactly(after)))

    return call


def listed(items: Sequence[tuple[Form, bool]], separator: str) -> Form:
    """Items in their order with ``separator`` between; those that aren't required may be left out.

    One of the items comes first, so the form is the choice of which.
    """
    choices: list[Form] = []
    for index, (item, required) in enumerate(items):
        rest = [_following(form, needed, separator) for form, needed in items[index + 1 :]]
        choices.append(InOrder((item, *rest)))
        if required:
            break
    else:
        choices.append(Exactly(""))
    return OneOf(tuple(choices))


def _following(item: Form, required: bool, separator: str) -> Form:
    form = InOrder((Exactly(separator), item))
    return form if required else optional(form)
