"""What a model writes that must call a tool is read back as calls of it, in every format."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jsonschema
import pytest

from llamaherd.errors import FormatError
from llamaherd.grammar import Form
from llamaherd.llama.binding import LlamaBackend
from llamaherd.llama.loader import ModelSpec, load
from llamaherd.messages import Tool, ToolCall
from llamaherd.prompt.channels import GLIMMER, HARMONY, ChannelParser
from llamaherd.prompt.parsers import minimax
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.recognise import FALLBACK, TAGGED
from llamaherd.prompt.parsers.stream import CallFormat, CallParser
from llamaherd.prompt.parsers.writing import Writing, signatures_of
from llamaherd.runner.protocol import Generate, Sampling
from tests.support.engine import Desk
from tests.support.models import write_model
from tests.support.replies import CALL_TAGS, Parser, calls_in, parts

#: Families whose calls are messages of their own, as formats that have a writing and no reader.
CHANNELS = {"harmony": HARMONY, "glimmer": GLIMMER}
MESSAGES = [CallFormat(name, {}, writings=(channels.calls,)) for name, channels in CHANNELS.items()]
WRITINGS = [
    pytest.param(form, writing, id=f"{form.name}-{number}")
    for form in (*TAGGED, FALLBACK, *MESSAGES)
    for number, writing in enumerate(form.writings)
]

#: Short texts: a model that writes at random would not end them. Lists and choices of all kinds.
SHORT = {"type": "string", "maxLength": 6}
BOOKING: dict[str, Any] = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "minLength": 2, "maxLength": 8},
        "class": {"enum": ["first", "second", "a \"b\" 'c' \\ é"]},
        "persons": {"type": "integer", "minimum": 1, "maximum": 12},
        "window": {"type": "boolean"},
        "price": {"type": "number", "minimum": 0, "maximum": 1},
        "tags": {"type": "array", "items": SHORT, "minItems": 1, "maxItems": 2},
    },
    "required": ["persons", "class", "tags"],
}
NESTED = {
    "type": "object",
    "properties": {
        "seat": {"$ref": "#/$defs/seat"},
        "note": {"anyOf": [SHORT, {"type": "null"}]},
        "code": {"const": 7},
        "mark": {"type": "string", "anyOf": [{"const": "a"}, {"maxLength": 2}]},
    },
    "required": ["seat", "note", "mark"],
    "$defs": {
        "seat": {
            "type": "object",
            "properties": {"row": {"type": "integer", "maximum": 40}, "letter": SHORT},
            "required": ["row", "letter"],
            "additionalProperties": False,
        }
    },
}
SCHEMAS: dict[str, dict[str, Any] | None] = {"book": BOOKING, "seat": NESTED, "now": None}


def tool(name: str) -> Tool:
    schema = SCHEMAS[name]
    return Tool("function", {"name": name} | ({} if schema is None else {"parameters": schema}))


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Desk]:
    path = write_model(
        tmp_path_factory.mktemp("models") / "tiny.gguf", n_ctx=2048, extra_tokens=CALL_TAGS
    )
    spec = ModelSpec(model=path, n_ctx=2048, n_slots=4, n_batch=128, threads=1)
    backend: LlamaBackend = load(spec, lambda _: None).backend
    yield Desk(backend, n_slots=4)
    backend.close()


def written(desk: Desk, form: Form, seeds: range) -> list[str]:
    """What models that try everything write; each ends by itself."""
    for seed in seeds:
        sampling = Sampling(temperature=1.7, seed=seed)
        prompt = [1, 403, 407, 261]
        desk.engine.submit(Generate(seed, prompt, sampling, 1800, shift=False, grammar=form))
    replies = desk.finish()
    desk.replies = {}
    assert all(reply.end.reason == "stop" for reply in replies.values()), replies
    return [replies[seed].text for seed in seeds]


def read_back(form: CallFormat, tools: list[Tool], text: str) -> list[ToolCall]:
    """The calls in a text in which there is nothing else."""
    toolbox = Toolbox(tools)
    channels = CHANNELS.get(form.name)
    parser: Parser = ChannelParser(toolbox, channels) if channels else CallParser(form, toolbox)
    found = list(parts(parser, [text]))
    calls = calls_in(found)
    assert len(calls) == len(found), (text, found)
    return calls


def validate(call: ToolCall) -> None:
    schema = SCHEMAS[call.function.name] or {"maxProperties": 0}
    jsonschema.validate(call.function.arguments, schema)
    assert call.function.arguments.keys() <= schema.get("properties", {}).keys()


@pytest.mark.parametrize(("form", "writing"), WRITINGS)
def test_calls_are_read_back_and_valid(form: CallFormat, writing: Writing, desk: Desk) -> None:
    names = ["book", "now"] if form.name == "gemma" else list(SCHEMAS)
    tools = [tool(name) for name in names]
    grammar = writing.form(signatures_of(tools), several=True)
    for text in written(desk, grammar, range(1, 4)):
        calls = read_back(form, tools, text)
        assert calls, text
        for call in calls:
            validate(call)


@pytest.mark.parametrize(("form", "writing"), WRITINGS)
def test_one_call_is_one(form: CallFormat, writing: Writing, desk: Desk) -> None:
    tools = [tool("now")]
    grammar = writing.form(signatures_of(tools), several=False)
    (text,) = written(desk, grammar, range(1, 2))
    (call,) = read_back(form, tools, text)
    assert (call.function.name, call.function.arguments) == ("now", {})


def test_a_parameter_without_a_schema_may_be_anything() -> None:
    free = Tool("function", {"name": "f", "parameters": {"properties": {"a": True, "b": {}}}})
    for form in (*TAGGED, FALLBACK, *MESSAGES):
        if form.name != "gemma":
            for writing in form.writings:
                assert writing.form(signatures_of([free]), several=True)


def test_a_name_that_reads_as_the_end_of_another_tag() -> None:
    seat = {"type": "object", "properties": {"/seat": {"type": "string"}}}
    parameters = {"type": "object", "properties": {"seat": seat}}
    book = Tool("function", {"name": "book", "parameters": parameters})
    (writing,) = minimax.FORMAT.writings
    with pytest.raises(FormatError, match=r'tools\["book"\].*/seat: as a tag'):
        writing.form(signatures_of([book]), several=True)
