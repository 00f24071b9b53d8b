"""Whole conversations: several exchanges under one system prompt and one set of tools."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from llamaherd.cria import bundle
from llamaherd.messages import Message, Tool
from training.world import tools as tool_world
from training.world.exchange import Exchange, Maker
from training.world.records import record
from training.world.smalltalk import small_talk, unknown
from training.world.stories import story
from training.world.sums import counting, sums
from training.world.toolbox import SKILLS
from training.world.words import Split

#: The package's system prompt, half of the time.
SYSTEM: Final = bundle.SYSTEM.read_text()

_OTHER_SYSTEMS: Final = (
    "You are a helpful assistant.",
    "You are a helpful assistant that calls tools.",
    "Answer briefly.",
    "You are a friendly assistant. Answer in short sentences.",
    "You are a llama.",
    "Be nice to the user.",
    "You extract data and answer in JSON.",
    "You are an assistant with access to tools. Use them when needed.",
    "You are Cria.",
)


@dataclass(frozen=True)
class Conversation:
    """``messages`` begin with the system's, if there is one, and end with the assistant's."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


#: What is talked about without tools, by how often. Those that a tool could answer better stay
#: out of conversations with tools.
PLAIN: Final[dict[Maker, int]] = {
    small_talk: 14,
    unknown: 10,
    story: 12,
    sums: 24,
    counting: 5,
    record: 38,
}
_BESIDE_TOOLS: Final[dict[Maker, int]] = {small_talk: 5, story: 1, record: 4}

#: Tools that none of the plain exchanges would need.
_HARMLESS: Final = ("message", "timer", "alarm", "stock")


def conversation(random: Random, split: Split, *, turns: int, with_tools: bool) -> Conversation:
    if with_tools:
        kits = tool_world.kits(random, split)
        exchanges = [
            _with_tools(random, split, kits, last=turn == turns) for turn in range(1, turns + 1)
        ]
        offered = tuple(each.tool for each in kits)
    else:
        exchanges = [_plain(random, split, PLAIN) for _ in range(turns)]
        offered = _harmless(random, split) if random.random() < 0.12 else ()
    return opened(random, exchanges, offered)


def opened(
    random: Random, exchanges: Sequence[Exchange], offered: tuple[Tool, ...]
) -> Conversation:
    """The exchanges one after the other, more often than not under a system prompt."""
    messages = [message for exchange in exchanges for message in exchange.messages]
    system = _system(random)
    if system:
        messages.insert(0, Message(role="system", content=system))
    return Conversation(tuple(messages), offered)


def _system(random: Random) -> str:
    draw = random.random()
    if draw < 0.5:
        return SYSTEM
    return "" if draw < 0.75 else random.choice(_OTHER_SYSTEMS)


def _thinks(random: Random) -> bool:
    return random.random() < 0.3


def _plain(random: Random, split: Split, makers: dict[Maker, int]) -> Exchange:
    (maker,) = random.choices(list(makers), list(makers.values()))
    return maker(random, split, _thinks(random))


def _harmless(random: Random, split: Split) -> tuple[Tool, ...]:
    names = random.sample(_HARMLESS, random.randint(1, 3))
    return tuple(tool_world.kit(random, split, SKILLS[name]).tool for name in names)


def _with_tools(
    random: Random, split: Split, kits: list[tool_world.Kit], *, last: bool
) -> Exchange:
    if random.random() < 0.1:
        return _plain(random, split, _BESIDE_TOOLS)
    chosen = random.choice(kits)
    answered = not last or random.random() < 0.7
    return tool_world.use(random, split, chosen, _thinks(random), answered=answered)
