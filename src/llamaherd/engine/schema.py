"""JSON Schemas before they become grammars: what they mean, cost and lack."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, Final

from llamaherd.errors import FormatError

Schema = dict[str, Any]

#: Numbers divisible by all ``multipleOf`` of a schema are found by an automaton with a state for
#: each remainder; this many take about a second and 100 MB.
_MOST_REMAINDERS: Final = 100_000

_MULTIPLE_OF: Final = re.compile(r'"multipleOf"\s*:\s*([-+.0-9eE]+)')
_ESCAPED: Final = re.compile(r"\\u([0-9a-fA-F]{4})")

#: Decimal places, before or after the point, beyond which ``multipleOf`` is refused unseen.
_MOST_PLACES: Final = 15

#: Beyond it, floats of 64 bits don't have every integer.
_LARGEST_EXACT: Final = 2**53

#: Of an integer of 64 bits, with its sign.
_MOST_DIGITS: Final = 20

#: llguidance takes settings from the schema; they are not part of JSON Schema.
_SETTINGS: Final = "x-guidance"

# Where JSON Schema has further schemas: in a mapping by name, as a value, in a list.
_DEFINITIONS: Final = ("$defs", "definitions")
_BY_NAME: Final = (*_DEFINITIONS, "properties", "patternProperties", "dependentSchemas")
_AS_VALUE: Final = (
    *("items", "additionalItems", "additionalProperties", "unevaluatedItems"),
    *("unevaluatedProperties", "propertyNames", "contains", "not", "if", "then", "else"),
)
_IN_LIST: Final = ("anyOf", "oneOf", "allOf", "prefixItems", "items")

#: Where a part can't be satisfied, llguidance says it of the whole in other words.
_UNSATISFIABLE: Final = "Unsatisfiable"

#: A fault is looked for in this many parts at most, for each costs a compilation.
_MOST_PARTS: Final = 300


def read_schema(text: str) -> Schema:
    """A schema in JSON as it is to be compiled. Raises ``FormatError``."""
    check_multiples(text)
    try:
        schema: Schema = json.loads(
            text, parse_int=_integer, parse_float=_number, parse_constant=_number
        )
        schema.pop(_SETTINGS, None)
        for part in _parts(schema):
            _require_discriminator(part)
            _bound_integers(part)
            _check_exact([part.get("const"), part.get("enum")])
    except RecursionError:
        raise FormatError("it is nested too deeply") from None
    return schema


def _integer(digits: str) -> int:
    if len(digits) > _MOST_DIGITS or not -(2**63) <= int(digits) < 2**63:
        raise FormatError(f"a number is beyond 64 bits: {digits[:40]}")
    return int(digits)


def _number(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise FormatError(f"a number is beyond 64 bits: {digits[:40]}")
    return number


def _parts(schema: Schema) -> Iterator[Schema]:
    """The schema and all schemas in it."""
    parts = [schema]
    while parts:
        part = parts.pop()
        yield part
        parts += [child for _, child in _children(part)]


def _require_discriminator(part: Schema) -> None:
    """Demand, in place, the property by which OpenAPI tells the alternatives of a ``oneOf`` apart.

    Pydantic leaves it optional where it has a default. Without it an object could satisfy several
    alternatives, which ``oneOf`` forbids; with it they exclude each other.
    """
    match part:
        case {"discriminator": {"propertyName": str(name)}, "oneOf": list()}:
            required = part.get("required")
            part["required"] = [*(required if isinstance(required, list) else ()), name]


def _bound_integers(part: Schema) -> None:
    """Keep integers, in place, to those that every reader of JSON has exactly (RFC 7493).

    A model that has nothing to say would write digits forever.
    """
    kinds = part.get("type")
    if kinds != "integer" and not (isinstance(kinds, list) and "integer" in kinds):
        return
    if isinstance(kinds, list) and "number" in kinds:
        return
    low = part.get("minimum", part.get("exclusiveMinimum", -_LARGEST_EXACT))
    high = part.get("maximum", part.get("exclusiveMaximum", _LARGEST_EXACT))
    if _is_number(low) and _is_number(high):
        if low == -_LARGEST_EXACT and high > low:
            part["minimum"] = low
        if high == _LARGEST_EXACT and high > low:
            part["maximum"] = high


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _check_exact(value: Any) -> None:
    """Refuse integers that llguidance, which has all numbers as floats, would round."""
    if isinstance(value, dict):
        _check_exact(list(value.values()))
    elif isinstance(value, list):
        for item in value:
            _check_exact(item)
    elif isinstance(value, int) and abs(value) > _LARGEST_EXACT:
        raise FormatError(f"a value can't be kept exactly: {value}")


def check_multiples(text: str) -> None:
    """Refuse ``multipleOf`` whose automaton would take the memory of the machine.

    ``text`` is a schema as JSON, or a grammar with schemas in it. Conservatively, all of them are
    taken to concern one number.
    """
    plain = _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), text)
    remainders = 1
    for number in set(_MULTIPLE_OF.findall(plain)):
        try:
            step = Decimal(number)
        except ArithmeticError:
            continue  # No number: the compiler says so.
        if not step or abs(step.adjusted()) > _MOST_PLACES:
            raise FormatError(f"multipleOf {number} is not supported")
        remainders = math.lcm(remainders, int("".join(map(str, step.as_tuple().digits))))
        if remainders > _MOST_REMAINDERS:
            raise FormatError(
                f"the multipleOf of a schema must have a common multiple of at most"
                f" {_MOST_REMAINDERS:,} (decimal points aside)"
            )


def locate(schema: Schema, problem: str, problem_of: Callable[[Schema], str]) -> tuple[str, str]:
    """The innermost part of ``schema`` with such a problem of its own: JSON pointer and problem.

    ``problem_of`` says what is wrong with a schema, "" if nothing is.
    """
    definitions: Schema = {name: schema[name] for name in _DEFINITIONS if name in schema}
    pointer, part = "#", schema
    attempts = 0
    while True:
        for name, child in _children(part):
            attempts += 1
            if attempts > _MOST_PARTS:
                return pointer, problem
            found = problem_of({**definitions, **child})
            if found == problem or (_UNSATISFIABLE in found and _UNSATISFIABLE in problem):
                pointer, part, problem = f"{pointer}/{name}", child, found
                break
        else:
            return pointer, problem


def _children(schema: Schema) -> Iterator[tuple[str, Schema]]:
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
