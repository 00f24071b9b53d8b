"""Earlier calls and their results, and tools, as the chat templates of GGUF files are told them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Final

import pytest

from llamaherd.errors import TemplateRefusal
from llamaherd.messages import Message, Tool, ToolCall, ToolCallFunction
from llamaherd.prompt.builder import Prompt, chat_prompt, run
from llamaherd.prompt.jinja import JinjaTemplate
from llamaherd.prompt.parsers.calls import Toolbox
from llamaherd.prompt.parsers.recognise import recognise_calls
from llamaherd.prompt.parsers.stream import CallParser
from llamaherd.prompt.template import USUAL_TOKENS, Values
from tests.support.replies import parts, summary

DATA = Path(__file__).parent / "data"
BY_NAME: dict[str, str] = {
    entry["name"]: entry["template"]
    for file in ("chat-templates.json", "tool-templates.json")
    for entry in json.loads((DATA / file).read_text())["templates"]
}
NEMO = BY_NAME["mistralai-Mistral-Nemo-Instruct-2407"]
LLAMA = BY_NAME["meta-llama-Llama-3.1-8B-Instruct"]

ASKED = Message(role="user", content="How is the weather?")


def characters(prompt: Prompt) -> int:
    return len(prompt.text)


def weather(parameters: dict[str, Any] | None = None) -> Tool:
    said = {} if parameters is None else {"parameters": parameters}
    return Tool("function", {"name": "weather", **said})


def calls(*cities: str, ids: str = "call_47fe085{}", content: str = "") -> Message:
    """Calls with ids as our OpenAI interface gives them."""
    made = [
        ToolCall(ToolCallFunction("weather", {"city": city}), ids.format(index))
        for index, city in enumerate(cities)
    ]
    return Message(role="assistant", content=content, tool_calls=made)


def result(content: str, call_id: str) -> Message:
    return Message(role="tool", content=content, tool_call_id=call_id)


def rendered(text: str, *messages: Message, tools: tuple[Tool, ...] = (weather(),)) -> str:
    return JinjaTemplate(text, USUAL_TOKENS).render(Values(messages=messages, tools=tools))


def places(text: str, *parts: str) -> list[int]:
    """Where the parts stand, each after the one before."""
    found = [text.index(parts[0])]
    for part in parts[1:]:
        found.append(text.index(part, found[-1]))
    return found


def test_ids_that_a_template_refuses_become_ids_that_it_takes() -> None:
    prompt = rendered(
        NEMO,
        *(ASKED, calls("Paris", "Rome")),
        *(result("cold", "call_47fe0851"), result("warm", "call_47fe0850")),
    )
    places(prompt, "Paris", '"id": "call00000"', "Rome", '"id": "call00001"')
    places(
        prompt, '"content": cold, "call_id": "call00001"', '"content": warm, "call_id": "call00000"'
    )


def test_ids_stay_where_the_template_takes_them() -> None:
    text = (
        "{{ tools }}{% for m in messages %}{% for c in m.tool_calls %}{{ c.id }}"
        "{{ c.function.arguments }}{% endfor %}{{ m.tool_call_id }} {% endfor %}"
    )
    prompt = rendered(
        text, calls("Paris", ids="functions.weather:3"), result("cold", "functions.weather:3")
    )
    assert prompt.count("functions.weather:3") == 2


def test_calls_at_once_come_one_by_one_where_the_template_takes_only_one() -> None:
    prompt = rendered(
        LLAMA,
        *(ASKED, calls("Paris", "Rome")),
        *(result("warm", "call_47fe0851"), result("cold", "call_47fe0850")),
        Message(role="user", content="Thanks"),
    )
    places(prompt, '"city": "Paris"', "cold", '"city": "Rome"', "warm", "Thanks")
    assert prompt.count("weather") == 1 + 1 + 2  # question, definition, calls


def test_each_call_has_one_result_also_where_ids_repeat() -> None:
    prompt = rendered(
        LLAMA,
        ASKED,
        calls("Paris", "Rome", ids="same"),
        result("cold", "same"),
        result("warm", "same"),
    )
    places(prompt, '"city": "Paris"', "cold", '"city": "Rome"', "warm")
    same = result("cold", "same")
    prompt = rendered(LLAMA, ASKED, calls("Paris", "Rome", ids="same"), same, same)
    places(prompt, '"city": "Paris"', "cold", '"city": "Rome"', "cold")


def test_a_result_that_belongs_to_no_call_is_not_lost() -> None:
    prompt = rendered(
        LLAMA, ASKED, calls("Paris", "Rome"), result("cold", ""), result("odd", "stray")
    )
    places(prompt, '"city": "Paris"', "cold", '"city": "Rome"', "odd")


@pytest.mark.parametrize(
    "parameters", [None, {}, {"type": "object"}, {"type": "object", "properties": None}], ids=str
)
def test_templates_may_count_on_parts_of_a_tool_that_clients_leave_out(
    parameters: dict[str, Any] | None,
) -> None:
    text = (
        "{% for t in tools %}{{ t.type + t.function.name + t.function.description }}"
        "{% for name in t.function.parameters.properties %}{{ name }}{% endfor %}{% endfor %}"
    )
    assert rendered(text, ASKED, tools=(weather(parameters),)) == "functionweather"


def test_what_a_client_says_of_a_tool_is_passed_on_as_it_is() -> None:
    parameters = {
        "type": "object",
        "properties": {"city": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None}},
        "additionalProperties": False,
    }
    tool = Tool("function", {"name": "weather", "strict": True, "parameters": parameters})
    shown = json.loads(rendered("{{ tools[0].function | tojson }}", ASKED, tools=(tool,)))
    assert shown == {"name": "weather", "description": "", "strict": True, "parameters": parameters}


class TestRemindersThatATemplateRefuses:
    """Agents put them between a tool's result and the answer; Claude Code after every few."""

    REMINDER = "Remember the list."

    def test_the_user_s_become_part_of_the_result(self) -> None:
        reminder = Message(role="user", content=self.REMINDER)
        prompt = rendered(NEMO, ASKED, calls("Paris"), result("cold", ""), reminder)
        assert prompt.endswith(
            f'"content": cold\n\n{self.REMINDER}, "call_id": "call00000"}}[/TOOL_RESULTS]'
        )

    def test_the_system_s_become_the_user_s(self) -> None:
        answer = Message(role="assistant", content="Cold.")
        reminder = Message(role="system", content=self.REMINDER)
        thanks = Message(role="user", content="Thanks.")
        prompt = rendered(NEMO, ASKED, answer, reminder, thanks)
        assert prompt.endswith(f"[INST]{self.REMINDER}\n\nThanks.[/INST]")

    def test_where_they_are_taken_they_stay(self) -> None:
        reminder = Message(role="system", content=self.REMINDER)
        text = "{% for m in messages %}{{ m.role }} {% endfor %}{{ tools }}"
        prompt = rendered(text, ASKED, calls("Paris"), result("cold", ""), reminder)
        assert prompt.startswith("user assistant tool system ")

    def test_what_is_refused_for_other_reasons_still_is(self) -> None:
        with pytest.raises(TemplateRefusal, match="must alternate"):
            rendered(NEMO, Message(role="assistant", content="Hello"), ASKED)


class TestCallsThatATemplateHides:
    """They stand in the text of their message, from which the family's parser reads them back."""

    ARGUMENTS: Final = {"city": 'Zü"rich\n', "days": 2, "x": {"y": [1, None, True]}}

    def prompt(self, name: str, answer: Message, *after: Message) -> str:
        messages = [ASKED, answer, *after]
        template = JinjaTemplate(BY_NAME[name], USUAL_TOKENS)
        return run(chat_prompt(template, messages, limit=None, tools=(weather(),)), characters).text

    @pytest.mark.parametrize("name", ["LFM2.5-Instruct", "ibm-granite-granite-3.3-2B-Instruct"])
    def test_they_are_shown_as_written(self, name: str) -> None:
        called = [ToolCall(ToolCallFunction("weather", self.ARGUMENTS))] * 2
        answer = Message(role="assistant", content="Let me see.", tool_calls=called)
        prompt = self.prompt(name, answer, result("cold", ""), result("warm", ""))
        _, said, rest = prompt.partition("Let me see.\n")
        written = rest[: rest.index("<|im_end|>" if "LFM" in name else "<|end_of_text|>")]
        template = JinjaTemplate(BY_NAME[name], USUAL_TOKENS)
        parser = CallParser(recognise_calls(template), Toolbox([weather()]))
        assert said
        assert summary(parts(parser, [written])) == [("weather", self.ARGUMENTS)] * 2
        places(prompt, written, "cold", "warm")

    def test_what_can_not_be_written_so_is_json(self) -> None:
        called = ToolCall(ToolCallFunction("weather", {"no name": 1}))
        prompt = self.prompt(
            "LFM2.5-Instruct", Message(role="assistant", tool_calls=[called]), result("cold", "")
        )
        assert '[{"name": "weather", "arguments": {"no name": 1}}]' in prompt

    def test_a_template_that_shows_them_is_left_alone(self) -> None:
        name = "Qwen3-Coder"
        answer = calls("Paris")
        template = JinjaTemplate(BY_NAME[name], USUAL_TOKENS)
        values = Values(messages=(ASKED, answer, result("cold", "")), tools=(weather(),))
        assert self.prompt(name, answer, result("cold", "")) == template.render(values)

    def test_one_that_fails_on_them_still_fails(self) -> None:
        text = (
            "{{ tools }}{% for m in messages %}{% if m.tool_calls %}{{ raise_exception('no') }}"
            "{% endif %}{% endfor %}"
        )
        template = JinjaTemplate(text, USUAL_TOKENS)
        with pytest.raises(TemplateRefusal):
            run(
                chat_prompt(template, [ASKED, calls("Paris"), result("cold", "")], limit=None),
                characters,
            )
