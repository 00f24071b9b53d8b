"""Sentences that tell a person's name, age and city in ever other words."""

from __future__ import annotations

from collections.abc import Collection
from random import Random
from typing import Final

from training.world.words import made_up

_WHO: Final = (
    "{name}",
    "{name}",
    "My {kin} {name}",
    "Her {kin} {name}",
    "Our {kin} {name}",
    "His {kin} {name}",
    "The {kin} {name}",
    "A {kin} called {name}",
    "Today {name}",
    "This is {name}, who",
    "Here is {name}, who",
    "I know {name}, who",
    "Say hello to {name}, who",
    "Welcome {name}, who",
    "There is {name}, who",
    "I met {name}, who",
    "Look, {name}",
    "Note that {name}",
    "Here comes {name}: he",
    "You know {name}? She",
    "Ask {name}, who",
    "Call {name}, who",
    "Now {name}",
    "As you know, {name}",
    "Look at {name}, who",
    "Do you know {name}? He",
    "Their {kin} {name}",
    "Yesterday {name}",
)
_KIN: Final = (
    "brother sister neighbor teacher boss aunt uncle cousin doctor colleague mother father son "
    "daughter partner student nurse baker driver"
).split()
_AGES: Final = (
    "is {age} years old",
    "is {age}",
    "turned {age}",
    "is aged {age}",
    "has turned {age}",
    "was {age}",
    "became {age}",
    "is {age} years of age",
    "will soon be {age}",
    "is now {age}",
    "is just {age} years old",
    "will be {age} tomorrow",
    "celebrates being {age}",
    "is about {age}",
)
_CITIES: Final = (
    "lives in {city}",
    "comes from {city}",
    "works in {city}",
    "stays in {city}",
    "grew up in {city}",
    "was born in {city}",
    "flew to {city}",
    "went to {city}",
    "studies in {city}",
    "is from {city}",
    "returned to {city}",
    "owns a shop in {city}",
    "arrived in {city}",
    "left for {city}",
    "likes {city}",
    "has a flat in {city}",
    "travels to {city}",
    "is at home in {city}",
    "found {city}",
)
_LISTED: Final = {
    ("name", "age"): (
        "{name}, {age}",
        "{name} ({age})",
        "{age}, {name}",
        "name {name} age {age}",
        "Name: {name}, age: {age}",
        "{name}, {age} years",
        "{name}, aged {age}",
        "At {age}, {name} is happy.",
        "{age} is the age of {name}.",
    ),
    ("name", "city"): (
        "{name}, {city}",
        "{name} ({city})",
        "name {name} city {city}",
        "Name: {name}, city: {city}",
        "{name} of {city}",
        "In {city} I saw {name}.",
        "From {city} came {name}.",
    ),
    ("name", "age", "city"): (
        "{name}, {age}, {city}",
        "{name} ({age}), {city}",
        "{name}, {age}, from {city}",
        "name {name} age {age} city {city}",
        "{name} from {city}, {age} years",
        "Name: {name}, age: {age}, city: {city}",
        "In {city} I saw {name}, {age}.",
        "At {age}, {name} went to {city}.",
        "{name} left {city} when he was {age}.",
        "{name} came to {city} aged {age}.",
    ),
}


def told(random: Random, fields: Collection[str]) -> str:
    """A sentence with a slot for each of the fields, the name among them."""
    if random.random() < 0.2:
        return random.choice(_LISTED[tuple(fields)])
    facts = []
    if "age" in fields:
        facts.append(random.choice(_AGES))
    if "city" in fields:
        facts.append(_place(random))
    random.shuffle(facts)
    who = random.choice(_WHO).replace("{kin}", random.choice(_KIN))
    end = random.choice((".", ".", ".", "!", "", " today.", " again."))
    return f"{who} {' and '.join(facts)}{end}"


def _place(random: Random) -> str:
    """Sometimes with a verb that there isn't, to be read past."""
    if random.random() < 0.25:
        joint = random.choice(("in", "to", "from", "at", "near"))
        return f"{made_up(random, 1)}s {joint} {{city}}"
    return random.choice(_CITIES)


_VERBS: Final = "Extract Get Take Pick Read Collect Output Return Write List Show Make".split()
_SOURCES: Final = (
    "",
    "",
    " from this text",
    " from the text",
    " from this",
    " of this person",
    " out of this",
    " from the following",
    " that you read here",
)
_FORMS: Final = (
    " as JSON",
    " in JSON",
    " as a JSON object",
    " and reply in JSON",
    " and write JSON",
    " and respond with JSON",
    " using JSON",
    " in JSON format",
    " as json",
)


def asked(random: Random) -> str:
    """A request with slots for ``fields`` and the ``text`` that they are in."""
    fields = random.choice(("the {fields}", "{fields}", "the fields {fields}"))
    verb = random.choice(_VERBS)
    if random.random() < 0.2:
        verb = random.choice(("Please ", "Can you ", "You should ", "Now ")) + verb.lower()
    request = f"{verb} {fields}{random.choice(_SOURCES)}{random.choice(_FORMS)}"
    draw = random.random()
    if draw < 0.55:
        return request + random.choice((": ", ":\n", ". ", ".\n\n", ": ")) + "{text}"
    return "{text}" + random.choice((" ", "\n", " ", "\n\n")) + request + "."
