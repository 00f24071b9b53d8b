"""What clients mean by schemas that allow more than they mean.

JSON Schema takes an object that "has properties" for one that may have any others too, and a schema
that tells nothing but properties for one that also allows a number. Ollama, and with it the schemas
that its clients have, takes them for objects with just these properties. Every value of a narrowed
schema is one of the schema as it was.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Set
from typing import Any, Final

from llamaherd.engine.schemas.parts import ANNOTATIONS, Schema, referred

#: With these, an object says itself which further properties it may have.
_DEFINING: Final = frozenset(("additionalProperties", "patternProperties", "propertyNames"))

#: The keywords that say something about values of one type alone.
_OF_TYPE: Final = {
    "object": frozenset(
        (
            *("properties", "patternProperties", "additionalProperties", "required"),
            *("minProperties", "maxProperties"),
        )
    ),
    "array": frozenset(("items", "prefixItems", "additionalItems", "minItems", "maxItems")),
    "string": frozenset(("pattern", "minLength", "maxLength")),
    "number": frozenset(
        ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf")
    ),
}


#: The keywords that say more about the same value by further schemas.
_APPLYING: Final = ("anyOf", "oneOf", "allOf", "$ref")


def narrow(schema: Schema) -> Schema:
    """A copy that allows what is meant.

    Only a part that alone says what its values are is narrowed: what two parts say of the same
    value need not go together any more once both are.
    """
    schema = copy.deepcopy(schema)
    for part in _parts_alone(schema):
        _infer_type(part)
        _close(part)
    return schema


def _parts_alone(root: Schema) -> list[Schema]:
    """The parts beside which nothing is said about the same values.

    None if the schema refers to what isn't a place in itself.
    """
    seen: dict[tuple[int, bool], Schema] = {}
    waiting: list[tuple[Any, bool]] = [(root, True)]
    while waiting:
        part, is_alone = waiting.pop()
        if not isinstance(part, dict) or (id(part), is_alone) in seen:
            continue
        seen[id(part), is_alone] = part
        further = _said_by_others(part, root)
        if further is None:
            return []
        lone = is_alone and len(further) == 1 and not _says_more(part, further[0], root)
        waiting += [(each, lone) for alternatives in further for each in alternatives]
        inner = is_alone and not further and "patternProperties" not in part
        waiting += [(each, inner) for each in _inside(part)]
    return [
        part
        for (number, is_alone), part in seen.items()
        if is_alone and (number, False) not in seen and not part.keys() & _APPLYING
    ]


def _said_by_others(part: Schema, root: Schema) -> list[list[Any]] | None:
    """Lists of schemas of which one each is about the part's own value; None if one is unknown."""
    further = [part[key] for key in ("anyOf", "oneOf") if isinstance(part.get(key), list)]
    if isinstance(part.get("allOf"), list):
        further += [[each] for each in part["allOf"]]
    if "$ref" in part:
        further.append([referred(root, part["$ref"])])
    unknown = "$dynamicRef" in part or [None] in further
    return None if unknown else further


def _says_more(part: Schema, alternatives: list[Any], root: Schema) -> bool:
    """Whether the part itself says anything that its alternatives don't."""
    said = part.keys() - ANNOTATIONS - {*_APPLYING, "discriminator"}
    if part.get("type") == "object":
        said -= {"type"}
    if said == {"required"}:
        return not all(_required(part) <= _properties(each, root) for each in alternatives)
    return bool(said)


def _properties(schema: Any, root: Schema) -> Set[str]:
    if isinstance(schema, dict) and "$ref" in schema:
        schema = referred(root, schema["$ref"])
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return properties.keys() if isinstance(properties, dict) else frozenset()


def _required(part: Schema) -> Set[str]:
    required = part.get("required")
    return frozenset(map(str, required)) if isinstance(required, list) else frozenset()


def _inside(part: Schema) -> Iterator[Any]:
    """The schemas of what is in a value."""
    for key in ("properties", "patternProperties"):
        if isinstance(part.get(key), dict):
            yield from part[key].values()
    for key in ("items", "additionalItems", "additionalProperties"):
        yield part.get(key)
    for key in ("items", "prefixItems"):
        if isinstance(part.get(key), list):
            yield from part[key]


def _infer_type(part: Schema) -> None:
    if part.keys() & {"type", "enum", "const"}:
        return
    types = [name for name, keywords in _OF_TYPE.items() if part.keys() & keywords]
    if len(types) == 1:
        part["type"] = types[0]


def _close(part: Schema) -> None:
    properties, least = part.get("properties"), part.get("minProperties", 0)
    if not isinstance(properties, dict) or not properties or part.keys() & _DEFINING:
        return
    if _required(part) <= properties.keys() and isinstance(least, int) and least <= len(properties):
        part["additionalProperties"] = False
