"""Where JSON Schema has further schemas."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final, TypeAlias

Schema: TypeAlias = dict[str, Any]

DEFINITIONS: Final = ("$defs", "definitions")
_BY_NAME: Final = (*DEFINITIONS, "properties", "patternProperties", "dependentSchemas")
_AS_VALUE: Final = (
    *("items", "additionalItems", "additionalProperties", "unevaluatedItems"),
    *("unevaluatedProperties", "propertyNames", "contains", "not", "if", "then", "else"),
)
_IN_LIST: Final = ("anyOf", "oneOf", "allOf", "prefixItems", "items")

#: What says nothing about a value.
ANNOTATIONS: Final = frozenset(
    (
        *("title", "description", "default", "examples", "deprecated", "readOnly", "writeOnly"),
        *("$schema", "$id", "$comment", *DEFINITIONS),
    )
)


def children(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schemas that are directly in this one, with their JSON pointers from there."""
    for keyword in _BY_NAME:
        parts = schema.get(keyword)
        if isinstance(parts, dict):
            for name, part in parts.items():
                if isinstance(part, dict):
                    yield f"{keyword}/{name.replace('~', '~0').replace('/', '~1')}", part
    for keyword in _AS_VALUE:
        part = schema.get(keyword)
        if isinstance(part, dict):
            yield keyword, part
    for keyword in _IN_LIST:
        parts = schema.get(keyword)
        if isinstance(parts, list):
            for index, part in enumerate(parts):
                if isinstance(part, dict):
                    yield f"{keyword}/{index}", part


def walk(schema: Schema) -> Iterator[tuple[str, Schema]]:
    """The schema and all schemas in it, with their JSON pointers."""
    parts = [("#", schema)]
    while parts:
        pointer, part = parts.pop()
        yield pointer, part
        parts += [(f"{pointer}/{name}", child) for name, child in children(part)]


def referred(root: Schema, reference: Any) -> Schema | None:
    """What a ``$ref`` to a place in the schema itself leads to; None for any other."""
    if not isinstance(reference, str) or not (reference == "#" or reference.startswith("#/")):
        return None
    place: Any = root
    for step in reference.split("/")[1:]:
        step = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, dict) and step in place:
            place = place[step]
        elif isinstance(place, list) and step.isdecimal() and int(step) < len(place):
            place = place[int(step)]
        else:
            return None
    return place if isinstance(place, dict) else None
