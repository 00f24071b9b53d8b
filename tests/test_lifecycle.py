"""When models are loaded, how long they stay, and how requests share them."""

from __future__ import annotations

import os
import re
import select
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import pytest

from tests.support.models import write_model
from tests.support.server import Answer, RunningServer, running_server

GREEDY = {"temperature": 0, "num_predict": 16}
#: More than any test waits for: ten contexts of tokens.
ENDLESS = {"num_predict": -1, "num_ctx": 2048}
CONTEXT = 2048
READS = re.compile(r"runner (\d+) reads a prompt")
HUNDRED_YEARS = timedelta(days=36500)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three different models."""
    folder = tmp_path_factory.mktemp("weights")
    return [write_model(folder / f"{n}.gguf", seed=n, n_ctx=CONTEXT) for n in range(3)]


@contextmanager
def serving(folder: Path, weights: list[Path], **env: str) -> Iterator[RunningServer]:
    """A server with the models a, b and c."""
    with running_server(folder, **env) as server:
        for name, path in zip("abc", weights, strict=True):
            server.add(name, path)
        yield server


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, weights: list[Path]
) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("lifecycle")
    settings = {"OLLAMA_KEEP_ALIVE": "7m", "OLLAMA_CONTEXT_LENGTH": "256"}
    with serving(folder, weights, **settings, OLLAMA_NUM_PARALLEL="2") as server:
        yield server


@pytest.fixture
def idle(server: RunningServer) -> RunningServer:
    """The server without a model in memory."""
    for name in server.loaded():
        unload(server, name)
    assert server.loaded() == {}
    return server


def ask(server: RunningServer, model: str, prompt: str = "Once", **request: Any) -> Answer:
    request = {"options": GREEDY, "stream": False, **request}
    return server.post("/api/generate", model=model, prompt=prompt, **request)


def written(answer: Answer) -> str:
    assert answer.status == 200, answer.text
    return str(answer.json()["response"])


def unload(server: RunningServer, model: str) -> None:
    assert server.post("/api/generate", model=model, keep_alive=0).json()["done_reason"] == "unload"


def stays(server: RunningServer, model: str) -> timedelta:
    """How long a loaded model has left."""
    expires = datetime.fromisoformat(server.loaded()[f"{model}:latest"]["expires_at"])
    return expires - datetime.now(UTC)


def runners_of(server: RunningServer) -> list[int]:
    """The process for each prompt that was read, the latest last."""
    return [int(match[1]) for line in server.log if (match := READS.search(line))]


def await_exit(pid: int) -> None:
    """Until a process that isn't our child has ended; fails after half a minute."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        ready, _, _ = select.select([descriptor], [], [], 30)
        assert ready, f"process {pid} still runs"
    finally:
        os.close(descriptor)


class TestLoading:
    @pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
    def test_an_empty_request_loads_and_unloads(self, path: str, idle: RunningServer) -> None:
        loaded = idle.post(path, model="a").json()
        assert (loaded["done"], loaded["done_reason"]) == (True, "load")
        assert list(idle.loaded()) == ["a:latest"]
        unloaded = idle.post(path, model="a", keep_alive=0).json()
        assert (unloaded["done"], unloaded["done_reason"]) == (True, "unload")
        assert idle.loaded() == {}

    def test_unloading_what_is_not_loaded_is_no_error(self, idle: RunningServer) -> None:
        unload(idle, "a")

    def test_unloading_ends_the_requests_that_run(self, idle: RunningServer) -> None:
        with idle.stream("/api/generate", model="a", prompt="x", options=ENDLESS) as lines:
            assert next(lines)["response"]
            unload(idle, "a")
            *_, last = lines
        assert last == {"error": "model was unloaded while the request was running"}

    def test_ps_says_what_a_model_takes(self, idle: RunningServer, weights: list[Path]) -> None:
        idle.post("/api/generate", model="a")
        idle.post("/api/generate", model="b", options={"num_ctx": 512}, keep_alive="1h")
        b, a = idle.loaded().values()
        assert (b["name"], a["name"]) == ("b:latest", "a:latest"), "who stays longer comes first"
        assert (b["context_length"], a["context_length"]) == (512, 256)
        assert weights[0].stat().st_size < a["size"] < b["size"] < 64 << 20
        assert 0 <= a["size_vram"] <= a["size"]
        listed = {
            model["name"]: model for model in idle.request("GET", "/api/tags").json()["models"]
        }
        for field in ("model", "digest"):
            assert a[field] == listed["a:latest"][field]
        assert a["details"] == {**listed["a:latest"]["details"], "parent_model": ANY}

    def test_another_context_loads_the_model_anew(self, idle: RunningServer) -> None:
        first = ask(idle, "a")
        other = ask(idle, "a", options={**GREEDY, "num_ctx": 300})
        again = ask(idle, "a", options={**GREEDY, "num_ctx": 300, "temperature": 0.0})
        durations = [answer.json()["load_duration"] > 0 for answer in (first, other, again)]
        assert durations == [True, True, False]
        assert idle.loaded()["a:latest"]["context_length"] == 300

    def test_a_context_is_no_longer_than_the_model_was_trained_for(
        self, idle: RunningServer
    ) -> None:
        idle.post("/api/generate", model="a", options={"num_ctx": 100_000})
        assert idle.loaded()["a:latest"]["context_length"] == CONTEXT


class TestKeepAlive:
    @pytest.mark.parametrize(
        ("keep_alive", "expected"),
        [
            ("10m", timedelta(minutes=10)),
            ("1h30m", timedelta(minutes=90)),
            (600, timedelta(minutes=10)),
            (90.5, timedelta(seconds=90.5)),
            ("3600", timedelta(hours=1)),
        ],
        ids=str,
    )
    def test_is_a_duration_or_a_number_of_seconds(
        self, keep_alive: Any, expected: timedelta, server: RunningServer
    ) -> None:
        ask(server, "a", keep_alive=keep_alive)
        assert abs(stays(server, "a") - expected) < timedelta(seconds=10)

    @pytest.mark.parametrize("keep_alive", [-1, "-1", "-5m", -0.5])
    def test_negative_is_for_ever(self, keep_alive: Any, server: RunningServer) -> None:
        ask(server, "a", keep_alive=keep_alive)
        assert stays(server, "a") > HUNDRED_YEARS

    def test_is_that_of_the_environment_if_nobody_says_one(self, idle: RunningServer) -> None:
        ask(idle, "a")
        assert abs(stays(idle, "a") - timedelta(minutes=7)) < timedelta(seconds=10)

    @pytest.mark.parametrize(("keep_alive", "stream"), [(0, True), ("0", False), ("0s", False)])
    def test_zero_unloads_after_the_reply(
        self, keep_alive: Any, stream: bool, server: RunningServer
    ) -> None:
        answer = ask(server, "a", keep_alive=keep_alive, stream=stream)
        assert answer.lines()[-1]["eval_count"] == 16
        assert "a:latest" not in server.loaded()

    def test_the_last_request_that_says_one_decides(self, server: RunningServer) -> None:
        for keep_alive, hours in (("1h", 1), ("2h", 2), (None, 2)):
            ask(server, "a", keep_alive=keep_alive)
            assert abs(stays(server, "a") - timedelta(hours=hours)) < timedelta(seconds=10)

    def test_a_model_goes_when_its_time_is_up(self, idle: RunningServer) -> None:
        ask(idle, "a", keep_alive="100ms")
        await_exit(runners_of(idle)[-1])
        assert idle.loaded() == {}

    def test_a_model_stays_while_it_is_used(self, idle: RunningServer) -> None:
        request = {"model": "a", "prompt": "x", "options": ENDLESS, "keep_alive": "1ms"}
        with idle.stream("/api/generate", **request) as lines:
            assert next(lines)["response"]
            assert list(idle.loaded()) == ["a:latest"]
        await_exit(runners_of(idle)[-1])

    def test_zero_may_be_the_default(self, tmp_path: Path, weights: list[Path]) -> None:
        with serving(tmp_path, weights, OLLAMA_KEEP_ALIVE="0") as server:
            assert written(ask(server, "a"))
            assert server.loaded() == {}


class TestSharing:
    def test_requests_together_write_what_each_writes_alone(self, idle: RunningServer) -> None:
        requests = [(model, f"{word} and") for model in "abc" for word in ("Once", "Why", "The")]
        alone = [written(ask(idle, *request)) for request in requests]
        assert len(set(alone)) == len(requests)
        with ThreadPoolExecutor(len(requests)) as pool:
            together = [pool.submit(ask, idle, *request) for request in requests]
        assert [written(answer.result()) for answer in together] == alone
        assert sorted(idle.loaded()) == ["a:latest", "b:latest", "c:latest"]

    def test_a_cold_model_is_loaded_once_for_all(self, idle: RunningServer) -> None:
        before = set(runners_of(idle))
        with ThreadPoolExecutor(6) as pool:
            answers = [pool.submit(ask, idle, "a") for _ in range(6)]
        assert len({written(answer.result()) for answer in answers}) == 1
        assert len(set(runners_of(idle)) - before) == 1

    def test_as_many_as_num_parallel_write_at_once(self, idle: RunningServer) -> None:
        request = {"model": "a", "prompt": "x", "options": ENDLESS}
        with (
            idle.stream("/api/generate", **request) as first,
            idle.stream("/api/generate", **request) as second,
        ):
            for lines in (first, second, first, second):
                assert next(lines)["response"]

    def test_others_wait_and_beyond_max_queue_are_turned_away(
        self, tmp_path: Path, weights: list[Path]
    ) -> None:
        limits = {"OLLAMA_NUM_PARALLEL": "1", "OLLAMA_MAX_QUEUE": "1"}
        with serving(tmp_path, weights, **limits) as server, ThreadPoolExecutor(2) as pool:
            request = {"model": "a", "prompt": "x", "options": ENDLESS}
            with server.stream("/api/generate", **request) as lines:
                assert next(lines)["response"]
                asked = [pool.submit(ask, server, "a", options={**ENDLESS, **GREEDY}) for _ in "12"]
                done, waiting = wait(asked, return_when=FIRST_COMPLETED)
                (turned_away,) = (answer.result() for answer in done)
                assert turned_away.status == 503
                assert turned_away.json() == {
                    "error": "server busy, please try again.  maximum pending requests exceeded"
                }
                assert next(lines)["response"]
            (waited,) = (answer.result() for answer in waiting)
            assert written(waited)

    def test_one_model_makes_room_for_the_next(self, tmp_path: Path, weights: list[Path]) -> None:
        with serving(tmp_path, weights, OLLAMA_MAX_LOADED_MODELS="1") as server:
            texts = [written(ask(server, model)) for model in "ab"]
            assert list(server.loaded()) == ["b:latest"]
            with ThreadPoolExecutor(4) as pool:
                answers = [pool.submit(ask, server, model) for model in "abab"]
            assert [written(answer.result()) for answer in answers] == texts * 2
            assert len(server.loaded()) == 1
