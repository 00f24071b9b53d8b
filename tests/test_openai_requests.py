"""What OpenAI's clients ask for, in our own terms."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.api.openai_requests import (
    MAX_CHOICES,
    ChatCompletionRequest,
    CompletionRequest,
    read_chat_completion,
    read_completion,
)
from llamaherd.errors import FieldError, LlamaherdError
from llamaherd.messages import Message, Tool, ToolCall, ToolCallFunction, ToolChoice

HELLO = [{"role": "user", "content": "hello"}]
WEATHER = {"name": "get_weather", "description": "The weather", "parameters": {"type": "object"}}
TIME = {"name": "get_time"}
TOOLS = [{"type": "function", "function": WEATHER}, {"type": "function", "function": TIME}]
PICTURE = b"\x89PNG and so on"
DATA_URL = f"data:image/png;base64,{base64.b64encode(PICTURE).decode()}"


def chat(**fields: Any) -> ChatCompletionRequest:
    return read_chat_completion(json.dumps({"model": "m", "messages": HELLO} | fields).encode())


def completion(**fields: Any) -> CompletionRequest:
    return read_completion(json.dumps({"model": "m", "prompt": "p"} | fields).encode())


def conversation(*messages: dict[str, Any]) -> list[Message]:
    return chat(messages=messages).chat.messages


def refusal(read: Callable[..., Any], **fields: Any) -> str:
    with pytest.raises(LlamaherdError) as caught:
        read(**fields)
    assert caught.value.status == 400
    return caught.value.message


class TestOptions:
    def test_the_whole_distribution_is_drawn_from_by_default(self) -> None:
        assert chat().chat.options == {"temperature": 1.0, "top_p": 1.0}
        assert completion().generate.options == {"temperature": 1.0, "top_p": 1.0}

    @pytest.mark.parametrize("read", [chat, completion])
    def test_fields_become_options(self, read: Any) -> None:
        given = {
            "temperature": 0,
            "top_p": 0.5,
            "frequency_penalty": -0.5,
            "presence_penalty": 1.5,
            "seed": 7,
            "stop": "END",
            "max_tokens": 12,
        }
        request = read(**given)
        ours = request.chat if read is chat else request.generate
        assert ours.options == {
            "temperature": 0.0,
            "top_p": 0.5,
            "frequency_penalty": -0.5,
            "presence_penalty": 1.5,
            "seed": 7,
            "stop": ("END",),
            "num_predict": 12,
        }

    def test_null_is_as_good_as_nothing(self) -> None:
        names = ("temperature", "top_p", "seed", "stop", "max_tokens", "n", "logprobs", "tools")
        assert chat(**dict.fromkeys(names)) == chat()

    def test_the_newer_name_of_max_tokens_wins(self) -> None:
        assert chat(max_tokens=5, max_completion_tokens=9).chat.options["num_predict"] == 9
        assert chat(max_completion_tokens=9).chat.options["num_predict"] == 9

    @pytest.mark.parametrize(
        ("given", "stops"), [("a", ("a",)), (["a", "b"], ("a", "b")), (["a", 1], ("a",)), ([], ())]
    )
    def test_stop_strings(self, given: Any, stops: tuple[str, ...]) -> None:
        assert chat(stop=given).chat.options["stop"] == stops

    def test_a_stop_that_is_no_text_is_ignored_as_in_ollama(self) -> None:
        assert "stop" not in chat(stop=5).chat.options

    def test_what_changes_nothing_is_ignored(self) -> None:
        ignored = {"user": "u", "store": True, "metadata": {"a": "b"}, "service_tier": "auto"}
        assert chat(**ignored) == chat()

    def test_biases_are_by_token(self) -> None:
        assert chat(logit_bias={"7": -100, "12": 1.5}).chat.logit_bias == {7: -100.0, 12: 1.5}
        assert completion(logit_bias={"0": 3}).generate.logit_bias == {0: 3.0}

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"temperature": -1}, 'option "temperature" must be at least 0, not -1.0'),
            ({"max_tokens": -3}, "max_tokens: must be between -2 and 2147483647, not -3"),
            (
                {"max_tokens": 2**31},
                "max_tokens: must be between -2 and 2147483647, not 2147483648",
            ),
            ({"n": 0}, "n: must be between 1 and 128, not 0"),
            ({"n": 129}, "n: must be between 1 and 128, not 129"),
            ({"logit_bias": {"a": 1}}, 'logit_bias: "a" is not the number of a token'),
            ({"logit_bias": {"-1": 1}}, 'logit_bias: "-1" is not the number of a token'),
            ({"logit_bias": {"1": 101}}, "logit_bias: must be between -100 and 100, not 101"),
            (
                {"response_format": {"type": "yaml"}},
                'response_format.type: expected text, json_object or json_schema, not "yaml"',
            ),
            (
                {"response_format": {"type": "json_schema"}},
                "response_format.json_schema.schema: expected a JSON Schema object",
            ),
        ],
    )
    def test_what_makes_no_sense_is_refused_by_name(
        self, fields: dict[str, Any], message: str
    ) -> None:
        assert refusal(chat, **fields) == message
        assert refusal(completion, **fields) == message

    def test_wrong_types_are_refused_in_go_s_words(self) -> None:
        assert refusal(chat, temperature="hot") == (
            "json: cannot unmarshal string into Go struct field "
            "ChatCompletionRequest.temperature of type float64"
        )
        assert refusal(completion, max_tokens=1.5) == (
            "json: cannot unmarshal number 1.5 into Go struct field "
            "CompletionRequest.max_tokens of type int"
        )


class TestFormat:
    @pytest.mark.parametrize(
        ("given", "ours"),
        [
            ({"type": "text"}, None),
            ({"type": "json_object"}, "json"),
            (
                {"type": "json_schema", "json_schema": {"name": "t", "schema": {"type": "object"}}},
                {"type": "object"},
            ),
        ],
    )
    def test_response_format_becomes_format(self, given: dict[str, Any], ours: Any) -> None:
        assert chat(response_format=given).chat.format == ours
        assert completion(response_format=given).generate.format == ours


class TestThinking:
    @pytest.mark.parametrize(
        ("effort", "think"),
        [
            ("none", False),
            ("minimal", "low"),
            ("low", "low"),
            ("medium", "medium"),
            ("high", "high"),
            ("xhigh", "high"),
            ("max", "high"),
            (None, None),
        ],
    )
    def test_effort_becomes_think(self, effort: str | None, think: bool | str | None) -> None:
        assert chat(reasoning_effort=effort).chat.think == think
        assert chat(reasoning={"effort": effort}).chat.think == think

    def test_an_unknown_effort_is_refused(self) -> None:
        assert refusal(chat, reasoning_effort="much").startswith("invalid reasoning value: 'much'")


class TestMessages:
    def test_roles(self) -> None:
        messages = conversation(
            {"role": "developer", "content": "be brief"}, {"role": "User", "content": "hello"}
        )
        assert messages == [Message("system", "be brief"), Message("user", "hello")]

    def test_images_before_any_text_stand_in_front(self) -> None:
        parts = [
            {"type": "image_url", "image_url": {"url": DATA_URL}},
            {"type": "text", "text": "What is this?"},
        ]
        assert conversation({"role": "user", "content": parts}) == [
            Message("user", "What is this?", images=[PICTURE])
        ]

    def test_parts_are_one_message(self) -> None:
        parts = [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": DATA_URL}},
            {"type": "image_url", "image_url": DATA_URL},
            {"type": "text", "text": "And this?"},
        ]
        assert conversation({"role": "user", "content": parts}) == [
            Message(
                "user", "What is this?\n\n[img]\n\n[img]\n\nAnd this?", images=[PICTURE, PICTURE]
            )
        ]

    def test_a_tool_s_result_gets_the_name_of_the_call(self) -> None:
        call = {
            "id": "call_1",
            "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Zürich"}'},
        }
        result = {"role": "tool", "tool_call_id": "call_1", "content": "rain"}
        asked = {"role": "assistant", "content": None, "tool_calls": [call]}
        assert conversation(asked, result) == [
            Message(
                "assistant",
                tool_calls=[
                    ToolCall(ToolCallFunction("get_weather", {"city": "Zürich"}), "call_1")
                ],
            ),
            Message("tool", "rain", tool_name="get_weather", tool_call_id="call_1"),
        ]
        assert conversation(result | {"name": "other"})[0].tool_name == "other"

    def test_the_older_calls_of_functions_and_their_results(self) -> None:
        function = {"name": "get_time", "arguments": '{"zone": "CET"}'}
        asked = {"role": "assistant", "content": None, "function_call": function}
        result = {"role": "function", "name": "get_time", "content": "noon"}
        assert conversation(asked, result) == [
            Message(
                "assistant", tool_calls=[ToolCall(ToolCallFunction("get_time", {"zone": "CET"}))]
            ),
            Message("tool", "noon", tool_name="get_time"),
        ]
        assert conversation(asked | {"function_call": None}) == [Message("assistant")]

    @pytest.mark.parametrize("field", ["reasoning", "reasoning_content"])
    def test_what_the_model_thought(self, field: str) -> None:
        said = {"role": "assistant", "content": "42", field: "hm"}
        assert conversation(said) == [Message("assistant", "42", thinking="hm")]

    @pytest.mark.parametrize("arguments", ["", "{}", None])
    def test_a_call_without_arguments(self, arguments: str | None) -> None:
        call = {"id": "c", "function": {"name": "get_time", "arguments": arguments}}
        (message,) = conversation({"role": "assistant", "tool_calls": [call]})
        assert message.tool_calls == [ToolCall(ToolCallFunction("get_time", {}), "c")]

    @pytest.mark.parametrize(
        ("message", "refused"),
        [
            (
                {"role": "user"},
                "messages[0].content: expected a string or an array of parts, not null",
            ),
            (
                {"role": "user", "content": {"text": "x"}},
                "messages[0].content: expected a string or an array of parts, not object",
            ),
            (
                {"role": "user", "content": ["x"]},
                "messages[0].content[0]: expected an object of type text or image_url, not string",
            ),
            (
                {"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]},
                "messages[0].content[0]: expected an object of type text or image_url, "
                'not "input_audio"',
            ),
            (
                {"role": "user", "content": [{"type": "text", "text": 1}]},
                'messages[0].content[0]: "text" is missing or of the wrong type',
            ),
            (
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": {"url": "https://a.b/c.png"}}],
                },
                "messages[0].content[0].image_url: expected a data URL with base64, "
                "data:image/png;base64,…",
            ),
            (
                {
                    "role": "user",
                    "content": [{"type": "image_url", "image_url": "data:image/png;base64,%%"}],
                },
                "messages[0].content[0].image_url: illegal base64 data",
            ),
            (
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": "[1]"}}],
                },
                "messages[0].tool_calls[0].function.arguments: invalid tool call arguments: "
                "array instead of object",
            ),
        ],
    )
    def test_bad_messages_are_refused_by_place(self, message: dict[str, Any], refused: str) -> None:
        assert refusal(chat, messages=[message]) == refused

    def test_there_must_be_some(self) -> None:
        assert refusal(chat, messages=[]) == "[] is too short - 'messages'"


class TestTools:
    @pytest.mark.parametrize("choice", [None, "auto", "required"])
    def test_all_are_offered(self, choice: str | None) -> None:
        request = chat(tools=TOOLS, tool_choice=choice)
        assert request.chat.tools == [Tool("function", WEATHER), Tool("function", TIME)]

    def test_the_choice_is_passed_on(self) -> None:
        choice = {"type": "function", "function": {"name": "get_time"}}
        several = {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [choice]}}
        one = chat(tools=TOOLS, tool_choice=choice, parallel_tool_calls=True)
        assert one.chat.tool_choice == ToolChoice("required", ("get_time",), parallel=False)
        allowed = chat(tools=TOOLS, tool_choice=several)
        assert allowed.chat.tool_choice == ToolChoice("auto", ("get_time",))
        required = chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=False)
        assert required.chat.tool_choice == ToolChoice("required", parallel=False)

    def test_bad_ones_are_refused(self) -> None:
        assert refusal(chat, tools=TOOLS, tool_choice="maybe") == (
            'tool_choice: expected "none", "auto", "required" or a function, not "maybe"'
        )
        assert refusal(chat, tools=[{"type": "custom", "custom": {"name": "c"}}]) == (
            'tools[0].type: only "function" is supported, not "custom"'
        )
        assert refusal(chat, tools=[{"type": "function"}]) == (
            "tools[0].function.name: expected a string"
        )


def texts(request: CompletionRequest) -> list[list[str]]:
    """Of the prompts of all replies to each prompt."""
    return [[one.generate.prompt for one in choices] for choices in request.candidates()]


class TestChoices:
    def test_each_has_a_seed_of_its_own(self) -> None:
        seeds = [choice.options["seed"] for choice in chat(n=3, seed=2**32 - 1).choices()]
        assert seeds == [2**32 - 1, 0, 1]

    def test_without_a_seed_new_ones_are_drawn_even_if_the_model_sets_one(self) -> None:
        first, second = chat(n=2).choices()
        assert "seed" not in first.options
        assert second.options["seed"] == -1

    @pytest.mark.parametrize(
        ("prompt", "found", "tokens"),
        [
            ("a", ["a"], [None]),
            (["a", "b"], ["a", "b"], [None, None]),
            ([1, 2], [""], [[1, 2]]),
            ([[1], [2, 3]], ["", ""], [[1], [2, 3]]),
        ],
    )
    def test_prompts(self, prompt: Any, found: list[str], tokens: list[Any]) -> None:
        choices = [one for (one,) in completion(prompt=prompt).candidates()]
        assert [choice.generate.prompt for choice in choices] == found
        assert [choice.tokens for choice in choices] == tokens

    def test_replies_to_one_prompt_stand_together(self) -> None:
        assert texts(completion(prompt=["a", "b"], n=2)) == [["a", "a"], ["b", "b"]]

    @pytest.mark.parametrize("prompt", [5, [], [[]], ["a", 1], [1.5], [-1], [True], [2**31], {}])
    def test_a_prompt_that_is_none_is_refused(self, prompt: Any) -> None:
        assert refusal(completion, prompt=prompt) == (
            "prompt: expected a string, tokens, or an array of strings or of tokens"
        )

    def test_there_are_not_too_many(self) -> None:
        assert sum(map(len, texts(completion(prompt=["a"] * 64, n=2)))) == MAX_CHOICES
        assert refusal(completion, prompt=["a"] * 65, n=2) == (
            "prompt: there may be at most 128 replies to all prompts"
        )


class TestBestOf:
    def test_more_are_written_than_are_told_of(self) -> None:
        request = completion(prompt=["a", "b"], n=2, best_of=3)
        assert (request.delivery.n, request.best_of) == (2, 3)
        assert texts(request) == [["a", "a", "a"], ["b", "b", "b"]]

    def test_they_are_compared_by_their_log_probabilities(self) -> None:
        assert completion(best_of=2).generate.logprobs
        assert completion(best_of=2).logprobs is None
        assert not completion(n=2, best_of=2).generate.logprobs

    @pytest.mark.parametrize(
        ("fields", "message"),
        [
            ({"best_of": 0}, "best_of: must be at least n, which is 1, not 0"),
            ({"best_of": 2, "n": 3}, "best_of: must be at least n, which is 3, not 2"),
            ({"best_of": 21}, "best_of: must be between 1 and 20, not 21"),
            ({"best_of": 2, "stream": True}, "best_of: can't be more than n in a stream"),
            (
                {"best_of": 20, "prompt": ["a"] * 7},
                "prompt: there may be at most 128 replies to all prompts",
            ),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, fields: dict[str, Any], message: str) -> None:
        assert refusal(completion, **fields) == message

    def test_as_many_as_are_told_of_may_stream(self) -> None:
        assert completion(n=2, best_of=2, stream=True).best_of == 2


class TestLogprobs:
    def test_of_a_chat(self) -> None:
        request = chat(logprobs=True, top_logprobs=3).chat
        assert (request.logprobs, request.top_logprobs) == (True, 3)
        assert chat(logprobs=False, top_logprobs=0) == chat()

    @pytest.mark.parametrize(("given", "top"), [(0, 0), (5, 5)])
    def test_of_a_completion(self, given: int, top: int) -> None:
        request = completion(logprobs=given)
        assert request.logprobs == given
        assert (request.generate.logprobs, request.generate.top_logprobs) == (True, top)
        assert completion(logprobs=False) == completion()

    def test_an_echoed_prompt_is_scored_with_them(self) -> None:
        assert completion(echo=True, logprobs=0).scored
        assert completion(echo=True, logprobs=0, max_tokens=0).scored
        assert not completion(echo=True).scored
        assert not completion(echo=True, logprobs=False).scored
        assert not completion(echo=True, best_of=2).scored
        assert not completion(logprobs=1).scored

    @pytest.mark.parametrize(
        ("read", "fields", "message"),
        [
            (chat, {"top_logprobs": 2}, "top_logprobs: is allowed only if logprobs is true"),
            (
                chat,
                {"logprobs": True, "top_logprobs": 21},
                "top_logprobs: must be between 0 and 20, not 21",
            ),
            (completion, {"logprobs": -1}, "logprobs: must be between 0 and 20, not -1"),
            (
                completion,
                {"logprobs": True},
                "logprobs: expected how many alternatives to tell, not true",
            ),
            (
                completion,
                {"logprobs": 1, "echo": True, "suffix": "end"},
                "suffix: can't be had with logprobs of an echoed prompt",
            ),
        ],
    )
    def test_what_makes_no_sense_is_refused(
        self, read: Callable[..., Any], fields: dict[str, Any], message: str
    ) -> None:
        assert refusal(read, **fields) == message


class TestErrors:
    """The field and the kind of the mistake, as OpenAI tells them."""

    @pytest.mark.parametrize(
        ("fields", "field", "code"),
        [
            ({"n": 0}, "n", "integer_below_min_value"),
            ({"n": 129}, "n", "integer_above_max_value"),
            ({"temperature": "hot"}, "temperature", "invalid_type"),
            ({"temperature": -1}, "temperature", "invalid_value"),
            (
                {"stream_options": {"include_usage": 1}},
                "stream_options.include_usage",
                "invalid_type",
            ),
            ({"messages": [{"role": "user"}]}, "messages[0].content", "invalid_value"),
            ({"messages": []}, "messages", "empty_array"),
            ({"response_format": {"type": "yaml"}}, "response_format.type", "invalid_value"),
            ({"functions": [WEATHER]}, "functions", "unsupported_parameter"),
            ({"modalities": ["text", "audio"]}, "modalities", "unsupported_parameter"),
        ],
    )
    def test_of_a_field(self, fields: dict[str, Any], field: str, code: str) -> None:
        with pytest.raises(FieldError) as caught:
            chat(**fields)
        assert (caught.value.field, caught.value.code) == (field, code)

    def test_what_asks_for_nothing_unsupported_is_no_error(self) -> None:
        assert chat(functions=[], function_call="none", modalities=["text"]) == chat()


#: Names that mean something within some field.
KEYS = (
    *("role", "content", "type", "text", "image_url", "url", "tool_calls", "id", "function"),
    *("name", "arguments", "schema", "json_schema", "effort", "include_usage"),
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4)
    ),
    max_leaves=12,
)
FIELDS = (
    *("model", "messages", "prompt", "suffix", "echo", "best_of", "stream", "stream_options", "n"),
    *("max_tokens", "max_completion_tokens", "temperature", "top_p", "seed", "stop", "logit_bias"),
    *(
        "logprobs",
        "top_logprobs",
        "functions",
        "modalities",
        "response_format",
        "tools",
        "tool_choice",
        "reasoning_effort",
        "reasoning",
    ),
)


@pytest.mark.parametrize("read", [read_chat_completion, read_completion])
@settings(max_examples=100, deadline=None)
@given(fields=st.dictionaries(st.sampled_from(FIELDS), JSON, max_size=6))
def test_whatever_is_sent_is_read_or_refused_as_a_bad_request(
    read: Callable[[bytes], Any], fields: dict[str, Any]
) -> None:
    assert status_of(read, {"messages": HELLO} | fields) in (200, 400)


def status_of(read: Callable[[bytes], Any], fields: dict[str, Any]) -> int:
    try:
        read(json.dumps(fields).encode())
    except LlamaherdError as error:
        return error.status
    return 200
