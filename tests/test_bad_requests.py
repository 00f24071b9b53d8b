"""Requests that can't be answered: each gets a clear error with its status, and the server goes on.

What the errors of Go's JSON decoder look like in detail is in ``test_gojson``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.models import write_model
from tests.support.server import RunningServer, running_server

POSTS = ("/api/generate", "/api/chat", "/api/show", "/api/create", "/api/copy")
HELLO = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("bad")
    with running_server(folder) as server:
        server.add("tiny", write_model(folder / "tiny.gguf"))
        yield server


@pytest.fixture
def server(live: RunningServer) -> Iterator[RunningServer]:
    """The server, which must still write the same after each test, with the same models."""
    yield live
    request = {"model": "tiny", "prompt": "hello", "options": {"num_predict": 2}}
    assert live.post("/api/generate", **request).lines()[-1]["eval_count"] == 2
    models = live.request("GET", "/api/tags").json()["models"]
    assert [model["name"] for model in models] == ["tiny:latest"]
    assert not any("internal error" in line for line in live.log)


def refusal(server: RunningServer, path: str, **request: Any) -> tuple[int, str]:
    answer = server.post(path, **request)
    error: dict[str, str] = answer.json()
    assert list(error) == ["error"]
    return answer.status, error["error"]


@pytest.mark.parametrize("path", POSTS)
@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"", "missing request body"),
        (b"{", "unexpected EOF"),
        (b"[]", "json: cannot unmarshal array into Go value of type"),
        (b'{"model": tiny}', "invalid character 'i' in literal true (expecting 'r')"),
        (b'{"model": NaN}', "invalid character 'N' looking for beginning of value"),
        (b"\xff\xfe\x00", "invalid character '\ufffd' looking for beginning of value"),
        (b"[" * 100_000, "exceeded max depth"),
        (b'{"a":' * 100_000, "exceeded max depth"),
    ],
    ids=lambda value: repr(value[:12]),
)
def test_malformed_json(path: str, body: bytes, error: str, server: RunningServer) -> None:
    answer = server.request("POST", path, body)
    assert answer.status == 400
    assert answer.json()["error"].startswith(error)


@pytest.mark.parametrize(
    ("path", "field", "value", "kind"),
    [
        ("/api/generate", "model", 5, "string"),
        ("/api/generate", "prompt", ["hi"], "string"),
        ("/api/generate", "stream", "no", "bool"),
        ("/api/generate", "raw", 1, "bool"),
        ("/api/generate", "options", [], "map[string]interface {}"),
        ("/api/generate", "context", "abc", "[]int"),
        ("/api/generate", "keep_alive", {}, "api.Duration"),
        ("/api/chat", "messages", {"role": "user"}, "[]api.Message"),
        ("/api/chat", "messages", ["hi"], "api.Message"),
        ("/api/chat", "tools", "none", "[]api.Tool"),
        ("/api/create", "files", ["m.gguf"], "map[string]string"),
        ("/api/create", "parameters", "num_ctx", "map[string]interface {}"),
        ("/api/copy", "source", True, "string"),
        ("/api/show", "verbose", "yes", "bool"),
    ],
)
def test_a_field_of_the_wrong_type(
    path: str, field: str, value: Any, kind: str, server: RunningServer
) -> None:
    status, error = refusal(server, path, **{"model": "tiny", field: value})
    assert status == 400
    assert error.startswith("json: cannot unmarshal")
    assert error.endswith(f"{field} of type {kind}")


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"num_ctx": -1}, "must be at least 0, not -1"),
        ({"num_ctx": 10**12}, "must be smaller, not 1000000000000"),
        ({"num_predict": -3}, "must be at least -2, not -3"),
        ({"num_batch": 0}, "must be at least 1, not 0"),
        ({"num_thread": 5000}, "must be between 0 and 4096, not 5000"),
        ({"temperature": -0.5}, "must be at least 0, not -0.5"),
        ({"mirostat": 3}, "must be between 0 and 2, not 3"),
        ({"seed": 2**63}, "must be smaller, not 9223372036854775808"),
    ],
    ids=str,
)
def test_an_option_that_can_not_be(
    options: dict[str, Any], error: str, server: RunningServer
) -> None:
    (name,) = options
    expected = (400, f'option "{name}" {error}')
    assert refusal(server, "/api/generate", model="tiny", prompt="x", options=options) == expected
    assert refusal(server, "/api/chat", model="tiny", messages=HELLO, options=options) == expected


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"num_ctx": "many"}, "type integer"),
        ({"num_predict": True}, "type integer"),
        ({"temperature": "hot"}, "type float32"),
        ({"use_mmap": 1}, "type boolean"),
        ({"stop": [1]}, "an array of strings"),
    ],
    ids=str,
)
def test_an_option_of_the_wrong_type_has_ollama_s_status(
    options: dict[str, Any], kind: str, server: RunningServer
) -> None:
    (name,) = options
    found = refusal(server, "/api/generate", model="tiny", prompt="x", options=options)
    assert found == (500, f'option "{name}" must be of {kind}')


def test_a_number_that_is_no_float_is_refused(server: RunningServer) -> None:
    body = b'{"model": "tiny", "prompt": "x", "options": {"temperature": 1e999}}'
    answer = server.request("POST", "/api/generate", body)
    assert answer.status == 400


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 5000])
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/api/generate", '{"model": "tiny", "prompt": "x", "options": {"unknown": N}}'),
        ("/api/generate", '{"model": "tiny", "prompt": "x", "context": [N]}'),
        ("/api/generate", '{"model": "tiny", "prompt": "x", "keep_alive": N}'),
        ("/api/generate", '{"model": "tiny", "prompt": "x", "format": {"minimum": N}}'),
        ("/api/chat", '{"model": "tiny", "tools": [{"function": {"parameters": N}}]}'),
        (
            "/api/chat",
            '{"model": "tiny", "messages": [{"role": "assistant", "tool_calls": '
            '[{"function": {"name": "f", "arguments": {"deep": [{"er": N}]}}}]}]}',
        ),
        ("/api/show", '{"model": "tiny", "options": {"unknown": N}}'),
        ("/api/create", '{"model": "new", "from": "tiny", "parameters": {"unknown": N}}'),
        ("/api/detokenize", '{"model": "tiny", "tokens": [N]}'),
        ("/v1/chat/completions", '{"model": "tiny", "messages": [], "n": N}'),
        ("/v1/completions", '{"model": "tiny", "prompt": [N]}'),
    ],
)
def test_a_number_that_go_could_not_hold_is_refused_wherever_it_stands(
    path: str, body: str, number: str, server: RunningServer
) -> None:
    answer = server.request("POST", path, body.replace("N", number))
    assert answer.status == 400
    assert "json: cannot unmarshal number" in answer.text
    assert "into Go value of type float64" in answer.text


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"keep_alive": "soon"}, 'time: invalid duration "soon"'),
        (
            {"think": "xhigh"},
            'invalid think value: "xhigh" (must be "high", "medium", "low", "max", true, or false)',
        ),
        (
            {"think": 1},
            'think must be a boolean or string ("high", "medium", "low", "max", true, or false)',
        ),
        ({"think": "max"}, "registry.ollama.ai/library/tiny:latest does not support thinking"),
        ({"context": [10**6]}, "context: token 1000000 is not in the vocabulary"),
        ({"context": [1, -1]}, "context: token -1 is not in the vocabulary"),
        ({"images": ["%%"]}, "images: illegal base64 data at input byte 0"),
        ({"suffix": "x"}, "registry.ollama.ai/library/tiny:latest does not support insert"),
        ({"think": True}, "registry.ollama.ai/library/tiny:latest does not support thinking"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs must be between 0 and 20"),
        ({"top_logprobs": -1}, "top_logprobs must be between 0 and 20"),
        ({"logprobs": 1}, "json: cannot unmarshal number into Go struct field"),
        ({"raw": True, "system": "x"}, "raw mode does not support template, system, or context"),
    ],
    ids=str,
)
def test_a_field_that_makes_no_sense(
    fields: dict[str, Any], error: str, server: RunningServer
) -> None:
    status, text = refusal(server, "/api/generate", model="tiny", prompt="x", **fields)
    assert (status, text[: len(error)]) == (400, error)


class TestTextsThatAreFarTooLong:
    TEXT = "one two three " * 1_000_000

    def test_a_prompt_is_refused_before_it_is_tokenized(self, server: RunningServer) -> None:
        error = f"the prompt has {len(self.TEXT)} bytes, at most {12 << 20} are read"
        found = refusal(server, "/api/generate", model="tiny", prompt=self.TEXT, raw=True)
        assert found == (400, error)

    def test_a_chat_loses_its_oldest_messages(self, server: RunningServer) -> None:
        talk = [{"role": "user", "content": self.TEXT}, {"role": "assistant", "content": "ok"}]
        request = {"model": "tiny", "stream": False, "options": {"num_predict": 2}}
        answer = server.post("/api/chat", messages=[*talk, *HELLO], **request)
        assert (answer.status, answer.json()["eval_count"]) == (200, 2)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "nothing",
        "tiny:other",
        "../../etc/passwd",
        "..",
        "/etc/passwd",
        "a/../tiny",
        "tiny:../latest",
        "tiny\u0000",
        "a//b",
        "a\\b",
        "http://a/b/c/d",
        "x" * 100_000,
    ],
    ids=lambda name: repr(name[:20]),
)
class TestNames:
    """Names that name nothing, also those that play tricks with paths."""

    @pytest.mark.parametrize("path", ["/api/generate", "/api/chat", "/api/show"])
    def test_can_not_be_used(self, path: str, name: str, server: RunningServer) -> None:
        status, error = refusal(server, path, model=name)
        assert status in (400, 404)
        assert error in (f"model '{name}' not found", "model is required")

    def test_can_not_be_deleted(self, name: str, server: RunningServer) -> None:
        answer = server.request("DELETE", "/api/delete", {"model": name})
        assert answer.status in (400, 404)
        assert answer.json()["error"] in (f"model '{name}' not found", f"name '{name}' is invalid")

    def test_can_not_be_copied(self, name: str, server: RunningServer) -> None:
        status, error = refusal(server, "/api/copy", source=name, destination="copy")
        assert status in (400, 404)
        assert error in (f'model "{name}" not found', f'source "{name}" is invalid')

    def test_can_not_be_built_on(self, name: str, server: RunningServer) -> None:
        # A good name would be pulled; nobody listens at this registry.
        base = f"127.0.0.1:1/library/{name}" if name in ("nothing", "tiny:other") else name
        status, _ = refusal(server, "/api/create", model="new", stream=False, **{"from": base})
        assert status in (400, 404, 500)
        assert server.post("/api/show", model="new").status == 404
