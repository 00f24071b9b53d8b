"""Replies in a form: JSON, JSON Schemas, grammars; from a model that writes at random."""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.grammar import Grammar
from llamaherd.llama.backend import TokenTable
from llamaherd.llama.binding import LlamaBackend
from llamaherd.llama.loader import ModelSpec, load
from llamaherd.runner.protocol import Failed, Generate, Sampling
from tests.support.backend import FakeBackend, encode
from tests.support.engine import GREEDY, Desk
from tests.support.models import write_model

PROMPT = "Once upon a time"
PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["cat", "dog"]},
        "age": {"type": "integer", "minimum": 3, "maximum": 99},
    },
    "required": ["name", "kind", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def backend_of(path: Path, n_ctx: int = 512, n_batch: int = 64) -> LlamaBackend:
    spec = ModelSpec(model=path, n_ctx=n_ctx, n_slots=4, n_batch=n_batch, threads=1)
    return load(spec, lambda _: None).backend


@pytest.fixture(scope="module")
def backend(models: Path) -> Iterator[LlamaBackend]:
    backend = backend_of(write_model(models / "tiny.gguf"))
    yield backend
    backend.close()


@pytest.fixture
def desk(backend: LlamaBackend) -> Desk:
    return Desk(backend, n_slots=4)


def schema(value: dict[str, Any]) -> Grammar:
    return Grammar("schema", json.dumps(value))


def request(
    grammar: Grammar | None, number: int = 1, *, seed: int = 1, num_predict: int = 200, **rest: Any
) -> Generate:
    """Temperatures above 1 have the model try everything."""
    sampling = rest.pop("sampling", Sampling(temperature=1.5, seed=seed))
    prompt = rest.pop("prompt", [1, 403, 407, 261])
    return Generate(number, prompt, sampling, num_predict, grammar=grammar, **rest)


def written(desk: Desk, value: dict[str, Any], **fields: Any) -> Any:
    """The value of a reply that has ended by itself."""
    reply = desk.ask(request(schema(value), **fields))
    assert reply.end.reason == "stop", reply.text
    return json.loads(reply.text)


def refusal(desk: Desk, grammar: Grammar, **fields: Any) -> str:
    failed = desk.ask(request(grammar, **fields)).failed
    assert isinstance(failed, Failed)
    assert failed.status == 400
    return failed.message


# --- JSON -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
def test_json_is_an_object(seed: int, desk: Desk) -> None:
    reply = desk.ask(request(Grammar("json"), seed=seed, num_predict=400))
    if reply.end.reason == "stop":
        assert isinstance(json.loads(reply.text), dict)
    else:
        assert reply.end.eval_count == 400


def test_a_model_that_writes_only_white_space_can_not_go_on_with_it() -> None:
    backend = FakeBackend(n_ctx=512, model=lambda tokens: ord(" "))
    reply = Desk(backend).ask(Generate(1, encode("x"), GREEDY, 100, grammar=Grammar("json")))
    assert "  " not in reply.text.partition('"')[0]


# --- schemas --------------------------------------------------------------------------------

TREE = {
    "$ref": "#/$defs/tree",
    "$defs": {
        "tree": {
            "type": "object",
            "properties": {
                "leaf": {"type": "boolean"},
                "branches": {"type": "array", "items": {"$ref": "#/$defs/tree"}, "maxItems": 2},
            },
            "required": ["leaf"],
            "additionalProperties": False,
        }
    },
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "object": PERSON,
    "recursion": TREE,
    "enum": {"enum": ["a", 1, None, {"b": [True]}]},
    "const": {"const": {"the": ["same", 1.5, "é😀\n"]}},
    "anyOf": {
        "anyOf": [{"type": "boolean"}, {"type": "array", "items": {"const": 1}, "maxItems": 3}]
    },
    "oneOf": {"oneOf": [{"type": "boolean"}, {"type": "null"}]},
    "discriminator": {
        "oneOf": [{"$ref": "#/$defs/cat"}, {"$ref": "#/$defs/dog"}],
        "discriminator": {"propertyName": "kind"},
        "$defs": {
            "cat": {"type": "object", "properties": {"kind": {"const": "cat"}}, "maxProperties": 2},
            "dog": {"type": "object", "properties": {"kind": {"const": "dog"}}, "maxProperties": 1},
        },
    },
    "allOf": {"allOf": [PERSON, {"properties": {"age": {"maximum": 9}}}]},
    "types": {"type": ["null", "boolean"]},
    "pattern": {"type": "string", "pattern": "^[a-f]{2}-\\d{3}$"},
    "length": {"type": "string", "minLength": 3, "maxLength": 5},
    "format": {"type": "string", "format": "date"},
    "unknown format": {"type": "string", "format": "directory-path", "maxLength": 4},
    "number": {"type": "number", "minimum": -1.5, "exclusiveMaximum": 2, "multipleOf": 0.25},
    "integer": {"type": "integer", "exclusiveMinimum": -3, "maximum": 1000, "multipleOf": 7},
    "array": {"type": "array", "items": {"type": "boolean"}, "minItems": 2, "maxItems": 4},
    "tuple": {"prefixItems": [{"type": "null"}, {"enum": ["x"]}], "items": False, "minItems": 2},
    "open object": {
        "type": "object",
        "properties": {"a": {"type": "null"}},
        "additionalProperties": {"type": "boolean"},
        "maxProperties": 2,
        "required": ["a"],
    },
    "names by pattern": {
        "type": "object",
        "patternProperties": {"^[ab]$": {"type": "boolean"}},
        "additionalProperties": False,
    },
    "annotations": {"title": "T", "description": "D", "default": 1, "examples": [2], "const": 3},
}


@pytest.mark.parametrize("name", SCHEMAS)
def test_a_reply_that_ends_satisfies_its_schema(name: str, desk: Desk) -> None:
    for seed in range(3):
        reply = desk.ask(request(schema(SCHEMAS[name]), seed=seed, num_predict=300))
        if reply.end.reason == "stop":
            jsonschema.validate(json.loads(reply.text), SCHEMAS[name])
        else:
            assert name in ("recursion", "open object"), reply.text


def schemas() -> st.SearchStrategy[dict[str, Any]]:
    texts = st.text('ab"\\é😀 \n', max_size=4)
    # llguidance reads floats to about 15 digits.
    floats = st.integers(-(10**9), 10**9).map(lambda number: number / 1000)
    numbers = st.integers(-(2**53), 2**53) | floats
    bounds = st.tuples(st.integers(-50, 50), st.integers(0, 100))
    leaves = st.one_of(
        st.just({"type": "null"}),
        st.just({"type": "boolean"}),
        st.builds(
            lambda low: {"type": "string", "minLength": low, "maxLength": low + 3},
            st.integers(0, 3),
        ),
        bounds.map(lambda pair: {"type": "integer", "minimum": pair[0], "maximum": sum(pair)}),
        st.builds(lambda value: {"const": value}, texts | numbers | st.booleans()),
        st.builds(lambda values: {"enum": values}, st.lists(texts, min_size=1, max_size=3)),
    )

    def nested(part: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
        return st.one_of(
            st.builds(lambda items: {"type": "array", "items": items, "maxItems": 3}, part),
            st.builds(lambda parts: {"anyOf": parts}, st.lists(part, min_size=1, max_size=3)),
            st.builds(
                lambda parts, count: {
                    "type": "object",
                    "properties": parts,
                    "required": sorted(parts)[:count],
                    "additionalProperties": False,
                },
                st.dictionaries(texts, part, max_size=3),
                st.integers(0, 3),
            ),
        )

    return st.recursive(leaves, nested, max_leaves=6)


@settings(max_examples=60, deadline=None)
@given(schemas(), st.integers(0, 10**6))
def test_any_schema_is_satisfied(backend: LlamaBackend, value: dict[str, Any], seed: int) -> None:
    reply = Desk(backend).ask(request(schema(value), seed=seed, num_predict=600))
    assert reply.end.reason == "stop"
    jsonschema.validate(json.loads(reply.text), value)


@pytest.mark.parametrize("seed", range(4))
def test_an_object_has_the_properties_that_its_schema_tells(seed: int, desk: Desk) -> None:
    """Also where JSON Schema would allow any others, or no object at all; as in Ollama."""
    part = {"properties": {"x": {"type": "boolean"}, "y": {"type": "boolean"}}, "required": ["x"]}
    value = written(desk, {"properties": {"parts": {"items": part, "maxItems": 2}}}, seed=seed)
    assert value.keys() <= {"parts"}
    assert all({"x"} <= each.keys() <= {"x", "y"} for each in value.get("parts", []))


def test_the_order_of_properties_is_that_of_the_schema(desk: Desk) -> None:
    assert list(written(desk, PERSON)) == ["name", "kind", "age"]


@pytest.mark.parametrize(
    ("part", "where"),
    [
        ({"type": "strin"}, "#/properties/p: Invalid type: strin"),
        (
            {"type": "string", "pattern": "[a"},
            "#/properties/p: regex parse error: unclosed character class",
        ),
        ({"type": "string", "pattern": "(?!a)"}, "#/properties/p: regex parse error: look-around"),
        ({"minProperties": 2}, "#/properties/p: minProperties of 2 can't be guaranteed"),
        ({"items": {"not": {"type": "null"}}}, '#/properties/p/items: Unimplemented keys: ["not"]'),
        ({"anyOf": [{}, {"uniqueItems": True}]}, "#/properties/p/anyOf/1: Unimplemented keys"),
        ({"$ref": "#/$defs/a~b"}, '#/$defs/a~0b: Unimplemented keys: ["contains"]'),
        ({"$ref": "#/$defs/missing"}, "#/properties/p: Pointer"),
        ({"$ref": "http://localhost/x"}, "#/properties/p: Resource"),
        ({"oneOf": [{"type": "number"}, {"type": "integer"}]}, "#/properties/p: the alternatives"),
        ({"type": "integer", "minimum": 3, "maximum": 2}, "#/properties/p: Unsatisfiable schema"),
    ],
    ids=str,
)
def test_what_a_schema_can_not_have_is_named(part: dict[str, Any], where: str, desk: Desk) -> None:
    value = {
        "type": "object",
        "properties": {"good": {"type": "string"}, "p": part},
        "required": ["p"],
        "$defs": {"a~b": {"contains": {}}},
    }
    assert refusal(desk, schema(value)).startswith(f"invalid JSON schema in format: {where}")


# --- grammars -------------------------------------------------------------------------------


def test_lark_and_gbnf(desk: Desk) -> None:
    lark = Grammar("grammar", 'start: greeting " " NAME\ngreeting: "hi" | "hey"\nNAME: /[A-C]{3}/')
    word, _, name = desk.ask(request(lark)).text.partition(" ")
    assert word in ("hi", "hey")
    assert len(name) == 3
    assert set(name) <= set("ABC")
    gbnf = Grammar("grammar", 'root ::= ("yes" | "no") "!"{2}')
    assert desk.ask(request(gbnf)).text in ("yes!!", "no!!")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('start: "a" | b', 'unknown name: "b"'),
        ("root ::= other", "Rule 'other' not found"),
        ("", "Empty grammar"),
        ("root ::= " + "(" * 20_000, "nested too deeply"),
        ("start: " + '%json {"type": "object"} ' * 3000, "assertion failed"),
    ],
    ids=["lark", "gbnf", "empty", "deep", "large"],
)
def test_a_bad_grammar_is_refused(text: str, reason: str, desk: Desk) -> None:
    message = refusal(desk, Grammar("grammar", text))
    assert message.startswith("invalid grammar in format: ")
    assert reason in message
    assert "backtrace" not in message


# --- hostile ones ---------------------------------------------------------------------------


#: Each rule is twice the next: 2 to the power of 1,000 ways to derive a text.
RULES = (
    "start: r0\n" + "".join(f'r{n}: r{n + 1} r{n + 1} | "x"\n' for n in range(1000)) + 'r1000: "a"'
)


def nested(depth: int) -> str:
    return '{"items":' * depth + "{}" + "}" * depth


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        (Grammar("schema", nested(20_000)), "nested too deeply"),
        (Grammar("schema", nested(200)), "nested too deeply"),
        (schema({"maximum": 2**63}), "beyond 64 bits: 9223372036854775808"),
        (schema({"enum": [{"a": [2**53 + 1]}]}), "exactly: 9007199254740993"),
        (Grammar("schema", '{"const": 1e999}'), "beyond 64 bits: 1e999"),
        (Grammar("schema", '{"const": ' + "9" * 5000 + "}"), "beyond 64 bits: 999"),
        (schema({"$ref": "#"}), "no token of the model"),
        (schema({"type": "integer", "multipleOf": 999_983}), "multipleOf"),
        (schema({"allOf": [{"multipleOf": 0.997}, {"multipleOf": 991}]}), "multipleOf"),
        (schema({"type": "number", "multipleOf": 1e-300}), "multipleOf 1e-300"),
        (schema({"type": "number", "multipleOf": 0}), "multipleOf 0"),
        (Grammar("grammar", 'start: %json {"multiple\\u004ff": 999983}'), "multipleOf"),
        (Grammar("grammar", RULES), "can't follow its format"),
        (Grammar("grammar", "start: " + "(" * 60_000), "too deeply"),
        (Grammar("grammar", "start: start"), "no token of the model"),
        (Grammar("grammar", "start: A A A\nA: /a{60000}/"), "a text of 180000 bytes would have"),
        (Grammar("grammar", "start: /a{250000}/"), "at most 131072 can be tokenized"),
    ],
    ids=range(17),
)
def test_a_hostile_format_fails_alone(grammar: Grammar, reason: str, desk: Desk) -> None:
    desk.engine.submit(request(None, 2, num_predict=20))
    assert reason in refusal(desk, grammar)
    assert desk.replies[2].end.eval_count == 20


# --- tokens ---------------------------------------------------------------------------------


def test_forced_tokens_take_no_step_of_the_model() -> None:
    value = {
        "type": "object",
        "properties": {"answer": {"enum": ["yes"]}},
        "required": ["answer"],
        "additionalProperties": False,
    }
    backend = FakeBackend(n_ctx=128)
    reply = Desk(backend).ask(Generate(1, encode("?"), GREEDY, grammar=schema(value)))
    assert reply.text == '{"answer": "yes"}'
    assert reply.end.eval_count == len(reply.text)
    assert len(backend.decoded) == 1


def test_they_are_evaluated_with_the_next_step() -> None:
    value = {
        "type": "array",
        "prefixItems": [{"type": "boolean"}] * 3,
        "minItems": 3,
        "items": False,
    }
    backend = FakeBackend(n_ctx=128, model=lambda tokens: ord("f"))
    reply = Desk(backend).ask(Generate(1, encode("?"), GREEDY, grammar=schema(value)))
    # "[" and then thrice one of two letters; what follows each is known.
    assert reply.text == "[false, false, false]"
    assert len(backend.decoded) == 1 + 3
    assert [len(rows) for rows in backend.decoded] == [2, 1, 7, 7]


def test_forced_tokens_count_as_repeated() -> None:
    """Penalties see them: with a heavy one, the second value isn't the first."""
    value = {"type": "array", "prefixItems": [{"const": 7}, {"enum": [7, 8]}], "minItems": 2}
    sampling = Sampling(temperature=0, repeat_penalty=1.0, frequency_penalty=1000.0)
    backend = FakeBackend(n_ctx=64, model=lambda tokens: ord("7"))
    grammar = schema(value | {"items": False})
    reply = Desk(backend).ask(Generate(1, encode("?"), sampling, grammar=grammar))
    assert json.loads(reply.text) == [7, 8]


@pytest.mark.parametrize("limit", range(1, 12))
def test_the_limit_holds_for_forced_tokens_too(limit: int) -> None:
    value = {"const": "abcdefg"}
    backend = FakeBackend(n_ctx=128)
    reply = Desk(backend).ask(
        Generate(1, encode("?"), GREEDY, num_predict=limit, grammar=schema(value))
    )
    whole = '"abcdefg"'
    assert reply.text == whole[:limit]
    assert reply.end.reason == ("stop" if limit >= len(whole) else "length")


def test_the_context_moves_on_under_forced_tokens() -> None:
    value = {"const": "abcdefghijklmnopqrstuvwxyz" * 4 + "!"}
    pattern = {"type": "array", "prefixItems": [{"type": "boolean"}, value, {"type": "boolean"}]}
    backend = FakeBackend(n_ctx=32, n_batch=8)
    grammar = schema(pattern | {"minItems": 3, "items": False})
    reply = Desk(backend).ask(Generate(1, encode("?"), GREEDY, grammar=grammar))
    assert json.loads(reply.text) == [False, value["const"], False]


def test_a_stop_string_still_ends_the_reply(desk: Desk) -> None:
    reply = desk.ask(request(schema(PERSON), stop=['"kind']))
    assert reply.end.reason == "stop"
    assert reply.text.startswith('{"name": "')
    assert reply.text.endswith('", ')


def test_a_complete_reply_needs_no_end_token() -> None:
    backend = FakeBackend(n_ctx=64, model=lambda tokens: ord("t"))
    reply = Desk(backend).ask(Generate(1, encode("?"), GREEDY, grammar=schema({"type": "boolean"})))
    assert (reply.text, reply.end.reason, len(backend.decoded)) == ("true", "stop", 1)


def test_a_seed_makes_a_reply_repeatable(backend: LlamaBackend) -> None:
    def text(seed: int) -> str:
        return Desk(backend).ask(request(schema(PERSON), seed=seed)).text

    assert text(1) == text(1)
    assert len({text(seed) for seed in range(5)}) > 1


# --- beside others --------------------------------------------------------------------------


def test_free_replies_are_what_they_are_alone(backend: LlamaBackend) -> None:
    def free(number: int) -> Generate:
        return request(None, number, sampling=GREEDY, num_predict=60)

    alone = Desk(backend).ask(free(1)).text
    together = Desk(backend, n_slots=4)
    for number, grammar in ((2, schema(PERSON)), (3, Grammar("json"))):
        together.engine.submit(request(grammar, number))
    together.engine.submit(free(1))
    replies = together.finish()
    assert replies[1].text == alone
    jsonschema.validate(json.loads(replies[2].text), PERSON)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has a priority for each thread")
def test_grammars_stand_back_for_the_evaluation_of_others(desk: Desk) -> None:
    before = {thread.native_id for thread in threading.enumerate()}
    desk.ask(request(schema(PERSON)))
    workers = [thread for thread in threading.enumerate() if thread.native_id not in before]
    own = os.getpriority(os.PRIO_PROCESS, 0)
    assert {thread.name.partition("_")[0] for thread in workers} == {"grammar", "mask"}
    assert all(os.getpriority(os.PRIO_PROCESS, thread.native_id or 0) > own for thread in workers)


class SlowVocabulary(FakeBackend):
    """Its vocabulary, which a grammar needs, is there once ``release`` is set."""

    def __init__(self) -> None:
        super().__init__(n_ctx=128)
        self.release = threading.Event()

    def token_table(self) -> TokenTable:
        assert self.release.wait(60)
        return super().token_table()


def test_nobody_waits_for_a_grammar_but_its_own_reply() -> None:
    backend = SlowVocabulary()
    desk = Desk(backend, n_slots=2)
    desk.engine.submit(Generate(1, encode("a"), GREEDY, grammar=schema({"const": "ok"})))
    desk.engine.submit(Generate(2, encode("b"), GREEDY, num_predict=40))
    while 2 not in desk.replies or desk.replies[2].finished is None:
        desk.engine.step()
    assert 1 not in desk.replies
    backend.release.set()
    assert desk.finish()[1].text == '"ok"'


def test_a_reply_can_be_cancelled_while_it_waits_for_its_grammar() -> None:
    backend = SlowVocabulary()
    desk = Desk(backend)
    desk.engine.submit(Generate(1, encode("a"), GREEDY, grammar=Grammar("json")))
    for _ in range(3):
        desk.engine.step()
    desk.engine.cancel(1)
    assert not desk.engine.busy
    backend.release.set()
    assert desk.ask(Generate(2, encode("a"), GREEDY, num_predict=5)).end.eval_count == 5
    assert 1 not in desk.replies


# --- vocabularies ---------------------------------------------------------------------------


def test_a_vocabulary_that_can_not_spell_the_reply(models: Path) -> None:
    backend = backend_of(write_model(models / "letters.gguf", byte_tokens=False))
    assert "no token of the model" in refusal(Desk(backend), Grammar("json"), prompt=[1])
    words = Grammar("grammar", 'start: "the " ("cat" | "dog")')
    assert Desk(backend).ask(request(words, prompt=[1])).text in ("the cat", "the dog")
    backend.close()


def test_one_without_a_token_that_ends_a_reply() -> None:
    class Endless(FakeBackend):
        def token_table(self) -> TokenTable:
            table = super().token_table()
            return TokenTable(table.pieces, table.special, ends=[])

    failed = Desk(Endless()).ask(Generate(1, encode("?"), grammar=Grammar("json"))).failed
    assert failed is not None
    assert "no token that ends a reply" in failed.message
