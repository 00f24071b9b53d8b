"""Ollama's model files in a store: the server answers from them as from llama.cpp's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.ollama_files import read, write
from tests.support.ollama_models import make_model
from tests.support.server import RunningServer, running_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with running_server(folder) as server:
        yield server


def generate(server: RunningServer, model: str) -> dict[str, Any]:
    answer = server.post(
        "/api/generate",
        model=model,
        prompt="Once upon a time",
        stream=False,
        options={"temperature": 0, "num_predict": 16},
    )
    reply: dict[str, Any] = answer.json()
    return reply


@pytest.mark.parametrize("family", ["gemma3", "gptoss"])
def test_a_model_answers_the_same(family: str, server: RunningServer, folder: Path) -> None:
    ours, theirs = make_model(family, folder).write(folder)
    server.add(f"{family}-ollama", ours)
    server.add(f"{family}-llama", theirs)
    made, expected = (generate(server, f"{family}-{name}") for name in ("ollama", "llama"))
    assert expected["eval_count"] == 16
    assert made["response"] == expected["response"]


def test_a_model_that_lacks_something_says_what(server: RunningServer, folder: Path) -> None:
    contents = read(make_model("gptoss", folder).write(folder)[0])
    del contents.tensors["blk.0.ffn_gate_exps.weight"]
    server.add("lacking", write(folder / "lacking.gguf", "gptoss", contents))
    assert "tensor 'blk.0.ffn_gate_exps.weight' is missing" in generate(server, "lacking")["error"]
