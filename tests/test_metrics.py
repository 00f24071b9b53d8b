"""``/metrics``: what a Prometheus server would read, after real requests on real models."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from llamaherd.server.metrics import Metrics, Now
from llamaherd.telemetry import RequestBegan, RequestEnded
from tests.support.models import write_model
from tests.support.server import RunningServer, running_server

Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

TINY = {"model": "tiny:latest"}
GREEDY = {"temperature": 0, "num_predict": 4}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("metrics")
    with running_server(folder) as server:
        server.add("tiny", write_model(folder / "tiny.gguf"))
        yield server


def parsed(text: str) -> Samples:
    return {
        (sample.name, frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def read(server: RunningServer) -> Samples:
    return parsed(server.request("GET", "/metrics").text)


class Change:
    """How the figures differ from what they were."""

    def __init__(self, server: RunningServer) -> None:
        self._server = server
        self._before = read(server)

    def of(self, name: str, **labels: str) -> float:
        key = (f"llamaherd_{name}", frozenset(labels.items()))
        return read(self._server)[key] - self._before.get(key, 0)


def generate(server: RunningServer, prompt: str = "Once upon a time", **request: Any) -> Any:
    request = {"options": GREEDY, "stream": False, **request}
    answer = server.post("/api/generate", model="tiny", prompt=prompt, **request)
    assert answer.status == 200, answer.text
    return answer.json()


def test_requests_count_by_route_method_and_status(server: RunningServer) -> None:
    change = Change(server)
    server.request("GET", "/api/tags")
    server.post("/api/show", model="nothing")
    server.request("HEAD", "/api/blobs/sha256:" + "0" * 64)
    server.request("GET", "/v1/models/tiny")
    for name, route in (("GET", "/api/tags"), ("GET", "/v1/models/{model}")):
        assert change.of("http_requests_total", method=name, route=route, status="200") == 1
    assert change.of("http_requests_total", method="POST", route="/api/show", status="404") == 1
    blob = {"method": "HEAD", "route": "/api/blobs/{digest}"}
    assert change.of("http_requests_total", **blob, status="404") == 1
    assert change.of("http_request_duration_seconds_count", **blob) == 1


def test_what_clients_make_up_is_one_label(server: RunningServer) -> None:
    change = Change(server)
    for number in range(5):
        server.request("GET", f"/made/up/{number}")
        server.request(("PROPFIND", "MKCOL", "LOCK", "TRACE", "PURGE")[number], "/api/tags")
    assert change.of("http_requests_total", method="GET", route="other", status="404") == 5
    assert change.of("http_requests_total", method="other", route="/api/tags", status="405") == 5
    server.post("/api/generate", model="not-a-model", prompt="x")
    models = {dict(labels).get("model") for _, labels in read(server)}
    assert models <= {None, "tiny:latest"}


def test_requests_in_flight_are_seen_while_they_run(server: RunningServer) -> None:
    flying = ("llamaherd_http_requests_in_flight", frozenset[tuple[str, str]]())
    assert read(server)[flying] == 1
    with server.stream("/api/generate", model="tiny", prompt="x", raw=True) as lines:
        next(lines)
        assert read(server)[flying] == 2


def test_tokens_are_those_of_the_answer(server: RunningServer) -> None:
    change = Change(server)
    prompt = "Once upon a time there was a metric that nobody had ever counted before"
    first = generate(server, prompt)
    assert change.of("prompt_tokens_total", **TINY) == first["prompt_eval_count"]
    assert change.of("generated_tokens_total", **TINY) == first["eval_count"] == 4
    assert change.of("prompt_tokens_cached_total", **TINY) < 5
    generate(server, prompt)
    assert change.of("prompt_tokens_total", **TINY) == 2 * first["prompt_eval_count"]
    assert change.of("prompt_tokens_cached_total", **TINY) >= first["prompt_eval_count"] - 1
    assert change.of("generations_total", **TINY, reason="length") == 2


def test_what_was_cut_off_a_prompt_counts(server: RunningServer) -> None:
    change = Change(server)
    options = {**GREEDY, "num_ctx": 256}
    cut = generate(server, "one two three " * 400, options=options)["prompt_dropped_count"]
    assert change.of("prompt_tokens_dropped_total", **TINY) == cut > 100
    messages = [{"role": "user", "content": "one two three " * 10}] * 20
    answer = server.post(
        "/api/chat", model="tiny", messages=messages, options=options, stream=False
    )
    left_out = answer.json()["prompt_dropped_count"]
    assert change.of("prompt_tokens_dropped_total", **TINY) == cut + left_out > cut


def test_embedded_texts_count_with_their_tokens(server: RunningServer) -> None:
    change = Change(server)
    answer = server.post("/api/embed", model="tiny", input=["Once upon", "a time"]).json()
    assert change.of("embedded_texts_total", **TINY) == 2
    assert change.of("prompt_tokens_total", **TINY) == answer["prompt_eval_count"] > 0
    assert change.of("embedding_duration_seconds_count", **TINY) == 1


def test_durations_are_those_of_the_answer(server: RunningServer) -> None:
    change = Change(server)
    answer = generate(server)
    total = answer["total_duration"] / 1e9
    assert change.of("generation_duration_seconds_count", **TINY) == 1
    assert change.of("generation_duration_seconds_sum", **TINY) == pytest.approx(total, abs=0.01)
    assert 0 < change.of("time_to_first_token_seconds_sum", **TINY) <= total
    for name, field in (("prompt_evaluation", "prompt_eval"), ("writing", "eval")):
        seconds = answer[f"{field}_duration"] / 1e9
        assert change.of(f"{name}_seconds_total", **TINY) == pytest.approx(seconds, rel=1e-3)


def test_loading_and_unloading(server: RunningServer) -> None:
    generate(server)
    change = Change(server)
    memory = ("llamaherd_model_memory_bytes", frozenset(TINY.items()))
    assert read(server)[memory] == server.loaded()["tiny:latest"]["size"]
    server.post("/api/generate", model="tiny", keep_alive=0)
    assert change.of("model_unloads_total", **TINY) == 1
    assert memory not in read(server)
    assert read(server)["llamaherd_loaded_models", frozenset()] == 0
    load = generate(server)["load_duration"] / 1e9
    assert change.of("model_loads_total", **TINY, outcome="loaded") == 1
    assert change.of("model_load_duration_seconds_sum", **TINY) == pytest.approx(load, abs=0.05)
    assert change.of("queue_wait_seconds_count", **TINY) == 1
    assert change.of("queue_wait_seconds_sum", **TINY) >= load - 0.05


def test_a_runner_that_dies_counts_as_a_crash(server: RunningServer) -> None:
    generate(server)
    change = Change(server)
    pid = runner_of(server)
    with server.stream("/api/generate", model="tiny", prompt="x", options={}) as lines:
        next(lines)
        os.kill(pid, signal.SIGKILL)
        *_, last = lines
    assert "unexpectedly stopped" in last["error"]
    server.wait_for_log("ended by itself")
    assert change.of("runner_crashes_total", **TINY) == 1


def runner_of(server: RunningServer) -> int:
    """The process that read the last prompt."""
    found = [re.search(r"runner (\d+) reads a prompt", line) for line in server.log]
    return int([match[1] for match in found if match][-1])


def test_a_model_that_can_not_be_loaded_counts(server: RunningServer, tmp_path: Path) -> None:
    broken = write_model(tmp_path / "broken.gguf", metadata={"llama.block_count": 3})
    server.add("broken", broken)
    change = Change(server)
    answer = server.post("/api/generate", model="broken", prompt="x")
    assert answer.status == 500, answer.text
    assert change.of("model_loads_total", model="broken:latest", outcome="failed") == 1


def test_transfers_count_by_how_they_end(server: RunningServer) -> None:
    change = Change(server)
    assert server.post("/api/pull", model="127.0.0.1:1/a/b", insecure=True).status == 200
    assert change.of("transfers_total", direction="pull", outcome="failed") == 1


def test_the_names_keep_prometheus_s_conventions(server: RunningServer) -> None:
    text = server.request("GET", "/metrics").text
    families = {family.name: family for family in text_string_to_metric_families(text)}
    ours = {name: family for name, family in families.items() if name.startswith("llamaherd_")}
    assert len(ours) > 15
    for name, family in ours.items():
        assert re.fullmatch(r"[a-z_]+", name)
        assert family.documentation
        if family.type == "histogram":
            assert name.endswith("_seconds")
    assert "process_resident_memory_bytes" in families


def test_the_format_is_the_one_asked_for(server: RunningServer) -> None:
    plain = server.request("GET", "/metrics")
    assert plain.headers["content-type"].startswith("text/plain; version=")
    accept = {"Accept": "application/openmetrics-text; version=1.0.0"}
    other = server.request("GET", "/metrics", None, accept)
    assert other.headers["content-type"].startswith("application/openmetrics-text")
    assert other.text.endswith("# EOF\n")


def test_two_servers_in_one_process_count_apart() -> None:
    first, second = (Metrics(lambda: Now(0, [])) for _ in range(2))
    first.observe(RequestBegan())
    first.observe(RequestEnded("/", "GET", 200, 10**6))
    name = "llamaherd_http_requests_total"
    assert f'{name}{{method="GET",route="/",status="200"}} 1.0' in first.exposition("")[0].decode()
    assert f"{name}{{" not in second.exposition("")[0].decode()
