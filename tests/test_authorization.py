"""A server that asks for keys: who may do what, and that clients can show theirs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ollama
import openai
import pytest

from llamaherd.client import Client
from llamaherd.config import parse_address
from llamaherd.doctor.server import examine_server
from llamaherd.errors import ServerError
from tests.support import cli
from tests.support.models import write_model
from tests.support.server import Answer, RunningServer, digest_of, running_server

ADMIN, READER = "administrators-key-0001", "inference-key-000000002"
OPTIONS: Any = {"temperature": 0, "num_predict": 4}
NOT_SHOWN = "an API key is needed: Authorization: Bearer KEY"
NOT_KNOWN = "this API key is not known here"
NOT_ENOUGH = "this API key is for inference, an administrator's is needed"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("keys")
    file = folder / "keys"
    file.write_text(f"inference:{READER}\n")
    weights = write_model(folder / "tiny.gguf")
    with running_server(folder, OLLAMA_API_KEYS=f"{ADMIN},@{file}") as server:
        digest = digest_of(weights.read_bytes())
        path = f"/api/blobs/{digest}"
        assert server.request("POST", path, weights.read_bytes(), bearer(ADMIN)).status == 201
        body = {"model": "tiny", "files": {"tiny.gguf": digest}}
        created = server.request("POST", "/api/create", body, bearer(ADMIN))
        assert created.lines()[-1] == {"status": "success"}
        yield server


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def ask(server: RunningServer, key: str, method: str = "GET", path: str = "/api/tags") -> Answer:
    return server.request(method, path, {} if method != "GET" else None, bearer(key))


class TestWithoutAKey:
    def test_only_whether_the_server_runs_is_told(self, server: RunningServer) -> None:
        assert server.request("GET", "/").text == "Ollama is running"
        assert server.request("HEAD", "/").status == 200
        for path in ("/api/tags", "/api/version", "/v1/models", "/metrics", "/nothing"):
            assert server.request("GET", path).status == 401, path

    def test_preflights_are_answered(self, server: RunningServer) -> None:
        headers = {"Origin": "http://localhost:3000", "Access-Control-Request-Method": "POST"}
        answer = server.request("OPTIONS", "/api/chat", None, headers)
        assert answer.status == 204
        assert "Authorization" in answer.headers["access-control-allow-headers"]

    def test_pages_may_read_the_refusal(self, server: RunningServer) -> None:
        answer = server.request("GET", "/api/tags", None, {"Origin": "http://localhost:3000"})
        assert answer.status == 401
        assert answer.headers["access-control-allow-origin"] == "http://localhost:3000"

    def test_the_refusal_comes_before_the_body_is_read(self, server: RunningServer) -> None:
        assert server.request("POST", "/api/create", b"{").status == 401


class TestRefusals:
    """In the shape of the interface that was asked, with what is wrong in WWW-Authenticate."""

    @pytest.mark.parametrize(
        ("headers", "message", "challenge"),
        [
            ({}, NOT_SHOWN, "Bearer"),
            ({"Authorization": "Basic Zm9vOmJhcg=="}, NOT_SHOWN, "Bearer"),
            (bearer("wrong"), NOT_KNOWN, 'Bearer error="invalid_token"'),
            (bearer(""), NOT_KNOWN, 'Bearer error="invalid_token"'),
            ({"X-Api-Key": "wrong"}, NOT_KNOWN, 'Bearer error="invalid_token"'),
        ],
    )
    def test_of_ollama(
        self, headers: dict[str, str], message: str, challenge: str, server: RunningServer
    ) -> None:
        answer = server.request("GET", "/api/tags", None, headers)
        assert (answer.status, answer.json()) == (401, {"error": message})
        assert answer.headers["www-authenticate"] == challenge

    def test_of_openai(self, server: RunningServer) -> None:
        answer = server.request("GET", "/v1/models")
        assert answer.json()["error"] == {
            "message": NOT_SHOWN,
            "type": "invalid_request_error",
            "param": None,
            "code": "invalid_api_key",
        }

    def test_of_anthropic(self, server: RunningServer) -> None:
        answer = server.request("POST", "/v1/messages/count_tokens", {})
        assert answer.json() == {
            "type": "error",
            "error": {"type": "authentication_error", "message": NOT_SHOWN},
            "request_id": answer.headers["x-request-id"],
        }


class TestRoles:
    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("POST", "/api/create"),
            ("POST", "/api/pull"),
            ("POST", "/api/push"),
            ("POST", "/api/copy"),
            ("DELETE", "/api/delete"),
            ("POST", f"/api/blobs/sha256:{'0' * 64}"),
        ],
    )
    def test_a_key_for_inference_changes_nothing(
        self, method: str, path: str, server: RunningServer
    ) -> None:
        answer = ask(server, READER, method, path)
        assert (answer.status, answer.json()) == (403, {"error": NOT_ENOUGH})
        assert answer.headers["www-authenticate"] == 'Bearer error="insufficient_scope"'
        assert ask(server, ADMIN, method, path).status == 400

    @pytest.mark.parametrize("key", [ADMIN, READER])
    @pytest.mark.parametrize(
        "path", ["/api/tags", "/api/ps", "/api/version", "/v1/models", "/metrics", "/openapi.json"]
    )
    def test_both_kinds_see_what_there_is(self, path: str, key: str, server: RunningServer) -> None:
        assert ask(server, key, path=path).status == 200
        assert server.request("GET", path, None, {"X-Api-Key": key}).status == 200

    def test_the_scheme_is_written_in_any_case(self, server: RunningServer) -> None:
        headers = {"authorization": f"bearer  {READER}"}
        assert server.request("GET", "/api/tags", None, headers).status == 200


class TestClients:
    def test_ollama_s_package_shows_its_environment_s_key(
        self, server: RunningServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("OLLAMA_API_KEY", READER)
        with ollama.Client(host=server.host) as client:
            assert client.generate("tiny", "Once", options=OPTIONS).eval_count == 4
            with pytest.raises(ollama.ResponseError, match=NOT_ENOUGH) as error:
                client.copy("tiny", "other")
        assert error.value.status_code == 403

    def test_openai_s_package(self, server: RunningServer) -> None:
        base = f"http://{server.host}/v1"
        with openai.OpenAI(base_url=base, api_key=READER) as client:
            answer = client.completions.create(model="tiny", prompt="Once", max_tokens=4)
            assert answer.usage is not None
            assert answer.usage.completion_tokens == 4
        with (
            openai.OpenAI(base_url=base, api_key="wrong") as client,
            pytest.raises(openai.AuthenticationError, match=NOT_KNOWN) as error,
        ):
            client.models.list()
        assert error.value.code == "invalid_api_key"

    def test_our_command_line(self, server: RunningServer) -> None:
        environment = {"OLLAMA_HOST": server.host}
        refused = cli.ollama("list", environment=environment)
        assert refused == (1, "", f"Error: {NOT_SHOWN}\n")
        version = cli.ollama("--version", environment=environment).stdout
        assert version.startswith(f"Warning: the server didn't tell its version: {NOT_SHOWN}\n")
        listed = cli.ollama("list", environment=environment | {"OLLAMA_API_KEY": READER})
        assert listed.code == 0
        assert "tiny:latest" in listed.stdout

    def test_our_client(self, server: RunningServer) -> None:
        with pytest.raises(ServerError, match=NOT_KNOWN):
            Client(parse_address(server.host), "wrong").models()
        assert Client(parse_address(server.host), ADMIN).models()

    def test_the_doctor_says_what_to_do(self, server: RunningServer) -> None:
        address = parse_address(server.host)
        assert not examine_server(address, READER).problems
        for key, words in (("", "wants an API key"), ("wrong", "knows no such API key")):
            (problem,) = examine_server(address, key).problems
            assert words in problem.text
            assert "OLLAMA_API_KEY" in problem.remedy


def test_no_key_is_ever_logged(server: RunningServer) -> None:
    ask(server, "some-unknown-key")
    ask(server, READER)
    log = "".join(server.log)
    assert not any(key in log for key in (ADMIN, READER, "some-unknown-key"))


def test_a_key_file_that_is_missing_keeps_the_server_from_starting(tmp_path: Path) -> None:
    environment = {"OLLAMA_HOST": "127.0.0.1:0", "OLLAMA_API_KEYS": f"@{tmp_path}/none"}
    outcome = cli.ollama("serve", environment=environment)
    assert outcome.code == 1
    assert re.search(r"^Error: OLLAMA_API_KEYS: can't read .*/none: .*No such file", outcome.stderr)


class TestAPublicAddress:
    WARNING = "anybody who reaches this address can use and change the models"

    @pytest.mark.parametrize(
        ("settings", "warned"),
        [
            ({"OLLAMA_HOST": "0.0.0.0:0"}, True),
            ({"OLLAMA_HOST": "0.0.0.0:0", "OLLAMA_API_KEYS": ADMIN}, False),
            ({"OLLAMA_HOST": "127.0.0.1:0"}, False),
        ],
    )
    def test_without_keys_is_warned_of_once(
        self, settings: dict[str, str], warned: bool, tmp_path: Path
    ) -> None:
        with running_server(tmp_path, **settings) as server:
            found = [line for line in server.log if self.WARNING in line]
        assert len(found) == warned
        assert all("level=WARN" in line for line in found)
