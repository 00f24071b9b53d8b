"""What Anthropic's clients ask for, in our own terms."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.api.anthropic_requests import MessagesRequest, read_count_tokens, read_messages
from llamaherd.api.requests import ChatRequest
from llamaherd.errors import BadRequest, LlamaherdError
from llamaherd.messages import Message, Tool, ToolCall, ToolCallFunction, ToolChoice
from tests.support.events import json_values

HELLO = [{"role": "user", "content": "hello"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
TOOL = {"name": "get_weather", "description": "The weather", "input_schema": SCHEMA}
PICTURE = b"\x89PNG and so on"
IMAGE = {
    "type": "image",
    "source": {
        "type": "base64",
        "media_type": "image/png",
        "data": base64.b64encode(PICTURE).decode(),
    },
}


def request(**fields: Any) -> MessagesRequest:
    body = {"model": "m", "max_tokens": 2048, "messages": HELLO} | fields
    return read_messages(json.dumps(body).encode())


def chat(**fields: Any) -> ChatRequest:
    return request(**fields).chat


def conversation(*messages: dict[str, Any], **fields: Any) -> list[Message]:
    return chat(messages=messages, **fields).messages


def refusal(**fields: Any) -> str:
    with pytest.raises(LlamaherdError) as caught:
        request(**fields)
    assert caught.value.status == 400
    return caught.value.message


class TestOptions:
    def test_the_model_s_own_count_unless_the_request_has_others(self) -> None:
        assert chat().options == {"num_predict": 2048}

    def test_fields_become_options(self) -> None:
        given = {"temperature": 1, "top_p": 0.5, "top_k": 7, "stop_sequences": ["END"]}
        wanted = request(**given)
        assert wanted.chat.options == {
            "num_predict": 2048,
            "temperature": 1.0,
            "top_p": 0.5,
            "top_k": 7,
            "stop": ("END",),
        }
        assert (wanted.max_tokens, wanted.stops) == (2048, ("END",))

    def test_what_does_not_fit_is_an_error_or_the_end(self) -> None:
        assert (chat().truncate, chat().shift) == (False, False)

    def test_what_changes_nothing_is_ignored(self) -> None:
        others: dict[str, Any] = {
            "metadata": {"user_id": "u"},
            "service_tier": "auto",
            "context_management": {"edits": []},
            "betas": ["x"],
            "temperature": None,
        }
        assert chat(**others) == chat()

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"model": None}, "model: expected a string that isn't empty, but there is none"),
            ({"max_tokens": None}, "max_tokens: expected an integer from 0 to 2147483647, but"),
            ({"max_tokens": -1}, "max_tokens: expected an integer from 0 to 2147483647, not -1"),
            ({"max_tokens": 2**31}, "max_tokens: expected an integer from 0 to 2147483647, not"),
            ({"max_tokens": 1.5}, "max_tokens: expected an integer"),
            (
                {"max_tokens": True},
                "max_tokens: expected an integer from 0 to 2147483647, not bool",
            ),
            ({"temperature": 1.01}, "temperature: expected a number from 0 to 1, not 1.01"),
            ({"temperature": "hot"}, 'temperature: expected a number from 0 to 1, not "hot"'),
            ({"top_p": -0.1}, "top_p: expected a number from 0 to 1, not -0.1"),
            ({"top_k": -1}, "top_k: expected an integer from 0 to 2147483647, not -1"),
            ({"stop_sequences": ["a", ""]}, "stop_sequences.1: expected a string that isn't"),
            ({"stop_sequences": "a"}, 'stop_sequences: expected an array, not "a"'),
            ({"stream": "yes"}, 'stream: expected true or false, not "yes"'),
            ({"thread": {"type": "create"}}, "thread: not supported, send the full conversation"),
            ({"mcp_servers": [{"type": "url"}]}, "mcp_servers: not supported"),
            ({"compaction": {"type": "auto"}}, "compaction: not supported"),
            ({"container": "container_1"}, "container: not supported"),
            ({"messages": []}, "messages: expected at least one message"),
            ({"messages": "hi"}, 'messages: expected an array, not "hi"'),
            ({"messages": ["hi"]}, 'messages.0: expected an object, not "hi"'),
        ],
    )
    def test_what_makes_no_sense(self, fields: dict[str, Any], message: str) -> None:
        assert refusal(**fields).startswith(message)

    def test_a_body_that_is_no_object(self) -> None:
        with pytest.raises(LlamaherdError, match="request body: expected an object, not array"):
            read_messages(b"[1]")


class TestThinking:
    @pytest.mark.parametrize(
        ("fields", "think"),
        [
            ({}, False),
            ({"thinking": {"type": "disabled"}}, False),
            ({"thinking": {"type": "adaptive"}}, True),
            ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, True),
            ({"thinking": {"type": "adaptive"}, "output_config": {"effort": "max"}}, "high"),
            ({"output_config": {"effort": "low"}}, False),
        ],
    )
    def test_models_think_only_when_asked_to(self, fields: dict[str, Any], think: Any) -> None:
        wanted = chat(**fields)
        assert wanted.think == think
        assert wanted.think_if_able == bool(think)

    def test_a_schema(self) -> None:
        config = {"format": {"type": "json_schema", "schema": SCHEMA}}
        wanted = chat(thinking={"type": "adaptive"}, output_config=config)
        assert (wanted.think, wanted.format) == (True, SCHEMA)

    def test_the_older_name_of_a_format(self) -> None:
        form = {"type": "json_schema", "schema": SCHEMA}
        assert chat(output_format=form).format == SCHEMA
        assert chat(output_format=None).format is None

    def test_thoughts_may_be_left_out(self) -> None:
        assert request(thinking={"type": "adaptive"}).show_thinking
        assert not request(thinking={"type": "adaptive", "display": "omitted"}).show_thinking

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"thinking": {"type": "hard"}}, 'thinking.type: expected "enabled", "adaptive" or'),
            ({"thinking": {}}, "thinking.type: expected"),
            ({"thinking": True}, "thinking: expected an object, not bool"),
            ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens: expected an integer from"),
            (
                {"thinking": {"type": "enabled", "budget_tokens": 1023}},
                "thinking.budget_tokens: expected an integer from 1024 to 2147483647, not 1023",
            ),
            (
                {"thinking": {"type": "enabled", "budget_tokens": 2048}},
                "thinking.budget_tokens: must be smaller than max_tokens",
            ),
            ({"output_config": {"effort": "huge"}}, "output_config.effort: expected"),
            ({"output_config": {"format": {"type": "xml"}}}, "output_config.format.type: expected"),
            (
                {"output_config": {"format": {"type": "json_schema"}}},
                "output_config.format.schema: expected a JSON Schema object",
            ),
            ({"output_format": {"type": "xml"}}, "output_format.type: expected"),
        ],
    )
    def test_what_makes_no_sense(self, fields: dict[str, Any], message: str) -> None:
        assert refusal(**fields).startswith(message)


class TestMessages:
    def test_texts_and_blocks(self) -> None:
        found = conversation(
            {"role": "user", "content": "one"},
            {"role": "assistant", "content": [{"type": "text", "text": "two"}]},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "three", "cache_control": {"type": "ephemeral"}},
                    {"type": "text", "text": "four"},
                ],
            },
            system=[{"type": "text", "text": "Be brief."}, {"type": "text", "text": "Be kind."}],
        )
        assert found == [
            Message("system", "Be brief.\n\nBe kind."),
            Message("user", "one"),
            Message("assistant", "two"),
            Message("user", "three\n\nfour"),
        ]

    @pytest.mark.parametrize("system", ["", [], None])
    def test_no_system_prompt(self, system: Any) -> None:
        assert conversation(*HELLO, system=system) == [Message("user", "hello")]

    def test_a_system_message_among_the_others(self) -> None:
        found = conversation(*HELLO, {"role": "system", "content": "Stop."})
        assert found == [Message("user", "hello"), Message("system", "Stop.")]

    def test_what_the_model_said_is_one_message(self) -> None:
        said = [
            {"type": "thinking", "thinking": "hm", "signature": "x"},
            {"type": "redacted_thinking", "data": "x"},
            {"type": "text", "text": "Let me see."},
            {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {"city": "Bern"}},
            {"type": "text", "text": " And then:"},
            {"type": "tool_use", "id": "toolu_2", "name": "get_time", "input": {}},
        ]
        assert conversation({"role": "assistant", "content": said}) == [
            Message(
                "assistant",
                "Let me see. And then:",
                thinking="hm",
                tool_calls=[
                    ToolCall(ToolCallFunction("get_weather", {"city": "Bern"}), "toolu_1"),
                    ToolCall(ToolCallFunction("get_time", {}, 1), "toolu_2"),
                ],
            )
        ]

    def test_results_of_tools_are_messages_with_the_tool_s_name(self) -> None:
        call = {"type": "tool_use", "id": "toolu_1", "name": "get_weather", "input": {}}
        told = [
            {"type": "tool_result", "tool_use_id": "toolu_1", "content": "fine"},
            {
                "type": "tool_result",
                "tool_use_id": "toolu_9",
                "is_error": True,
                "content": [{"type": "text", "text": "bad"}, IMAGE],
            },
            {"type": "tool_result", "tool_use_id": "toolu_1"},
            {"type": "text", "text": "Well?"},
        ]
        _, *results = conversation(
            {"role": "assistant", "content": [call]}, {"role": "user", "content": told}
        )
        assert results == [
            Message("tool", "fine", tool_name="get_weather", tool_call_id="toolu_1"),
            Message("tool", "bad\n\n[img]", images=[PICTURE], tool_call_id="toolu_9"),
            Message("tool", "", tool_name="get_weather", tool_call_id="toolu_1"),
            Message("user", "Well?"),
        ]

    def test_documents_and_search_results_are_read_as_text(self) -> None:
        document = {
            "type": "document",
            "source": {"type": "text", "media_type": "text/plain", "data": "Once"},
            "title": "A story",
            "context": "for children",
        }
        result = {
            "type": "search_result",
            "title": "T",
            "source": "s",
            "content": [{"type": "text", "text": "found"}],
        }
        (message,) = conversation({"role": "user", "content": [document, result, IMAGE]})
        assert message.content == "A story\nfor children\nOnce\n\nT\ns\nfound\n\n[img]"
        assert message.images == [PICTURE]

    @pytest.mark.parametrize(
        ("role", "content", "message"),
        [
            ("boss", "x", 'messages.1.role: expected "user", "assistant" or "system", not "boss"'),
            ("user", None, "messages.1.content: expected content that isn't empty, but"),
            ("user", "", 'messages.1.content: expected content that isn\'t empty, not ""'),
            ("user", 5, "messages.1.content: expected a string or an array of blocks, not 5"),
            ("user", ["x"], 'messages.1.content.0: expected an object, not "x"'),
            ("user", [{"type": "text"}], "messages.1.content.0.text: expected a string, but there"),
            (
                "user",
                [{"type": "text", "text": "x"}, {"type": "server_tool_use"}],
                'messages.1.content.1.type: expected "text", "image", "document", "search_result" '
                'or "tool_result", not "server_tool_use"',
            ),
            ("user", [{"type": "tool_use"}], "messages.1.content.0.type: expected"),
            ("assistant", [{"type": "tool_result"}], "messages.1.content.0.type: expected"),
            ("system", [IMAGE], 'messages.1.content.0.type: expected "text", not "image"'),
            (
                "assistant",
                [{"type": "tool_use", "name": "f", "input": {}}],
                "messages.1.content.0.id: expected a string that isn't empty",
            ),
            (
                "assistant",
                [{"type": "tool_use", "id": "i", "name": "f", "input": "x"}],
                "messages.1.content.0.input: expected an object",
            ),
            (
                "user",
                [{"type": "tool_result", "tool_use_id": "i", "content": [{"type": "thinking"}]}],
                "messages.1.content.0.content.0.type: expected",
            ),
            (
                "user",
                [{"type": "image", "source": {"type": "url", "url": "https://x.example"}}],
                'messages.1.content.0.source.type: expected "base64", not "url"',
            ),
            (
                "user",
                [{"type": "image", "source": {"type": "base64", "data": "*"}}],
                "messages.1.content.0.source.data: expected base64",
            ),
            (
                "user",
                [{"type": "document", "source": {"type": "base64", "data": ""}}],
                'messages.1.content.0.source.type: expected "text", not "base64"',
            ),
        ],
    )
    def test_what_makes_no_sense_is_named_by_its_place(
        self, role: str, content: Any, message: str
    ) -> None:
        found = refusal(messages=[*HELLO, {"role": role, "content": content}])
        assert found.startswith(message)


class TestTools:
    def test_definitions(self) -> None:
        plain = {"type": "custom", "name": "get_time", "input_schema": {"type": "object"}}
        assert chat(tools=[TOOL, plain]).tools == [
            Tool(
                "function",
                {"name": "get_weather", "description": "The weather", "parameters": SCHEMA},
            ),
            Tool("function", {"name": "get_time", "parameters": {"type": "object"}}),
        ]

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            (None, ToolChoice()),
            ({"type": "auto"}, ToolChoice()),
            ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(parallel=False)),
            ({"type": "any"}, ToolChoice("required")),
            (
                {"type": "any", "disable_parallel_tool_use": True},
                ToolChoice("required", parallel=False),
            ),
            (
                {"type": "tool", "name": "get_weather"},
                ToolChoice("required", ("get_weather",), parallel=False),
            ),
            ({"type": "none"}, ToolChoice("none")),
        ],
    )
    def test_choices(self, choice: Any, expected: ToolChoice) -> None:
        assert chat(tools=[TOOL], tool_choice=choice).tool_choice == expected

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"tools": [{"type": "web_search_20250305", "name": "web_search"}]},
                'tools.0.type: expected "custom", not "web_search_20250305"',
            ),
            ({"tools": [TOOL, {"input_schema": {}}]}, "tools.1.name: expected a string"),
            ({"tools": [{"name": "f"}]}, "tools.0.input_schema: expected a JSON Schema object"),
            ({"tool_choice": {"type": "tool"}}, "tool_choice.name: expected a string"),
            ({"tool_choice": "any"}, 'tool_choice: expected an object, not "any"'),
            ({"tool_choice": {"type": "some"}}, 'tool_choice.type: expected "auto", "any", "tool"'),
        ],
    )
    def test_what_makes_no_sense(self, fields: dict[str, Any], message: str) -> None:
        assert refusal(**fields).startswith(message)


def test_counting_needs_no_limit() -> None:
    body = {"model": "m", "messages": HELLO, "tools": [TOOL], "system": "Be brief."}
    wanted = read_count_tokens(json.dumps(body).encode())
    assert wanted.messages == [Message("system", "Be brief."), Message("user", "hello")]
    assert [tool.function["name"] for tool in wanted.tools] == ["get_weather"]


_FIELDS = [
    *("model", "max_tokens", "messages", "system", "stream", "temperature", "top_p", "top_k"),
    *("stop_sequences", "tools", "tool_choice", "thinking", "output_config", "output_format"),
]


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(_FIELDS), json_values(), max_size=4))
def test_whatever_comes_is_read_or_refused(fields: dict[str, Any]) -> None:
    body = {"model": "m", "max_tokens": 5, "messages": HELLO} | fields
    with suppress(BadRequest):
        read_messages(json.dumps(body).encode())
