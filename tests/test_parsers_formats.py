"""Each family's way of writing tool calls, however the text is cut into pieces."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from llamaherd.events import Text, ToolCalls
from llamaherd.prompt.parsers import (
    apertus,
    command_r,
    deepseek,
    firefunction,
    functionary,
    gemma,
    gigachat,
    glm,
    granite,
    hermes,
    invoke,
    kimi,
    kimi_k3,
    llama,
    minicpm,
    minimax,
    mistral,
    phi,
    pythonic,
    solar,
    step,
)
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.stream import CallFormat, CallParser
from tests.support.replies import TIME, WEATHER, calls_in, in_pieces, parts, summary, tool

PARIS = ("get_weather", {"city": "Paris"})
NOW: tuple[str, dict[str, Any]] = ("get_time", {})


def parser(form: CallFormat) -> CallParser:
    return CallParser(form, Toolbox([WEATHER, TIME]))


def read(form: CallFormat, text: str) -> list[Any]:
    """What stands in ``text``; it must not depend on how the text arrives."""
    whole = summary(parts(parser(form), [text]))
    for size in (1, 2, 3, 7):
        assert summary(parts(parser(form), in_pieces(text, size))) == whole
    return whole


CALLS = [
    (hermes, '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n</tool_call>'),
    (hermes, '<tool_call>{"arguments": {"city": "Paris"}, "name": "get_weather"}</tool_call>'),
    (hermes, '<tool_call>[{"name": "get_weather", "arguments": {"city": "Paris"}}]</tool_call>'),
    (
        hermes,
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nParis\n</parameter>\n</function>\n"
        "</tool_call>",
    ),
    (hermes, '<function=get_weather>{"city": "Paris"}</function>'),
    (mistral, '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}]'),
    (
        mistral,
        '[TOOL_CALLS][{"name": "get_weather", "arguments": {"city": "Paris"}, "id": "a1b2c3d4e"}]',
    ),
    (mistral, '[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{"city": "Paris"}'),
    (mistral, '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}'),
    (mistral, '[TOOL_CALLS]get_weather{"city": "Paris"}'),
    (llama, '{"name": "get_weather", "parameters": {"city": "Paris"}}'),
    (
        llama,
        '{"type": "function", "function": "get_weather", "parameters": {"city": "Paris"}}',
    ),
    (
        llama,
        '{"type": "function", "function": {"name": "get_weather", '
        '"arguments": "{\\"city\\": \\"Paris\\"}"}}',
    ),
    (llama, '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}'),
    (llama, '<|python_tag|>get_weather(city="Paris")'),
    (llama, '<function=get_weather>{"city": "Paris"}</function>'),
    (llama, '```json\n{"name": "get_weather", "parameters": {"city": "Paris"}}\n```'),
    (llama, '[{"name": "get_weather", "parameters": {"city": "Paris"}}]'),
    (llama, '```json\n[{"name": "get_weather", "parameters": {"city": "Paris"}}]\n```'),
    *(
        (family, text)
        for family in (llama, pythonic)
        for text in (
            '```python\n[get_weather(city="Paris")]\n```',
            '```tool_code\nget_weather(city="Paris")\n```',
            '```tool_code\n[get_weather(city="Paris")]\n```',
        )
    ),
    (
        command_r,
        'Action: ```json\n[\n    {\n        "tool_name": "get_weather",\n'
        '        "parameters": {"city": "Paris"}\n    }\n]```',
    ),
    (
        command_r,
        '<|START_ACTION|>[\n    {"tool_call_id": "0", "tool_name": "get_weather", '
        '"parameters": {"city": "Paris"}}\n]<|END_ACTION|>',
    ),
    (granite, '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]'),
    (granite, '<|tool_call|> {"name": "get_weather", "arguments": {"city": "Paris"}}'),
    (firefunction, 'functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]'),
    (firefunction, 'functools [{"name": "get_weather", "arguments": {"city": "Paris"}}]'),
    (
        phi,
        '<|tool_call|>[{"name": "get_weather", "arguments": {"city": "Paris"}}]<|/tool_call|>',
    ),
    (phi, 'functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]'),
    (pythonic, '[get_weather(city="Paris")]'),
    (pythonic, "[ get_weather( city = 'Paris', ) ]"),
    (pythonic, '[get_weather("Paris")]'),
    (pythonic, '<|python_start|>[get_weather(city="Paris")]<|python_end|>'),
    (pythonic, '<|tool_call_start|>[get_weather(city="Paris")]<|tool_call_end|>'),
    (
        deepseek,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
        '```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ),
    (
        deepseek,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>"
        '{"city": "Paris"}<｜tool▁call▁end｜><｜tool▁calls▁end｜>',
    ),
    (deepseek, '<｜tool▁call▁begin｜>get_weather<｜tool▁sep｜>{"city": "Paris"}'),
    (
        glm,
        "<tool_call>get_weather\n<arg_key>city</arg_key>\n<arg_value>Paris</arg_value>\n"
        "</tool_call>",
    ),
    (
        glm,
        "<tool_call>get_weather<arg_key>city</arg_key><arg_value>Paris</arg_value></tool_call>",
    ),
    (
        glm,
        "<tool_calls:opensource>\n<tool_call:opensource>get_weather<tool_sep:opensource>\n"
        "<arg_key:opensource>city</arg_key:opensource>\n"
        "<arg_value:opensource>Paris</arg_value:opensource>\n"
        "</tool_call:opensource>\n</tool_calls:opensource>",
    ),
    (
        glm,
        "<tool_calls>\n<tool_call>get_weather<tool_sep>\n<arg_key>city</arg_key>\n"
        "<arg_value>Paris</arg_value>\n</tool_call>\n</tool_calls>",
    ),
    (
        glm,
        "<longcat_tool_call>get_weather\n<longcat_arg_key>city</longcat_arg_key>\n"
        "<longcat_arg_value>Paris</longcat_arg_value>\n</longcat_tool_call>",
    ),
    (
        hermes,
        "<seed:tool_call>\n<function=get_weather>\n<parameter=city>Paris</parameter>\n"
        "</function>\n</seed:tool_call>",
    ),
    (
        kimi,
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.get_weather:0"
        '<|tool_call_argument_begin|>{"city": "Paris"}<|tool_call_end|><|tool_calls_section_end|>',
    ),
    (
        kimi,
        '<|tool_call_begin|>get_weather<|tool_call_argument_begin|>{"city": "Paris"}',
    ),
    (
        invoke,
        '<minimax:tool_call>\n<invoke name="get_weather">\n<parameter name="city">Paris'
        "</parameter>\n</invoke>\n</minimax:tool_call>",
    ),
    (
        invoke,
        '<｜DSML｜function_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="true">Paris</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜function_calls>",
    ),
    (
        invoke,
        '<｜DSML｜tool_calls>\n<｜DSML｜invoke name="get_weather">\n'
        '<｜DSML｜parameter name="city" string="false">"Paris"</｜DSML｜parameter>\n'
        "</｜DSML｜invoke>\n</｜DSML｜tool_calls>",
    ),
    (
        invoke,
        '<｜DSML｜ calls>\n<｜DSML｜ invoke name="get_weather">\n'
        '<｜DSML｜ parameter name="city" string="true">Paris</｜DSML｜ parameter>\n'
        "</｜DSML｜ invoke>\n</｜DSML｜ calls>",
    ),
    (
        invoke,
        '<dots_function_call>\n<invoke name="get_weather">\n'
        '<parameter name="city">Paris</parameter>\n</invoke>\n</dots_function_call>',
    ),
    (
        invoke,
        '<atem:function_calls>\n<atem:invoke name="get_weather">\n'
        '<atem:parameter name="city">Paris</atem:parameter>\n'
        "</atem:invoke>\n</atem:function_calls>",
    ),
    (
        invoke,
        '<｜GCML｜tool_calls>\n<｜GCML｜invoke name="get_weather">\n'
        '<｜GCML｜parameter name="city" string="true">Paris</｜GCML｜parameter>\n'
        "</｜GCML｜invoke>\n</｜GCML｜tool_calls>",
    ),
    (
        minimax,
        ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="get_weather">'
        "]<]minimax[>[<city>Paris]<]minimax[>[</city>]<]minimax[>[</invoke>\n"
        "]<]minimax[>[</tool_call>",
    ),
    (
        step,
        "<｜tool_calls_begin｜>\n<｜tool_call_begin｜>function<｜tool_sep｜>"
        '<steptml:invoke name="get_weather">\n'
        '<steptml:parameter name="city">Paris</steptml:parameter>\n'
        "</steptml:invoke><｜tool_call_end｜>\n<｜tool_calls_end｜>",
    ),
    (
        kimi_k3,
        '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|>'
        '<|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>'
        "<|close|>call<|sep|><|close|>tools<|sep|>",
    ),
    (
        kimi_k3,
        '<|open|>call tool="get_weather" index="1"<|sep|><|open|>json type="object"<|sep|>'
        '{"city": "Paris"}<|close|>json<|sep|><|close|>call<|sep|>',
    ),
    (functionary, '>>>get_weather\n{"city": "Paris"}'),
    (
        gigachat,
        "<|message_sep|>\n\nfunction call<|role_sep|>\n"
        '{"name": "get_weather", "arguments": {"city": "Paris"}}',
    ),
    (gigachat, '<|function_call|>{"name": "get_weather", "arguments": {"city": "Paris"}}'),
    (pythonic, '<function_calls>\nget_weather(city="Paris")\n</function_calls>'),
    (gemma, '<|tool_call>call:get_weather{city:<|"|>Paris<|"|>}<tool_call|>'),
    (
        gemma,
        "<start_function_call>call:get_weather{city:<escape>Paris<escape>}<end_function_call>",
    ),
    (apertus, '<|tools_prefix|>[{"get_weather": {"city": "Paris"}}]<|tools_suffix|>'),
    (minicpm, '<function name="get_weather"><param name="city">Paris</param></function>'),
    (
        solar,
        "<|tool_calls|><|tool_call:begin|>a1b2c3d4e5<|tool_call:name|>get_weather"
        '<|tool_call:args|>{"city": "Paris"}<|tool_call:end|>',
    ),
]


@pytest.mark.parametrize(("family", "text"), CALLS, ids=[text[:40] for _, text in CALLS])
class TestEveryFormat:
    def test_a_call_is_read(self, family: Any, text: str) -> None:
        assert read(family.FORMAT, text) == [PARIS]

    def test_the_text_around_it_is_kept(self, family: Any, text: str) -> None:
        found = read(family.FORMAT, f"Let me look. {text}\nDone.")
        assert found == ["Let me look. ", PARIS, "\nDone."]

    def test_white_space_around_nothing_but_calls_is_dropped(self, family: Any, text: str) -> None:
        assert read(family.FORMAT, f"\n\n{text}\n\n{text}\n") == [PARIS, PARIS]

    def test_it_comes_as_soon_as_it_is_complete(self, family: Any, text: str) -> None:
        """Without waiting for a closing tag."""
        stream = parser(family.FORMAT)
        end = text.rindex("Paris") + len("Paris")
        early = [part for piece in text[:end] for part in stream.feed(piece)]
        assert [part for part in early if isinstance(part, Text)] == []
        late = [part for piece in text[end : end + 48] for part in stream.feed(piece)]
        assert calls_in([*early, *late])

    def test_a_call_of_an_unknown_tool_is_text(self, family: Any, text: str) -> None:
        unknown = text.replace("get_weather", "rule_world")
        assert read(family.FORMAT, f"{unknown}\n{unknown}!") == [f"{unknown}\n{unknown}!"]

    def test_a_call_that_breaks_off_is_text(self, family: Any, text: str) -> None:
        broken = text[: text.rindex("Paris")]
        assert read(family.FORMAT, broken) == [broken]

    def test_a_call_after_a_broken_one_is_read(self, family: Any, text: str) -> None:
        # Where the broken one ends is plain only if what follows can't be part of it.
        broken = text[: text.rindex("get_weather")] + "?!\n"
        assert read(family.FORMAT, broken + text) == [broken, PARIS]


SEVERAL = [
    (
        hermes,
        '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Paris"}}\n'
        '{"name": "get_time", "arguments": {}}\n</tool_call>',
    ),
    (
        mistral,
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}, '
        '{"name": "get_time", "arguments": {}}]',
    ),
    (
        mistral,
        '[TOOL_CALLS] [{"name": "get_weather", "arguments": {"city": "Paris"}}'
        '{"name": "get_time", "arguments": {}}]',
    ),
    (mistral, '[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}[TOOL_CALLS]get_time[ARGS]{}'),
    (
        llama,
        '{"name": "get_weather", "parameters": {"city": "Paris"}}; '
        '{"name": "get_time", "parameters": {}}',
    ),
    (
        llama,
        '<|python_tag|>{"name": "get_weather", "parameters": {"city": "Paris"}}; '
        '{"name": "get_time", "parameters": {}}',
    ),
    (pythonic, "[get_weather(city='Paris'), get_time()]"),
    (pythonic, "<function_calls>\nget_weather(city='Paris')\n\nget_time()\n</function_calls>"),
    (pythonic, "```tool_code\nget_weather(city='Paris')\nget_time()\n```"),
    (pythonic, "<function_calls>\nget_weather(city='Paris')\nget_time()"),
    (functionary, '>>>get_weather\n{"city": "Paris"}>>>get_time\n{}'),
    (
        minimax,
        ']<]minimax[>[<tool_call>\n]<]minimax[>[<invoke name="get_weather">'
        "]<]minimax[>[<city>Paris]<]minimax[>[</city>]<]minimax[>[</invoke>\n"
        ']<]minimax[>[<invoke name="get_time">]<]minimax[>[</invoke>\n]<]minimax[>[</tool_call>',
    ),
    (
        kimi_k3,
        '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|>'
        '<|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>'
        '<|close|>call<|sep|><|open|>call tool="get_time" index="2"<|sep|><|close|>call<|sep|>'
        "<|close|>tools<|sep|>",
    ),
    (
        step,
        "<｜tool_calls_begin｜>\n<｜tool_call_begin｜>function<｜tool_sep｜>"
        '<steptml:invoke name="get_weather">\n'
        '<steptml:parameter name="city">Paris</steptml:parameter>\n'
        "</steptml:invoke><｜tool_call_end｜>\n<｜tool_call_begin｜>function<｜tool_sep｜>"
        '<steptml:invoke name="get_time">\n</steptml:invoke><｜tool_call_end｜>\n'
        "<｜tool_calls_end｜>",
    ),
    (
        deepseek,
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n"
        '```json\n{"city": "Paris"}\n```<｜tool▁call▁end｜>\n'
        "<｜tool▁call▁begin｜>function<｜tool▁sep｜>get_time\n"
        "```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
]


@pytest.mark.parametrize(("family", "text"), SEVERAL, ids=[text[:40] for _, text in SEVERAL])
def test_several_calls_are_counted(family: Any, text: str) -> None:
    assert read(family.FORMAT, text) == [PARIS, NOW]
    found = calls_in(parts(parser(family.FORMAT), text))
    assert [call.function.index for call in found] == [0, 1]
    assert [call.id for call in found] == ["", ""]


ARGUMENTS = [
    ('{"city": "a</tool_call>b", "days": 1}', {"city": "a</tool_call>b", "days": 1}),
    ('{"city": "{\\"[]}\\\\"}', {"city": '{"[]}\\'}),
    ('{"city": "Zürich 🌍 \\u00e9\\ud83c\\udf0d"}', {"city": "Zürich 🌍 é🌍"}),
    ('{"city": "two\nlines\tand a tab"}', {"city": "two\nlines\tand a tab"}),
    ('{"a": {"b": [1, {"c": [[], {}]}]}}', {"a": {"b": [1, {"c": [[], {}]}]}}),
    (
        '{"a": [true, false, null, -1.5e3, 0]}',
        {"a": [True, False, None, -1500.0, 0]},
    ),
    ("{ }", {}),
    ("null", {}),
    ('"{\\"city\\": \\"Paris\\"}"', {"city": "Paris"}),
    ('{"city": "\\ud83c"}', {"city": "\ufffd"}),
    (f'{{"n": {2**70}}}', {"n": float(2**70)}),
    ('{"n": [1e999, -1e999]}', {"n": [sys.float_info.max, -sys.float_info.max]}),
]


@pytest.mark.parametrize(("json", "arguments"), ARGUMENTS)
def test_arguments_are_json(json: str, arguments: dict[str, Any]) -> None:
    text = f'<tool_call>{{"name": "get_weather", "arguments": {json}}}</tool_call>'
    assert read(hermes.FORMAT, text) == [("get_weather", arguments)]


@pytest.mark.parametrize(
    "json",
    [
        "[1]",
        "7",
        '"Paris"',
        "true",
        "{'city': 'Paris'}",
        '{"city": Paris}',
        '{"city": 01}',
        '{"city": NaN}',
        '{"city": "\\q"}',
        '{"city"}',
        '{"city": "Paris",}',
        '{"a":' * 70 + "1" + "}" * 70,
    ],
)
def test_what_is_no_object_is_text(json: str) -> None:
    text = f'<tool_call>{{"name": "get_weather", "arguments": {json}}}</tool_call>'
    assert read(hermes.FORMAT, text) == [text]


PYTHON = [
    (r"""city='it\'s', days=-3""", {"city": "it's", "days": -3}),
    (
        r'''city="""two "lines"
and \"quotes\""""''',
        {"city": 'two "lines"\nand "quotes"'},
    ),
    (r'city="\u00e9\x41\U0001f30d\n\q\ud800"', {"city": "éA🌍\n\\q\ufffd"}),
    (
        "a=[1, 2.5, (True, None)], b={'c': [], \"d\": {}}",
        {"a": [1, 2.5, [True, None]], "b": {"c": [], "d": {}}},
    ),
    ("a=true, b=null, c=false", {"a": True, "b": None, "c": False}),
    ("'Paris', 3", {"city": "Paris", "days": 3}),
    ("city='', days=0", {"city": "", "days": 0}),
]


@pytest.mark.parametrize(("python", "arguments"), PYTHON)
def test_python_arguments_are_literals(python: str, arguments: dict[str, Any]) -> None:
    assert read(pythonic.FORMAT, f"[get_weather({python})]") == [("get_weather", arguments)]


@pytest.mark.parametrize(
    "python",
    [
        "city=open('/etc/passwd')",
        "city=x",
        "city=1+1",
        "city=f'{x}'",
        "1, 2, 3",
        "**{}",
        "city='a' 'b'",
        "city=nan",
        "city={1: 2}",
        "a=" + "[" * 70 + "]" * 70,
    ],
)
def test_python_that_is_no_literal_is_text(python: str) -> None:
    assert read(pythonic.FORMAT, f"[get_weather({python})]") == [f"[get_weather({python})]"]


def test_tagged_parameters_have_the_types_of_the_definition() -> None:
    schemas: dict[str, Any] = {"text": "string", "count": "integer", "list": "array"}
    toolbox = Toolbox([tool("f", **schemas)])
    given = {"text": "12", "count": "12", "list": '["a", 1]', "other": "12"}
    text = "".join(f"<parameter={name}>\n{value}\n</parameter>\n" for name, value in given.items())
    found = parts(CallParser(hermes.FORMAT, toolbox), f"<function=f>\n{text}</function>")
    assert summary(found) == [
        ("f", {"text": "12", "count": 12, "list": ["a", 1], "other": "12"}),
    ]


def test_a_tagged_parameter_that_is_not_of_its_type_stays_text() -> None:
    text = "<function=get_weather><parameter=days>\ntwo\nor three\n</parameter></function>"
    assert read(hermes.FORMAT, text) == [("get_weather", {"days": "two\nor three"})]


class TestMiniMaxValues:
    """Tags within tags are objects and lists, and what stands alone is as the tool defines it."""

    TOOLBOX = Toolbox(
        [
            tool(
                "f",
                text="string",
                count="integer",
                list={"type": "array", "items": {"type": "string"}},
                seats={
                    "type": "array",
                    "items": {
                        "type": "object",
                        "properties": {"row": {"type": "integer"}, "item": {"type": "string"}},
                    },
                },
                empty="array",
                none="object",
            )
        ]
    )

    def read(self, arguments: str) -> list[Any]:
        mark = "]<]minimax[>["
        text = arguments.replace("<", f"{mark}<")
        call = f'{mark}<tool_call>{mark}<invoke name="f">{text}{mark}</invoke>'
        return summary(parts(CallParser(minimax.FORMAT, self.TOOLBOX), in_pieces(call, 3)))

    @pytest.mark.parametrize(
        ("text", "arguments"),
        [
            ("<text>12</text><count>12</count>", {"text": "12", "count": 12}),
            ("<text>\n a\n</text>", {"text": "\n a\n"}),
            ("<text></text>", {"text": ""}),
            ("<count>two</count>", {"count": "two"}),
            ("<list><item>1</item><item></item></list>", {"list": ["1", ""]}),
            ('<list>["a"]</list>', {"list": ["a"]}),
            ("<empty></empty><none></none>", {"empty": [], "none": {}}),
            (
                "<seats>\n<item><row>3</row></item>\n<item><item>x</item></item></seats>",
                {"seats": [{"row": 3}, {"item": "x"}]},
            ),
            ("<other><a><item>b</item></a></other>", {"other": {"a": ["b"]}}),
        ],
    )
    def test_values(self, text: str, arguments: dict[str, Any]) -> None:
        assert self.read(text) == [("f", arguments)]

    def test_values_nested_too_deeply_are_text(self) -> None:
        text = "<a>" * 70 + "x" + "</a>" * 70
        (found,) = self.read(text)
        assert isinstance(found, str)


def test_kimi_tells_the_types_of_values_and_escapes_names() -> None:
    toolbox = Toolbox([tool("f", text="string", count="integer")])
    call = "".join(
        f'<|open|>argument key="{key}"{kind}<|sep|>{value}<|close|>argument<|sep|>'
        for key, kind, value in (
            ("text", ' type="string"', "12"),
            ("count", ' type="number"', "12"),
            ("a &amp; &quot;b&quot;", ' type="array"', '["<|sep|>"]'),
            ("on", ' type="boolean"', "true"),
            ("plain", "", "\n1\n"),
        )
    )
    text = f'<|open|>tools<|sep|><|open|>call tool="f" index="1"<|sep|>{call}<|close|>call<|sep|>'
    assert summary(parts(CallParser(kimi_k3.FORMAT, toolbox), in_pieces(text, 4))) == [
        (
            "f",
            {"text": "12", "count": 12, 'a & "b"': ["<|sep|>"], "on": True, "plain": "\n1\n"},
        )
    ]


class TestHoldingBack:
    @pytest.mark.parametrize(
        "text",
        [
            "if (a[1] < 2) { return [x]; }",
            '{"answer": 42, "list": [1, 2, 3]} [link](http://x) {x} {{y}}',
            "functools is a module; Action: none. <tool_calls> and <|tool_call",
            "[TOOL_CALL] <｜tool",
            "```python\nget_time()\n```\n```python\nprint([1])\n```\n```tool_code\nprint(1)\n```",
            '```json\n{"answer": 42}\n```',
        ],
    )
    def test_what_only_looks_like_a_call_is_kept(self, text: str) -> None:
        for family in (hermes, mistral, llama, command_r, granite, firefunction, phi, pythonic):
            assert read(family.FORMAT, text) == [text]

    def test_text_flows_until_a_call_may_begin(self) -> None:
        stream = parser(hermes.FORMAT)
        assert summary(stream.feed("See <to")) == ["See "]
        assert summary(stream.feed("ast> and <tool")) == ["<toast> and "]
        assert summary(stream.feed("_call> none")) == ["<tool_call> none"]

    def test_an_object_that_can_be_no_call_is_not_held_back(self) -> None:
        stream = parser(llama.FORMAT)
        assert summary(stream.feed('{"ans')) == []
        assert summary(stream.feed('wer"')) == ['{"answer"']

    def test_each_call_of_a_list_comes_by_itself(self) -> None:
        stream = parser(mistral.FORMAT)
        assert summary(stream.feed('[TOOL_CALLS] [{"name": "get_time"}')) == [NOW]
        assert summary(stream.feed(', {"name": "get_time"')) == []
        assert summary(stream.feed("}")) == [NOW]
        assert summary(stream.feed("]")) == summary(stream.finish()) == []

    def test_calls_stay_when_their_list_goes_wrong(self) -> None:
        text = '[TOOL_CALLS] [{"name": "get_time"}, {"name": "what"}] x'
        assert read(mistral.FORMAT, text) == [NOW, ', {"name": "what"}] x']

    def test_a_closing_tag_may_be_missing_or_cut(self) -> None:
        for end in ("", "\n</tool", "\n</tool_call>"):
            assert read(hermes.FORMAT, '<tool_call>{"name": "get_time"}' + end) == [NOW]

    def test_blank_text_alone_is_kept(self) -> None:
        assert read(hermes.FORMAT, " \n ") == [" \n "]

    def test_a_text_is_one_event_for_each_piece(self) -> None:
        stream = parser(hermes.FORMAT)
        assert stream.feed("a < b <c> d") == [Text("a < b <c> d")]
        assert stream.feed("") == []
        assert not any(isinstance(part, ToolCalls) for part in stream.finish())
