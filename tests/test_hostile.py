"""A server under attack: no request stops it from answering others, whatever its size or shape."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamaherd.options import OPTIONS
from llamaherd.server.protocol import MAX_HEAD
from tests.support.models import write_model
from tests.support.server import RunningServer, running_server

#: Within this, in seconds, a server that isn't held up answers, also on a busy machine.
SOON: Final = 2.0

TOOLS: Final = "{{ range .Tools }}{{ . }}{{ end }}{{ range .Messages }}{{ .Content }}{{ end }}"


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("hostile")
    with running_server(folder) as server:
        server.add("tiny", write_model(folder / "tiny.gguf"), template=TOOLS)
        yield server


@pytest.fixture
def server(live: RunningServer) -> Iterator[RunningServer]:
    """The server, which must still write after each test and have met nothing unforeseen."""
    yield live
    answer = live.post("/api/generate", model="tiny", prompt="hi", options={"num_predict": 1})
    assert answer.lines()[-1]["eval_count"] == 1
    assert not [line for line in live.log if "internal error" in line or "Traceback" in line]


@contextmanager
def others_are_served(server: RunningServer) -> Iterator[None]:
    """Ask for the version again and again meanwhile: each answer must come soon."""
    over = threading.Event()
    slowest = 0.0

    def ask() -> None:
        nonlocal slowest
        while not over.wait(0.02):
            started = time.monotonic()
            assert server.request("GET", "/api/version").status == 200
            slowest = max(slowest, time.monotonic() - started)

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        over.set()
        asking.join()
    assert slowest < SOON


def send(server: RunningServer, *pieces: bytes) -> bytes:
    """Send raw bytes, as far as the server takes them; the beginning of what it says."""
    host, _, port = server.host.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        try:
            for piece in pieces:
                connection.sendall(piece)
            connection.shutdown(socket.SHUT_WR)
            return connection.recv(4096)
        except ConnectionError:
            return b""


# --- below the routes -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "pieces",
    [
        [b"GET / HTTP/1.1\r\nX: ", *[b"a" * 65536] * 64],
        [b"GET / HTTP/1.1\r\n", *[b"X: aaaaaaaaaaaa\r\n" * 4096] * 64],
        [
            b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"2\r\n{}\r\n0\r\n",
            *[b"X: aaaaaaaaaaaa\r\n" * 4096] * 64,
        ],
    ],
    ids=["one header", "many headers", "many trailers"],
)
def test_a_head_without_end_is_cut_off(pieces: list[bytes], server: RunningServer) -> None:
    assert sum(map(len, pieces)) > 3 * MAX_HEAD
    with others_are_served(server):
        answer = send(server, *pieces)
    assert answer == b"" or answer.startswith(b"HTTP/1.1 431 ")


def test_a_body_is_no_head(server: RunningServer) -> None:
    prompt = "a" * (2 * MAX_HEAD)
    answer = server.post("/api/show", model="tiny", system=prompt)
    assert answer.json()["system"] == prompt


def test_a_body_that_breaks_off_is_no_news_for_the_log(server: RunningServer) -> None:
    head = b"POST /api/show HTTP/1.1\r\nHost: localhost\r\nContent-Length: 500\r\n\r\n"
    before = len(server.log)
    assert send(server, head, b'{"model": "tiny"}') == b""
    server.wait_for_log(
        "'/api/show'", sum("'/api/show'" in line for line in server.log[:before]) + 1
    )
    assert not [line for line in server.log[before:] if "ERROR" in line]


@pytest.mark.parametrize("tail", ["x%0d%0aX-Evil:1", "%E2%82%AC", "%00", '"><script>'])
def test_a_redirect_repeats_no_more_than_a_header_may_hold(
    tail: str, server: RunningServer
) -> None:
    request = f"HEAD /api/blobs/{tail}/ HTTP/1.1\r\nHost: localhost\r\n\r\n"
    answer = send(server, request.encode())
    assert answer.startswith(b"HTTP/1.1 307 ")
    assert b"\r\nX-Evil" not in answer
    assert b"<script" not in answer


# --- bodies and templates that take long ------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b'{"prompt": "' + b"a" * (20 << 20), "unexpected EOF"),
        (b'{"context": [' + b"1," * (1 << 20) + b"x", "invalid character 'x'"),
        (b'{"prompt": "' + b"a" * (20 << 20) + b'\\ud800"}', "model '' not found"),
    ],
    ids=["broken text", "broken list", "lone surrogate"],
)
def test_a_long_body_holds_nobody_up(body: bytes, error: str, server: RunningServer) -> None:
    with others_are_served(server):
        answer = server.request("POST", "/api/generate", body)
    assert answer.json()["error"].startswith(error)


@pytest.mark.parametrize(
    "template",
    ["{{1" + "|print" * 20_000 + "}}", "{{." + "A." * 100_000 + "A}}", "{{range 9999999}}{{end}}"],
    ids=["pipeline", "fields", "range"],
)
def test_a_template_holds_nobody_up(template: str, server: RunningServer) -> None:
    with others_are_served(server):
        server.post("/api/generate", model="tiny", prompt="hi", template=template, stream=False)


def test_a_conversation_of_many_messages_holds_nobody_up(server: RunningServer) -> None:
    messages = [{"role": "user", "content": ""}] * 50_000
    with others_are_served(server):
        answer = server.post(
            "/api/chat",
            model="tiny",
            messages=messages,
            options={"num_predict": 1},
            stream=False,
        )
    assert answer.json()["done"]


# --- any JSON -------------------------------------------------------------------------------

TEXT: Final = st.text(max_size=8) | st.sampled_from(
    ["", "tiny", "../x", "\0", "\ud800", "{{", "user", "5m", "9" * 5_000 + "s", "a" * 300 + "/b/c"]
)
NUMBERS: Final = (
    st.integers(-3, 3) | st.sampled_from([2**31, 2**63, 2**64, -(10**400), 10**400]) | st.floats()
)
LEAVES: Final = st.none() | st.booleans() | NUMBERS | TEXT
ANYTHING: Final = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
SMALL: Final = {"num_predict": 1, "num_ctx": 64}
#: Load options would have the model loaded anew for each request.
OPTION_VALUES: Final = st.dictionaries(
    st.sampled_from(sorted(name for name, option in OPTIONS.items() if not option.load)),
    LEAVES | st.lists(TEXT, max_size=2),
    max_size=3,
).map(lambda options: {**SMALL, **options})

SOUND: Final[dict[str, dict[str, Any]]] = {
    "/api/generate": {"model": "tiny", "prompt": "hi", "options": SMALL},
    "/api/chat": {"model": "tiny", "messages": [{"role": "user"}], "options": SMALL},
    "/api/show": {"model": "tiny"},
    "/api/create": {"model": "other", "from": "tiny"},
    "/api/copy": {"source": "tiny", "destination": "other"},
}
FIELDS: Final = (
    *("model", "prompt", "suffix", "system", "template", "context", "stream", "raw", "format"),
    *("images", "options", "think", "truncate", "shift", "messages", "tools"),
    *("_debug_render_only", "name", "verbose", "source", "destination", "from", "files"),
    *("adapters", "license", "parameters", "quantize"),
)


@pytest.mark.parametrize("path", sorted(SOUND))
@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    wrong=st.dictionaries(st.sampled_from(FIELDS), ANYTHING, max_size=2),
    options=st.none() | OPTION_VALUES,
)
def test_any_field_may_hold_anything(
    path: str, wrong: dict[str, Any], options: dict[str, Any] | None, server: RunningServer
) -> None:
    extra = {} if options is None else {"options": options}
    # Infinity and NaN go out as such, which is no JSON; lone surrogates as their escapes.
    body = json.dumps(SOUND[path] | extra | wrong)
    answer = server.request("POST", path, body.encode())
    assert answer.status in (200, 400, 404, 500)
    last = answer.lines()[-1] if answer.body else {}
    if answer.status != 200:
        assert list(last) == ["error"]
    assert "internal error" not in str(last.get("error", ""))


# --- a store that somebody has been at --------------------------------------------------------


def test_one_bad_manifest_does_not_keep_the_others_from_being_served(tmp_path: Path) -> None:
    manifests = tmp_path / ".ollama" / "models" / "manifests" / "registry.ollama.ai" / "library"
    for name in ("huge", "outside"):
        (manifests / name).mkdir(parents=True)
    (manifests / "huge" / "latest").write_bytes(bytes(5 << 20))
    (manifests / "outside" / "latest").symlink_to("/etc/hostname")
    with running_server(tmp_path) as server:
        server.add("tiny", write_model(tmp_path / "tiny.gguf"))
        answer = server.post("/api/generate", model="tiny", prompt="x", options={"num_predict": 1})
        assert answer.lines()[-1]["done"]
        models = server.request("GET", "/api/tags").json()["models"]
        assert [model["name"] for model in models] == ["tiny:latest"]
        for name in ("huge", "outside"):
            refused = server.post("/api/show", model=name)
            assert refused.status == 500
            assert str(manifests / name / "latest") in refused.json()["error"]
            assert server.request("DELETE", "/api/delete", {"model": name}).status == 200
