"""What holds for any text that a model may write, in every format."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.recognise import FALLBACK, TAGGED
from llamaherd.prompt.parsers.stream import CallFormat, CallParser
from llamaherd.prompt.tags import TagSplitter
from tests.support.replies import TIME, WEATHER, in_pieces, parts, summary

FORMATS = (*TAGGED, FALLBACK)

#: What calls are made of, in any order: most of it is nonsense, some of it is calls.
FRAGMENTS = (
    *(opening for form in FORMATS for opening in form.readers),
    *("</tool_call>", "[ARGS]", "[CALL_ID]", "</function>", "<parameter=city>", "</parameter>"),
    *("<｜tool▁sep｜>", "<｜tool▁call▁end｜>", "<｜tool▁calls▁end｜>", "```", "function"),
    *("<arg_key>city</arg_key>", "<arg_value>", "</arg_value>", "<|tool_call_argument_begin|>"),
    *('invoke name="get_weather">', '<parameter name="city">', "</invoke>", "call:get_weather{"),
    *("city:", '<|"|>', '<param name="city">', "</param>", 'get_time">', "<|tool_call:name|>"),
    *("<|tool_call:args|>", "functions.", ":0", '{"get_time": {}}', "<|tool_call_end|>"),
    *("<|open|>", "<|sep|>", "<|close|>", 'argument key="city" type="string"', "call", "tools"),
    *("]<]minimax[>[", '<invoke name="get_weather">', "<city>", "</city>", "<item>", "</invoke>"),
    *("<｜tool_sep｜>", '<steptml:invoke name="get_time">', "</steptml:invoke>", ">>>", "\n\n"),
    *("get_weather", "get_time", '{"name": "get_time"}', 'get_weather(city="Paris")'),
    *('{"name": "get_weather", "arguments": {"city": "Paris"}}', "get_time()"),
    *('"name"', '"arguments"', '"get_time"', "{}", "{", "}", "[", "]", "(", ")", ":", ",", ";"),
    *('"', "'", "\\", "=", "<", "<think>", "</think>", " ", "\n", "a", "é🌍", "1", "true"),
)

#: Formats whose arguments aren't one JSON object.
OTHER_VALUES = ("pythonic", "glm", "invoke", "gemma", "minicpm", "minimax", "step")

texts = st.lists(st.sampled_from(FRAGMENTS), max_size=24).map("".join)
formats = st.sampled_from(FORMATS)


@st.composite
def cut(draw: st.DrawFn, text: str) -> list[str]:
    cuts = sorted(draw(st.sets(st.integers(0, len(text)), max_size=12)))
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]


def parser(form: CallFormat) -> CallParser:
    return CallParser(form, Toolbox([WEATHER, TIME]))


@settings(max_examples=400, deadline=None)
@given(st.data(), formats, texts)
def test_how_a_text_is_cut_makes_no_difference(
    data: st.DataObject, form: CallFormat, text: str
) -> None:
    pieces = data.draw(cut(text))
    assert summary(parts(parser(form), pieces)) == summary(parts(parser(form), [text]))


@settings(max_examples=200, deadline=None)
@given(formats, texts)
def test_without_a_call_nothing_is_lost(form: CallFormat, text: str) -> None:
    nothing = CallParser(form, Toolbox([]))
    assert "".join(summary(parts(nothing, in_pieces(text, 3)))) == text


values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=150, deadline=None)
@given(
    st.data(),
    st.sampled_from([form for form in FORMATS if form.name not in OTHER_VALUES]),
    st.dictionaries(st.text(max_size=8), values, max_size=4),
    st.booleans(),
)
def test_any_arguments_come_through(
    data: st.DataObject, form: CallFormat, arguments: dict[str, Any], ascii_only: bool
) -> None:
    encoded = json.dumps(arguments, ensure_ascii=ascii_only)
    call = json.dumps({"name": "get_time", "arguments": arguments}, ensure_ascii=ascii_only)
    written = {
        "command-r": f"<|START_ACTION|>[{call}]<|END_ACTION|>",
        "apertus": f'<|tools_prefix|>[{{"get_time": {encoded}}}]<|tools_suffix|>',
        "deepseek": f"<｜tool▁call▁begin｜>get_time<｜tool▁sep｜>{encoded}<｜tool▁call▁end｜>",
        "firefunction": f"functools[{call}]",
        "functionary": f">>>get_time\n{encoded}",
        "gigachat": f"<|function_call|>{call}",
        "kimi-k3": f'<|open|>call tool="get_time"<|sep|><|open|>json<|sep|>{encoded}',
        "granite": f"<|tool_call|>[{call}]",
        "kimi": f"<|tool_call_begin|>functions.get_time:3<|tool_call_argument_begin|>{encoded}",
        "solar": f"<|tool_call:begin|>a<|tool_call:name|>get_time<|tool_call:args|>{encoded}",
        "hermes": f"<tool_call>\n{call}\n</tool_call>",
        "llama": call,
        "mistral": f"[TOOL_CALLS][{call}]",
        "phi": f"<|tool_call|>[{call}]<|/tool_call|>",
    }
    pieces = data.draw(cut(written[form.name]))
    assert summary(parts(parser(form), pieces)) == [("get_time", arguments)]


@settings(max_examples=200, deadline=None)
@given(st.data(), texts, st.booleans())
def test_thinking_is_split_off_however_it_is_cut(
    data: st.DataObject, text: str, opened: bool
) -> None:
    pieces = data.draw(cut(text))
    whole = summary(parts(TagSplitter(opened=opened), [text]))
    assert summary(parts(TagSplitter(opened=opened), pieces)) == whole


@pytest.mark.parametrize("form", FORMATS, ids=lambda form: form.name)
@pytest.mark.parametrize(
    "fragment",
    ['{"name": "', '{"arguments":{"a":', "{", "[", '"', "<tool_call>", '<tool_call>{"', "\\", "[["],
)
def test_a_hostile_text_takes_linear_time(form: CallFormat, fragment: str) -> None:
    opening = next(iter(form.readers))
    text = opening + fragment * (40_000 // len(fragment))
    started = time.process_time()
    assert "".join(summary(parts(parser(form), in_pieces(text, 400)))) == text
    assert time.process_time() - started < 3
