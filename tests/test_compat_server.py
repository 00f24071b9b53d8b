"""Ollama's model files in a store: the server answers from them as from llama.cpp's."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from llamaherd.store.blobs import digest_of
from tests.support.models import write_adapter
from tests.support.ollama_encoders import FAMILIES, Family, make_encoder
from tests.support.ollama_files import read, write, write_projector
from tests.support.ollama_models import make_model, with_break_embedding
from tests.support.pictures import picture, png
from tests.support.server import RunningServer, running_server


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("store")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with running_server(folder) as server:
        yield server


def generate(server: RunningServer, model: str, images: Sequence[bytes] = ()) -> dict[str, Any]:
    answer = server.post(
        "/api/generate",
        model=model,
        prompt="Once upon a time",
        images=[base64.b64encode(image).decode() for image in images],
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


def test_an_adapter_is_for_the_model_as_the_engine_has_it(
    server: RunningServer, folder: Path
) -> None:
    """Made with llama.cpp's tools, it has llama.cpp's names; Ollama's file has others."""
    ours, theirs = make_model("gptoss", folder).write(folder)
    adapter = write_adapter(folder / "lora.gguf", gain=4.0, architecture="gpt-oss")
    digest = digest_of(adapter.read_bytes())
    server.upload(adapter, digest)
    for name, path in (("ollama", ours), ("llama", theirs)):
        server.add(f"plain-{name}", path)
        server.create(f"adapted-{name}", f"plain-{name}", adapters={adapter.name: digest})
    made, expected, plain = (
        generate(server, name)["response"]
        for name in ("adapted-ollama", "adapted-llama", "plain-llama")
    )
    assert made == expected != plain


def test_a_model_that_lacks_something_says_what(server: RunningServer, folder: Path) -> None:
    contents = read(make_model("gptoss", folder).write(folder)[0])
    del contents.tensors["blk.0.ffn_gate_exps.weight"]
    server.add("lacking", write(folder / "lacking.gguf", "gptoss", contents))
    assert "tensor 'blk.0.ffn_gate_exps.weight' is missing" in generate(server, "lacking")["error"]


@pytest.mark.parametrize("family", FAMILIES)
def test_a_model_sees_the_same(family: Family, server: RunningServer, folder: Path) -> None:
    """With its encoder in the file of the language model, and in one of its own."""
    pair = make_model(family, folder)
    ours, theirs = pair.write(folder)
    extra = with_break_embedding(family, pair.llama_cpp)
    projector = write_projector(folder / "mmproj.gguf", make_encoder(family), extra)
    server.add(f"{family}-sees", ours)
    files = {path.name: digest_of(path.read_bytes()) for path in (theirs, projector)}
    for path, digest in zip((theirs, projector), files.values(), strict=True):
        server.upload(path, digest)
    server.create(f"{family}-two", files=files)
    images = [png(picture(1)), png(picture(2))]
    made, expected = (generate(server, f"{family}-{name}", images) for name in ("sees", "two"))
    assert made["response"] == expected["response"]
    assert made["prompt_eval_count"] == expected["prompt_eval_count"]
    blind = generate(server, f"{family}-sees")
    assert made["prompt_eval_count"] > blind["prompt_eval_count"]
    assert made["response"] != blind["response"]
    for name in ("sees", "two"):
        shown = server.post("/api/show", model=f"{family}-{name}").json()
        assert shown["capabilities"] == ["completion", "vision"]
