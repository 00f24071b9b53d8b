"""What Cria is asked in its evaluation, and what counts as right.

All of it comes from the held-out part of the world: names, cities and phrasings that training never
shows, and sums whose order it never shows.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from llamaherd.client import Object
from llamaherd.messages import Message, Tool
from training.client import Reply
from training.world import tools as tool_world
from training.world.code import gap
from training.world.exchange import Exchange
from training.world.records import record
from training.world.smalltalk import unknown
from training.world.stories import story
from training.world.sums import counting, sums
from training.world.topics import REAL_MODEL, TOPICS


@dataclass(frozen=True)
class Case:
    """A request without the model's name, and whether a reply to it is right."""

    request: Object
    is_right: Callable[[Reply], bool]
    expected: str


@dataclass(frozen=True)
class Task:
    """``target`` is the share that must be right, None where there is no promise."""

    title: str
    make: Callable[[Random], Case]
    target: float | None = None


def cases(task: Task, count: int) -> Iterator[Case]:
    """The same for the same title, whatever other tasks there are."""
    for index in range(count):
        yield task.make(Random(f"evaluation/{task.title}/{index}"))


def _chat(messages: tuple[Message, ...], tools: tuple[Tool, ...] = (), **more: Any) -> Object:
    request: Object = {"messages": [_wire(message) for message in messages], **more}
    if tools:
        request["tools"] = [{"type": tool.type, "function": tool.function} for tool in tools]
    return request


def _wire(message: Message) -> Object:
    wire: Object = {"role": message.role, "content": message.content}
    if message.tool_calls:
        wire["tool_calls"] = [
            {"function": {"name": call.function.name, "arguments": call.function.arguments}}
            for call in message.tool_calls
        ]
    if message.tool_name:
        wire["tool_name"] = message.tool_name
    return wire


def _answered(made: Exchange, is_right: Callable[[Reply], bool], **more: Any) -> Case:
    *asked, answer = made.messages
    return Case(_chat(tuple(asked), **more), is_right, answer.content)


def _sum(random: Random, *, think: bool = False) -> Case:
    made = sums(random, "held_out", False)
    wanted = _numbers(made.messages[-1].content)[-1]

    def is_right(reply: Reply) -> bool:
        return _numbers(reply.content)[-1:] == [wanted] and bool(reply.thinking) == think

    return _answered(made, is_right, think=think)


def _numbers(text: str) -> list[int]:
    words = "".join(mark if mark.isdigit() else " " for mark in text)
    return [int(word) for word in words.split()]


def _thoughtful_sum(random: Random) -> Case:
    return _sum(random, think=True)


def _count(random: Random) -> Case:
    made = counting(random, "held_out", False)
    return _answered(made, lambda reply: reply.content == made.messages[-1].content)


def _record(random: Random, form: Any = None) -> Case:
    made = record(random, "held_out", False)
    wanted = json.loads(made.messages[-1].content)
    if form == "schema":
        kinds = {name: {"type": "integer" if name == "age" else "string"} for name in wanted}
        form = {"type": "object", "properties": kinds, "required": list(wanted)}

    def is_right(reply: Reply) -> bool:
        try:
            return bool(json.loads(reply.content) == wanted)
        except ValueError:
            return False

    return _answered(made, is_right, **({} if form is None else {"format": form}))


def _record_as_json(random: Random) -> Case:
    return _record(random, "json")


def _record_by_schema(random: Random) -> Case:
    return _record(random, "schema")


def _tools(random: Random) -> tuple[Exchange, tuple[Tool, ...]]:
    kits = tool_world.kits(random, "held_out")
    made = tool_world.use(random, "held_out", random.choice(kits), False)
    return made, tuple(each.tool for each in kits)


def _call(random: Random, *, think: bool = False) -> Case:
    made, offered = _tools(random)
    question, answer, *_ = made.messages
    function = answer.tool_calls[0].function
    wanted = [(function.name, function.arguments)]

    def is_right(reply: Reply) -> bool:
        return reply.calls == wanted and not reply.content and bool(reply.thinking) == think

    return Case(_chat((question,), offered, think=think), is_right, str(wanted))


def _thoughtful_call(random: Random) -> Case:
    return _call(random, think=True)


def _wording(random: Random) -> Case:
    made, offered = _tools(random)
    *asked, answer = made.messages
    return Case(
        _chat(tuple(asked), offered), lambda reply: reply.content == answer.content, answer.content
    )


def _small_talk(random: Random) -> Case:
    topic = random.choice(TOPICS)
    question = random.choice(topic.questions.held_out)
    messages = (Message(role="user", content=question),)
    return Case(_chat(messages), lambda reply: reply.content in topic.answers, topic.answers[0])


def _unknown(random: Random) -> Case:
    made = unknown(random, "held_out", False)
    return _answered(made, lambda reply: REAL_MODEL in reply.content)


def _story(random: Random) -> Case:
    """Right is what ends by itself and has more than three sentences; how well it reads is for
    people to say."""
    made = story(random, "held_out", False)
    return _answered(
        made, lambda reply: reply.done_reason == "stop" and reply.content.count(". ") >= 3
    )


def _gap(random: Random) -> Case:
    made = gap(random, "held_out")
    return Case(
        {"prompt": made.prefix, "suffix": made.suffix},
        lambda reply: reply.content.strip() == made.middle.strip(),
        made.middle,
    )


TASKS: Final = (
    Task("right tool, right arguments", _call, 0.90),
    Task("right tool, thinking first", _thoughtful_call),
    Task("tool's result in words", _wording),
    Task("right JSON, without a grammar", _record, 0.95),
    Task('right JSON, `format: "json"`', _record_as_json),
    Task("right JSON, `format` a schema", _record_by_schema),
    Task("sums and differences", _sum, 0.95),
    Task("sums and differences, thinking first", _thoughtful_sum),
    Task("counting", _count),
    Task("gap in a Python function", _gap),
    Task("small talk, a fitting answer", _small_talk),
    Task("says what it can't answer", _unknown),
    Task("stories of four sentences or more", _story),
)
