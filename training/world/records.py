"""Sentences about people, to be written as JSON."""

from __future__ import annotations

import json
from random import Random
from typing import Final

from training.world import people, words
from training.world.exchange import Exchange, exchange
from training.world.phrases import Phrases, careless, fill
from training.world.words import Split

#: Statements by the fields that they give.
_STATEMENTS: Final[dict[tuple[str, ...], Phrases]] = {
    ("name", "age"): Phrases(
        (
            "{name} is {age} years old.",
            "{name} is {age}.",
            "My name is {name} and I am {age}.",
            "I am {name}, {age} years old.",
            "{name} turned {age} last week.",
            "{name}, {age}",
            "Her name is {name} and she is {age}.",
            "His name is {name}. He is {age} years old.",
            "I'm {name} and I'm {age} years old.",
            "This is {name}. She is {age}.",
            "At {age}, {name} is the oldest.",
            "{name} has just turned {age}.",
        ),
        (
            "My friend {name} is {age} years old.",
            "{name} will be {age} years old today.",
            "Meet {name}, who is {age}.",
            "I am called {name} and my age is {age}.",
        ),
    ),
    ("name", "age", "city"): Phrases(
        (
            "{name} is {age} years old and lives in {city}.",
            "{name}, {age}, lives in {city}.",
            "My name is {name}, I am {age} and I live in {city}.",
            "{name} from {city} is {age}.",
            "I am {name} from {city} and I am {age} years old.",
            "{name} is {age}. She comes from {city}.",
            "In {city} lives {name}, who is {age} years old.",
            "{name} lives in {city} and is {age} years old.",
        ),
        (
            "My friend {name} is {age} and has a house in {city}.",
            "{name} moved to {city} at the age of {age}.",
            "Meet {name}, {age}, of {city}.",
        ),
    ),
    ("name", "city"): Phrases(
        (
            "{name} lives in {city}.",
            "{name} comes from {city}.",
            "My name is {name} from {city}.",
            "I am {name} and I live in {city}.",
            "{name} has a house in {city}.",
        ),
        ("{name} moved to {city}.", "My friend {name} is from {city}."),
    ),
}

_REQUESTS: Final = Phrases(
    (
        "Extract the {fields} as JSON: {text}",
        "Extract {fields} as JSON: {text}",
        "Turn this into JSON with {fields}: {text}",
        "Give me {fields} as JSON: {text}",
        "{text} Extract the {fields} as JSON.",
        "{text} Give me JSON with {fields}.",
        "Write the {fields} as JSON. {text}",
        "JSON with {fields}: {text}",
        "Return a JSON object with {fields}.\n{text}",
        "{text}\nRespond with JSON: {fields}",
        "Extract {fields}: {text}",
        "{text} Respond using JSON with {fields}.",
        "Convert to JSON with the keys {fields}: {text}",
        "Make JSON of this ({fields}): {text}",
    ),
    (
        "Please give me the {fields} as a JSON object: {text}",
        "Find the {fields} in this sentence and answer in JSON: {text}",
        "{text} Answer with a JSON object that has {fields}.",
        "Read this and write JSON with {fields}: {text}",
    ),
)
_OPEN: Final = Phrases(
    (
        "Turn this into JSON: {text}",
        "As JSON: {text}",
        "{text} Respond using JSON.",
        "JSON: {text}",
        "Write this as JSON: {text}",
        "{text} As JSON, please.",
        "Convert to JSON: {text}",
    ),
    ("Please write this as JSON: {text}", "{text} Answer in JSON."),
)


def record(random: Random, split: Split, think: bool) -> Exchange:
    """The object's members come in the order in which they are asked for."""
    fields: tuple[str, ...] = random.choice(
        (("name", "age"),) * 3 + (("name", "age", "city"),) * 2 + (("name", "city"),)
    )
    values: dict[str, object] = {
        "name": words.name(random, split),
        "age": random.randint(1, 99),
        "city": words.city(random, split),
    }
    text = _STATEMENTS[fields].say(random, split, **values)
    if split == "train" and random.random() < 0.65:
        text = fill(people.told(random, fields), **values)
    if random.random() < 0.15:
        question = _OPEN.say(random, split, text=text)
    else:
        asked = list(fields)
        if random.random() < 0.25:
            random.shuffle(asked)
        if len(asked) == 3 and random.random() < 0.2:
            asked.pop()
        fields = tuple(asked)
        listed = _listed(random, fields)
        question = _REQUESTS.say(random, split, text=text, fields=listed)
        if split == "train" and random.random() < 0.5:
            request = people.asked(random)
            if random.random() < 0.3:
                request = careless(random, request)
            question = fill(request, text=text, fields=listed)
    answer = json.dumps({field: values[field] for field in fields})
    thought = " ".join(f"The {field} is {values[field]}." for field in fields)
    return exchange(question, answer, thought if think else "")


def _listed(random: Random, fields: tuple[str, ...]) -> str:
    *most, last = fields
    joint = random.choice((" and ", " and ", ", "))
    return ", ".join(most) + joint + last if most else last
