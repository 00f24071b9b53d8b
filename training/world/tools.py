"""Tools as one conversation has them, calls of them, and the results put into words."""

from __future__ import annotations

import json
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from llamaherd.messages import Message, Tool, ToolCall, ToolCallFunction
from training.world import words
from training.world.exchange import Exchange
from training.world.nouns import NOUNS, WORDS
from training.world.phrases import Phrases, fill, varied
from training.world.skills import (
    Skill,
    Slot,
    Values,
    amount_of,
    city_name,
    person_name,
    stock_symbol,
    words_as,
)
from training.world.toolbox import SKILLS
from training.world.words import Split

LOOKUP_VERBS: Final = ("get", "fetch", "find", "read", "show", "lookup", "check")
_LOOKUP_REQUESTS: Final = varied(
    (
        "What is the {noun} of {value}?",
        "Tell me the {noun} of {value}.",
        "Get the {noun} for {value}.",
        "Show me the {noun} of {value}.",
        "{noun} of {value}?",
        "Find the {noun} for {value}.",
        "What {noun} does {value} have?",
        "I need the {noun} of {value}.",
    ),
    ("Could you look up the {noun} of {value}?", "Give me the {noun} for {value}."),
    subjects=("the {noun} of {value}", "the {noun} for {value}", "{noun} of {value}"),
)
_CALL_REQUESTS: Final = Phrases(
    (
        "Call {tool} with {parameter} {value}.",
        "Use {tool} with {parameter} {value}.",
        "Run {tool} for {value}.",
        "Use the tool {tool} with {value}.",
    ),
    ("Please call {tool} with {value}.",),
)
REAL_NOUNS: Final[dict[Split, tuple[str, ...]]] = {
    "train": (*NOUNS, *WORDS),
    "held_out": ("weight", "salary", "location", "title", "birthday"),
}


@dataclass(frozen=True)
class Kit:
    """A tool as it is defined for one conversation, and what it is for.

    ``parameters`` gives the parameter's name for each slot of the skill.
    """

    skill: Skill
    tool: Tool
    parameters: dict[str, str]


def kit(random: Random, split: Split, skill: Skill) -> Kit:
    parameters = _parameters(random, skill)
    name = random.choice(skill.names[split])
    description = random.choice(skill.descriptions)
    if split == "train":
        known = name
        while True:
            name, description = _renamed(random, known, description, skill.descriptions[0])
            if name not in skill.names["held_out"] or name == known:
                break
    return _kit(skill, parameters, name, description)


def named_kit(random: Random, skill: Skill, name: str, description: str) -> Kit:
    """With just this name and description; its parameters are called as they usually are."""
    return _kit(skill, _parameters(random, skill), name, description)


def _parameters(random: Random, skill: Skill) -> dict[str, str]:
    parameters = {slot: random.choice(skill.slots[slot].names) for slot in skill.slots}
    while len(set(parameters.values())) < len(parameters):
        parameters = {slot: random.choice(skill.slots[slot].names) for slot in skill.slots}
    return parameters


def _kit(skill: Skill, parameters: dict[str, str], name: str, description: str) -> Kit:
    properties: dict[str, dict[str, Any]] = {}
    for slot, parameter in sorted(parameters.items(), key=lambda item: item[1]):
        properties[parameter] = {"type": skill.slots[slot].type, "description": slot}
        if skill.slots[slot].enum:
            properties[parameter]["enum"] = list(skill.slots[slot].enum)
    definition = {
        "name": name,
        "description": description,
        "parameters": {"type": "object", "required": sorted(properties), "properties": properties},
    }
    return Kit(skill, Tool("function", definition), parameters)


def _renamed(random: Random, name: str, description: str, clear: str) -> tuple[str, str]:
    """A name like nobody's, so that names must be read and not known; one that means nothing has a
    ``clear`` description."""
    draw = random.random()
    if draw < 0.35:
        return name, description
    if draw < 0.8:
        word = random.choice(NAME_PARTS) if random.random() < 0.5 else words.made_up(random)
        parts = [name, word] if random.random() < 0.5 else [word, name]
        return "_".join(parts), description
    made = words.made_up(random)
    if random.random() < 0.5:
        made += "_" + words.made_up(random)
    return made, clear


#: What is found before or after the usual words in the names of tools.
NAME_PARTS: Final = (
    "my old fast the tool service api quick run info data for_me by helper now simple please "
    "function main user app bot v2 call get_a great good world daily"
).split()


def lookup_skill(random: Random, split: Split) -> Skill:
    """A tool nobody knows, that looks up something of something, both often made up."""
    real = split == "held_out" or random.random() < 0.35
    noun = random.choice(REAL_NOUNS[split]) if real else words.made_up(random)
    verb = random.choice(LOOKUP_VERBS)
    tool = random.choice((f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}{noun.capitalize()}", noun))
    return lookup_of(random, noun, tool)


def lookup_of(random: Random, noun: str, tool: str) -> Skill:
    """The skill of the ``tool`` that looks up the ``noun`` of something."""
    parameter = random.choice(("name", "id", "item", "city", "person", words.made_up(random)))
    make = random.choice((person_name, city_name, stock_symbol, person_name))
    called = random.random() < 0.25
    requests = _CALL_REQUESTS if called else _LOOKUP_REQUESTS
    bound = {"noun": noun, "tool": tool, "parameter": parameter, "value": "{value}"}
    return Skill(
        {"train": (tool,), "held_out": (tool,)},
        (f"Get the {noun}", f"The {noun} of something", ""),
        {"value": Slot((parameter,), "string", make)},
        Phrases(
            [fill(text, **bound) for text in requests.train],
            [fill(text, **bound) for text in requests.held_out],
        ),
        random.choice((amount_of(noun, 5), words_as(noun))),
        (f"The {noun} of {{value}}: {{result}}.",),
        f"The user wants to know the {noun} of {{value}}.",
    )


#: Skills that a request could mean as well; never in the same set.
ALIKE: Final = (frozenset(("weather", "weather_unit")), frozenset(("search", "define")))


def kits(random: Random, split: Split) -> list[Kit]:
    """One to four tools that can't be confused, in any order."""
    count = random.choice((1, 1, 2, 2, 3, 4))
    names: list[str] = []
    candidates = list(SKILLS)
    random.shuffle(candidates)
    found: list[Kit] = []
    taken: set[str] = set()
    while len(found) < count:
        if random.random() < 0.3:
            skill = lookup_skill(random, split)
        else:
            name = candidates.pop()
            if any(name in alike and alike & {*names} for alike in ALIKE):
                continue
            names.append(name)
            skill = SKILLS[name]
        made = kit(random, split, skill)
        marks = {str(made.tool.function["name"]), skill.thought}
        if not marks & taken:
            taken |= marks
            found.append(made)
    return found


def use(
    random: Random, split: Split, chosen: Kit, think: bool, *, answered: bool = True
) -> Exchange:
    """A request for this tool, the call and, if ``answered``, the result and its wording."""
    skill = chosen.skill
    values: Values = {slot: each.make(random, split) for slot, each in skill.slots.items()}
    question = skill.requests.say(random, split, **values)
    arguments = {chosen.parameters[slot]: values[slot] for slot in values}
    name = str(chosen.tool.function["name"])
    call = ToolCall(ToolCallFunction(name, dict(sorted(arguments.items()))))
    thought = f"{fill(skill.thought, **values)} I call {name}." if think else ""
    asked = (
        Message(role="user", content=question),
        Message(role="assistant", thinking=thought, tool_calls=[call]),
    )
    if not answered:
        return Exchange(asked, (chosen.tool,))
    result = skill.result(random, values)
    if random.random() < 0.06:
        reason = random.choice(("not found", "no connection", "timeout", "unknown", "not allowed"))
        result = random.choice((f"error: {reason}", json.dumps({"error": reason})))
        answer = f"That did not work: {reason}."
    else:
        answer = fill(random.choice(skill.answers), **values, result=worded(result))
    thought = f"The tool says: {worded(result)}." if think else ""
    return Exchange(
        (
            *asked,
            Message(role="tool", content=result, tool_name=name),
            Message(role="assistant", content=answer, thinking=thought),
        ),
        (chosen.tool,),
    )


def worded(result: str) -> str:
    """A result as a text: an object's members one after the other, or its only value."""
    if not result.startswith("{"):
        return result
    members = json.loads(result)
    if len(members) == 1:
        return str(*members.values())
    return ", ".join(f"{key} {value}" for key, value in members.items())
