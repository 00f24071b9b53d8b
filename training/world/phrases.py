"""Ways of saying things, and the roughness of what people type."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from training.world.words import Split

_SLOT: Final = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Phrases:
    """Templates with slots in braces; those in ``held_out`` are for the evaluation alone."""

    train: Sequence[str]
    held_out: Sequence[str]

    def say(self, random: Random, split: Split, **slots: object) -> str:
        """One of them, filled in; in training a third is typed carelessly."""
        template = random.choice(self.train if split == "train" else self.held_out)
        if split == "train" and random.random() < 0.33:
            template = careless(random, template)
        return fill(template, **slots)


#: Ways to ask for something that has a name: ``subject`` is "the weather in {city}".
_ASKS: Final = (
    "Tell me {subject}.",
    "Can you tell me {subject}?",
    "What is {subject}?",
    "I need {subject}.",
    "I need to know {subject}.",
    "I would like to know {subject}.",
    "Give me {subject}.",
    "Show me {subject}.",
    "Find out {subject}.",
    "Check {subject}.",
    "Get {subject}.",
    "Please get me {subject}.",
    "Do you know {subject}?",
    "{subject}?",
    "{subject} please",
    "What about {subject}?",
    "Let me know {subject}.",
    "I wonder what {subject} is.",
    "Hey, what is {subject}?",
    "Now tell me {subject}.",
    "Say {subject}.",
    "And {subject}?",
    "Could I have {subject}?",
    "I am looking for {subject}.",
    "Hi! What is {subject} now?",
)
#: Ways to ask for something to be done: ``command`` is "set a timer for {minutes} minutes".
_ORDERS: Final = (
    "Can you {command}?",
    "{command}.",
    "I want you to {command}.",
    "Would you {command}?",
    "Now {command}.",
    "Go and {command}.",
    "I would like you to {command}.",
    "{command} please",
    "Help me: {command}.",
    "Hey, {command}!",
    "You should {command}.",
    "Will you {command}?",
    "Can you please {command} for me?",
    "Let us {command}.",
    "Hi! {command} now.",
    "I need you to {command}.",
    "First {command}.",
    "Okay, {command}.",
)


def varied(
    train: Sequence[str],
    held_out: Sequence[str],
    *,
    subjects: Sequence[str] = (),
    commands: Sequence[str] = (),
) -> Phrases:
    """Phrases, and for training also all usual ways to ask for the subjects and commands."""
    made = [ask.replace("{subject}", subject) for subject in subjects for ask in _ASKS]
    made += [order.replace("{command}", command) for command in commands for order in _ORDERS]
    made = [each[0].upper() + each[1:] if each[0] != "{" else each for each in made]
    return Phrases([*train, *(each for each in made if each not in held_out)], held_out)


def fill(template: str, **slots: object) -> str:
    return _SLOT.sub(lambda found: str(slots[found[1]]), template)


def careless(random: Random, template: str) -> str:
    """Without capitals or the last mark, or with a letter wrong; slots stay as they are."""
    draw = random.random()
    if draw < 0.45:
        template = _outside_slots(template, str.lower)
    if draw > 0.25 and template[-1] in ".?!:":
        template = template[:-1]
    if draw > 0.8:
        template = _outside_slots(template, lambda text: _mistyped(random, text))
    return template


def _outside_slots(template: str, change: Callable[[str], str]) -> str:
    parts = re.split(r"(\{\w+\})", template)
    return "".join(part if part.startswith("{") else change(part) for part in parts)


def _mistyped(random: Random, text: str) -> str:
    places = [at for at in range(1, len(text) - 1) if text[at : at + 2].isalpha()]
    if not places or random.random() < 0.3:
        return text
    at = random.choice(places)
    if random.random() < 0.5:
        return text[:at] + text[at + 1] + text[at] + text[at + 2 :]
    return text[:at] + text[at + 1 :]
