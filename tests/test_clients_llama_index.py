"""LlamaIndex's ``llama-index-llms-ollama`` against the real server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage, MessageRole
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama

from tests.support.chatter import CALLER, THINKER, chatting_server
from tests.support.server import RunningServer

HELLO = [ChatMessage(role=MessageRole.USER, content="Once upon a time")]

Make = Callable[..., Ollama]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with chatting_server(tmp_path_factory.mktemp("llama_index")) as server:
        yield server


@pytest.fixture
def llm(server: RunningServer) -> Iterator[Make]:
    """Makes models; their connections are closed, which LlamaIndex leaves to the end."""
    with ExitStack() as stack:

        def make(model: str = "tiny", *, num_predict: int = 12, **fields: Any) -> Ollama:
            made = Ollama(
                model=model,
                base_url=f"http://{server.host}",
                temperature=0,
                context_window=2048,
                additional_kwargs={"num_predict": num_predict},
                **fields,
            )
            client: Any = made.client
            stack.callback(client.close)
            return made

        yield make


def test_complete(llm: Make) -> None:
    whole = llm().complete("Once upon a time")
    assert whole.text
    *_, last = llm().stream_complete("Once upon a time")
    assert last.text == whole.text


def test_stream_gives_what_is_new(llm: Make) -> None:
    pieces = list(llm().stream_complete("Once upon a time"))
    assert len(pieces) > 2
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].text


def test_chat(llm: Make) -> None:
    reply = llm().chat(HELLO)
    assert reply.message.role == MessageRole.ASSISTANT
    assert reply.message.content
    *_, last = llm().stream_chat(HELLO)
    assert last.message.content == reply.message.content


@pytest.mark.anyio
async def test_without_blocking(llm: Make) -> None:
    model = llm()
    whole = await model.achat(HELLO)
    stream = await model.astream_chat(HELLO)
    *_, last = [reply async for reply in stream]
    assert last.message.content == whole.message.content != ""
    client: Any = model.async_client
    await client.close()


def test_thinking_is_apart(llm: Make) -> None:
    reply = llm(THINKER, num_predict=-1, thinking=True).chat(HELLO)
    assert reply.message.content == "Forty-two."


def test_tools_are_called(llm: Make) -> None:
    def get_weather(city: str, days: int) -> str:
        """The weather in a city."""
        return f"rain in {city} for {days} days"

    model = llm(CALLER, num_predict=-1, is_function_calling_model=True)
    weather = FunctionTool.from_defaults(fn=get_weather)
    reply = model.chat_with_tools([weather], user_msg="What is the weather in Zürich?")
    (call,) = model.get_tool_calls_from_response(reply)
    assert (call.tool_name, call.tool_kwargs) == ("get_weather", {"city": "Zürich", "days": 2})
