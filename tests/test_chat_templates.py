"""Chat templates of GGUF files: recognised where known, else run as Transformers does, bounded."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.errors import TemplateError, TemplateRefusal, Unsupported
from llamaherd.messages import Message, Tool, ToolCall, ToolCallFunction
from llamaherd.prompt import known
from llamaherd.prompt.choose import choose_template
from llamaherd.prompt.jinja import MAX_TEMPLATE, JinjaTemplate
from llamaherd.prompt.known import recognise
from llamaherd.prompt.template import USUAL_TOKENS, GoTemplate, SpecialTokens, Values

TEMPLATES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "data" / "chat-templates.json").read_text()
)["templates"]
BY_NAME: dict[str, str] = {entry["name"]: entry["template"] for entry in TEMPLATES}
CHATML = BY_NAME["teknium/OpenHermes-2.5-Mistral-7B"]

HI = Message(role="user", content="Hi")
WEATHER = Tool(
    type="function",
    function={
        "name": "weather",
        "description": "What it's like outside",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
)
WEATHER_CALL = Message(
    role="assistant",
    tool_calls=[ToolCall(ToolCallFunction(name="weather", arguments={"city": "Paris"}))],
)
WEATHER_RESULT = Message(role="tool", content="11 C", tool_name="weather")


def rendered(
    text: str, *messages: Message, special: SpecialTokens = USUAL_TOKENS, **values: Any
) -> str:
    return JinjaTemplate(text, special).render(Values(messages=messages or (HI,), **values))


# --- recognition --------------------------------------------------------------------------------


@pytest.mark.parametrize("entry", TEMPLATES, ids=[entry["name"] for entry in TEMPLATES])
def test_formats_are_recognised_by_what_they_render(entry: dict[str, Any]) -> None:
    found = recognise(entry["template"])
    assert (found.name if found else None) == entry["known"]


@pytest.mark.parametrize("entry", [e for e in TEMPLATES if e["known"]], ids=lambda e: e["name"])
def test_a_recognised_format_writes_the_same_prompt(entry: dict[str, Any]) -> None:
    found = recognise(entry["template"])
    assert found is not None
    dialogue = [HI, Message(role="assistant", content="Ho."), Message(role="user", content="Bye…")]
    assert GoTemplate(found.text).render(Values(messages=dialogue)) == rendered(
        entry["template"], *dialogue
    )


def test_every_known_format_parses_and_stops_at_its_marks() -> None:
    for form in known.FORMATS:
        template = GoTemplate(form.text)
        assert "Hi" in template.render(Values(messages=[HI]))
        assert all(mark in form.text for mark in form.stop), form.name


def test_recognition_gives_the_stop_parameters() -> None:
    found = recognise(CHATML)
    assert found is not None
    assert found.parameters == {"stop": ["<|im_start|>", "<|im_end|>"]}


def test_a_recognised_format_takes_the_models_own_end_of_text() -> None:
    zephyr = BY_NAME["zephyr with lines of its own"]
    found = recognise(zephyr, SpecialTokens(bos="<s>", eos="<|endoftext|>"))
    assert found is not None
    assert "{{ .Prompt }}<|endoftext|>\n" in found.text


def test_special_tokens_that_read_as_template_language_are_no_danger() -> None:
    zephyr = BY_NAME["zephyr with lines of its own"]
    assert recognise(zephyr, SpecialTokens(eos="{{ .Missing.Field }}")) is None


def test_a_template_that_can_call_tools_is_not_taken_for_one_that_cannot() -> None:
    assert recognise(CHATML + "{% if tools %}{{ tools | tojson }}{% endif %}") is None


@pytest.mark.parametrize("text", ["", "{{ <|im_start|><|im_end|>", "<|im_start|><|im_end|>"])
def test_what_is_no_chat_template_is_not_recognised(text: str) -> None:
    assert recognise(text) is None


# --- choosing -----------------------------------------------------------------------------------


def test_the_models_own_template_wins() -> None:
    assert choose_template("[{{ .Prompt }}]", CHATML).text == "[{{ .Prompt }}]"


def test_then_a_known_format_then_the_chat_template_itself() -> None:
    assert isinstance(choose_template(None, CHATML), GoTemplate)
    qwen = BY_NAME["Qwen-Qwen2.5-7B-Instruct"]
    assert isinstance(choose_template("", qwen), JinjaTemplate)
    assert choose_template(None, qwen).text == qwen


def test_a_model_that_says_nothing_gets_the_plain_prompt() -> None:
    assert choose_template(None, None).render(Values(messages=[HI])) == "Hi"


# --- conventions of Transformers ----------------------------------------------------------------


def test_blocks_take_their_lines_with_them() -> None:
    text = "{% for m in messages %}\n  {% if true %}\n{{ m.content }}\n  {% endif %}\n{% endfor %}"
    assert rendered(text) == "Hi\n"


def test_loops_know_break_and_continue() -> None:
    text = (
        "{% for i in range(9) %}{% if i == 1 %}{% continue %}{% endif %}"
        "{% if i == 4 %}{% break %}{% endif %}{{ i }}{% endfor %}"
    )
    assert rendered(text) == "023"


def test_tojson_escapes_nothing_for_html_and_indents() -> None:
    assert rendered("{{ {'a': '<é>'} | tojson }}") == '{"a": "<é>"}'
    assert rendered("{{ {'a': 1} | tojson(indent=2) }}") == '{\n  "a": 1\n}'


def test_generation_tags_are_transparent() -> None:
    assert rendered("{% generation %}{{ messages[0].content }}{% endgeneration %}") == "Hi"


def test_strftime_now_tells_the_date() -> None:
    assert rendered("{{ strftime_now('%Y') }}") in {
        str(datetime.now().year),
        str(datetime.now().year + 1),
    }


def test_variables_are_those_of_transformers() -> None:
    text = "{{ bos_token }}{{ eos_token }} {{ tools is none }} {{ add_generation_prompt }}"
    special = SpecialTokens(bos="<B>", eos="<E>", adds_bos=False)
    assert rendered(text, special=special) == "<B><E> True True"


def test_a_leading_bos_is_left_to_the_tokenizer_that_adds_one() -> None:
    text = "{{ bos_token }}{% for m in messages %}{{ bos_token }}{{ m.content }}{% endfor %}"
    assert rendered(text) == "<s>Hi"
    assert rendered(text, special=SpecialTokens(adds_bos=False)) == "<s><s>Hi"


@pytest.mark.parametrize(
    ("think", "expected"), [(None, " "), (True, "True "), (False, "False "), ("high", "True high")]
)
def test_thinking_is_switched_by_variables(think: bool | str | None, expected: str) -> None:
    assert rendered("{{ enable_thinking }} {{ reasoning_effort }}", think=think) == expected


def test_an_unfinished_reply_is_continued() -> None:
    draft = Message(role="assistant", content=" Once upon ")
    assert rendered(CHATML, HI, draft).endswith("<|im_start|>assistant\n Once upon ")
    stripping = CHATML.replace("message['content']", "message['content'] | trim")
    assert rendered(stripping, HI, draft).endswith("<|im_start|>assistant\nOnce upon ")


def test_neighbours_are_joined_before_a_template_can_mind() -> None:
    gemma = BY_NAME["google-gemma-2-2b-it"]
    assert "<start_of_turn>user\nHi\n\nHi<end_of_turn>" in rendered(gemma, HI, HI)


@pytest.mark.parametrize(
    ("name", "capabilities"),
    [
        ("google-gemma-2-2b-it", set()),
        ("Qwen-Qwen2.5-7B-Instruct", {"tools"}),
        ("Qwen-Qwen3-0.6B", {"tools", "thinking"}),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", {"thinking"}),
    ],
)
def test_capabilities_show_in_what_a_template_mentions(name: str, capabilities: set[str]) -> None:
    assert JinjaTemplate(BY_NAME[name], USUAL_TOKENS).capabilities == capabilities


# --- tools --------------------------------------------------------------------------------------


def test_qwen_sees_tools_calls_and_results() -> None:
    qwen = BY_NAME["Qwen-Qwen2.5-7B-Instruct"]
    prompt = rendered(qwen, HI, WEATHER_CALL, WEATHER_RESULT, tools=[WEATHER])
    assert '"description": "What it\'s like outside"' in prompt
    assert (
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Paris"}}\n</tool_call>' in prompt
    )
    assert "<tool_response>\n11 C\n</tool_response>" in prompt


def test_mistral_gets_ids_for_calls_that_have_none() -> None:
    prompt = rendered(
        BY_NAME["mistralai-Mistral-Nemo-Instruct-2407"],
        *(HI, WEATHER_CALL, WEATHER_RESULT, Message(role="assistant", content="Cold."), HI),
        tools=[WEATHER],
    )
    assert prompt.count('"id": "call00000"') + prompt.count('"call_id": "call00000"') == 2


def test_results_find_their_calls_by_id_or_name_or_order() -> None:
    calls = [
        ToolCall(ToolCallFunction(name=name, arguments={}), id=call_id)
        for name, call_id in (("f", "x"), ("g", ""), ("g", ""))
    ]
    results = [
        Message(role="tool", content="1", tool_name="g"),
        Message(role="tool", content="2", tool_call_id="x"),
        Message(role="tool", content="3"),
        Message(role="tool", content="4", tool_name="stray"),
    ]
    text = (
        "{% for m in messages if m.role == 'tool' %}{{ m.name }}={{ m.tool_call_id }} {% endfor %}"
    )
    assert rendered(text, Message(role="assistant", tool_calls=calls), *results) == (
        "g=call00001 f=x g=call00002 stray= "
    )


def test_a_template_that_wants_arguments_as_text_gets_them_so() -> None:
    deepseek = BY_NAME["deepseek-ai-DeepSeek-R1-Distill-Llama-8B"]
    prompt = rendered(deepseek, HI, WEATHER_CALL, WEATHER_RESULT)
    assert '```json\n{"city": "Paris"}\n```' in prompt


def test_thinking_of_earlier_turns_is_passed_on() -> None:
    text = "{% for m in messages %}{{ m.reasoning_content }}{% endfor %}"
    assert rendered(text, Message(role="assistant", content="x", thinking="hm"), HI) == "hm"


# --- failures and bounds ------------------------------------------------------------------------


def test_a_refusal_says_what_the_template_says() -> None:
    gemma = BY_NAME["google-gemma-2-2b-it"]
    with pytest.raises(TemplateRefusal, match="refuses these messages: System role not supported"):
        rendered(gemma, Message(role="system", content="x"), HI)


def test_a_suffix_has_no_place_in_a_chat_template() -> None:
    with pytest.raises(Unsupported):
        JinjaTemplate(CHATML, USUAL_TOKENS).render(Values(prompt="a", suffix="b"))


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("{{ 1 +", "line 1: "),
        ("\n{% for %}", "line 2: "),
        ("{% nothing %}", "unknown tag"),
        ("{{ " + "(" * 5000 + "1" + ")" * 5000 + " }}", "nests too deeply"),
        ("x" * (MAX_TEMPLATE + 1), "at most"),
    ],
)
def test_a_template_that_does_not_compile_is_an_error(text: str, complaint: str) -> None:
    with pytest.raises(TemplateError, match=complaint):
        JinjaTemplate(text, USUAL_TOKENS)


def test_a_model_with_such_a_template_can_still_be_looked_at() -> None:
    template = choose_template(None, "{% for %}")
    assert (template.text, template.capabilities) == ("{% for %}", frozenset())
    with pytest.raises(TemplateError, match="line 1: "):
        template.render(Values(messages=[HI]))


def test_a_template_explains_its_refusal_within_bounds() -> None:
    with pytest.raises(TemplateRefusal) as caught:
        rendered("{{ raise_exception('no ' * 9999) }}")
    assert len(str(caught.value)) < 1100


GROWING = (
    "{% set ns = namespace(x=START) %}{% for i in range(60) %}{% set ns.x = STEP %}{% endfor %}"
)


def growing(start: str, step: str, end: str = "") -> str:
    return GROWING.replace("START", start).replace("STEP", step) + end


@pytest.fixture
def few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaherd.prompt.jinja_prices.MAX_STEPS", 100_000)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    "text",
    [
        growing("'aa'", "ns.x ~ ns.x"),
        growing("'aa'", "ns.x + ns.x"),
        growing("['a']", "ns.x + ns.x"),
        growing("['a']", "[ns.x, ns.x]"),
        growing("'a'", "(ns.x, ns.x)"),
        growing("{}", "{'a': ns.x, 'b': ns.x}"),
        growing("{}", "dict(a=ns.x, b=ns.x)"),
        growing("1", "namespace(a=ns.x, b=ns.x)", "{{ ns.x }}"),
        growing("9", "ns.x * ns.x"),
        growing("'a,a'", "ns.x | replace('a', ns.x)"),
        growing("'a,a'", "ns.x.replace('a', ns.x)"),
        growing("['a', 'a']", "[ns.x | join(ns.x | join), 'a']"),
        "{{ 'a' * 10 ** 10 }}",
        "{{ ['a'] * 10 ** 10 }}",
        "{{ 10 ** 99999 }}",
        "{{ '%9999999999d' % 1 }}",
        "{{ '%*d' % (9999999999, 1) }}",
        "{{ '%9999999999d' | format(1) }}",
        "{{ '{:9999999999}'.format(1) }}",
        "{{ '{:{}}'.format(1, 9999999999) }}",
        "{{ 'a'.ljust(9999999999) }}",
        "{{ 'a' | center(9999999999) }}",
        "{{ ('a\n' * 9999999) | indent(9999999) }}",
        "{{ [1] | tojson(indent=9999999999) }}",
        "{{ 1.5 | round(9999999999) }}",
        "{{ range(9999999999) | list }}",
        "{% for i in range(9999) %}{{ 'x' * 9999 }}{% endfor %}",
        "{% for i in range(99999) %}" + "x" * 999 + "{% endfor %}",
        "{% set x = 'ab' * 9999999 %}{% for i in range(9) %}{{ x.split('a')[0] }}{% endfor %}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
        "{% for x in [1] recursive %}{{ loop([1]) }}{% endfor %}",
    ],
)
def test_what_grows_without_measure_is_stopped_at_once(text: str) -> None:
    with pytest.raises(TemplateError):
        rendered(text)


@pytest.mark.usefixtures("few_steps")
@pytest.mark.parametrize(
    "text",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% macro f(n) %}{% if n %}{{ f(n-1) }}{{ f(n-1) }}{% endif %}{% endmacro %}{{ f(90) }}",
        "{{ range(99999) | map('string') | map('upper') | list }}",
    ],
)
def test_what_does_not_end_is_stopped_after_its_steps(text: str) -> None:
    with pytest.raises(TemplateError, match="runs for too long"):
        rendered(text)


def test_what_takes_too_much_time_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llamaherd.prompt.jinja_prices.MAX_SECONDS", 0.0)
    with pytest.raises(TemplateError, match="runs for too long"):
        rendered("{{ messages[0].content }}")


@pytest.mark.parametrize(
    "text",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(messages) }}",
        "{{ messages.clear() }}",
        "{{ messages[0].update(role='x') }}",
        "{{ namespace.__init__.__globals__ }}",
        "{{ ''.__class__.__base__.__subclasses__() }}",
        "{% include '/etc/passwd' %}",
        "{% import 'os' as os %}",
        "{{ lipsum() }}",
    ],
)
def test_the_way_out_of_the_sandbox_is_shut(text: str) -> None:
    with pytest.raises(TemplateError):
        rendered(text)


def test_lists_are_the_template_s_own() -> None:
    call = ToolCallFunction("f", {"x": [1]})
    listed = Tool("function", {"name": "f", "parameters": {"required": ["a"]}})
    values = Values(
        messages=[HI, Message(role="assistant", tool_calls=[ToolCall(call)])], tools=[listed]
    )
    text = (
        "{% set ids = [] %}{% set _ = ids.append('a') %}{% set _ = ids.append(2) %}"
        "{{ ids.pop(0) }}{{ ids }}{{ messages.pop().tool_calls[0].function.arguments.x.pop() }}"
        "{{ tools[0].function.parameters.required.pop() }}"
    )
    template = JinjaTemplate(text, USUAL_TOKENS)
    assert template.render(values) == template.render(values) == "a[2]1a"


def test_what_grows_in_a_list_is_counted() -> None:
    with pytest.raises(TemplateError, match=r"runs for too long|too much text"):
        rendered("{% set ids = ['a'] %}{% for id in ids %}{% set _ = ids.append(id) %}{% endfor %}")


class TestToolUse:
    """A template that is only for conversations with tools, beside the usual one."""

    USUAL = "{% for m in messages %}{{ m.content }}{% endfor %}"
    WITH_TOOLS = "{{ tools[0].function.name }}: {{ messages[0].content }}"

    def test_it_is_taken_where_there_are_tools(self) -> None:
        template = choose_template(None, self.USUAL, USUAL_TOKENS, self.WITH_TOOLS)
        assert "tools" in template.capabilities
        assert template.render(Values(messages=[HI])) == HI.content
        assert template.render(Values(messages=[HI], tools=[WEATHER])) == f"weather: {HI.content}"

    def test_the_model_s_own_template_comes_first(self) -> None:
        template = choose_template("{{ .Prompt }}", self.USUAL, USUAL_TOKENS, self.WITH_TOOLS)
        assert template.capabilities == frozenset()


def test_firefunction_gets_its_tools_as_text() -> None:
    template = JinjaTemplate("{{ functions }} {{ datetime }}", USUAL_TOKENS)
    assert template.capabilities == {"tools"}
    text = template.render(Values(messages=[HI], tools=[WEATHER]))
    functions, end = json.JSONDecoder().raw_decode(text)
    assert functions == [WEATHER.function]
    assert datetime.strptime(text[end:], " %Y-%m-%d %H:%M:%S GMT")


def test_a_conversation_of_a_thousand_messages_is_within_bounds() -> None:
    turns = [HI, Message(role="assistant", content="word " * 100)] * 500
    assert len(rendered(BY_NAME["Qwen-Qwen3-0.6B"], *turns, HI)) > 250_000


FRAGMENTS = st.sampled_from(
    [
        *("{{ ", " }}", "{% ", " %}", "{%- ", "-%}", "{#", "#}", "for m in messages", "endfor"),
        *("if m", "else", "endif", "m.content", "messages", "[0]", "['role']", "(", ")", " | trim"),
        *("set x = ", "'a'", "1", " + ", " ~ ", "macro f()", "endmacro", "f()", "\n", "text", "{"),
    ]
)


@given(st.lists(FRAGMENTS, max_size=12).map("".join))
@settings(max_examples=200, deadline=None)
def test_any_text_renders_or_fails_as_a_template(text: str) -> None:
    with suppress(TemplateError):
        assert isinstance(rendered(text), str)
