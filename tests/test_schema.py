"""JSON Schemas made of readers and of types mean the same as what they are made of."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

import pytest
from jsonschema import Draft202012Validator
from msgspec import UNSET, Struct, UnsetType

from llamaherd.api import gojson, openai_replies, replies
from llamaherd.api.agent_schemas import BODIES
from llamaherd.api.anthropic_requests import read_count_tokens, read_messages
from llamaherd.api.responses_requests import ResponseRequest, read_response
from llamaherd.api.schema import Components, options_schema, schema_of
from llamaherd.errors import BadRequest, OptionError
from llamaherd.options import OPTIONS, check_options

VALUES: tuple[Any, ...] = (
    *(None, True, "", "text", "5m", 0, -1, 2**63, 1.5, [], [1], ["a"], {}, {"a": 1}),
    *({"name": "n"}, {"name": None}, {"name": 5}, {"parts": [{"n": 1}]}, {"parts": [{"n": "1"}]}),
)
OBJECT = gojson.object_of(
    {
        "name": gojson.string,
        "parts": gojson.list_of(gojson.object_of({"n": gojson.integer}, "x.Part"), "x.Part"),
    },
    "x.Thing",
)


@pytest.mark.parametrize(
    "reader",
    [
        gojson.string,
        gojson.boolean,
        gojson.integer,
        gojson.number,
        gojson.mapping,
        gojson.anything,
        gojson.duration,
        gojson.list_of(gojson.string, "string"),
        gojson.map_of(gojson.integer, "int"),
        OBJECT,
    ],
    ids=repr,
)
@pytest.mark.parametrize("value", VALUES, ids=repr)
def test_a_reader_takes_what_its_schema_allows(reader: gojson.Reader, value: Any) -> None:
    if reader is gojson.anything or (reader is gojson.duration and value == ""):
        return
    try:
        reader(value, "x.y")
    except BadRequest:
        taken = False
    else:
        taken = True
    assert taken == Draft202012Validator(schema_of(reader)).is_valid(value)


def test_a_described_reader_has_the_schema_that_it_was_given() -> None:
    described = gojson.described({"enum": ["a", "b"]})(gojson.string)
    assert schema_of(described) == {"enum": ["a", "b"]}
    assert described("a", "x.y") == "a"
    assert schema_of(gojson.described(OBJECT)(gojson.anything)) == schema_of(OBJECT)


def test_a_reader_that_nobody_described_is_an_error() -> None:
    with pytest.raises(TypeError, match="has no schema"):
        schema_of(lambda value, path: value)


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("value", [None, True, "x", ["x"], 0, -1, -3, 0.5, 3, 5000, 2**31, 2**63])
def test_options_are_described_as_they_are_checked(name: str, value: Any) -> None:
    if OPTIONS[name].kind == "int" and value == 0.5:
        return  # It is cut to a whole number, which isn't recommended to anybody.
    try:
        check_options({name: value})
    except OptionError:
        taken = False
    else:
        taken = True
    assert taken == Draft202012Validator(options_schema()).is_valid({name: value})


class Inner(Struct, omit_defaults=True):
    always: int
    sometimes: str = ""


class Outer(Struct):
    """Documented."""

    inner: Inner
    many: Sequence[Inner | int]
    by_name: Mapping[str, float]
    kind: Literal["a", "b"]
    perhaps: bool | UnsetType = UNSET
    empty: str | None = None


def test_a_type_of_reply_is_described_with_what_is_always_there() -> None:
    components = Components()
    assert components.schema_of(Outer) == {"$ref": "#/components/schemas/Outer"}
    inner = {"$ref": "#/components/schemas/Inner"}
    assert components.schemas == {
        "Inner": {
            "type": "object",
            "properties": {"always": {"type": "integer"}, "sometimes": {"type": "string"}},
            "required": ["always"],
        },
        "Outer": {
            "type": "object",
            "description": "Documented.",
            "properties": {
                "inner": inner,
                "many": {"type": "array", "items": {"anyOf": [inner, {"type": "integer"}]}},
                "by_name": {"type": "object", "additionalProperties": {"type": "number"}},
                "kind": {"enum": ["a", "b"]},
                "perhaps": {"type": "boolean"},
                "empty": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            },
            "required": ["inner", "many", "by_name", "kind", "empty"],
        },
    }


def test_types_of_the_same_name_stay_apart() -> None:
    components = Components()
    first = components.schema_of(replies.ReplyMessage)
    second = components.schema_of(openai_replies.ReplyMessage)
    assert first != second
    assert components.schema_of(replies.ReplyMessage) == first


def test_a_type_that_no_reply_has_is_an_error() -> None:
    with pytest.raises(TypeError, match="no schema for"):
        Components().schema_of(complex)


class Asked(dict[str, Any]):
    """An object that remembers what it was asked for."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        super().__init__({k: Asked(v) if isinstance(v, dict) else v for k, v in content.items()})
        self.names: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.names.add(name)
        return super().get(name, default)

    def undescribed(self, schema: Mapping[str, Any]) -> set[str]:
        known = schema.get("properties", {})
        inner = [v.undescribed(known[k]) for k, v in self.items() if isinstance(v, Asked)]
        return (self.names - {*known}).union(*inner)


FORM: Any = {"type": "json_schema", "schema": {}}
CONVERSATION: Any = {
    "model": "m",
    "messages": [{"role": "user", "content": "Hi"}],
    "tool_choice": {"type": "tool", "name": "f"},
    "thinking": {"type": "enabled", "budget_tokens": 2000},
    "output_config": {"format": FORM, "effort": "low"},
}
RESPONSE: Any = {"model": "m", "input": "Hi", "text": {"format": FORM}, "reasoning": {"a": 1}}

#: Fields whose every value is refused.
REFUSED = {
    *("background", "conversation", "prompt"),
    *("thread", "compaction", "container", "mcp_servers"),
}


def read_found_response(body: bytes) -> ResponseRequest:
    """No item is only referred to."""
    items: dict[str, dict[str, Any]] = {}
    return read_response(body, items.__getitem__)


@pytest.mark.parametrize(
    ("path", "read", "request_"),
    [
        ("/v1/messages", read_messages, {**CONVERSATION, "max_tokens": 4000}),
        ("/v1/messages/count_tokens", read_count_tokens, CONVERSATION),
        ("/v1/responses", read_found_response, RESPONSE),
        ("/v1/responses/input_tokens", read_found_response, RESPONSE),
    ],
)
def test_what_is_read_of_agents_is_described(
    path: str,
    read: Callable[[bytes], Any],
    request_: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """These schemas aren't made of the readers but stand beside them."""
    asked = Asked(request_)
    monkeypatch.setattr(gojson, "parse_body", lambda body: asked)
    read(b"")
    assert len(asked.names) > 5
    assert asked.undescribed(schema_of(BODIES[path])) == REFUSED & asked.names
