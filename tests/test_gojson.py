"""Requests are read as Go's decoder reads them."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.api import go_syntax
from llamaherd.api.go_syntax import MAX_DEPTH, syntax_error
from llamaherd.api.gojson import parse_body
from llamaherd.api.requests import (
    read_chat,
    read_copy,
    read_create,
    read_delete,
    read_generate,
    read_show,
)
from llamaherd.duration import FOREVER, MINUTE, SECOND
from llamaherd.errors import BadRequest, FieldError

NUMBERS = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | NUMBERS | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "missing request body"),
        (b" \n", "missing request body"),
        (b"{", "unexpected EOF"),
        (b'{"model": "x"', "unexpected EOF"),
        (b"hello", "invalid character 'h' looking for beginning of value"),
        (b'{"a":}', "invalid character '}' looking for beginning of value"),
        (b'{"a" 1}', "invalid character '1' after object key"),
        (b'{"a":1 "b"}', "invalid character '\"' after object key:value pair"),
        (b'{"a":1,}', "invalid character '}' looking for beginning of object key string"),
        (b"{'a':1}", "invalid character '\\'' looking for beginning of object key string"),
        (b"[1 2]", "invalid character '2' after array element"),
        (b'["\\x"]', "invalid character 'x' in string escape code"),
        (b"[tru]", "invalid character ']' in literal true (expecting 'e')"),
        (b"[-x]", "invalid character 'x' in numeric literal"),
        (b'["a\nb"]', "invalid character '\\n' in string literal"),
    ],
)
def test_broken_json_is_refused_in_the_words_of_go(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        parse_body(body)
    assert caught.value.message == message


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"a":' * 100_000, b"[" * 2000 + b"]" * 2000])
def test_deep_nesting_never_overflows_the_stack(body: bytes) -> None:
    with pytest.raises(BadRequest):
        parse_body(body)


@pytest.mark.parametrize("tail", ["", " junk"])
def test_nesting_is_limited_to_what_every_walk_over_it_can_bear(tail: str) -> None:
    def nested(depth: int) -> bytes:
        return ('{"a": [' * (depth // 2) + "]}" * (depth // 2) + tail).encode()

    assert parse_body(nested(MAX_DEPTH))
    with pytest.raises(BadRequest, match="exceeded max depth"):
        parse_body(nested(MAX_DEPTH + 2))


def test_only_the_first_value_of_the_body_counts() -> None:
    assert parse_body(b'{"model": "a"} {"model": "b"} junk') == {"model": "a"}


@pytest.mark.parametrize("body", [b'{"model": "\xff"}', b'{"model": "\\ud800"}'])
def test_what_is_not_unicode_becomes_the_replacement_character(body: bytes) -> None:
    assert parse_body(body) == {"model": "\N{REPLACEMENT CHARACTER}"}


@given(JSON)
def test_every_json_value_is_read(value: Any) -> None:
    encoded = msgspec.json.encode(value)
    if encoded.strip():
        assert parse_body(encoded) == msgspec.json.decode(encoded)


@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    with suppress(BadRequest):
        parse_body(text.encode())


@given(JSON, st.data())
def test_the_scanner_finds_the_fault_of_every_cut_value(value: Any, data: st.DataObject) -> None:
    text = json.dumps([value])
    cut = data.draw(st.integers(1, len(text) - 1))
    assert syntax_error(text[:cut]) == "unexpected EOF"


@pytest.mark.parametrize(
    ("start", "piece", "end"),
    [("[", "1,", "}"), ('["', r"\n", '"}')],
    ids=["values", "escapes"],
)
def test_the_place_of_a_fault_is_looked_for_within_bounds(
    start: str, piece: str, end: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A body of a hundred megabytes would keep the server busy for minutes, and from its end."""
    monkeypatch.setattr(go_syntax, "MOST_STEPS", 100)
    near, far = (start + piece * count + end for count in (98, 100))
    assert syntax_error(near).startswith("invalid character '}'")
    assert syntax_error(far) == "invalid JSON"


def test_field_names_match_in_any_case_and_null_leaves_the_default() -> None:
    request = read_generate(b'{"MODEL": "x", "Prompt": "p", "system": null, "stream": null}')
    assert (request.model, request.prompt, request.system, request.stream) == ("x", "p", "", True)


def test_unknown_fields_are_ignored() -> None:
    assert read_chat(b'{"model": "x", "nonsense": [1]}').model == "x"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            b'{"prompt": 5}',
            "json: cannot unmarshal number into Go struct field GenerateRequest.prompt"
            " of type string",
        ),
        (b"[]", "json: cannot unmarshal array into Go value of type api.GenerateRequest"),
        (
            b'{"stream": "yes"}',
            "json: cannot unmarshal string into Go struct field GenerateRequest.stream"
            " of type bool",
        ),
        (
            b'{"context": [1.5]}',
            "json: cannot unmarshal number 1.5 into Go struct field GenerateRequest.context"
            " of type int",
        ),
        (b'{"images": ["$$"]}', "images: illegal base64 data at input byte 0"),
        (b'{"keep_alive": "bogus"}', 'time: invalid duration "bogus"'),
    ],
)
def test_a_field_of_the_wrong_type_is_named(body: bytes, message: str) -> None:
    with pytest.raises(BadRequest) as caught:
        read_generate(body)
    assert caught.value.message == message


@pytest.mark.parametrize(
    ("text", "byte"),
    [
        ("data:image/png;base64,aGk=", 4),
        ("aGk", 0),
        ("aGkhaGk", 4),
        ("aGkh\naG", 5),
        ("aGkhaé", 5),
        ("=aGk", 0),
        ("aGkh-_==", 4),
    ],
)
def test_the_byte_is_told_where_base64_ends(text: str, byte: int) -> None:
    body = msgspec.json.encode({"messages": [{"role": "user", "images": [text]}]})
    with pytest.raises(FieldError) as caught:
        read_chat(body)
    message = f"messages.images: illegal base64 data at input byte {byte}"
    assert (caught.value.message, caught.value.field) == (message, "messages.images")


def test_nested_fields_are_named_with_their_path() -> None:
    with pytest.raises(BadRequest, match=r"ChatRequest\.messages\.content of type string"):
        read_chat(b'{"messages": [{"content": 5}]}')
    with pytest.raises(BadRequest, match=r"ChatRequest\.messages of type \[\]api\.Message"):
        read_chat(b'{"messages": "x"}')


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ('"5m"', 5 * MINUTE),
        ("30", 30 * SECOND),
        ("0", 0),
        ("-1", FOREVER),
        ('"-1m"', FOREVER),
        ("0.5", SECOND // 2),
        ("1e300", FOREVER),
    ],
)
def test_keep_alive_in_every_form(text: str, nanoseconds: int) -> None:
    assert read_generate(b'{"keep_alive": %s}' % text.encode()).keep_alive == nanoseconds


def test_messages_with_tool_calls_and_images() -> None:
    request = read_chat(
        b'{"messages": [{"role": "assistant", "tool_calls": '
        b'[{"function": {"name": "f", "arguments": {"b": 1, "a": [null]}}}], "images": ["aGk="]}]}'
    )
    message = request.messages[0]
    assert message.images == [b"hi"]
    assert message.tool_calls[0].function.name == "f"
    assert list(message.tool_calls[0].function.arguments.items()) == [("b", 1), ("a", [None])]


def test_the_older_name_of_the_model_field() -> None:
    assert read_show(b'{"name": "x"}').model == "x"
    assert read_delete(b'{"name": "x", "model": "y"}').model == "y"
    assert read_generate(b'{"name": "x"}').model == ""


def test_create_tells_what_was_given() -> None:
    request = read_create(b'{"model": "m", "from": "b", "license": "MIT", "quantize": "q8_0"}')
    assert (request.from_, request.license, request.quantize) == ("b", ["MIT"], "q8_0")
    assert request.files is None
    assert read_copy(b'{"source": "a", "destination": "b"}').destination == "b"
