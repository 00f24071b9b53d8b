"""LangChain's ``langchain-ollama`` against the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaLLM
from pydantic import BaseModel, Field

from tests.support.chatter import CALLER, THINKER, chatting_server
from tests.support.server import RunningServer


class Pet(BaseModel):
    """A pet."""

    kind: str = Field(pattern="^(cat|dog)$")
    age: int = Field(ge=0, le=30)


@tool
def get_weather(city: str, days: int) -> str:
    """The weather in a city."""
    return f"rain in {city} for {days} days"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder: Path = tmp_path_factory.mktemp("langchain")
    with chatting_server(folder) as server:
        yield server


Chat = Callable[..., ChatOllama]


@pytest.fixture
def chat(server: RunningServer) -> Iterator[Chat]:
    """Makes chat models; their connections are closed, which LangChain leaves to the end."""
    with ExitStack() as stack:

        def make(model: str = "tiny", **fields: object) -> ChatOllama:
            options: Any = {"temperature": 0, "num_predict": 12, "seed": 1} | fields
            made = ChatOllama(model=model, base_url=f"http://{server.host}", **options)
            stack.callback(made._client.close)
            return made

        yield make


def test_invoke_says_how_much_was_read_and_written(chat: Chat) -> None:
    reply = chat().invoke("Once upon a time")
    assert reply.content
    assert reply.usage_metadata is not None
    assert reply.usage_metadata["output_tokens"] == 12
    assert reply.response_metadata["done_reason"] == "length"


def test_stream_says_the_same(chat: Chat) -> None:
    whole = chat().invoke("Once upon a time")
    chunks = list(chat().stream("Once upon a time"))
    assert len(chunks) > 2
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content


@pytest.mark.anyio
async def test_without_blocking(chat: Chat) -> None:
    model = chat()
    whole = await model.ainvoke("Once upon a time")
    chunks = [chunk async for chunk in model.astream("Once upon a time")]
    assert "".join(str(chunk.content) for chunk in chunks) == whole.content != ""
    client: Any = model._async_client
    await client.close()


def test_batch(chat: Chat) -> None:
    model = chat()
    replies = model.batch(["Once upon", "There was"])
    assert [reply.content for reply in replies] == [
        model.invoke(prompt).content for prompt in ("Once upon", "There was")
    ]


def test_tools_are_called_and_their_results_go_back(chat: Chat) -> None:
    model = chat(CALLER, num_predict=-1).bind_tools([get_weather])
    asked = model.invoke("What is the weather in Zürich?")
    assert isinstance(asked, AIMessage)
    assert [(call["name"], call["args"]) for call in asked.tool_calls] == [
        ("get_weather", {"city": "Zürich", "days": 2})
    ]
    result = get_weather.invoke(asked.tool_calls[0])
    assert isinstance(result, ToolMessage)
    answer = model.invoke([HumanMessage("What is the weather?"), asked, result])
    assert answer.usage_metadata is not None
    assert asked.usage_metadata is not None
    assert answer.usage_metadata["input_tokens"] > asked.usage_metadata["input_tokens"]


def test_calls_come_in_a_stream_too(chat: Chat) -> None:
    model = chat(CALLER, num_predict=-1).bind_tools([get_weather])
    chunks = list(model.stream("What is the weather in Zürich?"))
    assert all(isinstance(chunk, AIMessageChunk) for chunk in chunks)
    calls = [call for chunk in chunks for call in chunk.tool_calls]
    assert [call["args"] for call in calls] == [{"city": "Zürich", "days": 2}]


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_structured_output_is_an_object_of_the_class(seed: int, chat: Chat) -> None:
    model = chat(temperature=1.5, num_predict=200, seed=seed)
    pet = model.with_structured_output(Pet, method="json_schema").invoke("Describe a pet")
    assert isinstance(pet, Pet)


def test_thinking_is_apart(chat: Chat) -> None:
    reply = chat(THINKER, reasoning=True, num_predict=-1).invoke("What is the answer?")
    assert reply.content == "Forty-two."
    assert str(reply.additional_kwargs["reasoning_content"]).strip() == "Hm."


def test_completions(server: RunningServer) -> None:
    model = OllamaLLM(model="tiny", base_url=f"http://{server.host}", temperature=0, num_predict=12)
    whole = model.invoke("Once upon a time")
    assert "".join(model.stream("Once upon a time")) == whole != ""
    client: Any = model._client
    client.close()
