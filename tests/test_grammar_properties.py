"""A schema is refused, or satisfied by whatever a model writes at random."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.errors import FormatError
from llamaherd.grammar import Form, Grammar
from llamaherd.llama.loader import ModelSpec, load
from llamaherd.messages import Tool
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.recognise import FALLBACK, TAGGED
from llamaherd.prompt.parsers.stream import CallFormat, CallParser
from llamaherd.prompt.parsers.writing import Writing, signatures_of
from llamaherd.runner.protocol import Generate, Sampling
from tests.support.engine import Desk, Reply
from tests.support.models import write_model
from tests.support.replies import CALL_TAGS, calls_in, parts

#: Enough for most of the values that the schemas below allow.
LIMIT = 600


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path = write_model(
        tmp_path_factory.mktemp("models") / "tiny.gguf",
        n_layer=1,
        n_ctx=1024,
        extra_tokens=CALL_TAGS,
    )
    spec = ModelSpec(model=path, n_ctx=1024, n_slots=4, n_batch=64, threads=1)
    backend = load(spec, lambda _: None).backend
    yield Desk(backend, n_slots=4)
    backend.close()


names = st.text('abcé"\\/~ %', min_size=1, max_size=4)
scalars = st.none() | st.booleans() | st.integers(-99, 99) | st.text('ab"\\\né🌍', max_size=5)
constants = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(names, inner, max_size=2)
)


@st.composite
def bounded(
    draw: st.DrawFn, lower: str, upper: str, numbers: st.SearchStrategy[Any]
) -> dict[str, Any]:
    """Two keywords of which each may be missing."""
    low, high = sorted((draw(numbers), draw(numbers)))
    return {
        **({lower: low} if draw(st.booleans()) else {}),
        **({upper: high} if draw(st.booleans()) else {}),
    }


def texts(draw: st.DrawFn) -> Any:
    keywords: dict[str, Any] = draw(
        st.sampled_from(
            [
                {},
                {"pattern": "^[a-c]{1,4}$"},
                {"pattern": r"^\d{2,3}-\w+$", "maxLength": 8},
                {"pattern": "x|yz"},
                {"format": "date"},
                {"format": "ipv4"},
                {"format": "uuid"},
                {"format": "nothing-known"},
            ]
        )
    )
    if not keywords:
        keywords = draw(bounded("minLength", "maxLength", st.integers(0, 6)))
    return {"type": "string", **keywords}


def numbers(draw: st.DrawFn) -> Any:
    kind = draw(st.sampled_from(["integer", "number"]))
    exclusive = draw(st.booleans())
    lower, upper = ("exclusiveMinimum", "exclusiveMaximum") if exclusive else ("minimum", "maximum")
    low = draw(st.integers(-1000, 1000))
    high = low + draw(st.integers(2, 2000))
    keywords = {lower: low, upper: high}
    dropped = draw(st.sampled_from([lower, upper, None]))
    keywords.pop(dropped, None)  # type: ignore[arg-type]
    if kind == "integer" and draw(st.booleans()):
        keywords = {"multipleOf": draw(st.integers(1, 7))}
    return {"type": kind, **keywords}


def unusual(inner: st.SearchStrategy[Any]) -> dict[str, st.SearchStrategy[Any]]:
    """Keywords of objects, some of which can't be guaranteed."""
    return {
        "patternProperties": st.dictionaries(st.sampled_from(["^a", "b$", "c"]), inner, max_size=1),
        "minProperties": st.integers(0, 2),
        "maxProperties": st.integers(2, 4),
        "propertyNames": st.just({"pattern": "^[a-z]{1,2}$"}),
        "not": inner,
        "if": inner,
        "dependentRequired": st.just({"a": ["b"]}),
    }


@st.composite
def schemas(draw: st.DrawFn, depth: int = 3) -> Any:
    kinds = ["string", "number", "boolean", "null", "enum", "const"]
    if depth:
        kinds += ["object", "object", "array", "tuple", "anyOf", "ref", "types", "allOf", "oneOf"]
    kind = draw(st.sampled_from(kinds))
    inner = schemas(depth - 1)
    match kind:
        case "string":
            return texts(draw)
        case "number":
            return numbers(draw)
        case "boolean" | "null":
            return {"type": kind}
        case "enum":
            return {"enum": draw(st.lists(constants, min_size=1, max_size=3))}
        case "const":
            return {"const": draw(constants)}
        case "anyOf" | "allOf" | "oneOf":
            return {kind: draw(st.lists(inner, min_size=1, max_size=3))}
        case "types":
            return {"type": ["integer", "null", "boolean"]}
        case "ref":
            return {"$ref": "#/$defs/shared"}
        case "array":
            bounds: Any = draw(bounded("minItems", "maxItems", st.integers(0, 3)))
            return {"type": "array", "items": draw(inner), "maxItems": 3, **bounds}
        case "tuple":
            items = draw(st.lists(inner, min_size=1, max_size=2))
            return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}
    properties = draw(st.dictionaries(names, inner, max_size=3))
    required = [name for name in properties if draw(st.booleans())]
    keywords = draw(st.just({}) | st.fixed_dictionaries({}, optional=unusual(inner)))
    booleans: Any = {"additionalProperties": {"type": "boolean"}}
    others = draw(st.sampled_from([{}, {}, {"additionalProperties": False}, booleans]))
    told: Any = draw(st.sampled_from([{}, {"type": "object"}, {"type": "object"}]))
    return {**told, "properties": properties, "required": required, **others, **keywords}


SHARED = {
    "type": "object",
    "properties": {"next": {"$ref": "#/$defs/shared"}, "n": {"type": "boolean"}},
    "required": ["n"],
}


def write(desk: Desk, form: Form, seed: int) -> Reply:
    sampling = Sampling(temperature=2.5, seed=seed, top_k=0, top_p=1.0)
    desk.engine.submit(Generate(1, [1, 403], sampling, LIMIT, shift=False, grammar=form))
    reply = desk.finish().pop(1)
    if reply.finished is not None and reply.end.reason == "length":
        assert reply.end.eval_count == LIMIT
    return reply


def validate(value: Any, schema: Any) -> None:
    jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())


@given(schemas(), st.integers(0, 2**31))
@settings(max_examples=40, deadline=None)
def test_what_is_written_is_valid(desk: Desk, schema: Any, seed: int) -> None:
    whole = {**schema, "$defs": {"shared": SHARED}}
    reply = write(desk, Grammar("schema", json.dumps(whole)), seed)
    if reply.failed is not None:
        assert reply.failed.message.startswith("invalid JSON schema in format: #")
    elif reply.end.reason == "stop":
        validate(json.loads(reply.text), whole)


tools_schemas = st.builds(
    lambda properties, required: {
        "type": "object",
        "properties": properties,
        "required": sorted(required & properties.keys()),
        "$defs": {"shared": SHARED},
    },
    st.dictionaries(st.sampled_from(["a", "b", "c d", "é", "path"]), schemas(2), max_size=3),
    st.sets(st.sampled_from(["a", "b", "path"])),
)
WRITINGS = [(form, writing) for form in (*TAGGED, FALLBACK) for writing in form.writings]


@given(st.sampled_from(WRITINGS), tools_schemas, st.integers(0, 2**31), st.booleans())
@settings(max_examples=40, deadline=None)
def test_calls_have_valid_arguments(
    desk: Desk, written: tuple[CallFormat, Writing], schema: Any, seed: int, several: bool
) -> None:
    """Calls of a tool with any parameters, in any format, unless they are refused."""
    form, writing = written
    tool = Tool("function", {"name": "f", "parameters": schema})
    try:
        calls = writing.form(signatures_of([tool]), several=several)
    except FormatError:
        return
    reply = write(desk, calls, seed)
    if reply.failed is not None:
        assert reply.failed.message.startswith('invalid JSON schema in tools["f"].parameters')
        return
    found = list(parts(CallParser(form, Toolbox([tool])), [reply.text]))
    if reply.end.reason == "stop":
        assert len(calls_in(found)) == len(found) >= 1, reply.text
    for call in calls_in(found):
        # Where a text stands as it is, its ``format`` is an annotation, as JSON Schema has it.
        jsonschema.validate(call.function.arguments, schema)
