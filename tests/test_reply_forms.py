"""What a reply must be, by the template, the tools, the thinking and the format of a request."""

from __future__ import annotations

from typing import Any

import pytest

from llamaherd.errors import BadRequest
from llamaherd.grammar import (
    Blank,
    Exactly,
    Form,
    Grammar,
    InOrder,
    OneOf,
    Repeated,
    Until,
    optional,
)
from llamaherd.messages import Tool, ToolChoice
from llamaherd.prompt.reply_forms import offered_tools, reply_form
from llamaherd.prompt.template import GoTemplate, PromptTemplate
from tests.support.forms import derives
from tests.support.replies import TIME, WEATHER, tool

REQUIRED = ToolChoice("required")
JSON = Grammar("json")
PLAIN = GoTemplate("{{ .Prompt }}")
CHANNELS = GoTemplate("{{/* <|channel|> <|message|> */}}{{ .Prompt }}<|start|>assistant")
SEVEN = Grammar("schema", '{"const": 7}')


@pytest.mark.parametrize(
    ("form", "right", "wrong"),
    [
        (Exactly(""), [""], ["a"]),
        (Exactly('é"\\\n/'), ['é"\\\n/'], ["é"]),
        (Blank(), ["", " ", "\n\n"], ["a", "\n" * 5]),
        (InOrder(()), [""], ["a"]),
        (OneOf((Exactly("a"), Exactly("ab"))), ["a", "ab"], ["", "abc"]),
        (optional(Exactly("a")), ["", "a"], ["aa"]),
        (Repeated(Exactly("a"), 2, 3), ["aa", "aaa"], ["a", "aaaa"]),
        (Repeated(Exactly("a"), 0, 2, ","), ["", "a", "a,a"], [",", "a,", "a,a,a"]),
        (Repeated(Exactly("a"), 1, 1, ","), ["a"], ["", "a,a"]),
        (Repeated(Exactly("a"), 0, 0, ","), [""], ["a"]),
        (Until("</x>"), ["</x>", "<</x</x>", "\n é</x>"], ["</x></x>", "a"]),
        (Until("\n</x>", "</x>"), ["\n</x>", "a\n\n</x>"], ["a</x>", "a</x>\n</x>"]),
        (Until(".", least=1, most=2), ["é.", "ab."], [".", "abc."]),
        (Until(".", inner=True), [".", "a\nb."], ["\na.", "a\n.", "\n."]),
        (InOrder((Until("."), Exactly("a"), Blank(), SEVEN)), ["x.a 7", ".a7"], [".a 8"]),
        (InOrder((Exactly("a"), Grammar("grammar", 'start: "b" | "c"'))), ["ab", "ac"], ["a"]),
        (InOrder((Exactly("a"), Grammar("grammar", 'root ::= "b" | "c"'))), ["ab"], ["ad"]),
        (InOrder((Exactly("a"), JSON)), ['a{"b": [1]}'], ["a1", "a[]"]),
    ],
)
def test_forms(form: Form, right: list[str], wrong: list[str]) -> None:
    for text in right:
        assert derives(form, text), text
    for text in wrong:
        assert not derives(form, text), text


def form(template: PromptTemplate = PLAIN, prompt: str = "", **asked: Any) -> Form | None:
    return reply_form(template, prompt, **asked)


def test_a_free_reply_has_no_form() -> None:
    assert form() is form(tools=[TIME]) is form(think=True) is form(CHANNELS, think=True) is None


def test_what_a_format_asks_for_is_all() -> None:
    assert form(grammar=JSON) == JSON
    assert form(grammar=JSON, think=False) == JSON


class TestThinking:
    def test_it_comes_first(self) -> None:
        found = form(grammar=SEVEN, think=True)
        assert derives(found, "<think>\nhm {</think>\n\n7")
        assert derives(found, "7")
        assert not derives(found, "hm</think>7")
        assert not derives(found, "<think>7")

    def test_the_prompt_may_have_opened_it(self) -> None:
        found = form(prompt="<think>\n", grammar=SEVEN, think=True)
        assert derives(found, "hm</think>7")
        assert not derives(found, "7")

    def test_it_is_not_expected_where_it_was_not_asked_for(self) -> None:
        assert not derives(form(prompt="<think>\n", grammar=SEVEN), "hm</think>7")


class TestChannels:
    ANALYSIS = "<|channel|>analysis<|message|>hm<|end|><|start|>assistant"
    FINAL = "<|channel|>final<|message|>7"
    CALL = "<|channel|>commentary to=functions.get_time <|constrain|>json<|message|>{}"

    def test_a_format_is_that_of_the_answer(self) -> None:
        found = form(CHANNELS, grammar=SEVEN)
        assert derives(found, self.FINAL)
        assert derives(found, self.ANALYSIS + self.FINAL)
        assert not derives(found, "7")

    def test_a_call(self) -> None:
        found = form(CHANNELS, tools=[TIME], choice=REQUIRED)
        assert derives(found, self.CALL)
        assert derives(found, self.ANALYSIS + self.CALL)
        assert not derives(found, self.FINAL)

    def test_a_call_or_an_answer_in_a_format(self) -> None:
        found = form(CHANNELS, tools=[TIME], grammar=SEVEN)
        assert derives(found, self.CALL)
        assert derives(found, self.ANALYSIS + self.FINAL)


class TestCalls:
    ONE = '{"name": "get_time", "parameters": {}}'
    OTHER = '{"name": "get_weather", "parameters": {"city": "Paris"}}'

    def test_one_or_more(self) -> None:
        found = form(tools=[TIME, WEATHER], choice=REQUIRED)
        assert derives(found, self.ONE)
        assert derives(found, f"{self.ONE}; {self.OTHER}")
        assert not derives(found, "")
        assert not derives(found, "Hello")

    def test_one_only(self) -> None:
        found = form(tools=[TIME, WEATHER], choice=ToolChoice("required", parallel=False))
        assert derives(found, self.OTHER)
        assert not derives(found, f"{self.ONE}; {self.OTHER}")

    def test_arguments_are_those_that_the_tool_has(self) -> None:
        found = form(tools=[TIME, WEATHER], choice=REQUIRED)
        assert not derives(found, '{"name": "get_time", "parameters": {"a": 1}}')
        assert not derives(found, '{"name": "get_weather", "parameters": {"town": "Paris"}}')
        assert not derives(found, '{"name": "get_weather", "parameters": {"city": 1}}')

    def test_an_object_whose_properties_are_defined_elsewhere_stays_open(self) -> None:
        anything = tool("get_time")
        anything.function["parameters"] = {"anyOf": [{"required": ["a"]}, {"required": ["b"]}]}
        found = form(tools=[anything], choice=REQUIRED)
        assert derives(found, '{"name": "get_time", "parameters": {"a": 1}}')

    def test_required_calls_come_before_a_format(self) -> None:
        found = form(tools=[TIME], choice=REQUIRED, grammar=SEVEN)
        assert derives(found, self.ONE)
        assert not derives(found, "7")

    def test_calls_or_a_format(self) -> None:
        found = form(tools=[TIME], grammar=SEVEN)
        assert derives(found, self.ONE)
        assert derives(found, "7")

    def test_after_thinking(self) -> None:
        found = form(tools=[TIME], choice=REQUIRED, think=True)
        assert derives(found, f"<think>hm</think>\n{self.ONE}")


class TestWhatIsRefused:
    """A tool of which not all can be guaranteed, in the way that the model has to call it."""

    CODER = GoTemplate("{{ .Tools }} <tool_call> <function=f> <parameter=p> {{ .Prompt }}")

    @pytest.mark.parametrize(
        ("parameters", "error"),
        [
            (
                {"properties": {"a": {"type": "string", "pattern": "a+"}}},
                "parameters.properties.a.pattern: can't be guaranteed in the way this model calls"
                " tools",
            ),
            (
                {"anyOf": [{"required": ["a"]}]},
                'parameters: "anyOf" can\'t be guaranteed in the way this model calls tools',
            ),
            ({"required": ["a"]}, 'parameters.required: there is no property "a"'),
            (
                {"properties": {"a b": {}}},
                "parameters.properties.a b: this name has no place in a tag",
            ),
            (
                {"properties": {"a": {"enum": ["</parameter>"]}}},
                "parameters.properties.a: a value has no place between tags",
            ),
            (
                {"properties": {"a": {"type": "string", "maxLength": -1}}},
                "parameters.properties.a: maxLength must be from 0 to 10000",
            ),
            (
                {"properties": {"a": {"enum": []}}},
                "parameters.properties.a: these choices can't be guaranteed in the way this model"
                " calls tools",
            ),
            (
                {"properties": {"a": {"type": "array", "items": {"$ref": "#"}}}},
                "parameters: only references to $defs and definitions can be guaranteed in the way"
                " this model calls tools",
            ),
            (
                {"properties": {f"p{number}": {} for number in range(65)}},
                "parameters.properties: there are more than 64",
            ),
            ({"properties": {"a": 1}}, "parameters.properties.a: expected a JSON Schema"),
            ({"type": "array"}, "parameters: expected the JSON Schema of an object"),
            ({"properties": []}, "parameters: properties or required are of the wrong type"),
        ],
    )
    def test_parameters(self, parameters: dict[str, Any], error: str) -> None:
        given = tool("f")
        given.function["parameters"] = parameters
        with pytest.raises(BadRequest) as refused:
            form(self.CODER, tools=[TIME, given], choice=REQUIRED)
        assert refused.value.message == f'tools["f"].{error}'

    def test_a_name(self) -> None:
        with pytest.raises(BadRequest) as refused:
            form(self.CODER, tools=[tool("a<b")], choice=REQUIRED)
        assert refused.value.message == (
            'tools["a<b"]: this name can\'t be guaranteed in the way this model calls tools'
        )

    def test_more_than_is_compiled(self) -> None:
        large = tool("f", a={"enum": ["a" * 300_000]})
        with pytest.raises(BadRequest, match="tools: to be called they may have 262144 bytes"):
            form(tools=[large], choice=REQUIRED)

    def test_with_a_format_such_tools_are_not_called(self) -> None:
        assert form(self.CODER, tools=[tool("a<b")], grammar=SEVEN) == SEVEN


class TestOfferedTools:
    def test_all_by_default(self) -> None:
        assert offered_tools([TIME, WEATHER], ToolChoice()) == [TIME, WEATHER]
        assert offered_tools([TIME, WEATHER], REQUIRED) == [TIME, WEATHER]

    def test_those_that_are_named(self) -> None:
        assert offered_tools([TIME, WEATHER], ToolChoice(names=("get_time",))) == [TIME]

    def test_none(self) -> None:
        assert offered_tools([TIME], ToolChoice("none")) == []

    def test_names_that_are_not_there(self) -> None:
        with pytest.raises(BadRequest, match='tool_choice: there is no function "f" among'):
            offered_tools([TIME], ToolChoice("auto", ("f",)))

    def test_nothing_to_call(self) -> None:
        with pytest.raises(BadRequest, match="tool_choice: there are no tools"):
            offered_tools([], REQUIRED)


def test_null_in_a_tool_is_as_good_as_nothing() -> None:
    without, with_null = (
        Tool("function", {"name": "get_time", "parameters": {"type": "object", **more}})
        for more in ({}, {"properties": None, "required": None})
    )
    assert form(tools=[with_null], choice=REQUIRED) == form(tools=[without], choice=REQUIRED)


KIMI = GoTemplate("{{/* <|tool_calls_section_begin|> */}}{{ .Prompt }}")
KIMI_ID = "<|tool_call_begin|>functions.{}<|tool_call_argument_begin|>"
SOLAR = GoTemplate("{{/* <|tool_call:begin|> */}}{{ .Prompt }}")
SOLAR_ID = "<|tool_call:begin|>{}<|tool_call:name|>get_time<|tool_call:args|>"


@pytest.mark.parametrize(
    ("template", "prompt", "call"),
    [
        (KIMI, "", KIMI_ID.format("get_time:0")),
        (KIMI, KIMI_ID.format("get_time:0"), KIMI_ID.format("get_time:1")),
        (
            KIMI,
            # The oldest calls may have been dropped.
            KIMI_ID.format("get_time:9") + KIMI_ID.format("get_weather:10"),
            KIMI_ID.format("get_time:11"),
        ),
        (KIMI, KIMI_ID.format("of_another_kind"), KIMI_ID.format("get_time:0")),
        (SOLAR, "", SOLAR_ID.format("call_0")),
        (SOLAR, SOLAR_ID.format("a1b2c3") + SOLAR_ID.format("call_0"), SOLAR_ID.format("call_1")),
    ],
)
def test_ids_of_demanded_calls_are_new_in_the_conversation(
    template: GoTemplate, prompt: str, call: str
) -> None:
    wanted = form(template, prompt, tools=[TIME], choice=REQUIRED)
    opening, closing = {
        KIMI: ("<|tool_calls_section_begin|>", "<|tool_call_end|><|tool_calls_section_end|>"),
        SOLAR: ("<|tool_calls|>", "<|tool_call:end|>"),
    }[template]
    assert derives(wanted, opening + call + "{}" + closing)
