"""``format`` over HTTP, from Ollama's Python package and on the command line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import jsonschema
import ollama
import pytest
from pydantic import BaseModel, Field

from tests.support.cli import ollama as command
from tests.support.models import write_model, write_parrot
from tests.support.server import RunningServer, running_server

PATHS = ("/api/generate", "/api/chat")
#: What a model writes that needs no constraint.
WILLING = '{\n  "wheels": [4, 2],\n  "name" : "a \\u0041"}'
#: Hot enough that the model tries everything.
OPTIONS = {"temperature": 1.5, "seed": 1, "num_predict": 120}
NO_GRAMMAR = "invalid format: expected the text of a grammar and nothing else"
POINT = {
    "type": "object",
    "properties": {
        "x": {"type": "integer", "minimum": -99, "maximum": 99},
        "label": {"type": "string", "maxLength": 9},
    },
    "required": ["x", "label"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("structured")
    with running_server(folder, OLLAMA_NUM_PARALLEL="4") as server:
        server.add("tiny", write_model(folder / "tiny.gguf"))
        server.add("willing", write_parrot(folder / "willing.gguf", WILLING))
        yield server


def asked(path: str, form: Any, **options: Any) -> dict[str, Any]:
    prompt = "Once upon a time"
    return {
        "model": "tiny",
        "prompt": prompt,
        "messages": [{"role": "user", "content": prompt}],
        "format": form,
        "options": OPTIONS | options,
    }


def text_of(reply: dict[str, Any]) -> str:
    return str(reply["response"] if "response" in reply else reply["message"]["content"])


def whole(server: RunningServer, path: str, form: Any, **options: Any) -> dict[str, Any]:
    answer = server.post(path, stream=False, **asked(path, form, **options))
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


@pytest.mark.parametrize("path", PATHS)
class TestBothEndpoints:
    def test_a_schema_is_satisfied(self, path: str, server: RunningServer) -> None:
        reply = whole(server, path, POINT)
        assert reply["done_reason"] == "stop"
        jsonschema.validate(json.loads(text_of(reply)), POINT)

    def test_a_stream_has_the_same_text(self, path: str, server: RunningServer) -> None:
        reply = whole(server, path, POINT)
        *pieces, last = server.post(path, **asked(path, POINT)).lines()
        assert len(pieces) > 2
        assert "".join(map(text_of, pieces)) == text_of(reply)
        assert last["eval_count"] == reply["eval_count"]

    def test_json_is_any_object(self, path: str, server: RunningServer) -> None:
        for seed in range(2):
            reply = whole(server, path, "json", seed=seed)
            if reply["done_reason"] == "stop":
                assert isinstance(json.loads(text_of(reply)), dict)

    def test_what_is_json_stays_as_it_is(self, path: str, server: RunningServer) -> None:
        request = asked(path, "json") | {"model": "willing", "stream": False}
        reply = server.post(path, **request).json()
        assert (text_of(reply), reply["done_reason"]) == (WILLING, "stop")

    def test_the_limit_cuts_it(self, path: str, server: RunningServer) -> None:
        reply = whole(server, path, POINT, num_predict=5)
        assert (reply["done_reason"], reply["eval_count"]) == ("length", 5)
        assert text_of(whole(server, path, POINT)).startswith(text_of(reply))

    def test_nothing_is_asked_for_by_nothing(self, path: str, server: RunningServer) -> None:
        request = asked(path, None, num_predict=9) | {"stream": False}
        del request["format"]
        free = text_of(server.post(path, **request).json())
        assert text_of(whole(server, path, None, num_predict=9)) == free
        assert text_of(whole(server, path, "", num_predict=9)) == free

    def test_grammars(self, path: str, server: RunningServer) -> None:
        reply = whole(server, path, {"grammar": 'root ::= "it is " ("so" | "not so")'})
        assert text_of(reply) in ("it is so", "it is not so")

    @pytest.mark.parametrize("stream", [True, False])
    @pytest.mark.parametrize(
        ("form", "message"),
        [
            ("xml", r'invalid format: "\"xml\""; expected "json" or a valid JSON Schema object'),
            (5, 'invalid format: "5"; expected "json" or a valid JSON Schema object'),
            ([1], 'invalid format: "[1]"; expected "json" or a valid JSON Schema object'),
            (
                {"properties": {"a": {"items": {"type": "float"}}}},
                "invalid JSON schema in format: #/properties/a/items: Invalid type: float",
            ),
            (
                {"enum": ["x" * (128 << 10)]},
                "invalid format: the schema has 131086 bytes, at most 131072 are allowed",
            ),
            ({"grammar": ""}, "invalid grammar in format: Empty grammar"),
            ({"grammar": 5}, NO_GRAMMAR),
            ({"grammar": 'root ::= "a"', "type": "string"}, NO_GRAMMAR),
        ],
        ids=["name", "number", "list", "schema", "large", "grammar", "no text", "not alone"],
    )
    def test_what_can_not_be_kept_is_refused(
        self, form: Any, message: str, stream: bool, path: str, server: RunningServer
    ) -> None:
        answer = server.post(path, stream=stream, **asked(path, form))
        assert (answer.status, answer.json()) == (400, {"error": message})


def test_requests_with_and_without_a_form_do_not_disturb_each_other(server: RunningServer) -> None:
    forms = [POINT, None, "json", None]
    alone = [text_of(whole(server, "/api/generate", form)) for form in forms]
    with ThreadPoolExecutor(4) as pool:
        together = pool.map(lambda form: whole(server, "/api/generate", form), forms)
        assert [text_of(reply) for reply in together] == alone


def test_the_context_of_a_reply_has_its_forced_tokens(server: RunningServer) -> None:
    form = {"const": {"the": "end"}}
    first = whole(server, "/api/generate", form)
    assert text_of(first) == '{"the": "end"}'
    assert len(first["context"]) == first["prompt_eval_count"] - 1 + first["eval_count"]


# --- clients --------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"
    GREEN = "green"


class Wheel(BaseModel):
    kind: Literal["wheel"]
    radius: int = Field(gt=0, le=10)


class Part(BaseModel):
    kind: Literal["part"]
    name: str = Field(max_length=6)
    colour: Colour
    size: int | None = Field(ge=0, le=99)
    parts: list[Part | Wheel] = Field(max_length=1)


@pytest.mark.parametrize("seed", range(2))
def test_the_python_package_with_a_pydantic_model(seed: int, server: RunningServer) -> None:
    with ollama.Client(host=server.host) as client:
        reply = client.chat(
            "tiny",
            [{"role": "user", "content": "Take it apart."}],
            format=Part.model_json_schema(),
            options={**OPTIONS, "seed": seed, "num_predict": 2000},
        )
    assert reply.done_reason == "stop"
    assert Part.model_validate_json(reply.message.content or "").kind == "part"


def test_the_command_line(server: RunningServer) -> None:
    done = command("run", "willing", "Go", "--format", "json", host=server.host)
    assert (done.code, done.stdout.strip()) == (0, WILLING)
    schema = json.dumps({"enum": ["so", "not so"]})
    done = command("run", "tiny", "Go", "--format", schema, host=server.host)
    assert json.loads(done.stdout) in ("so", "not so")


def test_the_reference_is_the_same_text(server: RunningServer) -> None:
    """Ollama sends it with status 200, as a line; before the first byte, we have a status."""
    data = Path(__file__).parent / "data" / "http-transcript.json"
    recorded = json.loads(data.read_text())["gen-format-bad"]
    answer = server.request("POST", "/api/generate", recorded["request"]["body"])
    assert (answer.status, answer.json()) == (400, json.loads(recorded["body"]))
