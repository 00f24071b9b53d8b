"""The clients that people embed with, against the real server."""

from __future__ import annotations

import math
from collections.abc import Iterator

import ollama
import openai
import pytest
from langchain_ollama import OllamaEmbeddings

from tests.support.encoders import WIDTH, write_encoder
from tests.support.server import RunningServer, running_server

TEXTS = ["abc d", "x"]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("embedding-clients")
    with running_server(folder) as server:
        server.add("letters", write_encoder(folder / "letters.gguf"))
        yield server


@pytest.fixture(scope="module")
def expected(server: RunningServer) -> list[list[float]]:
    answer = server.post("/api/embed", model="letters", input=TEXTS)
    vectors: list[list[float]] = answer.json()["embeddings"]
    return vectors


def same(found: list[list[float]], expected: list[list[float]]) -> bool:
    return len(found) == len(expected) and all(
        map(lambda *pair: math.dist(*pair) < 1e-5, found, expected)
    )


class TestOllama:
    def test_embed(self, server: RunningServer, expected: list[list[float]]) -> None:
        with ollama.Client(host=server.host) as client:
            answer = client.embed("letters", TEXTS, truncate=True, keep_alive="1m")
            assert same([[*vector] for vector in answer.embeddings], expected)
            assert answer.prompt_eval_count == 9
            one = client.embed("letters", TEXTS[0], dimensions=8)
            assert [len(vector) for vector in one.embeddings] == [8]
            older = client.embeddings("letters", TEXTS[0]).embedding
            assert len(older) == WIDTH

    def test_errors(self, server: RunningServer) -> None:
        with ollama.Client(host=server.host) as client:
            with pytest.raises(ollama.ResponseError, match="not found") as caught:
                client.embed("nothing", "a")
            assert caught.value.status_code == 404
            with pytest.raises(ollama.ResponseError, match=r"exceeds .* \(input 1\)"):
                client.embed("letters", ["a", "a" * 99], truncate=False)

    @pytest.mark.anyio
    async def test_asynchronously(self, server: RunningServer, expected: list[list[float]]) -> None:
        async with ollama.AsyncClient(host=server.host) as client:
            answer = await client.embed("letters", TEXTS)
            assert same([[*vector] for vector in answer.embeddings], expected)
            assert len((await client.embeddings("letters", "abc")).embedding) == WIDTH


class TestOpenAI:
    @staticmethod
    def client(server: RunningServer) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="ollama", max_retries=0)

    def test_it_asks_for_base64_by_itself(
        self, server: RunningServer, expected: list[list[float]]
    ) -> None:
        with self.client(server) as client:
            answer = client.embeddings.create(model="letters", input=TEXTS)
        assert same([item.embedding for item in answer.data], expected)
        assert (answer.object, answer.model) == ("list", "letters")
        assert answer.usage.total_tokens == 9

    def test_floats_dimensions_and_tokens(
        self, server: RunningServer, expected: list[list[float]]
    ) -> None:
        with self.client(server) as client:
            floats = client.embeddings.create(
                model="letters", input=TEXTS, encoding_format="float", user="me"
            )
            assert same([item.embedding for item in floats.data], expected)
            short = client.embeddings.create(model="letters", input="abc", dimensions=8)
            assert len(short.data[0].embedding) == 8
            tokens = client.embeddings.create(model="letters", input=[[5, 32, 33, 8], [28]])
            assert same([item.embedding for item in tokens.data], expected)

    def test_errors(self, server: RunningServer) -> None:
        with self.client(server) as client:
            with pytest.raises(openai.NotFoundError, match="try pulling it first"):
                client.embeddings.create(model="nothing", input="a")
            with pytest.raises(openai.BadRequestError, match="at most 64"):
                client.embeddings.create(model="letters", input="a", dimensions=99)

    @pytest.mark.anyio
    async def test_asynchronously(self, server: RunningServer, expected: list[list[float]]) -> None:
        async with openai.AsyncOpenAI(
            base_url=f"http://{server.host}/v1", api_key="ollama", max_retries=0
        ) as client:
            answer = await client.embeddings.create(model="letters", input=TEXTS)
        assert same([item.embedding for item in answer.data], expected)


class TestLangChain:
    def test_documents_and_queries(
        self, server: RunningServer, expected: list[list[float]]
    ) -> None:
        embeddings = OllamaEmbeddings(model="letters", base_url=f"http://{server.host}")
        # It never closes its connections, and what stays open would be a warning somewhere else.
        assert embeddings._client is not None
        with embeddings._client:
            assert same(embeddings.embed_documents(TEXTS), expected)
            assert same([embeddings.embed_query(TEXTS[0])], expected[:1])
