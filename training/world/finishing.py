"""Conversations for the finishing stage of training, about what is hardest for a small model.

Tools whose names share words, so that a name has to be read to its end and copied letter by letter,
and records in which names and cities stand where they can't be guessed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random
from typing import Final

import msgspec

from training.world import records, tools
from training.world.conversation import Conversation, opened
from training.world.exchange import Exchange
from training.world.harder import led_in, record_in
from training.world.nouns import NOUNS, WORDS
from training.world.skills import CITY, Skill
from training.world.toolbox import SKILLS
from training.world.tools import ALIKE, LOOKUP_VERBS, NAME_PARTS, Kit
from training.world.words import CITIES, Split, city, made_up

#: Variables of Python functions.
VARIABLES: Final = (*"c d e f g h o".split(), *WORDS)

#: Who somebody is, before the name.
_OWNERS: Final = "My Our Her His Their The Your".split()
_RELATIONS: Final = (
    "brother sister cousin neighbour teacher uncle aunt boss doctor baker son daughter mother "
    "father nephew niece driver farmer painter singer"
).split()

_HELD_OUT_TOOLS: Final = frozenset(
    name for skill in SKILLS.values() for name in skill.names["held_out"]
)


@dataclass(frozen=True)
class _Style:
    """What the names of one conversation's tools have in common."""

    before: str
    after: str

    #: Of all that look something up; each has its own if this is None.
    verb: str | None
    camel: bool

    #: Names say nothing; only the description tells what a tool is for.
    opaque: bool

    def full(self, name: str) -> str:
        whole = "_".join(part for part in (self.before, name, self.after) if part)
        if not self.camel:
            return whole
        first, *rest = whole.split("_")
        return first + "".join(part.capitalize() for part in rest)


def _style(random: Random) -> _Style:
    opaque = random.random() < 0.4
    draw = random.random()
    return _Style(
        before=_affix(random) if draw < 0.3 else "",
        after=_affix(random) if 0.3 < draw < 0.5 else "",
        verb=random.choice((*LOOKUP_VERBS, "")) if random.random() < 0.6 else None,
        camel=random.random() < 0.2,
        opaque=opaque,
    )


def _affix(random: Random) -> str:
    return random.choice(NAME_PARTS) if random.random() < 0.3 else _meaningless(random)


def _meaningless(random: Random) -> str:
    """A word or two that could name anything."""
    words = [
        random.choice(WORDS) if random.random() < 0.6 else made_up(random)
        for _ in range(random.choice((1, 1, 2)))
    ]
    return "_".join(words)


def near_names(random: Random) -> Conversation:
    """One call, or two, of tools that have names of the same style."""
    kits = _kits(random)
    turns = 1 if random.random() < 0.85 else 2
    exchanges = [
        _used(random, random.choice(kits), last=turn == turns) for turn in range(1, turns + 1)
    ]
    return opened(random, exchanges, tuple(each.tool for each in kits))


def _used(random: Random, chosen: Kit, *, last: bool) -> Exchange:
    think = random.random() < 0.35
    answered = not last or random.random() < 0.3
    return tools.use(random, "train", chosen, think, answered=answered)


def _kits(random: Random) -> list[Kit]:
    """One to four, that differ in name and in what they are for."""
    count = random.choice((1, 2, 2, 3, 3, 4, 4))
    style = _style(random)
    lookups = random.choice((0.0, 0.3, 0.5, 1.0))
    kinds = random.sample(sorted(SKILLS), len(SKILLS))
    taken: set[str] = set()
    found: list[Kit] = []
    while len(found) < count:
        if random.random() < lookups:
            made = _lookup(random, style)
        else:
            kind = kinds.pop()
            if any(kind in alike and alike & taken for alike in ALIKE):
                continue
            taken.add(kind)
            made = _known(random, style, SKILLS[kind])
        name = str(made.tool.function["name"])
        marks = {name, made.skill.thought}
        if not marks & taken and name not in _HELD_OUT_TOOLS:
            taken |= marks
            found.append(made)
    return found


def _lookup(random: Random, style: _Style) -> Kit:
    noun = random.choice(NOUNS) if random.random() < 0.6 else made_up(random)
    verb = random.choice(LOOKUP_VERBS) if style.verb is None else style.verb
    usual = f"{verb}_{noun}" if verb else noun
    name = style.full(_meaningless(random) if style.opaque else usual)
    skill = tools.lookup_of(random, noun, name)
    description = skill.descriptions[0] if style.opaque else random.choice(skill.descriptions)
    return tools.named_kit(random, _unusual(random, skill), name, description)


def _known(random: Random, style: _Style, skill: Skill) -> Kit:
    if style.opaque:
        name, description = _meaningless(random), skill.descriptions[0]
    else:
        name, description = random.choice(skill.names["train"]), random.choice(skill.descriptions)
    return tools.named_kit(random, _unusual(random, skill), style.full(name), description)


def _unusual(random: Random, skill: Skill) -> Skill:
    """With cities of several words, and at times with a parameter whose name nobody uses."""
    slots = {
        name: replace(slot, make=_any_city) if slot.make is CITY.make else slot
        for name, slot in skill.slots.items()
    }
    if len(slots) == 1 and random.random() < 0.25:
        slots = {name: replace(slot, names=(made_up(random),)) for name, slot in slots.items()}
    return replace(skill, slots=slots)


def _any_city(random: Random, split: Split) -> str:
    return _long_city(random) if random.random() < 0.3 else city(random, split)


def _long_city(random: Random) -> str:
    """Two or three words; some are parts of real names, some mean nothing."""
    known = [word for each in CITIES["train"] for word in each.split()]
    return " ".join(
        random.choice(known) if random.random() < 0.4 else made_up(random).capitalize()
        for _ in range(random.choice((2, 2, 2, 3)))
    )


def unusual_record(random: Random) -> Conversation:
    """A person's record, with words before the name and several in the city's."""
    question, answer = records.record(random, "train", random.random() < 0.3).messages
    known = {key: str(value) for key, value in record_in(answer).items()}
    place = known.get("city", "")
    if place and question.content.count(place) == 1 and random.random() < 0.4:
        longer = _long_city(random)
        question, answer = (
            msgspec.structs.replace(
                each,
                content=each.content.replace(place, longer),
                thinking=each.thinking.replace(f"The city is {place}.", f"The city is {longer}."),
            )
            for each in (question, answer)
        )
    if "name" in known and random.random() < 0.5:
        question = led_in(question, known["name"], _lead(random))
    return opened(random, [Exchange((question, answer))], ())


def _lead(random: Random) -> str:
    relation = random.choice(_RELATIONS) if random.random() < 0.7 else made_up(random)
    draw = random.random()
    if draw < 0.6:
        return f"{random.choice(_OWNERS)} {relation}"
    return relation.capitalize() if draw < 0.8 else made_up(random, 2).capitalize()
