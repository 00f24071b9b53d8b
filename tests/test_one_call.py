"""Without parallel calls a reply ends with its first, also where the model may write freely.

The models here would never end by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import anthropic
import openai
import pytest

from tests.support.models import write_parrot
from tests.support.server import RunningServer, running_server

#: How many tokens a reply has that only the bound for runaway replies ends: ten contexts.
RUNAWAY = 10 * 512

TEMPLATE = """{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}<|{{ .Role }}|>
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}
{{- if .ToolCalls }}OPENING{{ range .ToolCalls }}
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
{{ end }}CLOSING{{ end }}
{{ end }}<|assistant|>
"""
WEATHER = '{"name": "get_weather", "arguments": {"city": "Zürich"}}'
TIME = '{"name": "get_time", "arguments": {}}'
CALLS = {
    "hermes": (
        "<tool_call>",
        "</tool_call>",
        f"<tool_call>\n{WEATHER}\n</tool_call>\n<tool_call>\n{TIME}\n</tool_call>",
    ),
    "mistral": ("[TOOL_CALLS][", "]", f"[TOOL_CALLS][{WEATHER}, {TIME}]"),
}
QUESTION: list[Any] = [{"role": "user", "content": "How is the weather?"}]
FUNCTIONS: list[Any] = [
    {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {}}}},
    {"name": "get_time", "parameters": {"type": "object", "properties": {}}},
]
TOOLS: list[Any] = [{"type": "function", "function": function} for function in FUNCTIONS]
FLAT_TOOLS: list[Any] = [
    {"type": "function", "strict": False, **function} for function in FUNCTIONS
]
ANTHROPIC_TOOLS: list[Any] = [
    {"name": function["name"], "input_schema": function["parameters"]} for function in FUNCTIONS
]
CALL = {"function": {"name": "get_weather", "arguments": {"city": "Zürich"}}}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("one-call")
    with running_server(folder) as server:
        for name, (opening, closing, calls) in CALLS.items():
            text = f"<think>Which?</think>Let me see.\n{calls} And so on"
            model = write_parrot(folder / f"{name}.gguf", text, endless=True)
            template = TEMPLATE.replace("OPENING", opening).replace("CLOSING", closing)
            server.add(name, model, template=template)
        yield server


def ask(server: RunningServer, model: str = "hermes", **fields: Any) -> dict[str, Any]:
    asked = {"model": model, "messages": QUESTION, "tools": TOOLS, "stream": False}
    answer = server.post("/api/chat", **(asked | {"parallel_tool_calls": False} | fields))
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json()
    return reply


def written_so_far(server: RunningServer) -> float:
    """All tokens that the runners wrote, as ``/metrics`` tells it."""
    lines = server.request("GET", "/metrics").text.splitlines()
    return sum(
        float(line.rsplit(" ", 1)[1])
        for line in lines
        if line.startswith("llamaherd_generated_tokens_total")
    )


class TestOurOwnApi:
    @pytest.mark.parametrize("model", CALLS)
    def test_text_and_one_call(self, model: str, server: RunningServer) -> None:
        before = written_so_far(server)
        reply = ask(server, model)
        assert reply["message"] == {
            "role": "assistant",
            "content": "<think>Which?</think>Let me see.\n",
            "tool_calls": [CALL],
        }
        assert reply["done_reason"] == "stop"
        assert reply["eval_count"] <= written_so_far(server) - before < RUNAWAY

    def test_the_count_is_of_what_was_written_up_to_the_call(self, server: RunningServer) -> None:
        """A reply that the token limit ends there is the same, and one token less has no call."""
        reply = ask(server)
        count = reply["eval_count"]
        limited = ask(server, options={"num_predict": count})
        assert (limited["message"], limited["eval_count"]) == (reply["message"], count)
        shorter = ask(server, options={"num_predict": count - 1})
        assert (shorter["done_reason"], shorter["eval_count"]) == ("length", count - 1)
        assert "tool_calls" not in shorter["message"]

    def test_a_stream(self, server: RunningServer) -> None:
        asked = {"model": "hermes", "messages": QUESTION, "tools": TOOLS}
        *lines, end = server.post("/api/chat", **asked, parallel_tool_calls=False).lines()
        calls = [
            line["message"]["tool_calls"] for line in lines if line["message"].get("tool_calls")
        ]
        assert calls == [[CALL]]
        assert "tool_calls" in lines[-1]["message"]
        assert (end["done_reason"], end["eval_count"]) == ("stop", ask(server)["eval_count"])

    def test_thinking_before_it(self, server: RunningServer) -> None:
        message = ask(server, think=True)["message"]
        assert (message["thinking"], message["content"]) == ("Which?", "Let me see.\n")
        assert message["tool_calls"] == [CALL]

    def test_log_probabilities_are_of_the_reply_s_tokens(self, server: RunningServer) -> None:
        reply = ask(server, logprobs=True)
        assert len(reply["logprobs"]) == reply["eval_count"]
        written = "".join(token["token"] for token in reply["logprobs"])
        assert written.startswith("<think>Which?</think>Let me see.\n<tool_call>")
        assert WEATHER in written
        assert "get_time" not in written

    def test_without_tools_nothing_ends_the_reply(self, server: RunningServer) -> None:
        reply = ask(server, tools=[], options={"num_predict": 120})
        assert (reply["done_reason"], reply["eval_count"]) == ("length", 120)

    def test_other_replies_go_on(self, server: RunningServer) -> None:
        reply = ask(server, parallel_tool_calls=True, options={"num_predict": 120})
        assert (reply["done_reason"], len(reply["message"]["tool_calls"])) == ("length", 2)


class TestOpenAI:
    @pytest.fixture
    def client(self, server: RunningServer) -> Iterator[openai.OpenAI]:
        with openai.OpenAI(base_url=f"http://{server.host}/v1", api_key="none") as client:
            yield client

    @pytest.mark.parametrize("model", CALLS)
    def test_a_completion(self, model: str, client: openai.OpenAI) -> None:
        completion = client.chat.completions.create(
            model=model, messages=QUESTION, tools=TOOLS, parallel_tool_calls=False, n=2
        )
        assert completion.usage is not None
        assert completion.usage.completion_tokens < 2 * RUNAWAY
        for choice in completion.choices:
            assert choice.finish_reason == "tool_calls"
            assert choice.message.content == "<think>Which?</think>Let me see.\n"
            (call,) = choice.message.tool_calls or []
            assert call.type == "function"
            assert call.function.name == "get_weather"

    def test_a_stream(self, client: openai.OpenAI, server: RunningServer) -> None:
        with client.chat.completions.stream(
            model="mistral",
            messages=QUESTION,
            tools=TOOLS,
            parallel_tool_calls=False,
            stream_options={"include_usage": True},
        ) as events:
            completion = events.get_final_completion()
        (choice,) = completion.choices
        assert choice.finish_reason == "tool_calls"
        assert len(choice.message.tool_calls or []) == 1
        assert completion.usage is not None
        assert completion.usage.completion_tokens == ask(server, "mistral")["eval_count"]

    @pytest.mark.parametrize("stream", [True, False])
    def test_a_response(self, stream: bool, client: openai.OpenAI) -> None:
        asked: dict[str, Any] = {
            "model": "hermes",
            "input": "How is the weather?",
            "tools": FLAT_TOOLS,
            "parallel_tool_calls": False,
        }
        if stream:
            with client.responses.stream(**asked) as events:
                response: Any = events.get_final_response()
        else:
            response = client.responses.create(**asked)
        kinds = [item.type for item in response.output]
        assert kinds == ["reasoning", "message", "function_call"]
        assert response.output[-1].name == "get_weather"
        assert response.status == "completed"


@pytest.mark.parametrize("stream", [True, False])
def test_anthropic(stream: bool, server: RunningServer) -> None:
    asked: dict[str, Any] = {
        "model": "hermes",
        "max_tokens": RUNAWAY,
        "messages": QUESTION,
        "tools": ANTHROPIC_TOOLS,
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
    }
    with anthropic.Anthropic(base_url=f"http://{server.host}", api_key="none") as client:
        if stream:
            with client.messages.stream(**asked) as events:
                message: Any = events.get_final_message()
        else:
            message = client.messages.create(**asked)
    said, call = message.content
    assert (said.type, call.type, call.name) == ("text", "tool_use", "get_weather")
    assert message.stop_reason == "tool_use"
    assert message.usage.output_tokens == ask(server)["eval_count"]
