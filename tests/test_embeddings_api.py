"""Embeddings and rankings over HTTP, by a real server with tiny models."""

from __future__ import annotations

import base64
import json
import math
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.support.encoders import CONTEXT, RANK, WIDTH, spelled, write_encoder
from tests.support.models import write_model
from tests.support.server import Answer, RunningServer, running_server

LONG = "ab " * CONTEXT
TOO_LONG = "input length exceeds maximum context length"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("embeddings")


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with running_server(folder, OLLAMA_CONTEXT_LENGTH="2048") as server:
        server.add("letters", write_encoder(folder / "letters.gguf"))
        server.add("ranker", write_encoder(folder / "ranker.gguf", pooling=RANK))
        server.add("story", write_model(folder / "story.gguf", n_ctx=2048))
        yield server


def embed(server: RunningServer, given: Any, model: str = "letters", **request: Any) -> Any:
    """The vectors that ``/api/embed`` answers."""
    answer = server.post("/api/embed", model=model, input=given, **request)
    assert answer.status == 200, answer.text
    return answer.json()["embeddings"]


def error(answer: Answer, status: int = 400) -> str:
    assert answer.status == status, answer.text
    text: str = answer.json()["error"]
    return text


def close(one: list[float], other: list[float], tolerance: float = 1e-5) -> bool:
    return math.dist(one, other) < tolerance


class TestEmbed:
    def test_the_answer_has_vectors_and_figures(self, server: RunningServer) -> None:
        answer = server.post("/api/embed", model="letters", input=["abc d", "x"])
        reply = answer.json()
        assert list(reply) == [
            "model",
            "embeddings",
            "total_duration",
            "load_duration",
            "prompt_eval_count",
        ]
        assert reply["model"] == "letters"
        assert reply["prompt_eval_count"] == len(spelled("abc d")) + len(spelled("x"))
        assert [len(vector) for vector in reply["embeddings"]] == [WIDTH, WIDTH]
        assert all(close([math.hypot(*vector)], [1]) for vector in reply["embeddings"])

    def test_one_text_is_a_list_of_one(self, server: RunningServer) -> None:
        assert embed(server, "abc") == embed(server, ["abc"])

    @pytest.mark.parametrize("given", [None, "", []])
    def test_without_input_the_model_is_only_loaded(
        self, given: Any, server: RunningServer
    ) -> None:
        answer = server.post("/api/embed", model="letters", input=given, keep_alive="1h")
        assert answer.json() == {"model": "letters", "embeddings": []}
        assert "letters:latest" in server.loaded()

    def test_keep_alive_0_unloads_it_afterwards(self, server: RunningServer) -> None:
        embed(server, "abc", keep_alive=0)
        assert "letters:latest" not in server.loaded()

    @pytest.mark.parametrize("path", ["/api/generate", "/api/chat"])
    def test_it_is_unloaded_as_any_model_is(self, path: str, server: RunningServer) -> None:
        embed(server, "abc")
        answer = server.post(path, model="letters", keep_alive=0)
        assert answer.status == 200, answer.text
        assert answer.json()["done_reason"] == "unload"
        assert "letters:latest" not in server.loaded()

    def test_an_empty_text_in_a_list_is_embedded(self, server: RunningServer) -> None:
        assert len(embed(server, ["", "a"])) == 2

    def test_dimensions(self, server: RunningServer) -> None:
        whole, short = embed(server, "abc")[0], embed(server, "abc", dimensions=8)[0]
        length = math.hypot(*whole[:8])
        assert close(short, [number / length for number in whole[:8]])
        assert embed(server, "abc", dimensions=0)[0] == whole
        assert embed(server, "abc", dimensions=WIDTH)[0] == whole

    @pytest.mark.parametrize("dimensions", [-1, 65, 2**31, 10**30])
    def test_dimensions_that_no_vector_has(self, dimensions: int, server: RunningServer) -> None:
        answer = server.post("/api/embed", model="letters", input="a", dimensions=dimensions)
        assert answer.status == 400
        assert "dimensions" in error(answer)

    def test_what_is_too_long_is_cut(self, server: RunningServer) -> None:
        answer = server.post("/api/embed", model="letters", input=LONG)
        assert answer.json()["prompt_eval_count"] == CONTEXT
        shorter = server.post(
            "/api/embed", model="letters", input=LONG, options={"num_ctx": 32}
        ).json()
        assert shorter["prompt_eval_count"] == 32

    def test_or_refused(self, server: RunningServer) -> None:
        given = {"model": "letters", "truncate": False}
        assert error(server.post("/api/embed", **given, input=LONG)) == TOO_LONG
        answer = server.post("/api/embed", **given, input=["a", LONG])
        assert error(answer) == f"{TOO_LONG} (input 1)"

    def test_one_bad_input_may_fail_alone(self, server: RunningServer) -> None:
        answer = server.post(
            "/api/embed", model="letters", input=["a", LONG, "b"], truncate=False, partial=True
        )
        reply = answer.json()
        assert [vector is None for vector in reply["embeddings"]] == [False, True, False]
        assert reply["errors"] == [{"index": 1, "error": TOO_LONG}]
        assert embed(server, ["a", "b"]) == [reply["embeddings"][0], reply["embeddings"][2]]
        whole = server.post("/api/embed", model="letters", input="a", partial=True)
        assert whole.json()["errors"] == []

    def test_also_one_that_is_too_long_to_be_read(self, server: RunningServer) -> None:
        huge, request = "a" * ((12 << 20) + 1), {"model": "letters", "partial": True}
        too_long = "the text has 12582913 characters, at most 12582912 are read"
        reply = server.post("/api/embed", **request, truncate=False, input=[huge, "a", LONG, "b"])
        failed = [{"index": 0, "error": too_long}, {"index": 2, "error": TOO_LONG}]
        assert reply.json()["errors"] == failed
        one, other = embed(server, ["a", "b"])
        assert reply.json()["embeddings"] == [None, one, None, other]
        alone = server.post("/api/embed", **request, input=huge).json()
        assert (alone["embeddings"], alone["errors"]) == ([None], failed[:1])
        assert alone["prompt_eval_count"] == 0
        answer = server.post("/api/embed", model="letters", input=["a", huge])
        assert error(answer) == f"{too_long} (input 1)"

    @pytest.mark.parametrize("given", [5, {"text": "a"}])
    def test_what_is_no_text(self, given: Any, server: RunningServer) -> None:
        answer = server.post("/api/embed", model="letters", input=given)
        assert error(answer) == "invalid input type"

    @pytest.mark.parametrize(
        ("given", "index"), [(["a", 5], 1), ([["a"]], 0), ([1, 2], 0), (["a", "b", None], 2)]
    )
    def test_what_is_no_text_in_a_list(self, given: Any, index: int, server: RunningServer) -> None:
        answer = server.post("/api/embed", model="letters", input=given)
        assert error(answer) == f"invalid input type (input {index})"

    def test_too_many_inputs(self, server: RunningServer) -> None:
        answer = server.post("/api/embed", model="letters", input=["a"] * 16385)
        assert error(answer) == "input: at most 16384 inputs are taken, not 16385"

    def test_an_option_that_is_wrong(self, server: RunningServer) -> None:
        answer = server.post("/api/embed", model="letters", input="a", options={"num_ctx": "x"})
        assert answer.status == 500
        assert "num_ctx" in error(answer, 500)

    def test_a_model_is_required(self, server: RunningServer) -> None:
        assert error(server.post("/api/embed", input="a")) == "model is required"
        missing = server.post("/api/embed", model="nothing", input="a")
        assert error(missing, 404) == 'model "nothing" not found, try pulling it first'

    def test_requests_that_come_together_are_each_answered(self, server: RunningServer) -> None:
        texts = ["a", "bc", "def", "ghij"] * 10
        expected = dict(zip(texts[:4], embed(server, texts[:4]), strict=True))
        with ThreadPoolExecutor(10) as pool:
            found = list(pool.map(lambda text: embed(server, text)[0], texts))
        assert all(close(vector, expected[text]) for text, vector in zip(texts, found, strict=True))


class TestOlderEmbeddings:
    def test_the_vector_is_as_the_model_made_it(self, server: RunningServer) -> None:
        reply = server.post("/api/embeddings", model="letters", prompt="abc").json()
        assert list(reply) == ["embedding"]
        vector = reply["embedding"]
        length = math.hypot(*vector)
        assert abs(length - 1) > 0.1
        assert close([number / length for number in vector], embed(server, "abc")[0])

    def test_without_a_prompt_the_model_is_only_loaded(self, server: RunningServer) -> None:
        assert server.post("/api/embeddings", model="letters").json() == {"embedding": []}

    def test_errors(self, server: RunningServer) -> None:
        assert error(server.post("/api/embeddings", prompt="a")) == "model is required"
        wrong = server.post("/api/embeddings", model="letters", prompt=5)
        assert "cannot unmarshal number into Go struct field EmbeddingRequest.prompt" in error(
            wrong
        )


class TestOpenAI:
    @staticmethod
    def post(server: RunningServer, given: Any, **request: Any) -> Answer:
        return server.post("/v1/embeddings", model="letters", input=given, **request)

    def test_the_answer(self, server: RunningServer) -> None:
        answer = self.post(server, ["abc d", "x"], user="somebody")
        assert answer.headers["content-type"] == "application/json"
        reply = answer.json()
        assert list(reply) == ["object", "data", "model", "usage"]
        assert [list(item) for item in reply["data"]] == [["object", "embedding", "index"]] * 2
        assert [item["index"] for item in reply["data"]] == [0, 1]
        assert [item["embedding"] for item in reply["data"]] == embed(server, ["abc d", "x"])
        assert reply["usage"] == {"prompt_tokens": 9, "total_tokens": 9}

    def test_base64(self, server: RunningServer) -> None:
        plain = self.post(server, "abc").json()["data"][0]["embedding"]
        packed = self.post(server, "abc", encoding_format="base64").json()["data"][0]["embedding"]
        assert close(list(struct.unpack(f"<{WIDTH}f", base64.b64decode(packed))), plain, 1e-6)
        assert (
            self.post(server, "abc", encoding_format="float").json()["data"][0]["embedding"]
            == plain
        )

    def test_tokens(self, server: RunningServer) -> None:
        (text,) = embed(server, ["abc d"])
        tokens = spelled("abc d")
        for given, count in ((tokens, 1), ([tokens, tokens[1:-1]], 2)):
            data = self.post(server, given).json()["data"]
            assert len(data) == count
            assert all(close(item["embedding"], text) for item in data)

    def test_an_empty_text_is_embedded(self, server: RunningServer) -> None:
        assert len(self.post(server, "").json()["data"]) == 1

    def test_dimensions(self, server: RunningServer) -> None:
        assert len(self.post(server, "abc", dimensions=8).json()["data"][0]["embedding"]) == 8
        assert self.post(server, "abc", dimensions=65).status == 400

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            (None, "invalid input"),
            ([], "invalid input"),
            (5, "invalid input type"),
            ([1.5], "invalid input type"),
            ([[]], "invalid input type"),
            ([-1], "invalid input type"),
            ([999], "token 999 is not in the vocabulary"),
            ([[5], [999]], "which has 57 tokens (input 1)"),
        ],
    )
    def test_what_can_not_be_embedded(
        self, given: Any, message: str, server: RunningServer
    ) -> None:
        answer = self.post(server, given)
        assert answer.status == 400
        assert message in answer.json()["error"]["message"]

    def test_another_encoding(self, server: RunningServer) -> None:
        answer = self.post(server, "a", encoding_format="int8")
        assert answer.json()["error"] == {
            "message": "Invalid value for 'encoding_format' = int8. "
            "Supported values: ['float', 'base64'].",
            "type": "invalid_request_error",
            "param": None,
            "code": None,
        }


class TestGenerativeModels:
    def test_embed_too(self, server: RunningServer) -> None:
        one, other, same = embed(server, ["Once upon", "a dog", "Once upon"], "story")
        assert len(one) == 64
        assert close(one, same, 1e-4)
        assert not close(one, other, 0.1)

    def test_while_they_write(self, server: RunningServer) -> None:
        options = {"temperature": 0, "num_predict": 300}
        request = {"model": "story", "prompt": "Once", "options": options}
        alone = server.post("/api/generate", **request, stream=False).json()["response"]
        with server.stream("/api/generate", **request) as lines:
            text = next(lines)["response"]
            (vector,) = embed(server, "Once upon a time", "story")
            text += "".join(line["response"] for line in lines)
        assert text == alone
        assert close(vector, embed(server, "Once upon a time", "story")[0], 1e-4)

    def test_in_the_context_that_they_write_in(self, server: RunningServer) -> None:
        given = {"model": "story", "input": "Once upon a time " * 1000}
        assert server.post("/api/embed", **given).json()["prompt_eval_count"] == 2048
        assert error(server.post("/api/embed", **given, truncate=False)) == TOO_LONG

    def test_encoders_do_not_write(self, server: RunningServer) -> None:
        generate = server.post("/api/generate", model="letters", prompt="a")
        assert error(generate) == '"letters" does not support generate'
        chat = server.post(
            "/api/chat", model="letters", messages=[{"role": "user", "content": "a"}]
        )
        assert error(chat) == '"letters" does not support chat'

    def test_a_client_that_goes_away_stops_the_work(self, server: RunningServer) -> None:
        texts = ["Once upon a time there was a little girl named Lily. " * 100] * 400
        with server.sent("/api/embed", model="story", input=texts):
            server.wait_for_log("a request waits for story")
        embed(server, "Once", "story", options={"num_ctx": 64})
        assert server.loaded()["story:latest"]["context_length"] == 64


class TestRerank:
    DOCUMENTS = ("abc d", "xyz", "abc")

    def test_an_embedding_model_ranks_by_the_cosine(self, server: RunningServer) -> None:
        answer = server.post(
            "/api/rerank", model="letters", query="abc", documents=[*self.DOCUMENTS]
        )
        reply = answer.json()
        assert list(reply) == [
            "model",
            "results",
            "total_duration",
            "load_duration",
            "prompt_eval_count",
        ]
        vectors = embed(server, [*self.DOCUMENTS])
        query = vectors[2]
        cosines = {n: sum(map(float.__mul__, each, query)) for n, each in enumerate(vectors)}
        assert [result["index"] for result in reply["results"]] == sorted(
            cosines, key=lambda index: -cosines[index]
        )
        for result in reply["results"]:
            assert abs(result["relevance_score"] - cosines[result["index"]]) < 1e-5
        assert reply["results"][0]["index"] == 2

    def test_a_cross_encoder_by_its_own_score(self, server: RunningServer) -> None:
        answer = server.post("/v1/rerank", model="ranker", query="abc", documents=["d", "ef", "x"])
        reply = answer.json()
        assert list(reply) == ["object", "model", "results", "usage"]
        scores = [result["relevance_score"] for result in reply["results"]]
        assert scores == sorted(scores, reverse=True)
        assert all(0 < score < 1 for score in scores)
        assert len({round(score, 6) for score in scores}) == 3
        pairs = sum(len(spelled("abc")) + len(spelled(each)) - 1 for each in ("d", "ef", "x"))
        assert reply["usage"] == {"prompt_tokens": pairs, "total_tokens": pairs}

    def test_the_best_with_their_texts(self, server: RunningServer) -> None:
        answer = server.post(
            "/v1/rerank",
            model="letters",
            query="abc",
            documents=["xyz", {"text": "abc"}],
            top_n=1,
            return_documents=True,
        )
        (result,) = answer.json()["results"]
        assert result["document"] == {"text": "abc"}
        assert abs(result["relevance_score"] - 1) < 1e-5

    def test_a_ranker_does_not_embed(self, server: RunningServer) -> None:
        answer = server.post("/api/embed", model="ranker", input="a")
        assert "does not support embeddings" in error(answer)

    @pytest.mark.parametrize(
        ("request_", "message"),
        [
            ({"documents": ["a"]}, "query: expected"),
            ({"query": "a"}, "documents: expected"),
            ({"query": "a", "documents": []}, "documents: expected"),
            ({"query": "a", "documents": "a"}, "documents: expected"),
            ({"query": "a", "documents": ["a", 5]}, "documents[1]: expected"),
            ({"query": "a", "documents": ["a"], "top_n": 0}, "top_n: must be at least 1"),
            ({"query": "a", "documents": ["a"], "options": {"num_ctx": "x"}}, '"num_ctx" must be'),
            ({"query": LONG, "documents": ["a"], "model": "ranker"}, f"query: {TOO_LONG}"),
        ],
    )
    def test_what_is_wrong_is_named(
        self, request_: dict[str, Any], message: str, server: RunningServer
    ) -> None:
        request = {"model": "letters", **request_}
        assert message in error(server.post("/api/rerank", **request))
        answer = server.post("/v1/rerank", **request)
        assert answer.status == 400
        assert message in answer.json()["error"]["message"]


def test_broken_weights_give_an_error_and_no_json_that_is_none(
    server: RunningServer, folder: Path
) -> None:
    broken = folder / "broken.gguf"
    content = bytearray(write_encoder(broken, seed=7).read_bytes())
    # The last tensor is the bias of the last norm, which every vector gets added.
    content[-4:] = struct.pack("<f", math.nan)
    broken.write_bytes(content)
    server.add("broken", broken)
    answer = server.post("/api/embed", model="broken", input=["a", "b"])
    assert "NaN" in error(answer, 500)
    assert json.loads(answer.body)["error"].endswith("(input 0)")
