"""Clients that people use, against the real server: Ollama's own Python package, and curl."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import ollama
import pytest

from llamaherd.version import OLLAMA_VERSION
from tests.support.models import write_model
from tests.support.server import RunningServer, running_server

OPTIONS = {"temperature": 0, "num_predict": 12}
HELLO = [{"role": "user", "content": "Once upon a time"}]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("weights") / "tiny.gguf")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, weights: Path) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("clients")) as server:
        server.add("tiny", weights)
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[ollama.Client]:
    with ollama.Client(host=server.host) as client:
        yield client


class TestPythonPackage:
    def test_generate(self, client: ollama.Client) -> None:
        whole = client.generate("tiny", "Once upon a time", options=OPTIONS)
        assert (whole.done, whole.done_reason, whole.eval_count) == (True, "length", 12)
        pieces = list(client.generate("tiny", "Once upon a time", options=OPTIONS, stream=True))
        assert "".join(piece.response or "" for piece in pieces) == whole.response != ""
        assert pieces[-1].context == whole.context

    def test_chat(self, client: ollama.Client) -> None:
        whole = client.chat("tiny", HELLO, options=OPTIONS)
        assert whole.message.role == "assistant"
        pieces = list(client.chat("tiny", HELLO, options=OPTIONS, stream=True))
        assert "".join(piece.message.content or "" for piece in pieces) == whole.message.content
        follow_up = ollama.Message(role="user", content="and then?")
        talk = [ollama.Message.model_validate(HELLO[0]), whole.message, follow_up]
        assert client.chat("tiny", talk, options=OPTIONS).message.content

    def test_log_probabilities(self, client: ollama.Client) -> None:
        whole = client.generate("tiny", "Once", options=OPTIONS, logprobs=True, top_logprobs=2)
        told = whole.logprobs or []
        assert "".join(token.token for token in told) == whole.response
        assert all(len(token.top_logprobs or []) == 2 for token in told)
        assert all((token.top_logprobs or [])[0].logprob == token.logprob for token in told)
        talk = client.chat("tiny", HELLO, options=OPTIONS, logprobs=True, stream=True)
        *pieces, end = talk
        for piece in pieces:
            tokens = "".join(token.token for token in piece.logprobs or [])
            assert tokens == piece.message.content
        assert not end.logprobs
        unasked = client.generate("tiny", "Once", options=OPTIONS, top_logprobs=2)
        assert unasked.logprobs is None

    def test_a_stream_may_be_left(self, client: ollama.Client) -> None:
        for piece in client.generate("tiny", "Once", options={"num_predict": -1}, stream=True):
            assert piece.response
            break
        assert client.generate("tiny", "Once", options=OPTIONS).eval_count == 12

    def test_models_are_made_listed_shown_copied_and_deleted(
        self, client: ollama.Client, weights: Path
    ) -> None:
        digest = client.create_blob(weights)
        steps = client.create("made", files={"made.gguf": digest}, stream=True)
        assert [step.status for step in steps][-1] == "success"
        made = client.create(
            "taught",
            from_="made",
            system="You are Mario.",
            template="{{ .System }} {{ .Prompt }}",
            license="MIT",
            parameters={"temperature": 0, "stop": ["\n", "END"]},
            messages=[{"role": "user", "content": "hi"}],
        )
        assert made.status == "success"
        shown = client.show("taught")
        assert shown.template == "{{ .System }} {{ .Prompt }}"
        assert shown.license == "MIT"
        assert sorted((shown.parameters or "").splitlines()) == [
            'stop                           "END"',
            'stop                           "\\n"',
            "temperature                    0",
        ]
        assert shown.capabilities == ["completion"]
        assert shown.modelinfo is not None
        assert shown.modelinfo["general.architecture"] == "llama"
        assert client.copy("taught", "copied").status == "success"
        listed = {model.model: model for model in client.list().models}
        assert listed.keys() == {"tiny:latest", "made:latest", "taught:latest", "copied:latest"}
        copied = listed["copied:latest"]
        assert copied.digest == listed["taught:latest"].digest
        assert copied.size is not None
        assert copied.size > weights.stat().st_size
        assert copied.details is not None
        assert copied.details.family == "llama"
        for name in ("made", "taught", "copied"):
            assert client.delete(name).status == "success"
        assert [model.model for model in client.list().models] == ["tiny:latest"]

    def test_ps(self, client: ollama.Client) -> None:
        client.generate("tiny", keep_alive="1h")
        (running,) = client.ps().models
        assert running.name == "tiny:latest"
        assert running.size is not None
        assert running.expires_at is not None
        client.generate("tiny", keep_alive=0)
        assert client.ps().models == []

    def test_errors_have_their_status_and_text(self, client: ollama.Client, tmp_path: Path) -> None:
        with pytest.raises(ollama.ResponseError, match="model 'nothing' not found") as error:
            client.chat("nothing", HELLO)
        assert error.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match="model 'nothing' not found") as error:
            list(client.generate("nothing", "hi", stream=True))
        assert error.value.status_code == 404
        with pytest.raises(ollama.ResponseError, match="model 'nothing' not found"):
            client.delete("nothing")
        broken = tmp_path / "broken.gguf"
        broken.write_bytes(b"no model at all")
        files = {"broken.gguf": client.create_blob(broken)}
        with pytest.raises(ollama.ResponseError, match="not in GGUF format") as error:
            client.create("broken", files=files)
        assert error.value.status_code == 400
        with pytest.raises(ollama.ResponseError, match="not in GGUF format"):
            list(client.create("broken", files=files, stream=True))

    @pytest.mark.anyio
    async def test_asynchronously(self, server: RunningServer, client: ollama.Client) -> None:
        expected = client.generate("tiny", "Once upon a time", options=OPTIONS).response
        async with ollama.AsyncClient(host=server.host) as remote:
            whole = await remote.generate("tiny", "Once upon a time", options=OPTIONS)
            assert whole.response == expected
            stream = await remote.generate("tiny", "Once upon a time", options=OPTIONS, stream=True)
            assert "".join([piece.response or "" async for piece in stream]) == expected
            talk = await remote.chat("tiny", HELLO, options=OPTIONS)
            talking = await remote.chat("tiny", HELLO, options=OPTIONS, stream=True)
            pieces = [piece.message.content or "" async for piece in talking]
            assert "".join(pieces) == talk.message.content
            assert [model.model for model in (await remote.list()).models] == ["tiny:latest"]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
class TestCurl:
    @staticmethod
    def curl(server: RunningServer, path: str, *arguments: str) -> str:
        command = ["curl", "--silent", "--show-error", *arguments, f"http://{server.host}{path}"]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
        return done.stdout

    def test_generate_streams_lines(self, server: RunningServer) -> None:
        request = json.dumps({"model": "tiny", "prompt": "Once", "options": OPTIONS})
        lines = self.curl(server, "/api/generate", "-d", request).splitlines()
        assert [json.loads(line)["done"] for line in lines] == [False] * (len(lines) - 1) + [True]

    def test_chat_answers_at_once(self, server: RunningServer) -> None:
        request = {"model": "tiny", "messages": HELLO, "stream": False, "options": OPTIONS}
        answer = json.loads(self.curl(server, "/api/chat", "-d", json.dumps(request)))
        assert answer["message"]["role"] == "assistant"

    def test_the_documented_requests_without_a_body(self, server: RunningServer) -> None:
        assert self.curl(server, "/") == "Ollama is running"
        assert json.loads(self.curl(server, "/api/version"))["version"] == OLLAMA_VERSION
        assert "tiny:latest" in self.curl(server, "/api/tags")
        assert "models" in self.curl(server, "/api/ps")
        assert "200 OK" in self.curl(server, "/", "--head")

    def test_a_blob_is_uploaded_as_documented(
        self, server: RunningServer, weights: Path, tmp_path: Path
    ) -> None:
        file = tmp_path / "large.bin"
        file.write_bytes(bytes(3 << 20))
        digest = subprocess.run(
            ["sha256sum", str(file)], capture_output=True, text=True, check=True
        ).stdout.split()[0]
        status = ("--output", "/dev/null", "--write-out", "%{http_code}")
        upload = ("-T", str(file), "-X", "POST", *status)
        assert self.curl(server, f"/api/blobs/sha256:{digest}", *upload) == "201"
        assert self.curl(server, f"/api/blobs/sha256:{digest}", "--head", *status) == "200"

    def test_a_host_that_is_not_ours_is_turned_away(self, server: RunningServer) -> None:
        status = ("--output", "/dev/null", "--write-out", "%{http_code}")
        assert self.curl(server, "/api/tags", "-H", "Host: evil.example", *status) == "403"
        assert self.curl(server, "/api/tags", "-H", "Origin: http://evil.example", *status) == "403"
