"""Replies in a form from models that think: the thinking is free, then the form holds."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import write_parrot
from tests.support.server import RunningServer, running_server

TEMPLATE = """{{ range .Messages }}<|{{ .Role }}|>
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}
{{ end }}<|assistant|>
"""
OPENED = TEMPLATE.rstrip() + "<think>\n"
THOUGHT = 'I know: {"a": 1} </thin>k'
JSON = '{"wheels": [4, 2]}'
#: What the models write that think and answer in JSON; tokens may straddle all of its borders.
THINKS = f"<think>\n{THOUGHT}</think>\n\n{JSON}"
#: No token has both the end of the thinking and what the form forbids to follow.
RAMBLES = "<think>\nhm!!</think>\nWell, 12?"
QUESTION = [{"role": "user", "content": "What is a bike?"}]
SCHEMA = {
    "type": "object",
    "properties": {"wheels": {"type": "array", "items": {"type": "integer"}}},
    "required": ["wheels"],
    "additionalProperties": False,
}
FORMS: list[Any] = ["json", SCHEMA, {"grammar": 'root ::= "{\\"wheels\\": [4, 2]}"'}]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("thinking-forms")

    def parrot(name: str, text: str) -> Path:
        return write_parrot(folder / f"{name}.gguf", text)

    with running_server(folder) as server:
        server.add("thinks", parrot("thinks", THINKS), template=TEMPLATE)
        server.add("opened", parrot("opened", THINKS[8:]), template=OPENED)
        server.add("answers", parrot("answers", JSON), template=TEMPLATE)
        server.add("rambles", parrot("rambles", RAMBLES), template=TEMPLATE)
        yield server


def ask(server: RunningServer, path: str, model: str, **fields: Any) -> dict[str, Any]:
    asked = {"messages": QUESTION, "prompt": "What is a bike?"}
    answer = server.post(path, model=model, stream=False, **asked, **fields)
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json()
    message = reply.get("message", reply)
    return {
        "thinking": message.get("thinking", ""),
        "text": message.get("content", message.get("response")),
        "reason": reply["done_reason"],
    }


@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
class TestBothEndpoints:
    @pytest.mark.parametrize("form", FORMS, ids=["json", "schema", "grammar"])
    @pytest.mark.parametrize("model", ["thinks", "opened"])
    def test_the_form_begins_where_the_thinking_ends(
        self, model: str, form: Any, path: str, server: RunningServer
    ) -> None:
        reply = ask(server, path, model, format=form, think=True)
        assert reply == {"thinking": THOUGHT, "text": JSON, "reason": "stop"}

    def test_a_model_need_not_think(self, path: str, server: RunningServer) -> None:
        reply = ask(server, path, "answers", format=SCHEMA, think=True)
        assert reply == {"thinking": "", "text": JSON, "reason": "stop"}

    @pytest.mark.parametrize("think", [False, None])
    def test_without_thinking_the_form_begins_at_once(
        self, think: bool | None, path: str, server: RunningServer
    ) -> None:
        reply = ask(server, path, "rambles", format={"enum": ["a", "b"]}, think=think)
        assert reply["thinking"] == ""
        assert json.loads(reply["text"]) in ("a", "b")

    def test_what_follows_the_thinking_has_the_form(self, path: str, server: RunningServer) -> None:
        reply = ask(server, path, "rambles", format={"const": 12}, think=True)
        assert reply == {"thinking": "hm!!", "text": "12", "reason": "stop"}

    def test_the_limit_holds_for_the_thinking_too(self, path: str, server: RunningServer) -> None:
        limit = {"num_predict": 4}
        reply = ask(server, path, "thinks", format="json", think=True, options=limit)
        assert (reply["text"], reply["reason"]) == ("", "length")
        assert THOUGHT.startswith(reply["thinking"])


def test_errors_in_the_form_are_told_all_the_same(server: RunningServer) -> None:
    for form, error in (
        ({"type": "float"}, "invalid JSON schema in format: #: Invalid type: float"),
        ({"grammar": ""}, "invalid grammar in format: Empty grammar"),
    ):
        asked = {"model": "thinks", "messages": QUESTION, "think": True, "format": form}
        answer = server.post("/api/chat", **asked)
        assert (answer.status, answer.json()) == (400, {"error": error})
