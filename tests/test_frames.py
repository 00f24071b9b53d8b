"""What some families write around their answers is no part of them, in replies and in forms."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.events import Text
from llamaherd.grammar import Grammar
from llamaherd.messages import Message, ToolChoice
from llamaherd.prompt.frames import Frame, Unframer, frame_of
from llamaherd.prompt.jinja import JinjaTemplate
from llamaherd.prompt.replies import is_plain, reply_parser
from llamaherd.prompt.reply_forms import reply_form
from llamaherd.prompt.template import USUAL_TOKENS, GoTemplate, Values
from tests.support.forms import derives
from tests.support.models import write_parrot
from tests.support.replies import TIME, WEATHER, in_pieces, parts, summary
from tests.support.server import RunningServer, running_server

TEMPLATES = {
    entry["name"]: JinjaTemplate(entry["template"], USUAL_TOKENS)
    for entry in json.loads((Path(__file__).parent / "data" / "tool-templates.json").read_text())[
        "templates"
    ]
}
KIMI = TEMPLATES["Kimi-K3"]
FUNCTIONARY = TEMPLATES["meetkai-functionary-medium-v3.2"]
COHERE = TEMPLATES["CohereForAI-c4ai-command-r7b-12-2024-tool_use"]
GRANITE = TEMPLATES["ibm-granite-granite-3.3-2B-Instruct"]
NORTH = GoTemplate("{{ .Prompt }}<|START_TEXT|>{{ .Response }}<|END_TEXT|>")
ONE_TURN = "{{ .Prompt }}:"
PLAIN = GoTemplate(ONE_TURN)

PARIS = ("get_weather", {"city": "Paris"})
KIMI_CALL = (
    '<|open|>tools<|sep|><|open|>call tool="get_weather" index="1"<|sep|>'
    '<|open|>argument key="city" type="string"<|sep|>Paris<|close|>argument<|sep|>'
    "<|close|>call<|sep|><|close|>tools<|sep|>"
)
KIMI_END = "<|close|>message<|sep|>"


def prompt_of(template: Any, *, think: bool | None = None) -> str:
    """What a model with this template reads before it writes."""
    question = Message(role="user", content="How is the weather?")
    prompt: str = template.render(Values(messages=(question,), tools=(WEATHER,), think=think))
    return prompt


def read(template: Any, text: str, *, think: bool | None = None) -> list[Any]:
    """It must not depend on how the text arrives."""
    prompt = prompt_of(template, think=think)

    def found(pieces: list[str]) -> list[Any]:
        return summary(parts(reply_parser(template, prompt, tools=[WEATHER], think=think), pieces))

    whole = found([text])
    for size in (1, 2, 3, 7):
        assert found(in_pieces(text, size)) == whole
    return whole


class TestReplies:
    @pytest.mark.parametrize(
        ("template", "text"),
        [
            (COHERE, "<|START_RESPONSE|>Hello!<|END_RESPONSE|>"),
            (NORTH, "<|START_TEXT|>Hello!<|END_TEXT|>"),
            (KIMI, f"<|open|>response<|sep|>Hello!<|close|>response<|sep|>{KIMI_END}"),
            (FUNCTIONARY, "all\nHello!"),
            *((template, "Hello!") for template in (COHERE, NORTH, KIMI)),
        ],
    )
    def test_an_answer(self, template: Any, text: str) -> None:
        assert not is_plain(template, tools=(), think=None)
        parser = reply_parser(template, prompt_of(template))
        assert summary(parts(parser, in_pieces(text, 4))) == ["Hello!"]
        assert read(template, text) == ["Hello!"]

    @pytest.mark.parametrize(
        ("template", "text"),
        [
            (
                COHERE,
                "<|START_RESPONSE|>See.<|END_RESPONSE|><|START_ACTION|>"
                '[{"tool_name": "get_weather", "parameters": {"city": "Paris"}}]<|END_ACTION|>',
            ),
            (
                KIMI,
                f"<|open|>response<|sep|>See.<|close|>response<|sep|>{KIMI_CALL}{KIMI_END}",
            ),
            (FUNCTIONARY, 'all\nSee.>>>get_weather\n{"city": "Paris"}'),
        ],
    )
    def test_an_answer_and_a_call(self, template: Any, text: str) -> None:
        assert read(template, text) == ["See.", PARIS]

    @pytest.mark.parametrize(
        ("template", "text"),
        [
            (KIMI, f"<|open|>response<|sep|><|close|>response<|sep|>{KIMI_CALL}{KIMI_END}"),
            (FUNCTIONARY, 'get_weather\n{"city": "Paris"}'),
        ],
    )
    def test_a_call_alone(self, template: Any, text: str) -> None:
        assert read(template, text) == [PARIS]

    def test_thinking_before_it(self) -> None:
        answer = "<|open|>response<|sep|>Yes.<|close|>response<|sep|>"
        text = f"Hm.<|close|>think<|sep|>{answer}{KIMI_CALL}{KIMI_END}"
        assert read(KIMI, text, think=True) == [("thinks", "Hm."), "Yes.", PARIS]

    @pytest.mark.parametrize(
        ("text", "answer"),
        [
            ("<response>Yes.</response>", "Yes."),
            ("\n<response>\nYes.\n</response>\n", "Yes.\n"),
            ("<response>Yes", "Yes"),
            ("Write <response> in your XML.", "Write <response> in your XML."),
            ("Yes.</response>", "Yes.</response>"),
            ("<response>It ends with </resp", "It ends with </resp"),
        ],
    )
    def test_ordinary_words_around_an_answer_after_thinking(self, text: str, answer: str) -> None:
        assert read(GRANITE, f"<think>Hm.</think>{text}", think=True) == [("thinks", "Hm."), answer]

    def test_which_are_the_answer_s_own_without(self) -> None:
        assert is_plain(GRANITE, tools=(), think=None)
        assert read(GRANITE, "<response>Yes.</response>") == ["<response>Yes.</response>"]

    def test_a_call_that_is_none_is_text(self) -> None:
        assert read(FUNCTIONARY, "rule_world\n{}") == [">>>rule_world\n{}"]
        assert read(FUNCTIONARY, "all\n>>> print(1)") == [">>> print(1)"]

    def test_other_families_have_none(self) -> None:
        assert frame_of(PLAIN) is None
        assert is_plain(PLAIN, tools=(), think=None)


FRAME = Frame("<a>", "</a>", dropped=("<b>",))
texts = st.lists(st.sampled_from(["<a>", "</a>", "<b>", "<", "a", ">", "/", "x"])).map("".join)


@settings(max_examples=200, deadline=None)
@given(st.data(), texts)
def test_how_a_text_is_cut_makes_no_difference(data: st.DataObject, text: str) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = text.replace("<a>", "\0").replace("</a>", "\0").replace("<b>", "\0").replace("\0", "")
    assert "".join(summary(parts(Unframer(FRAME), pieces))) == whole


def test_text_flows_until_a_tag_may_begin() -> None:
    unframer = Unframer(FRAME)
    assert unframer.feed("1 <") == [Text("1 ")]
    assert unframer.feed(" 2</") == [Text("< 2")]
    assert unframer.feed("a>3") == [Text("3")]


class TestForms:
    SEVEN = Grammar("schema", '{"const": 7}')

    @pytest.mark.parametrize(
        ("template", "text"),
        [
            (COHERE, "<|START_RESPONSE|>7<|END_RESPONSE|>"),
            (KIMI, "<|open|>response<|sep|>7<|close|>response<|sep|>"),
            (FUNCTIONARY, "all\n7"),
        ],
    )
    def test_what_a_format_asks_for_stands_in_the_frame(self, template: Any, text: str) -> None:
        form = reply_form(template, prompt_of(template), grammar=self.SEVEN)
        assert derives(form, text)
        assert not derives(form, "7")
        assert read(template, text) == ["7"]

    @pytest.mark.parametrize(
        ("template", "text"),
        [
            (
                KIMI,
                "<|open|>response<|sep|><|close|>response<|sep|><|open|>tools<|sep|>"
                '<|open|>call tool="get_time" index="1"<|sep|><|close|>call<|sep|>'
                "<|close|>tools<|sep|>",
            ),
            (FUNCTIONARY, "get_time\n{}"),
            (FUNCTIONARY, "get_time\n{}>>>get_time\n{}"),
        ],
    )
    def test_calls_that_are_required(self, template: Any, text: str) -> None:
        form = reply_form(
            template, prompt_of(template), tools=[TIME], choice=ToolChoice("required")
        )
        assert derives(form, text)

    def test_a_prompt_may_have_begun_it(self) -> None:
        prompt = prompt_of(NORTH)
        assert prompt.endswith("<|START_TEXT|>")
        assert derives(reply_form(NORTH, prompt, grammar=self.SEVEN), "7<|END_TEXT|>")
        assert read(NORTH, "7<|END_TEXT|>") == ["7"]

    def test_the_thinking_comes_before_the_frame(self) -> None:
        prompt = prompt_of(KIMI, think=True)
        form = reply_form(KIMI, prompt, think=True, grammar=self.SEVEN)
        answer = "<|open|>response<|sep|>7<|close|>response<|sep|>"
        assert derives(form, f"Hm.<|close|>think<|sep|>{answer}")
        form = reply_form(GRANITE, prompt_of(GRANITE), think=True, grammar=self.SEVEN)
        assert derives(form, "<think>Hm.</think>\n<response>7</response>")
        assert derives(reply_form(GRANITE, prompt_of(GRANITE), grammar=self.SEVEN), "7")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("frames")
    with running_server(folder) as server:
        model = write_parrot(folder / "framed.gguf", "<|START_TEXT|>Hello there.<|END_TEXT|>")
        template = "{{/* <|START_TEXT|> */}}" + ONE_TURN
        server.add("framed", model, template=template)
        yield server


@pytest.mark.parametrize(
    ("path", "asked", "field"),
    [
        ("/api/generate", {"prompt": "Hello?"}, "response"),
        ("/api/chat", {"messages": [{"role": "user", "content": "Hello?"}]}, "message"),
    ],
)
def test_a_server_leaves_it_out(
    path: str, asked: dict[str, Any], field: str, server: RunningServer
) -> None:
    reply = server.post(path, model="framed", stream=False, logprobs=True, **asked).json()
    text = reply[field] if field == "response" else reply[field]["content"]
    assert text == "Hello there."
    assert len(reply["logprobs"]) == reply["eval_count"] - 1
