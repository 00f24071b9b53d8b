"""Every answer has an id, and every log line that belongs to its request has the same."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator

import pytest

from tests.support.models import write_model
from tests.support.server import RunningServer, running_server

MADE = re.compile(r"[0-9a-f]{16}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("ids")
    with running_server(folder) as server:
        server.add("tiny", write_model(folder / "tiny.gguf"))
        yield server


def id_of(server: RunningServer, path: str = "/", given: str | None = None) -> str:
    headers = {} if given is None else {"X-Request-Id": given}
    return server.request("GET", path, None, headers).headers["x-request-id"]


def test_a_well_formed_id_is_taken(server: RunningServer) -> None:
    for given in ("a", "req_0f1.2-3", "x" * 64, "trace:1/span=2+3"):
        assert id_of(server, given=given) == given


@pytest.mark.parametrize("given", [None, "", "x" * 65, "a b", 'a"b', "é", "a,b", "a\tb"])
def test_otherwise_one_is_made(given: str | None, server: RunningServer) -> None:
    first, second = id_of(server, given=given), id_of(server, given=given)
    assert MADE.fullmatch(first)
    assert first != second


@pytest.mark.parametrize(
    ("method", "path", "body", "headers"),
    [
        ("GET", "/nothing", None, {}),
        ("GET", "/api/tags/", None, {}),
        ("POST", "/api/tags", None, {}),
        ("POST", "/api/generate", b"{", {}),
        ("GET", "/api/tags", None, {"Host": "evil.example"}),
        ("OPTIONS", "/api/chat", None, {"Origin": "http://localhost"}),
        ("POST", "/v1/chat/completions", b"{}", {}),
        ("HEAD", "/", None, {}),
    ],
)
def test_refusals_have_one_too(
    method: str, path: str, body: bytes | None, headers: dict[str, str], server: RunningServer
) -> None:
    answer = server.request(method, path, body, headers | {"X-Request-Id": "mine"})
    assert answer.headers["x-request-id"] == "mine"


def test_the_lines_of_a_request_can_be_found(server: RunningServer) -> None:
    body = {"model": "tiny", "prompt": "Once", "options": {"num_predict": 2}}
    for name in ("first", "second"):
        server.request("POST", "/api/generate", body, {"X-Request-Id": name})
    server.wait_for_log("request=second", 3)
    for name in ("first", "second"):
        lines = [line for line in server.log if f"request={name}" in line]
        assert len(lines) == 3
        assert "a request waits for tiny" in lines[0]
        assert "reads a prompt" in lines[1]
        assert "POST '/api/generate'" in lines[2]


def test_what_outlives_a_request_has_no_id(server: RunningServer) -> None:
    body = {"model": "tiny", "keep_alive": 0}
    server.request("POST", "/api/generate", {"model": "tiny"}, {"X-Request-Id": "loads"})
    server.request("POST", "/api/generate", body, {"X-Request-Id": "unloads"})
    runners = [line for line in server.log if "source=runner " in line]
    assert runners
    assert not any("request=" in line for line in runners)


@pytest.mark.anyio
async def test_requests_at_the_same_time_keep_theirs(server: RunningServer) -> None:
    names = [f"together-{n}" for n in range(8)]
    asks = [asyncio.to_thread(id_of, server, "/api/version", name) for name in names]
    assert await asyncio.gather(*asks) == names
