"""What kinds of tools there are made of: parameters with their values, requests and results."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Final

from training.world import words
from training.world.phrases import Phrases
from training.world.words import Split

Values = dict[str, Any]


@dataclass(frozen=True)
class Slot:
    """What a tool wants to know: the parameter's possible names, its type and its values."""

    names: tuple[str, ...]
    type: str
    make: Callable[[Random, Split], Any]
    enum: tuple[str, ...] = ()


@dataclass(frozen=True)
class Skill:
    """A kind of tool. ``slots`` are by the name they have in the phrases."""

    names: dict[Split, tuple[str, ...]]
    descriptions: tuple[str, ...]
    slots: dict[str, Slot]
    requests: Phrases
    result: Callable[[Random, Values], str]
    answers: tuple[str, ...]
    thought: str


CONDITIONS: Final = "sunny cloudy rainy windy foggy snowy clear stormy".split()
LANGUAGES: Final = "French German Spanish Italian Dutch Polish Greek Turkish".split()
CODES: Final = "USD EUR GBP CHF JPY SEK NOK PLN CAD AUD".split()
_TEXTS: Final = (
    "hello",
    "good morning",
    "I am late",
    "see you soon",
    "dinner is ready",
    "call me back",
    "happy birthday",
    "thank you",
    "where are you",
    "the train is late",
    "I am at home",
)
_QUERIES: Final = (
    "red shoes",
    "cheap flights",
    "llama wool",
    "apple pie",
    "good books",
    "green tea",
    "old maps",
    "funny cats",
    "winter coats",
    "train tickets",
    "house plants",
    "bike repair",
)


def city_name(random: Random, split: Split) -> str:
    return words.city(random, split)


def person_name(random: Random, split: Split) -> str:
    return words.name(random, split)


def some_number(random: Random, split: Split) -> int:
    return words.number(random, 3)


def some_minutes(random: Random, split: Split) -> int:
    return random.randint(1, 60)


def stock_symbol(random: Random, split: Split) -> str:
    return "".join(random.choice("ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(random.randint(3, 4)))


def some_text(random: Random, split: Split) -> str:
    if random.random() < 0.5:
        return random.choice(_TEXTS)
    return " ".join(words.made_up(random, 1) for _ in range(random.randint(1, 3)))


def some_query(random: Random, split: Split) -> str:
    if random.random() < 0.5:
        return random.choice(_QUERIES)
    return " ".join(words.made_up(random) for _ in range(random.randint(1, 2)))


def some_word(random: Random, split: Split) -> str:
    return words.made_up(random)


def clock_time(random: Random, split: Split) -> str:
    return f"{random.randint(0, 23)}:{random.randint(0, 59):02}"


def one_of(options: Sequence[str]) -> Callable[[Random, Split], str]:
    return lambda random, split: random.choice(options)


CITY: Final = Slot(("city", "location", "place", "town", "city_name"), "string", city_name)
_NUMBER_NAMES: Final = ("a", "x", "first", "left", "number1")
_SECOND_NAMES: Final = ("b", "y", "second", "right", "number2")
FIRST_NUMBER: Final = Slot(_NUMBER_NAMES, "integer", some_number)
SECOND_NUMBER: Final = Slot(_SECOND_NAMES, "integer", some_number)


def weather_report(random: Random, values: Values) -> str:
    degrees, condition = random.randint(-9, 39), random.choice(CONDITIONS)
    return _report(
        random,
        {"temperature": degrees, "condition": condition},
        (
            f"{degrees} degrees and {condition}",
            f"{condition}, {degrees} degrees",
            condition,
            f"{degrees}°C",
            f"{condition} and {degrees}°C",
        ),
    )


def _report(random: Random, facts: dict[str, Any], texts: Sequence[str]) -> str:
    """As an object, in either way of spacing it, or as a text."""
    draw = random.random()
    if draw < 0.5:
        return random.choice(texts)
    items = list(facts.items())
    random.shuffle(items)
    if draw < 0.7:
        return json.dumps(dict(items))
    return json.dumps(dict(items), separators=(",", ":"))


def success(random: Random, values: Values) -> str:
    return random.choice(
        (
            "ok",
            "done",
            "success",
            '{"status": "ok"}',
            '{"status":"ok"}',
            "true",
            '{"success": true}',
            '{"ok":true}',
        )
    )


def arithmetic(operation: Callable[[int, int], int]) -> Callable[[Random, Values], str]:
    def result(random: Random, values: Values) -> str:
        found = operation(values["a"], values["b"])
        return random.choice((str(found), str(found), json.dumps({"result": found})))

    return result


def amount_of(key: str, most: int) -> Callable[[Random, Values], str]:
    def result(random: Random, values: Values) -> str:
        found = random.randint(1, 10 ** random.randint(2, most))
        return _report(random, {key: found}, (str(found), str(found)))

    return result


def time_of_day(random: Random, values: Values) -> str:
    clock = clock_time(random, "train")
    return _report(random, {"time": clock}, (clock, clock))


def words_as(key: str) -> Callable[[Random, Values], str]:
    def result(random: Random, values: Values) -> str:
        text = " ".join(words.made_up(random) for _ in range(random.randint(1, 3)))
        return _report(random, {key: text}, (text, text))

    return result
