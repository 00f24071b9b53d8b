"""Replies in channels, as gpt-oss and Muse Glimmer write them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.prompt.channels import GLIMMER, HARMONY, ChannelParser, Channels
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.replies import is_plain, reply_parser
from llamaherd.prompt.template import GoTemplate
from tests.support.models import write_parrot
from tests.support.replies import TIME, WEATHER, calls_in, in_pieces, parts, summary
from tests.support.server import running_server

ANALYSIS = "<|channel|>analysis<|message|>Hm, {x}.<|end|>"
FINAL = "<|start|>assistant<|channel|>final<|message|>It's <|fine|>."
CALL = (
    "<|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>"
    '{"city": "<|end>"}<|call|>'
)
PARIS = ("get_weather", {"city": "<|end>"})


def parser(channels: Channels = HARMONY) -> ChannelParser:
    return ChannelParser(Toolbox([WEATHER, TIME]), channels)


def read(text: str, channels: Channels = HARMONY) -> list[Any]:
    """It must not depend on how the text arrives."""
    whole = summary(parts(parser(channels), [text]))
    for size in (1, 2, 5):
        assert summary(parts(parser(channels), in_pieces(text, size))) == whole
    return whole


@pytest.mark.parametrize("end", ["", "<|return|>", "<|end|>"])
def test_analysis_is_thinking_and_final_is_the_answer(end: str) -> None:
    assert read(ANALYSIS + FINAL + end) == [("thinks", "Hm, {x}."), "It's <|fine|>."]


def test_a_message_to_a_function_is_a_call() -> None:
    assert read(ANALYSIS + CALL) == [("thinks", "Hm, {x}."), PARIS]
    early = CALL.replace("<|channel|>commentary to=functions.get_weather ", " to=get_weather")
    assert read(early) == [PARIS]
    found = calls_in(parts(parser(), [CALL, CALL]))
    assert [call.function.index for call in found] == [0, 1]


def test_commentary_to_nobody_is_text() -> None:
    assert read("<|channel|>commentary<|message|>I'll look.<|end|>" + CALL) == ["I'll look.", PARIS]


@pytest.mark.parametrize(
    "call",
    [
        CALL.replace("get_weather", "rule_world"),
        CALL.replace('"}', '"'),
        CALL.replace("<|call|>", "").replace('"}', ""),
    ],
)
def test_a_call_that_is_none_is_text(call: str) -> None:
    body = call.partition("<|message|>")[2].removesuffix("<|call|>")
    assert read(call) == [body]


@pytest.mark.parametrize(
    "text",
    ["It's fine.", " <|channel|>", "<", "<|start|>", "<|channel|>" + "x" * 600 + "<|message|>y"],
)
def test_what_has_no_header_is_the_answer(text: str) -> None:
    assert read(text) == [text]


def test_text_flows_until_a_mark_may_begin() -> None:
    stream = parser()
    assert summary(stream.feed("<|channel|>final<|message|>a <|")) == ["a "]
    assert summary(stream.feed("b")) == ["<|b"]


class TestGlimmer:
    THOUGHT = " to=self<|message|>Hm.<|eom|>"
    CALL = (
        ' to=get_weather<|message|><atem:function_calls>\n<atem:invoke name="get_weather">\n'
        '<atem:parameter name="city">Paris</atem:parameter>\n</atem:invoke>\n'
        "</atem:function_calls>"
    )
    PARIS = ("get_weather", {"city": "Paris"})

    @pytest.mark.parametrize("end", ["", "<|eot|>"])
    def test_an_answer_after_thinking(self, end: str) -> None:
        text = f"{self.THOUGHT}<|start|>assistant to=user<|message|>Hello!{end}"
        assert read(text, GLIMMER) == [("thinks", "Hm."), "Hello!"]

    def test_calls(self) -> None:
        text = f"{self.CALL}<|eom|><|start|>assistant{self.CALL}<|eot|>"
        assert read(text, GLIMMER) == [self.PARIS, self.PARIS]
        found = calls_in(parts(parser(GLIMMER), [text]))
        assert [call.function.index for call in found] == [0, 1]

    def test_an_answer_and_a_call(self) -> None:
        text = f" to=user<|message|>See.<|eom|><|start|>assistant{self.CALL}"
        assert read(text, GLIMMER) == ["See.", self.PARIS]

    def test_a_call_in_an_answer_is_shown_and_not_made(self) -> None:
        shown = self.CALL.partition("<|message|>")[2]
        assert read(f" to=user<|message|>{shown}<|eot|>", GLIMMER) == [shown]

    @pytest.mark.parametrize("name", ["rule_world", "get_time"])
    def test_a_call_that_is_none_is_text(self, name: str) -> None:
        call = self.CALL.replace('name="get_weather"', 'name="rule_world"')
        body = call.partition("<|message|>")[2]
        text = call.replace("to=get_weather", f"to={name}")
        assert read(f"{text}<|eot|>", GLIMMER) == [body]

    def test_it_is_known_by_its_template(self) -> None:
        template = GoTemplate("{{/* <atem:function_calls> <|eom|> */}}{{ .Prompt }}")
        assert not is_plain(template, tools=(), think=None)
        reply = reply_parser(template, "<|start|>assistant")
        assert summary(parts(reply, [self.THOUGHT])) == [("thinks", "Hm.")]


FRAGMENTS = (
    "<|start|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<|call|>",
    "<|return|>",
    "<|",
    "<|eom|>",
    "<|eot|>",
    " to=self",
    " to=user",
)
WORDS = ("analysis", "final", "assistant", " to=functions.get_time", "{}", "x", "<", "|>", "\n")


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([HARMONY, GLIMMER]),
    st.lists(st.sampled_from(FRAGMENTS + WORDS), max_size=20).map("".join),
)
def test_any_text_is_read_whatever_its_cut(channels: Channels, text: str) -> None:
    read(text, channels)


def test_a_model_with_channels_is_known_by_its_template(tmp_path: Path) -> None:
    """It always thinks, so ``think`` need not be set; raw replies are left as they are."""
    template = (
        "{{ range .Messages }}<|start|>{{ .Role }}<|message|>{{ .Content }}<|end|>{{ end }}"
        "{{ if .Thinking }}<|channel|>analysis{{ end }}{{ .Tools }}<|start|>assistant"
    )
    assert not is_plain(GoTemplate(template), tools=(), think=None)
    assert isinstance(reply_parser(GoTemplate(template), "", think=True), ChannelParser)
    tools = [{"type": "function", "function": WEATHER.function}]
    reply = ANALYSIS + CALL.removesuffix("<|call|>")
    question = [{"role": "user", "content": "Weather?"}]
    with running_server(tmp_path) as server:
        server.add("oss", write_parrot(tmp_path / "oss.gguf", reply), template=template)
        answer = server.post(
            "/api/chat", model="oss", messages=question, tools=tools, think="low", stream=False
        )
        message = answer.json()["message"]
        assert (message["thinking"], message["content"]) == ("Hm, {x}.", "")
        assert message["tool_calls"] == [
            {"function": {"name": "get_weather", "arguments": {"city": "<|end>"}}}
        ]
        asked: dict[str, Any] = {"model": "oss", "prompt": "Weather?", "stream": False}
        assert server.post("/api/generate", **asked).json()["thinking"] == "Hm, {x}."
        raw = server.post("/api/generate", **asked, raw=True).json()
        assert (raw["response"], "thinking" in raw) == (reply, False)
