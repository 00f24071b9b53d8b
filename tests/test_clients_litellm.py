"""LiteLLM against the real server, as Ollama's client (``ollama_chat/``) and as OpenAI's."""

from __future__ import annotations

import gc
import importlib
import json
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.chatter import CALLER, chatting_server
from tests.support.server import RunningServer

HELLO = [{"role": "user", "content": "Once upon a time"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
PROVIDERS = ("ollama_chat", "openai")

#: Pydantic's remarks about LiteLLM's own types, with its first stream.
pytestmark = pytest.mark.filterwarnings("ignore:Item '.+' on TypedDict class")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with chatting_server(tmp_path_factory.mktemp("litellm")) as server:
        yield server


@pytest.fixture(scope="module")
def litellm() -> Iterator[Any]:
    """It would look for the prices of models on the web while it is imported.

    Connections and event loops that it leaves open are collected here, and not held against us.
    """
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        patch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
        module = importlib.import_module("litellm")
        yield module
        module.in_memory_llm_clients_cache.flush_cache()
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def request(server: RunningServer, provider: str, model: str = "tiny", **more: Any) -> Any:
    suffix = "/v1" if provider == "openai" else ""
    fields: dict[str, Any] = {"max_tokens": 12, "temperature": 0, "messages": HELLO} | more
    return fields | {
        "model": f"{provider}/{model}",
        "api_base": f"http://{server.host}{suffix}",
        "api_key": "ollama",
        "num_retries": 0,
    }


@pytest.mark.parametrize("provider", PROVIDERS)
def test_completion(provider: str, server: RunningServer, litellm: Any) -> None:
    reply = litellm.completion(**request(server, provider))
    (choice,) = reply.choices
    assert choice.message.content
    assert choice.finish_reason == "length"
    assert reply.usage.completion_tokens == 12
    assert reply.usage.total_tokens == reply.usage.prompt_tokens + 12


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_stream_says_the_same(provider: str, server: RunningServer, litellm: Any) -> None:
    whole = litellm.completion(**request(server, provider))
    chunks = list(litellm.completion(**request(server, provider), stream=True))
    texts = [chunk.choices[0].delta.content or "" for chunk in chunks]
    assert "".join(texts) == whole.choices[0].message.content
    assert chunks[-1].choices[0].finish_reason == "length"


@pytest.mark.anyio
@pytest.mark.parametrize("provider", PROVIDERS)
async def test_without_blocking(provider: str, server: RunningServer, litellm: Any) -> None:
    whole = await litellm.acompletion(**request(server, provider))
    stream = await litellm.acompletion(**request(server, provider), stream=True)
    texts = [chunk.choices[0].delta.content or "" async for chunk in stream]
    assert "".join(texts) == whole.choices[0].message.content


@pytest.mark.parametrize("provider", PROVIDERS)
def test_tools_are_called(provider: str, server: RunningServer, litellm: Any) -> None:
    reply = litellm.completion(**request(server, provider, CALLER, max_tokens=200), tools=[WEATHER])
    (call,) = reply.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments) == {"city": "Zürich", "days": 2}


def test_log_probabilities(server: RunningServer, litellm: Any) -> None:
    reply = litellm.completion(**request(server, "openai"), logprobs=True, top_logprobs=2)
    (choice,) = reply.choices
    tokens = choice.logprobs.content
    assert "".join(token.token for token in tokens) == choice.message.content
    assert all(len(token.top_logprobs) == 2 for token in tokens)


def test_a_cut_prompt_is_told_of(server: RunningServer, litellm: Any) -> None:
    old = {"role": "user", "content": "word " * 3000}
    reply = litellm.completion(**request(server, "openai", messages=[old, *HELLO]))
    assert reply.usage.prompt_tokens_details.dropped_tokens > 2000


def test_an_unknown_model(server: RunningServer, litellm: Any) -> None:
    with pytest.raises(litellm.NotFoundError):
        litellm.completion(**request(server, "openai", "nosuch"))
