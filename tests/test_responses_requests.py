"""What clients of OpenAI's Responses API ask for, in our own terms."""

from __future__ import annotations

import base64
import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.api.requests import ChatRequest
from llamaherd.api.responses_items import carried
from llamaherd.api.responses_requests import ResponseRequest, read_response
from llamaherd.errors import BadRequest, LlamaherdError
from llamaherd.messages import Message, Tool, ToolCall, ToolCallFunction, ToolChoice
from tests.support.events import json_values

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"type": "function", "name": "get_weather", "parameters": SCHEMA, "strict": True}
PATCH = {"type": "custom", "name": "apply_patch", "description": "Patches."}
SAID = {"type": "message", "id": "msg_1", "role": "assistant", "content": "I said."}
PICTURE = b"\x89PNG and so on"
DATA_URL = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"


def request(**fields: Any) -> ResponseRequest:
    body = json.dumps({"model": "m", "input": "hello"} | fields).encode()
    return read_response(body, {"msg_1": SAID}.__getitem__)


def chat(**fields: Any) -> ChatRequest:
    return request(**fields).chat_after([])


def conversation(*items: dict[str, Any], **fields: Any) -> list[Message]:
    return chat(input=items, **fields).messages


def refusal(**fields: Any) -> str:
    with pytest.raises(LlamaherdError) as caught:
        request(**fields).chat_after([])
    assert caught.value.status == 400
    return caught.value.message


class TestOptions:
    def test_the_whole_distribution_is_drawn_from_by_default(self) -> None:
        assert chat().options == {"temperature": 1.0, "top_p": 1.0}

    def test_fields_become_options(self) -> None:
        options = chat(temperature=0, top_p=0.5, max_output_tokens=7).options
        assert options == {"temperature": 0.0, "top_p": 0.5, "num_predict": 7}

    def test_log_probabilities_are_included_if_asked_for(self) -> None:
        include = ["reasoning.encrypted_content", "message.output_text.logprobs"]
        assert (chat().logprobs, chat().top_logprobs) == (False, 0)
        assert not chat(top_logprobs=2).logprobs
        told = request(include=include, top_logprobs=2)
        assert (told.chat.logprobs, told.chat.top_logprobs) == (True, 2)
        assert told.blank.top_logprobs == 2

    def test_what_does_not_fit_is_an_error_unless_it_may_be_cut(self) -> None:
        assert (chat().truncate, chat().shift) == (False, False)
        assert chat(truncation="auto").truncate

    def test_what_changes_nothing_is_ignored(self) -> None:
        others = {
            "user": "u",
            "include": ["reasoning.encrypted_content"],
            "service_tier": "auto",
            "client_metadata": {},
            "stream_options": {"include_obfuscation": False},
            "background": False,
        }
        assert chat(**others) == chat()

    def test_the_answer_repeats_the_request(self) -> None:
        given = {
            "instructions": "Be brief.",
            "max_output_tokens": 9,
            "metadata": {"a": "b"},
            "parallel_tool_calls": False,
            "previous_response_id": "resp_1",
            "prompt_cache_key": "k",
            "reasoning": {"effort": "low", "summary": "auto"},
            "safety_identifier": "s",
            "store": False,
            "temperature": 0.5,
            "text": {"format": {"type": "json_object"}, "verbosity": "low"},
            "tool_choice": "required",
            "tools": [WEATHER],
            "top_logprobs": 3,
            "top_p": 0.25,
            "truncation": "auto",
            "user": "u",
        }
        blank = request(**given).blank
        assert {name: getattr(blank, name) for name in given} == given

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"model": ""}, 'model: expected a string that isn\'t empty, not ""'),
            ({"temperature": 2.5}, "temperature: expected a number from 0 to 2, not 2.5"),
            ({"top_p": 1.5}, "top_p: expected a number from 0 to 1, not 1.5"),
            ({"max_output_tokens": 0}, "max_output_tokens: expected an integer from 1 to"),
            ({"top_logprobs": 21}, "top_logprobs: expected an integer from 0 to 20, not 21"),
            ({"include": "message.output_text.logprobs"}, 'include: expected an array, not "'),
            ({"background": True}, "background: not supported"),
            ({"conversation": "conv_1"}, "conversation: not supported"),
            ({"prompt": {"id": "pmpt_1"}}, "prompt: not supported"),
            ({"truncation": "some"}, 'truncation: expected "auto" or "disabled", not "some"'),
            ({"metadata": {"a": 1}}, "metadata.a: expected a string, not 1"),
            ({"store": "no"}, 'store: expected true or false, not "no"'),
            ({"instructions": []}, "instructions: expected a string, not array"),
            ({"text": {"format": {"type": "xml"}}}, 'text.format.type: expected "text", "json_ob'),
            ({"text": {"format": {"type": "json_schema"}}}, "text.format.schema: expected a JSON"),
        ],
    )
    def test_what_makes_no_sense(self, fields: dict[str, Any], message: str) -> None:
        assert refusal(**fields).startswith(message)


class TestFormatAndThinking:
    @pytest.mark.parametrize(
        ("text", "form"),
        [
            (None, None),
            ({"verbosity": "low"}, None),
            ({"format": {"type": "text"}}, None),
            ({"format": {"type": "json_object"}}, "json"),
            ({"format": {"type": "json_schema", "name": "n", "schema": SCHEMA}}, SCHEMA),
        ],
    )
    def test_formats(self, text: Any, form: Any) -> None:
        assert chat(text=text).format == form

    @pytest.mark.parametrize(
        ("fields", "think", "if_able"),
        [
            ({}, True, True),
            ({"reasoning": {"summary": "auto"}}, True, True),
            ({"reasoning": {"effort": "none"}}, False, False),
            ({"reasoning": {"effort": "minimal"}}, "low", False),
            ({"reasoning": {"effort": "xhigh"}}, "high", False),
        ],
    )
    def test_models_that_can_think_do(
        self, fields: dict[str, Any], think: Any, if_able: bool
    ) -> None:
        wanted = chat(**fields)
        assert (wanted.think, wanted.think_if_able) == (think, if_able)

    def test_an_effort_that_nobody_knows(self) -> None:
        assert refusal(reasoning={"effort": "huge"}).startswith("reasoning.effort: expected")


class TestItems:
    def test_a_text(self) -> None:
        assert chat(instructions="Be brief.").messages == [
            Message("system", "Be brief."),
            Message("user", "hello"),
        ]

    def test_messages(self) -> None:
        parts = [
            {"type": "input_text", "text": "one"},
            {"type": "input_image", "image_url": DATA_URL, "detail": "auto"},
            {"type": "input_text", "text": "two"},
        ]
        said = [
            {"type": "output_text", "text": "a", "annotations": []},
            {"type": "output_text", "text": "b"},
        ]
        found = conversation(
            {"role": "developer", "content": "Be kind."},
            {"type": "message", "role": "user", "content": parts},
            {"type": "message", "role": "assistant", "id": "msg_1", "content": said},
            {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}]},
        )
        assert found == [
            Message("system", "Be kind."),
            Message("user", "one\n\n[img]\n\ntwo", images=[PICTURE]),
            Message("assistant", "ab"),
            Message("assistant", "no"),
        ]

    def test_what_the_model_said_in_one_go_is_one_message(self) -> None:
        found = conversation(
            {
                "type": "reasoning",
                "id": "rs_1",
                "summary": [{"type": "summary_text", "text": "hm"}],
            },
            {"type": "message", "role": "assistant", "content": "Let me see."},
            call("call_1", "get_weather", '{"city": "Bern"}'),
            {"type": "message", "role": "assistant", "content": " And then:"},
            call("call_2", "get_time", ""),
        )
        assert found == [
            Message(
                "assistant",
                "Let me see. And then:",
                thinking="hm",
                tool_calls=[
                    ToolCall(ToolCallFunction("get_weather", {"city": "Bern"}), "call_1"),
                    ToolCall(ToolCallFunction("get_time", {}, 1), "call_2"),
                ],
            )
        ]

    def test_thoughts_that_stand_there_count_more_than_their_summary(self) -> None:
        (message,) = conversation(
            {
                "type": "reasoning",
                "summary": [{"type": "summary_text", "text": "short"}],
                "content": [{"type": "reasoning_text", "text": "long"}],
                "encrypted_content": "x",
            }
        )
        assert message.thinking == "long"

    def test_results_of_tools(self) -> None:
        found = conversation(
            call("call_1", "get_weather", "{}"),
            {"type": "custom_tool_call", "call_id": "call_2", "name": "apply_patch", "input": "x"},
            {"type": "function_call_output", "call_id": "call_1", "output": "fine"},
            {
                "type": "custom_tool_call_output",
                "call_id": "call_2",
                "output": [{"type": "input_text", "text": "done"}],
            },
        )
        assert found[0].tool_calls[1].function.arguments == {"input": "x"}
        assert found[1:] == [
            Message("tool", "fine", tool_name="get_weather", tool_call_id="call_1"),
            Message("tool", "done", tool_name="apply_patch", tool_call_id="call_2"),
        ]

    def test_what_is_only_referred_to(self) -> None:
        found = request(input=[{"type": "item_reference", "id": "msg_1"}])
        assert found.items == [SAID]
        assert found.chat.messages == [Message("assistant", "I said.")]

    def test_what_is_referred_to_twice(self) -> None:
        reference = {"type": "item_reference", "id": "msg_1"}
        message = 'input[1].id: "msg_1" is referred to twice'
        assert refusal(input=[reference, reference]) == message

    @pytest.mark.parametrize("named", [{}, {"id": 5}])
    def test_what_is_referred_to_needs_an_id(self, named: dict[str, Any]) -> None:
        message = refusal(input=[{"type": "item_reference", **named}])
        assert message.startswith("input[0].id: expected a string")

    def test_thoughts_that_were_carried_by_the_client(self) -> None:
        thoughts = {"type": "reasoning", "encrypted_content": carried("Hm – hm."), "summary": []}
        assert conversation(thoughts) == [Message("assistant", thinking="Hm – hm.")]
        summed_up = thoughts | {"summary": [{"type": "summary_text", "text": "Hm."}]}
        assert conversation(summed_up) == [Message("assistant", thinking="Hm.")]

    @pytest.mark.parametrize("content", ["gAAAAB", "llamaherd.", "llamaherd.%", "llamaherd./w=="])
    def test_thoughts_that_only_others_can_read(self, content: str) -> None:
        thoughts = {"type": "reasoning", "encrypted_content": content, "summary": []}
        assert conversation(thoughts) == [Message("assistant")]

    def test_an_earlier_conversation_comes_before(self) -> None:
        earlier = [call("call_1", "get_weather", "{}")]
        output = {"type": "function_call_output", "call_id": "call_1", "output": "fine"}
        wanted = request(input=[output], instructions="Be brief.").chat_after(earlier)
        assert [message.role for message in wanted.messages] == ["system", "assistant", "tool"]
        assert wanted.messages[2].tool_name == "get_weather"

    @pytest.mark.parametrize("nothing", [None, []])
    def test_nothing_to_answer(self, nothing: Any) -> None:
        assert refusal(input=nothing) == "input: expected at least one item"
        assert conversation(instructions="Be brief.") == [Message("system", "Be brief.")]

    @pytest.mark.parametrize(
        ("item", "message"),
        [
            ("x", 'input[1]: expected an object, not "x"'),
            (
                {"type": "web_search_call", "id": "ws_1"},
                'input[1].type: expected "message", "reasoning", "function_call", '
                '"function_call_output", "custom_tool_call" or "custom_tool_call_output", '
                'not "web_search_call"',
            ),
            ({"role": "boss", "content": "x"}, 'input[1].role: expected "user", "assistant", "sys'),
            ({"role": "user"}, "input[1].content: expected a string or an array of parts, but"),
            (
                {"role": "user", "content": [{"type": "input_file", "file_id": "f"}]},
                'input[1].content[0].type: expected "input_text", "output_text", "input_image" or',
            ),
            (
                {"role": "user", "content": [{"type": "input_text"}]},
                "input[1].content[0].text: expected a string, but there is none",
            ),
            (
                {"role": "user", "content": [{"type": "input_image", "file_id": "f"}]},
                "input[1].content[0].image_url: expected a string that isn't empty",
            ),
            (
                {
                    "role": "user",
                    "content": [{"type": "input_image", "image_url": "https://x.example"}],
                },
                "input[1].content[0].image_url: expected a data URL with base64",
            ),
            ({"type": "function_call", "name": "f"}, "input[1].call_id: expected a string"),
            (
                {"type": "function_call", "call_id": "c", "name": "f", "arguments": "{"},
                "input[1].arguments: invalid tool call arguments",
            ),
            (
                {"type": "function_call_output", "call_id": "c"},
                "input[1].output: expected a string or an array of parts",
            ),
        ],
    )
    def test_what_makes_no_sense_is_named_by_its_place(self, item: Any, message: str) -> None:
        assert refusal(input=[{"role": "user", "content": "x"}, item]).startswith(message)


def call(call_id: str, name: str, arguments: str) -> dict[str, Any]:
    return {"type": "function_call", "call_id": call_id, "name": name, "arguments": arguments}


class TestTools:
    def test_functions(self) -> None:
        bare = {"type": "function", "name": "get_time", "parameters": None, "description": "Time"}
        nothing = {"type": "object", "properties": {}}
        assert chat(tools=[WEATHER, bare]).tools == [
            Tool("function", {"name": "get_weather", "parameters": SCHEMA}),
            Tool("function", {"name": "get_time", "description": "Time", "parameters": nothing}),
        ]

    def test_a_custom_tool_is_a_function_of_one_text(self) -> None:
        grammar = {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"}
        (tool,) = chat(tools=[{**PATCH, "format": grammar}]).tools
        assert tool.function["description"] == (
            "Patches.\n\nThe input must match this lark grammar:\nstart: /.+/"
        )
        assert list(tool.function["parameters"]["properties"]) == ["input"]

    def test_a_namespace_stands_before_the_names_of_its_tools(self) -> None:
        tools = [
            {"type": "namespace", "name": "files", "description": "d", "tools": [WEATHER, PATCH]},
            {"type": "namespace", "name": "mcp__x__", "tools": [WEATHER]},
        ]
        names = [tool.function["name"] for tool in chat(tools=tools).tools]
        assert names == ["files__get_weather", "files__apply_patch", "mcp__x__get_weather"]
        (said,) = conversation({**call("c", "get_weather", "{}"), "namespace": "files"})
        assert said.tool_calls[0].function.name == "files__get_weather"

    def test_what_openai_would_run_is_left_out(self) -> None:
        wanted = request(tools=[{"type": "web_search"}, WEATHER, {"type": "mcp"}])
        assert [tool.function["name"] for tool in wanted.chat.tools] == ["get_weather"]
        assert wanted.blank.tools == [WEATHER]

    @pytest.mark.parametrize(
        ("choice", "expected"),
        [
            (None, ToolChoice()),
            ("auto", ToolChoice()),
            ("none", ToolChoice("none")),
            ("required", ToolChoice("required")),
            (
                {"type": "function", "name": "get_weather"},
                ToolChoice("required", ("get_weather",), parallel=False),
            ),
            (
                {"type": "custom", "name": "apply_patch"},
                ToolChoice("required", ("apply_patch",), parallel=False),
            ),
            (
                {
                    "type": "allowed_tools",
                    "mode": "auto",
                    "tools": [
                        {"type": "function", "name": "get_weather"},
                        {"type": "custom", "name": "apply_patch"},
                    ],
                },
                ToolChoice("auto", ("get_weather", "apply_patch")),
            ),
        ],
    )
    def test_choices(self, choice: Any, expected: ToolChoice) -> None:
        assert chat(tools=[WEATHER, PATCH], tool_choice=choice).tool_choice == expected

    def test_one_call_at_most(self) -> None:
        assert chat(parallel_tool_calls=False).tool_choice == ToolChoice(parallel=False)

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            (
                {"tools": [WEATHER, {"type": "local_shell"}]},
                'tools[1].type: expected "function", "custom" or "namespace", not "local_shell"',
            ),
            ({"tools": [{"type": "function"}]}, "tools[0].name: expected a string"),
            ({"tools": [WEATHER, WEATHER]}, 'tools: there are two tools of the name "get_weather"'),
            (
                {"tools": [{"type": "namespace", "name": "n", "tools": [{"type": "mcp"}]}]},
                'tools[0].tools[0].type: expected "function" or "custom", not "mcp"',
            ),
            ({"tool_choice": {"type": "web_search"}}, "tool_choice: expected"),
            ({"tool_choice": "maybe"}, "tool_choice: expected"),
        ],
    )
    def test_what_makes_no_sense(self, fields: dict[str, Any], message: str) -> None:
        assert refusal(**fields).startswith(message)


_FIELDS = [
    *("model", "input", "instructions", "tools", "tool_choice", "parallel_tool_calls", "text"),
    *("reasoning", "max_output_tokens", "temperature", "top_p", "stream", "store", "metadata"),
    *("previous_response_id", "truncation", "include", "top_logprobs"),
]


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(_FIELDS), json_values(), max_size=4))
def test_whatever_comes_is_read_or_refused(fields: dict[str, Any]) -> None:
    with suppress(BadRequest):
        request(**fields).chat_after([])
