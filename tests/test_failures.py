"""Clients that go away, runners that die, servers that end: who is hurt, and who is not."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import write_model
from tests.support.server import COMMAND, RunningServer, running_server, server_environment

CONTEXT = 8192
GREEDY = {"temperature": 0, "num_predict": 16}
#: Ten contexts of tokens: more than any test waits for.
ENDLESS = {"temperature": 0, "num_predict": -1}
#: A whole context, which the model with many layers reads for half a minute.
LONG_PROMPT = "Once upon a time there was a " * (CONTEXT // 7)
READS = re.compile(r"runner (\d+) reads a prompt")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("failures")
    write_model(folder / "slow.gguf", n_ctx=CONTEXT, n_layer=8)
    write_model(folder / "other.gguf", seed=1)
    write_model(folder / "bare.gguf", byte_tokens=False)
    return folder


@contextmanager
def serving(folder: Path, root: Path, **env: str) -> Iterator[RunningServer]:
    """A server with the models of ``folder`` in a store of its own."""
    with running_server(root, OLLAMA_CONTEXT_LENGTH=str(CONTEXT), **env) as server:
        for path in folder.glob("*.gguf"):
            server.add(path.stem, path)
        yield server


@pytest.fixture(scope="module")
def server(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with serving(folder, tmp_path_factory.mktemp("several")) as server:
        yield server


@pytest.fixture
def doomed(folder: Path, tmp_path: Path) -> Iterator[RunningServer]:
    """A server that a test may end."""
    with serving(folder, tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def single(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server whose models serve one request at a time, for whose end one other may wait."""
    limits = {"OLLAMA_NUM_PARALLEL": "1", "OLLAMA_MAX_QUEUE": "1"}
    with serving(folder, tmp_path_factory.mktemp("single"), **limits) as server:
        yield server


def asking(model: str, prompt: str = "Once", **fields: Any) -> dict[str, Any]:
    """A request that is good for generate and for chat."""
    messages = [{"role": "user", "content": prompt}]
    return {"model": model, "prompt": prompt, "messages": messages, "options": GREEDY, **fields}


def written(server: RunningServer, model: str) -> str:
    answer = server.post("/api/generate", **asking(model, stream=False))
    assert answer.status == 200, answer.text
    return str(answer.json()["response"])


def readers(server: RunningServer) -> list[int]:
    """The runner of each prompt that was read, by process id."""
    return [int(match[1]) for line in server.log if (match := READS.search(line))]


@contextmanager
def all_end(processes: Iterable[int]) -> Iterator[None]:
    """What happens within must make these processes end, also if they aren't our children."""
    descriptors = [os.pidfd_open(process) for process in processes]
    try:
        yield
        for descriptor in descriptors:
            ready, _, _ = select.select([descriptor], [], [], 30)
            assert ready, "a process goes on"
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class TestClientsThatGoAway:
    @pytest.mark.parametrize("stream", [True, False], ids=["streaming", "whole"])
    @pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
    @pytest.mark.parametrize("prompt", [LONG_PROMPT, "Once"], ids=["reading", "writing"])
    def test_their_work_stops_at_once(
        self, prompt: str, path: str, stream: bool, single: RunningServer
    ) -> None:
        text = written(single, "slow")
        seen = len(readers(single))
        body = asking("slow", prompt, options=ENDLESS, stream=stream)
        with single.sent(path, **body) as connection:
            single.wait_for_log("reads a prompt", count=seen + 1)
            if stream and prompt != LONG_PROMPT:
                assert connection.getresponse().readline()
        next_one = single.post("/api/generate", **asking("slow", stream=False)).json()
        assert next_one["response"] == text
        assert next_one["total_duration"] < 5e9

    def test_their_places_in_the_queue_are_free_again(self, single: RunningServer) -> None:
        gone = sum("499 |" in line for line in single.log)
        with single.sent("/api/generate", **asking("slow", options=ENDLESS)) as running:
            assert running.getresponse().readline()
            seen = sum("a request waits" in line for line in single.log)
            with single.sent("/api/generate", **asking("slow")):
                single.wait_for_log("a request waits", count=seen + 1)
            single.wait_for_log("499 |", count=gone + 1)
            with single.sent("/api/generate", **asking("slow")) as waiting:
                single.wait_for_log("a request waits", count=seen + 2)
                running.close()
                assert waiting.getresponse().status == 200


class TestTextThatAModelCanNotRead:
    """llama.cpp aborts on a character for which the vocabulary has no token."""

    @pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
    @pytest.mark.parametrize("prompt", ["café 🙂", "\u0000", "日本"])
    def test_fails_alone(self, path: str, prompt: str, server: RunningServer) -> None:
        alone = written(server, "bare")
        with server.stream("/api/generate", **asking("bare", options=ENDLESS)) as lines:
            text = next(lines)["response"]
            refused = server.post(path, **asking("bare", prompt))
            while len(text) < len(alone):
                text += next(lines)["response"]
        assert text.startswith(alone)
        assert refused.status == 400
        assert "vocabulary has no token for the character" in refused.json()["error"]


class TestRunnersThatDie:
    def test_only_their_requests_fail_and_the_next_one_loads_anew(
        self, server: RunningServer
    ) -> None:
        texts = [written(server, model) for model in ("other", "slow")]
        body = asking("slow", options=ENDLESS)
        with (
            server.stream("/api/generate", **body) as lines,
            server.stream("/api/chat", **body) as talk,
        ):
            assert next(lines)["response"]
            assert next(talk)["message"]["content"]
            os.kill(readers(server)[-1], signal.SIGKILL)
            for *_, last in (lines, talk):
                assert list(last) == ["error"]
                assert last["error"].startswith("model runner has unexpectedly stopped")
                assert "killed by SIGKILL" in last["error"]
        assert "slow:latest" not in server.loaded()
        assert [written(server, model) for model in ("other", "slow")] == texts

    def test_before_the_first_text_the_status_tells(self, server: RunningServer) -> None:
        for stream in (True, False):
            body = asking("slow", LONG_PROMPT, stream=stream)
            seen = len(readers(server))
            with server.sent("/api/generate", **body) as connection:
                server.wait_for_log("reads a prompt", count=seen + 1)
                os.kill(readers(server)[-1], signal.SIGKILL)
                answer = connection.getresponse()
                assert answer.status == 500
                assert b"model runner has unexpectedly stopped" in answer.read()


class TestModelsThatAreNotSound:
    """Files that are GGUF but describe no model that llama.cpp can run."""

    @pytest.mark.parametrize(
        ("metadata", "error"),
        [
            ({"llama.block_count": 3}, "tensor 'blk.2.attn_norm.weight' not found"),
            ({"tokenizer.ggml.model": "nonsense"}, "unknown tokenizer: 'nonsense'"),
            ({"llama.expert_count": 8}, "killed by SIGABRT"),
            ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "killed by SIGABRT"),
            ({"llama.vocab_size": 2**31 - 1}, "model requires more system memory"),
            ({"llama.context_length": "long"}, "is of type string, expected int"),
            ({"tokenizer.chat_template": "{% for"}, "chat template of the model: line 1"),
        ],
        ids=str,
    )
    def test_they_are_reported_and_harm_nobody(
        self, metadata: dict[str, Any], error: str, server: RunningServer, tmp_path: Path
    ) -> None:
        text = written(server, "other")
        server.add("unsound", write_model(tmp_path / "unsound.gguf", metadata=metadata))
        for path in ("/api/generate", "/api/chat"):
            answer = server.post(path, **asking("unsound"))
            assert answer.status == 500
            assert error in answer.json()["error"]
        assert written(server, "other") == text


class TestServersThatEnd:
    """While one request is written and the prompt of another is read."""

    @contextmanager
    def at_work(self, server: RunningServer) -> Iterator[tuple[Iterator[Any], HTTPConnection]]:
        with (
            server.stream("/api/generate", **asking("slow", options=ENDLESS)) as lines,
            server.sent("/api/chat", **asking("slow", LONG_PROMPT, stream=False)) as whole,
        ):
            assert next(lines)["response"]
            server.wait_for_log("reads a prompt", count=2)
            yield lines, whole

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
    def test_a_signal_ends_everything_in_order(
        self, number: signal.Signals, doomed: RunningServer
    ) -> None:
        with self.at_work(doomed) as (lines, whole), all_end(doomed.children()):
            doomed.process.send_signal(number)
            *_, last = lines
            assert list(last) == ["error"]
            assert whole.getresponse().status == 500
            assert doomed.process.wait(30) == 0
        assert not [line for line in doomed.log if "ERROR" in line or "Traceback" in line]

    def test_also_while_a_model_is_loaded(self, doomed: RunningServer) -> None:
        with doomed.sent("/api/generate", model="slow") as connection:
            doomed.wait_for_log("a request waits for slow")
            with all_end(doomed.children()):
                doomed.process.send_signal(signal.SIGTERM)
                assert connection.getresponse().status in (200, 500, 503)
                assert doomed.process.wait(30) == 0

    def test_a_killed_server_leaves_no_runners(self, doomed: RunningServer) -> None:
        with self.at_work(doomed):
            assert doomed.children()
            with all_end(doomed.children()):
                doomed.process.kill()


def test_a_port_in_use_is_reported(tmp_path: Path) -> None:
    with running_server(tmp_path) as server:
        environ = server_environment(tmp_path, OLLAMA_HOST=server.host)
        second = subprocess.run(COMMAND, env=environ, capture_output=True, text=True, check=False)
        assert second.returncode == 1
        assert second.stderr == f"Error: listen tcp {server.host}: bind: address already in use\n"
        assert server.request("GET", "/").text == "Ollama is running"
