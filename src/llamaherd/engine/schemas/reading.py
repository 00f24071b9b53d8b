"""Reading schemas as they are to be compiled, within limits; and finding what is wrong with one."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from llamaherd.engine.schemas.parts import DEFINITIONS, Schema, children, walk
from llamaherd.engine.schemas.rewriting import LARGEST_EXACT, rewrite
from llamaherd.errors import FormatError

#: Numbers divisible by all ``multipleOf`` of a schema are found by an automaton with a state for
#: each remainder; this many take about a second and 100 MB.
_MOST_REMAINDERS: Final = 100_000

_MULTIPLE_OF: Final = re.compile(r'"multipleOf"\s*:\s*([-+.0-9eE]+)')
_ESCAPED: Final = re.compile(r"\\u([0-9a-fA-F]{4})")

#: Decimal places, before or after the point, beyond which ``multipleOf`` is refused unseen.
_MOST_PLACES: Final = 15

#: Of an integer of 64 bits, with its sign.
_MOST_DIGITS: Final = 20

#: llguidance takes settings from the schema; they are not part of JSON Schema.
_SETTINGS: Final = "x-guidance"

#: Where a part can't be satisfied, llguidance says it of the whole in other words.
_UNSATISFIABLE: Final = "Unsatisfiable"

#: A fault is looked for in parts of so many bytes at most: each is compiled with what it refers to,
#: and other formats wait for that.
_MOST_BYTES: Final = 1 << 20


def read_schema(text: str) -> Schema:
    """A schema in JSON as it is to be compiled. Raises ``FormatError``."""
    check_multiples(text)
    try:
        schema: Schema = json.loads(
            text, parse_int=_integer, parse_float=_number, parse_constant=_number
        )
        schema.pop(_SETTINGS, None)
        for pointer, part in walk(schema):
            rewrite(part, schema)
            _check_exact([part.get("const"), part.get("enum")], pointer)
            _check_number_of_properties(part, pointer)
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


def _check_exact(value: Any, pointer: str) -> None:
    """Refuse integers that llguidance, which has all numbers as floats, would round."""
    if isinstance(value, dict):
        _check_exact(list(value.values()), pointer)
    elif isinstance(value, list):
        for item in value:
            _check_exact(item, pointer)
    elif isinstance(value, int) and abs(value) > LARGEST_EXACT:
        raise FormatError(f"{pointer}: a value can't be kept exactly: {value}")


def _check_number_of_properties(part: Schema, pointer: str) -> None:
    """Refuse a minimum that a model could reach by writing the same name again and again."""
    least, required = part.get("minProperties"), part.get("required")
    known = len(required) if isinstance(required, list) else 0
    if isinstance(least, int) and least > max(known, 1) and not _has_only_named(part):
        raise FormatError(f"{pointer}: minProperties of {least} can't be guaranteed")


def _has_only_named(part: Schema) -> bool:
    return part.get("additionalProperties") is False and not part.get("patternProperties")


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
    definitions: Schema = {name: schema[name] for name in DEFINITIONS if name in schema}
    shared = len(json.dumps(definitions))
    pointer, part = "#", schema
    left = _MOST_BYTES
    while True:
        for name, child in children(part):
            text = json.dumps(child)
            refers = '"$ref"' in text
            left -= len(text) + shared * refers
            if left < 0:
                return pointer, problem
            found = problem_of({**definitions, **child} if refers else child)
            if found == problem or (_UNSATISFIABLE in found and _UNSATISFIABLE in problem):
                pointer, part, problem = f"{pointer}/{name}", child, found
                break
        else:
            return pointer, problem
