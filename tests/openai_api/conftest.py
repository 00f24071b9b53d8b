"""One server for all tests of this folder, and OpenAI's clients of it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import openai
import pytest

from tests.openai_api.models import CONTEXT
from tests.support.agents import CALLS
from tests.support.models import write_model, write_parrot
from tests.support.server import RunningServer, running_server
from tests.support.templates import TOOL_TEMPLATE


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("openai")
    settings = {"OLLAMA_NUM_PARALLEL": "4", "OLLAMA_CONTEXT_LENGTH": str(CONTEXT)}
    # With a cache of 16-bit numbers, what is in a batch beside a token changes its probability.
    settings["OLLAMA_KV_CACHE_TYPE"] = "f32"
    with running_server(folder, **settings) as server:
        server.add("tiny", write_model(folder / "tiny.gguf", n_ctx=CONTEXT))
        server.create("someone/seeded:v1", "tiny", parameters={"seed": 5, "temperature": 0})
        server.create("fim", "tiny", template="<PRE>{{ .Prompt }}<SUF>{{ .Suffix }}<MID>")
        server.create("raw", "tiny", template="{{ .Prompt }}")
        caller = write_parrot(folder / "caller.gguf", f"Let me see.\n{CALLS}")
        server.add("caller", caller, template=TOOL_TEMPLATE)
        thinker = write_parrot(folder / "thinker.gguf", "<think>\nHm.\n</think>\n\nForty-two.")
        server.add("thinker", thinker, template=TOOL_TEMPLATE)
        yield server


@pytest.fixture
def client(server: RunningServer) -> Iterator[openai.OpenAI]:
    url = f"http://{server.host}/v1/"
    with openai.OpenAI(base_url=url, api_key="ollama", max_retries=0) as client:
        yield client


@pytest.fixture
async def async_client(server: RunningServer) -> AsyncIterator[openai.AsyncOpenAI]:
    url = f"http://{server.host}/v1/"
    async with openai.AsyncOpenAI(base_url=url, api_key="ollama", max_retries=0) as client:
        yield client
