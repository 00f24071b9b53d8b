"""What ``make run`` shows when it is given no model: all that a model can do, with Cria.

Each part is a request as any client would send it; what is printed is what came back.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from typing import Final

from llamaherd.cli.streams import can_draw
from llamaherd.client import Client, Object

MODEL: Final = "cria"

#: What the tool of the tour answers. It is made up, and says so where it is defined.
_FORECAST: Final = {"temperature": 21, "condition": "sunny"}
_TOOL: Final = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather for a city",
        "parameters": {
            "type": "object",
            "required": ["city"],
            "properties": {"city": {"type": "string"}},
        },
    },
}
_PERSON: Final = {
    "type": "object",
    "required": ["name", "age"],
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
}

_BOLD, _DIM, _OFF = "\033[1m", "\033[2m", "\033[0m"


def tour(client: Client) -> None:
    """Raises ``LlamaherdError`` where a request fails."""
    _heading("chat")
    _chat(client, "Who are you?")
    _chat(client, "Tell me a story about a llama named Pablo.")
    _heading("tools")
    _tool_call(client, "What is the weather in Lisbon?")
    _heading("structured output, by a JSON schema")
    _chat(client, "Extract name and age as JSON: Ada is 36 years old.", format=_PERSON)
    _heading("thinking")
    _chat(client, "Ada has 4 apples and gets 3 more. How many apples does Ada have?", think=True)
    _heading("fill in the middle")
    _gap(client, "def add(left, right):\n    return ", "\n")


def _chat(client: Client, question: str, **more: object) -> None:
    _asked(question)
    _reply(client, [{"role": "user", "content": question}], **more)


def _tool_call(client: Client, question: str) -> None:
    _asked(question)
    messages: list[Object] = [{"role": "user", "content": question}]
    answer = _reply(client, messages, tools=[_TOOL])
    if not answer.get("tool_calls"):
        return
    result = json.dumps(_FORECAST)
    _say(f"{_styled(_DIM, 'the tool (made up for this tour) answers')} {result}\n")
    messages += [answer, {"role": "tool", "tool_name": "get_weather", "content": result}]
    _reply(client, messages, tools=[_TOOL])


def _gap(client: Client, prefix: str, suffix: str) -> None:
    _say(prefix)
    request = {"model": MODEL, "prompt": prefix, "suffix": suffix}
    for part in client.generate(request):
        _say(_styled(_BOLD, part.get("response", "")))
    _say(suffix)


def _reply(client: Client, messages: list[Object], **more: object) -> Object:
    """Prints a reply while it comes; the whole message."""
    whole: Object = {"role": "assistant", "content": ""}
    for message in _messages(client, {"model": MODEL, "messages": messages, **more}):
        if thinking := message.get("thinking"):
            _say(_styled(_DIM, thinking))
            whole["thinking"] = whole.get("thinking", "") + thinking
        if content := message.get("content"):
            if whole.get("thinking") and not whole["content"]:
                _say("\n")
            _say(content)
            whole["content"] += content
        for call in message.get("tool_calls") or []:
            function = call["function"]
            _say(_styled(_BOLD, f"{function['name']}({json.dumps(function['arguments'])})"))
            whole.setdefault("tool_calls", []).append(call)
    _say("\n")
    return whole


def _messages(client: Client, request: Object) -> Iterator[Object]:
    for part in client.chat(request):
        yield part.get("message") or {}


def _heading(text: str) -> None:
    _say(f"\n{_styled(_BOLD, f'— {text} —')}\n")


def _asked(question: str) -> None:
    _say(f"{_styled(_DIM, '>>>')} {question}\n")


def _styled(style: str, text: str) -> str:
    return f"{style}{text}{_OFF}" if text and can_draw(sys.stdout) else text


def _say(text: str) -> None:
    print(text, end="", flush=True)
