"""``/api/tokenize`` and ``/api/detokenize``: a model's vocabulary without the model."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.checkpoints import CASES, convert_folder, write_checkpoint, write_tokenizer
from tests.support.models import write_model
from tests.support.server import RunningServer, running_server

TEXT = "Once upon a time, 🙂 café"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("tokenize")
    with running_server(folder) as server:
        server.add("tiny", write_model(folder / "tiny.gguf"))
        yield server


def tokens(server: RunningServer, content: str = TEXT, **request: Any) -> list[Any]:
    answer = server.post("/api/tokenize", model="tiny", content=content, **request)
    assert answer.status == 200, answer.text
    found: list[Any] = answer.json()["tokens"]
    return found


def refusal(server: RunningServer, path: str, **request: Any) -> tuple[int, str]:
    answer = server.post(path, **{"model": "tiny", **request})
    return answer.status, answer.json()["error"]


def test_a_text_becomes_tokens_and_a_text_again(server: RunningServer) -> None:
    found = tokens(server)
    assert found
    assert all(type(token) is int for token in found)
    answer = server.post("/api/detokenize", model="tiny", tokens=found).json()
    assert answer["content"] == answer["text"] == TEXT


def test_the_answer_tells_the_model_and_the_times(server: RunningServer) -> None:
    server.post("/api/generate", model="tiny", keep_alive=0)
    first = server.post("/api/tokenize", model="tiny", content="a").json()
    assert list(first) == ["model", "tokens", "total_duration", "load_duration"]
    assert first["model"] == "tiny"
    assert 0 < first["load_duration"] < first["total_duration"]
    assert server.post("/api/tokenize", model="tiny", content="a").json()["load_duration"] == 0


@pytest.mark.parametrize("field", ["text", "prompt"])
def test_the_names_of_other_servers_are_understood(field: str, server: RunningServer) -> None:
    answer = server.post("/api/tokenize", **{"model": "tiny", field: TEXT})
    assert answer.json()["tokens"] == tokens(server)


def test_special_tokens_are_added_only_if_asked_for(server: RunningServer) -> None:
    assert tokens(server, "Once", add_special=True) == [1, *tokens(server, "Once")]
    assert tokens(server, "Once")[0] != 1


def test_special_tokens_in_the_text_are_read_unless_forbidden(server: RunningServer) -> None:
    assert tokens(server, "</s>") == [2]
    assert 2 not in tokens(server, "</s>", parse_special=False)


def test_pieces_are_text_or_where_they_are_none_bytes(server: RunningServer) -> None:
    found = tokens(server, with_pieces=True)
    assert [piece["id"] for piece in found] == tokens(server)
    assert found[0]["piece"] == " Once"
    written = b"".join(
        piece["piece"].encode() if isinstance(piece["piece"], str) else bytes(piece["piece"])
        for piece in found
    )
    assert written.decode() == " " + TEXT
    assert [240] in [piece["piece"] for piece in found]


def test_nothing_is_no_tokens(server: RunningServer) -> None:
    assert tokens(server, "") == []
    assert server.post("/api/detokenize", model="tiny", tokens=[]).json()["content"] == ""


def test_keep_alive_counts_as_in_other_requests(server: RunningServer) -> None:
    tokens(server, keep_alive="1h")
    assert list(server.loaded()) == ["tiny:latest"]
    server.post("/api/detokenize", model="tiny", tokens=[5], keep_alive=0)
    server.post("/api/generate", model="tiny", keep_alive=0)
    assert server.loaded() == {}


@pytest.mark.parametrize("token", [-1, 512, 2**31, -(2**63), 2**63 - 1])
def test_a_number_that_is_no_token_is_refused(token: int, server: RunningServer) -> None:
    error = f"token {token} is not in the vocabulary, which has 512 tokens"
    assert refusal(server, "/api/detokenize", tokens=[5, token]) == (400, error)


@pytest.mark.parametrize("token", [2**63, 1.5, "5", None])
def test_what_is_no_whole_number_is_refused(token: Any, server: RunningServer) -> None:
    status, error = refusal(server, "/api/detokenize", tokens=[token])
    assert status == 400
    assert "DetokenizeRequest.tokens of type int" in error


def test_too_much_at_once_is_refused(server: RunningServer) -> None:
    most = 1 << 20
    assert refusal(server, "/api/detokenize", tokens=[5] * (most + 1)) == (
        400,
        f"tokens: {most + 1} were sent, at most {most} are read",
    )
    long = "a" * (most + 1)
    assert refusal(server, "/api/tokenize", content=long, with_pieces=True) == (
        400,
        f"content: the text has {most + 1} bytes, at most {most} are read",
    )
    assert len(tokens(server, long)) > most // 8


class TestModelsForEmbeddings:
    def test_have_a_vocabulary_too(self, server: RunningServer, tmp_path: Path) -> None:
        add_bert(server, tmp_path, "bert", {"cls_token": "[CLS]", "sep_token": "[SEP]"})
        request = {"model": "bert", "content": "a b"}
        plain = server.post("/api/tokenize", **request).json()["tokens"]
        around = server.post("/api/tokenize", **request, add_special=True).json()["tokens"]
        assert around == [1, *plain, 2]
        pieces = server.post("/api/tokenize", **request, with_pieces=True).json()["tokens"]
        assert [piece["id"] for piece in pieces] == plain

    def test_without_what_stands_around_a_text(self, server: RunningServer, tmp_path: Path) -> None:
        add_bert(server, tmp_path, "bare", {})
        assert server.post("/api/tokenize", model="bare", content="a b").status == 200
        answer = server.post("/api/tokenize", model="bare", content="a b", add_special=True)
        error = "this vocabulary lacks the tokens that a text begins and ends with"
        assert (answer.status, answer.json()) == (400, {"error": error})


def add_bert(server: RunningServer, folder: Path, name: str, special: dict[str, str]) -> None:
    model = write_checkpoint(folder / name, CASES["bert"])
    write_tokenizer(model, wordpiece=True)
    (model / "tokenizer_config.json").write_text(json.dumps(special))
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["added_tokens"] = [
        {"id": tokenizer["model"]["vocab"][text], "content": text, "special": True}
        for text in special.values()
    ]
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    server.add(name, convert_folder(model, folder / f"{name}.gguf"))


@pytest.mark.parametrize("path", ["/api/tokenize", "/api/detokenize"])
class TestWhatCanNotBe:
    def test_a_model_that_is_not_there(self, path: str, server: RunningServer) -> None:
        assert refusal(server, path, model="no") == (404, "model 'no' not found")

    def test_an_option_of_the_wrong_type(self, path: str, server: RunningServer) -> None:
        error = 'option "num_ctx" must be of type integer'
        assert refusal(server, path, options={"num_ctx": "x"}) == (400, error)
