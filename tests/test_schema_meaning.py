"""What is made of JSON Schemas before they are compiled: what is meant, in words that can be."""

from __future__ import annotations

import json
from typing import Any

import pytest

from llamaherd.engine.schemas.narrowing import narrow
from llamaherd.engine.schemas.reading import locate, read_schema
from llamaherd.errors import FormatError

NULL = {"type": "null"}
ONLY_A = {"type": "object", "properties": {"a": NULL}}
ONLY_B = {"type": "object", "properties": {"b": NULL}}
CLOSED_A = {**ONLY_A, "additionalProperties": False}
CLOSED_B = {**ONLY_B, "additionalProperties": False}


def read(schema: dict[str, Any]) -> dict[str, Any]:
    return read_schema(json.dumps(schema))


def refusal(schema: dict[str, Any]) -> str:
    with pytest.raises(FormatError) as caught:
        read(schema)
    return caught.value.message


# --- what is meant --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "meant"),
    [
        (ONLY_A, CLOSED_A),
        ({"items": ONLY_A}, {"type": "array", "items": CLOSED_A}),
        ({"type": "array", "prefixItems": [ONLY_A]}, {"type": "array", "prefixItems": [CLOSED_A]}),
        ({"anyOf": [ONLY_A, NULL]}, {"anyOf": [CLOSED_A, NULL]}),
        ({"type": "object", "oneOf": [ONLY_A]}, {"type": "object", "oneOf": [CLOSED_A]}),
        (
            {"allOf": [ONLY_A], "description": "as Pydantic 1 refers"},
            {"allOf": [CLOSED_A], "description": "as Pydantic 1 refers"},
        ),
        (
            {"$ref": "#/$defs/a", "$defs": {"a": ONLY_A}},
            {"$ref": "#/$defs/a", "$defs": {"a": CLOSED_A}},
        ),
        (
            {"additionalProperties": ONLY_A},
            {"type": "object", "additionalProperties": CLOSED_A},
        ),
    ],
    ids=str,
)
def test_an_object_with_properties_has_no_others(
    schema: dict[str, Any], meant: dict[str, Any]
) -> None:
    assert narrow(schema) == meant


def test_one_of_the_discriminator_s_alternatives_has_no_others_either() -> None:
    schema = read(
        {
            "oneOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}],
            "discriminator": {"propertyName": "kind"},
            "$defs": {
                name: {"type": "object", "properties": {"kind": {"const": name}}} for name in "ab"
            },
        }
    )
    assert all(part["additionalProperties"] is False for part in narrow(schema)["$defs"].values())


@pytest.mark.parametrize(
    "schema",
    [
        {**ONLY_A, "additionalProperties": True},
        {**ONLY_A, "additionalProperties": NULL},
        {**ONLY_A, "patternProperties": {"^b": NULL}},
        {**ONLY_A, "required": ["b"]},
        {"type": "object"},
        {"type": "object", "properties": {}},
        {**ONLY_A, "anyOf": [{"required": ["a"]}, {"required": ["b"]}]},
        {"allOf": [ONLY_A, ONLY_B]},
        {"$ref": "#/$defs/a", **ONLY_B, "$defs": {"a": ONLY_A}},
        {"$ref": "#named", "$defs": {"a": {"$anchor": "named", **ONLY_A}}},
        {"properties": {"x": ONLY_A}, "patternProperties": {"x": ONLY_B}, "type": "object"},
        {"type": ["object", "null"], "anyOf": [{"properties": {"a": NULL}}, {"minLength": 1}]},
    ],
    ids=str,
)
def test_but_it_may_where_the_schema_says_so_or_says_it_in_parts(schema: dict[str, Any]) -> None:
    assert narrow(schema) == schema


def test_what_is_also_said_in_part_elsewhere_stays_open() -> None:
    """Closed, the two parts of "both" would exclude each other."""
    schema = {
        "type": "object",
        "properties": {
            "one": {"$ref": "#/$defs/a"},
            "both": {"allOf": [{"$ref": "#/$defs/a"}, {"$ref": "#/$defs/b"}]},
            "other": {"$ref": "#/$defs/c"},
        },
        "additionalProperties": False,
        "$defs": {"a": ONLY_A, "b": ONLY_B, "c": ONLY_A},
    }
    assert narrow(read(schema))["$defs"] == {"a": ONLY_A, "b": ONLY_B, "c": CLOSED_A}


@pytest.mark.parametrize(
    ("keywords", "kind"),
    [
        ({"required": ["a"]}, "object"),
        ({"minItems": 1}, "array"),
        ({"pattern": "^a$"}, "string"),
        ({"minimum": 1}, "number"),
    ],
)
def test_the_type_is_that_of_the_keywords(keywords: dict[str, Any], kind: str) -> None:
    assert narrow(keywords) == {**keywords, "type": kind}


@pytest.mark.parametrize(
    "schema",
    [
        {},
        {"title": "Anything"},
        {"minLength": 1, "minItems": 1},
        {"enum": ["a"], "minLength": 1},
        {"format": "date"},
        {"type": ["string", "null"], "minLength": 1},
    ],
    ids=str,
)
def test_a_type_that_can_not_be_told_stays_open(schema: dict[str, Any]) -> None:
    assert narrow(schema) == schema


def test_a_schema_may_refer_to_itself_and_through_thousands() -> None:
    tree = {"properties": {"kids": {"items": {"$ref": "#"}}}}
    assert narrow(tree)["additionalProperties"] is False
    links = {f"d{n}": {"$ref": f"#/$defs/d{n + 1}"} for n in range(5000)}
    chain = {"$ref": "#/$defs/d0", "$defs": {**links, "d5000": ONLY_A}}
    assert narrow(chain)["$defs"]["d5000"] == CLOSED_A


# --- the same in other words ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "same"),
    [
        ({"type": "string"}, {"additionalProperties": NULL}),  # Zod's records
        (
            {"enum": ["a", "b"]},
            {"properties": {"a": NULL, "b": NULL}, "additionalProperties": False},
        ),
        ({"const": "a", "title": "A"}, {"properties": {"a": NULL}, "additionalProperties": False}),
        (
            {"type": "string", "pattern": "^x-"},
            {"patternProperties": {"^x-": NULL}, "additionalProperties": False},
        ),
        (
            {"maxLength": 3},
            {"patternProperties": {r"^[\s\S]{0,3}$": NULL}, "additionalProperties": False},
        ),
    ],
    ids=str,
)
def test_names_of_properties_are_said_by_properties(
    names: dict[str, Any], same: dict[str, Any]
) -> None:
    assert read({"propertyNames": names, "additionalProperties": NULL}) == same


def test_names_may_be_defined_elsewhere_and_leave_properties_out() -> None:
    schema = read(
        {
            "properties": {"a": NULL, "z": NULL},
            "propertyNames": {"$ref": "#/$defs/key"},
            "$defs": {"key": {"enum": ["a", "b"]}},
        }
    )
    assert schema["properties"] == {"a": NULL, "z": False, "b": True}
    assert schema["additionalProperties"] is False


@pytest.mark.parametrize(
    "part",
    [
        {"propertyNames": {"format": "uuid"}},
        {"propertyNames": {"type": "boolean"}},
        {"propertyNames": {"maxLength": -1}},
        {"propertyNames": {"pattern": "^a", "maxLength": 3}},
        {"propertyNames": {"pattern": "^a"}, "properties": {"b": NULL}},
        {"propertyNames": {"pattern": "^a"}, "patternProperties": {"b": NULL}},
        {
            "propertyNames": {"enum": ["x" * 1000] * 200},
            "additionalProperties": {"title": "y" * 700},
        },
    ],
    ids=lambda part: str(part)[:60],
)
def test_other_names_are_left_for_the_compiler_to_refuse(part: dict[str, Any]) -> None:
    assert read(part) == part


def test_constants_that_differ_exclude_each_other() -> None:
    different = [{"const": 1}, {"enum": [2, "1", None]}, {"const": True, "title": "T"}]
    assert read({"oneOf": different}) == {"anyOf": different}
    for overlapping in ([{"const": 1}, {"const": 1.0}], [{"enum": [1, 2]}, {"enum": [2]}]):
        assert read({"oneOf": overlapping}) == {"oneOf": overlapping}


@pytest.mark.parametrize("low", [None, -(2**63), -(2**53)])
@pytest.mark.parametrize("high", [None, 2**63 - 1, 2**53])
def test_integers_are_those_that_every_reader_has(low: int | None, high: int | None) -> None:
    bounds = {"minimum": low, "maximum": high}
    schema = {"type": "integer", **{key: value for key, value in bounds.items() if value}}
    assert read(schema) == {"type": "integer", "minimum": -(2**53), "maximum": 2**53}
    assert read({"type": "integer", "minimum": 2**60}) == {"type": "integer", "minimum": 2**60}


# --- what can't be guaranteed ---------------------------------------------------------------


@pytest.mark.parametrize(
    "object_schema",
    [
        {"minProperties": 2},
        {"minProperties": 2, "required": ["a"]},
        {"minProperties": 2, "patternProperties": {"^[ab]$": NULL}, "additionalProperties": False},
    ],
    ids=str,
)
def test_a_number_of_properties_that_the_same_name_could_reach(
    object_schema: dict[str, Any],
) -> None:
    assert refusal({"items": object_schema}) == "#/items: minProperties of 2 can't be guaranteed"


@pytest.mark.parametrize(
    "object_schema", [{"minProperties": 1}, {"minProperties": 2, "required": ["a", "b"]}], ids=str
)
def test_but_one_is_certain_and_so_are_required_ones(object_schema: dict[str, Any]) -> None:
    assert read(object_schema) == object_schema


def test_the_part_with_a_value_that_would_be_rounded_is_named() -> None:
    schema = {"properties": {"a": {"enum": [1, {"b": 2**53 + 1}]}}}
    assert refusal(schema) == "#/properties/a: a value can't be kept exactly: 9007199254740993"


# --- where it is ----------------------------------------------------------------------------


@pytest.mark.parametrize("part", [{"uniqueItems": True}, {"$ref": "#/$defs/large"}], ids=str)
def test_a_fault_is_not_looked_for_without_end(part: dict[str, Any]) -> None:
    large = {"enum": ["x" * 100_000]}
    schema = {
        "properties": {**{f"p{n}": {**part, "title": "good"} for n in range(300)}, "bad": part},
        "$defs": {"large": large},
    }
    compiled = 0

    def problem_of(schema: dict[str, Any]) -> str:
        nonlocal compiled
        compiled += len(json.dumps(schema))
        return "" if {"title", "enum"} & schema.keys() else "bad"

    pointer, _ = locate(schema, "bad", problem_of)
    assert pointer == ("#" if "$ref" in part else "#/properties/bad")
    assert compiled < 2 << 20
