"""The form in which a model calls tools is told by its template."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from llamaherd.grammar import Exactly, InOrder, OneOf, Repeated
from llamaherd.prompt.jinja import JinjaTemplate
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.recognise import recognise_calls, recognise_writing
from llamaherd.prompt.parsers.stream import CallParser
from llamaherd.prompt.parsers.writing import signatures_of
from llamaherd.prompt.template import USUAL_TOKENS, GoTemplate, PromptTemplate
from tests.support.replies import TIME, WEATHER, in_pieces, parts, summary

DATA = Path(__file__).parent / "data"
TOOL_TEMPLATES: list[dict[str, Any]] = json.loads((DATA / "tool-templates.json").read_text())[
    "templates"
]
CHAT_TEMPLATES = {
    entry["name"]: entry["template"]
    for entry in json.loads((DATA / "chat-templates.json").read_text())["templates"]
}
RENDERED = json.loads((DATA / "rendered-prompts.json").read_text())["templates"]

PARIS = ("get_weather", {"city": "Paris"})


def go(call: str, before: str = "") -> GoTemplate:
    """A Go template that writes each call like this."""
    return GoTemplate(
        "{{ if .Tools }}Tools: {{ json .Tools }}\n{{ end }}{{ range .Messages }}"
        "<|{{ .Role }}|>{{ if .Content }}{{ .Content }}{{ else if .ToolCalls }}"
        f"{before}{{{{ range .ToolCalls }}}}{call}{{{{ end }}}}{{{{ end }}}}<|end|>{{{{ end }}}}"
        "<|assistant|>"
    )


NAME, ARGUMENTS = "{{ .Function.Name }}", "{{ json .Function.Arguments }}"
USUAL = f'{{"name": "{NAME}", "arguments": {ARGUMENTS}}}'


def read(template: PromptTemplate, text: str) -> list[Any]:
    parser = CallParser(recognise_calls(template), Toolbox([WEATHER, TIME]))
    return summary(parts(parser, in_pieces(text, 3)))


@pytest.mark.parametrize("entry", TOOL_TEMPLATES, ids=lambda entry: str(entry["name"]))
def test_templates_of_gguf_files(entry: dict[str, Any]) -> None:
    template = JinjaTemplate(entry["template"], USUAL_TOKENS)
    assert recognise_calls(template).name == entry["format"]


@pytest.mark.parametrize(
    ("name", "form"),
    [
        ("Qwen-Qwen2.5-7B-Instruct", "hermes"),
        ("Qwen-Qwen3-0.6B", "hermes"),
        ("meta-llama-Llama-3.1-8B-Instruct", "llama"),
        ("deepseek-ai-DeepSeek-R1-Distill-Llama-8B", "deepseek"),
        ("mistralai-Mistral-Nemo-Instruct-2407", "mistral"),
    ],
)
def test_more_templates_of_gguf_files(name: str, form: str) -> None:
    assert recognise_calls(JinjaTemplate(CHAT_TEMPLATES[name], USUAL_TOKENS)).name == form


@pytest.mark.parametrize(
    ("template", "form"),
    [
        (GoTemplate(RENDERED["mistral-tools"]), "mistral"),
        (GoTemplate(RENDERED["qwen-tools"]), "hermes"),
        (go(f"<tool_call>{USUAL}</tool_call>"), "hermes"),
        (go(USUAL, "[TOOL_CALLS] "), "mistral"),
        (go(f'{{"name": "{NAME}", "parameters": {ARGUMENTS}}}'), "llama"),
        (
            go(f'[{{"tool_name": "{NAME}", "parameters": {ARGUMENTS}}}]', "Action: ```json\n"),
            "command-r",
        ),
        (go(f"<|tool_call|>[{USUAL}]<|/tool_call|>"), "phi"),
        (go(f"functools[{USUAL}]"), "firefunction"),
        (go(f"functools[{USUAL}]", "<|/tool|>"), "phi"),
        (
            go(f"<｜tool▁call▁begin｜>function<｜tool▁sep｜>{NAME}\n```json\n{ARGUMENTS}```"),
            "deepseek",
        ),
        (GoTemplate("{{ .Tools }} Write <tool_call>. {{ .Prompt }}"), "hermes"),
        (GoTemplate("{{ .Tools }} Write functools[...]. {{ .Prompt }}"), "firefunction"),
        (go("```json\n" + USUAL + "\n```"), "template"),
        (GoTemplate("{{ .Tools }} Write ```tool_code``` blocks. {{ .Prompt }}"), "pythonic"),
        (GoTemplate("{{ .Tools }} {{ .Prompt }}"), "llama"),
    ],
)
def test_go_templates(template: GoTemplate, form: str) -> None:
    assert recognise_calls(template).name == form


@pytest.mark.parametrize(
    ("template", "shown"),
    [
        (go(f"<tool_call>{USUAL}</tool_call>"), '<tool_call>\n{"name": "'),
        (go(f"<function={NAME}>{ARGUMENTS}</function>"), "<function="),
        (
            GoTemplate("{{ .Tools }} <tool_call> <function=f> <parameter=p> {{ .Prompt }}"),
            "<tool_call>\n<function=",
        ),
        (go(USUAL, "[TOOL_CALLS] "), "[TOOL_CALLS]["),
        (
            GoTemplate("{{ .Tools }} [TOOL_CALLS]f[ARGS]{} {{ .Prompt }}"),
            "[TOOL_CALLS]get_time[ARGS]",
        ),
        (GoTemplate("{{ .Tools }} ```tool_code``` {{ .Prompt }}"), "```tool_code\nget_time("),
        (GoTemplate("{{ .Tools }} {{ .Prompt }}"), '{"name": "get_time", "parameters": '),
    ],
)
def test_calls_are_written_as_the_template_shows_them(template: GoTemplate, shown: str) -> None:
    writing = recognise_writing(template)
    assert writing is not None
    form = writing.form(signatures_of([TIME]), several=False)
    assert shown in "".join(texts_of(form))


def texts_of(form: Any) -> Iterator[str]:
    """The texts of a form in which all is fixed but the arguments."""
    match form:
        case Exactly(text):
            yield text
        case InOrder(parts) | OneOf(parts):
            for part in parts:
                yield from texts_of(part)
        case Repeated(part):
            yield from texts_of(part)


class TestTemplatesOfNoFamily:
    """JSON under a tag or with keys that no one else has is read as the template writes it."""

    def test_a_tag_of_its_own(self) -> None:
        template = go(f"<function_call>{USUAL}</function_call>")
        call = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
        text = f"Look: <function_call>\n{call}\n</function_call> Done {call}"
        assert read(template, text) == ["Look: ", PARIS, f" Done {call}"]

    def test_a_tag_before_a_list(self) -> None:
        template = go(USUAL + "]", "<CALLS>[")
        call = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
        assert read(template, f"<CALLS>[{call}, {call}]") == [PARIS, PARIS]
        writing = recognise_writing(template)
        assert writing is not None
        assert (writing.opening, writing.separator, writing.closing) == ("<CALLS>[", ", ", "]")

    def test_keys_of_its_own(self) -> None:
        template = go(f'<use>{{"tool": "{NAME}", "input": {ARGUMENTS}}}</use>')
        text = '<use>{"tool": "get_weather", "input": {"city": "Paris"}}</use>'
        assert read(template, text) == [PARIS]

    def test_keys_of_its_own_without_a_tag(self) -> None:
        template = go(f'{{"tool": "{NAME}", "input": {ARGUMENTS}}}')
        assert read(template, '{"tool": "get_weather", "input": {"city": "Paris"}}') == [PARIS]

    def test_a_template_that_fails_on_calls_is_like_one_that_has_none(self) -> None:
        template = go("{{ .No.Such.Field }}")
        call = '{"name": "get_weather", "parameters": {"city": "Paris"}}'
        assert read(template, call) == [PARIS]
