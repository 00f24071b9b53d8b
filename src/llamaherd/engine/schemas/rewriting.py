"""Schemas in the keywords that llguidance knows, as far as these can say the same.

What can't be rewritten stays as it is, for the compiler to refuse.
"""

from __future__ import annotations

import json
from typing import Any, Final, TypeGuard

from llamaherd.engine.schemas.parts import ANNOTATIONS, Schema, referred

#: Beyond it, floats of 64 bits don't have every integer.
LARGEST_EXACT: Final = 2**53

#: The most that names written out may make of a schema, in bytes of JSON.
_MOST_BYTES: Final = 128 << 10

_DEFINED_ELSEWHERE: Final = ("patternProperties", "unevaluatedProperties")


def rewrite(part: Schema, root: Schema) -> None:
    """Rewrite a part of ``root``, in place; its own parts are rewritten apart."""
    _require_discriminator(part)
    _bound_integers(part)
    _tell_constants_apart(part)
    _name_properties(part, root)


def _require_discriminator(part: Schema) -> None:
    """Demand the property by which OpenAPI tells the alternatives of a ``oneOf`` apart.

    Pydantic leaves it optional where it has a default. Without it an object could satisfy several
    alternatives, which ``oneOf`` forbids; with it they exclude each other.
    """
    match part:
        case {"discriminator": {"propertyName": str(name)}, "oneOf": list()}:
            required = part.get("required")
            others = required if isinstance(required, list) else []
            part["required"] = [*(each for each in others if each != name), name]


def _bound_integers(part: Schema) -> None:
    """Keep integers to those that every reader of JSON has exactly (RFC 7493).

    A model that has nothing to say would write digits forever.
    """
    kinds = part.get("type")
    if kinds != "integer" and not (isinstance(kinds, list) and "integer" in kinds):
        return
    if isinstance(kinds, list) and "number" in kinds:
        return
    low = part.get("minimum", part.get("exclusiveMinimum", -LARGEST_EXACT))
    high = part.get("maximum", part.get("exclusiveMaximum", LARGEST_EXACT))
    if not (_is_number(low) and _is_number(high)):
        return
    if low <= -LARGEST_EXACT < high:
        part["minimum"] = -LARGEST_EXACT
    if high >= LARGEST_EXACT > low:
        part["maximum"] = LARGEST_EXACT


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _tell_constants_apart(part: Schema) -> None:
    """Make an ``anyOf`` of a ``oneOf`` whose alternatives are different constants."""
    alternatives = part.get("oneOf")
    if not isinstance(alternatives, list) or "anyOf" in part:
        return
    values = [_constants(alternative) for alternative in alternatives]
    found = [key for keys in values if keys for key in keys]
    if all(values) and len(found) == len(set(found)):
        part["anyOf"] = part.pop("oneOf")


def _constants(schema: Any) -> list[tuple[str, Any]] | None:
    """The values of a schema of plain constants, so that equal ones are equal; else None."""
    if not isinstance(schema, dict) or not ("const" in schema) ^ ("enum" in schema):
        return None
    values = schema["enum"] if "enum" in schema else [schema["const"]]
    if not isinstance(values, list) or any(isinstance(value, (dict, list)) for value in values):
        return None
    return [("number" if _is_number(value) else type(value).__name__, value) for value in values]


def _name_properties(part: Schema, root: Schema) -> None:
    """Say what ``propertyNames`` allows by naming the properties, or by a pattern."""
    names = part.get("propertyNames")
    if isinstance(names, dict) and "$ref" in names and not (names.keys() - {"$ref"} - ANNOTATIONS):
        names = referred(root, names["$ref"])
    if not isinstance(names, dict):
        return
    said = {key: value for key, value in names.items() if key not in ANNOTATIONS}
    if said.pop("type", "string") != "string":
        return
    properties, others = part.get("properties", {}), part.get("additionalProperties", True)
    if not isinstance(properties, dict) or any(key in part for key in _DEFINED_ELSEWHERE):
        return
    match said:
        case {"enum": [*allowed], **more} if not more:
            _name_each(part, properties, allowed, others)
        case {"const": allowed, **more} if not more:
            _name_each(part, properties, [allowed], others)
        case {"pattern": str(pattern), **more} if not more and not properties:
            _name_by(part, pattern, others)
        case {**bounds} if bounds and bounds.keys() <= {"minLength", "maxLength"}:
            counts_only = all(type(bound) is int and bound >= 0 for bound in bounds.values())
            if counts_only and not properties:
                least, most = bounds.get("minLength", 0), bounds.get("maxLength", "")
                _name_by(part, f"^[\\s\\S]{{{least},{most}}}$", others)
        case {**nothing} if not nothing:
            del part["propertyNames"]


def _name_each(part: Schema, properties: Schema, allowed: list[Any], others: Any) -> None:
    if len(allowed) * len(json.dumps(others)) > _MOST_BYTES:
        return
    names = dict.fromkeys(name for name in allowed if isinstance(name, str))
    named = {name: schema if name in names else False for name, schema in properties.items()}
    if others is not False:
        named |= {name: others for name in names if name not in properties}
    del part["propertyNames"]
    part |= {"properties": named, "additionalProperties": False}


def _name_by(part: Schema, pattern: str, others: Any) -> None:
    del part["propertyNames"]
    part |= {"patternProperties": {pattern: others}, "additionalProperties": False}
