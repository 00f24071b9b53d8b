"""Tiny Python functions with a gap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from training.world.words import Split, made_up

#: Functions as prefix, middle and suffix, with slots for names; the second list is held out by
#: the names that fill it.
_FUNCTIONS: Final = (
    ("def {add}({a}, {b}):\n    return ", "{a} + {b}", "\n"),
    ("def {add}({a}, {b}):\n    {r} = ", "{a} + {b}", "\n    return {r}\n"),
    ("def {subtract}({a}, {b}):\n    return ", "{a} - {b}", "\n"),
    ("def {subtract}({a}, {b}):\n    {r} = ", "{a} - {b}", "\n    return {r}\n"),
    ("def {multiply}({a}, {b}):\n    return ", "{a} * {b}", "\n"),
    ("def {multiply}({a}, {b}):\n    {r} = ", "{a} * {b}", "\n    return {r}\n"),
    ("def {divide}({a}, {b}):\n    return ", "{a} / {b}", "\n"),
    ("def {square}({a}):\n    return ", "{a} * {a}", "\n"),
    ("def {double}({a}):\n    return ", "2 * {a}", "\n"),
    ("def {negate}({a}):\n    return ", "-{a}", "\n"),
    ("def {is_even}({a}):\n    return ", "{a} % 2 == 0", "\n"),
    ("def {is_odd}({a}):\n    return ", "{a} % 2 == 1", "\n"),
    ("def {largest}({a}, {b}):\n    if ", "{a} > {b}", ":\n        return {a}\n    return {b}\n"),
    ("def {smallest}({a}, {b}):\n    if ", "{a} < {b}", ":\n        return {a}\n    return {b}\n"),
    ("def {largest}({a}, {b}):\n    return ", "max({a}, {b})", "\n"),
    ("def {smallest}({a}, {b}):\n    return ", "min({a}, {b})", "\n"),
    (
        "def {total}({l}):\n    {r} = 0\n    for {i} in {l}:\n        ",
        "{r} += {i}",
        "\n    return {r}\n",
    ),
    (
        "def {total}({l}):\n    {r} = ",
        "0",
        "\n    for {i} in {l}:\n        {r} += {i}\n    return {r}\n",
    ),
    (
        "def {total}({l}):\n    {r} = 0\n    for {i} in ",
        "{l}",
        ":\n        {r} += {i}\n    return {r}\n",
    ),
    ("def {count}({l}):\n    return ", "len({l})", "\n"),
    ("def {first}({l}):\n    return ", "{l}[0]", "\n"),
    ("def {last}({l}):\n    return ", "{l}[-1]", "\n"),
    ("def {backwards}({l}):\n    return ", "{l}[::-1]", "\n"),
    ("def {greet}({n}):\n    return ", '"Hello, " + {n}', "\n"),
    ("def {greet}({n}):\n    print(", '"Hello, " + {n}', ")\n"),
    ("def {identity}({a}):\n    ", "return {a}", "\n"),
    ("def {add}({a}, {b}):\n    ", "return {a} + {b}", "\n"),
    ("def {subtract}({a}, {b}):\n    ", "return {a} - {b}", "\n"),
    ("def {multiply}({a}, {b}):\n    ", "return {a} * {b}", "\n"),
    ("def {absolute}({a}):\n    if {a} < 0:\n        return ", "-{a}", "\n    return {a}\n"),
    ("def {add}(", "{a}, {b}", "):\n    return {a} + {b}\n"),
    ("def {multiply}(", "{a}, {b}", "):\n    return {a} * {b}\n"),
    ("def {square}(", "{a}", "):\n    return {a} * {a}\n"),
)

#: What a function of each kind may be called.
_NAMES: Final[dict[Split, dict[str, tuple[str, ...]]]] = {
    "train": {
        "add": ("add", "plus", "add_numbers", "sum_of"),
        "subtract": ("subtract", "minus", "sub", "difference"),
        "multiply": ("multiply", "times", "mul", "product"),
        "divide": ("divide", "div", "quotient"),
        "square": ("square", "squared", "area_of_square"),
        "double": ("double", "twice"),
        "negate": ("negate", "negative"),
        "is_even": ("is_even", "even"),
        "is_odd": ("is_odd", "odd"),
        "largest": ("largest", "maximum", "max_of", "bigger"),
        "smallest": ("smallest", "minimum", "min_of", "smaller"),
        "total": ("total", "sum_all", "sum_list"),
        "count": ("count", "length", "size"),
        "first": ("first", "head"),
        "last": ("last", "tail"),
        "backwards": ("backwards", "reverse", "reversed_list"),
        "greet": ("greet", "hello", "say_hello"),
        "identity": ("identity", "same"),
        "absolute": ("absolute", "abs_value"),
    },
    "held_out": {
        "add": ("add_two", "add"),
        "subtract": ("subtract_two", "subtract"),
        "multiply": ("multiply_two", "multiply"),
        "divide": ("divide_two",),
        "square": ("square_of",),
        "double": ("double_it",),
        "negate": ("negate_it",),
        "is_even": ("is_even_number",),
        "is_odd": ("is_odd_number",),
        "largest": ("largest_of",),
        "smallest": ("smallest_of",),
        "total": ("total_of",),
        "count": ("count_of",),
        "first": ("first_of",),
        "last": ("last_of",),
        "backwards": ("reverse_list",),
        "greet": ("greet_person",),
        "identity": ("identity_of",),
        "absolute": ("absolute_of",),
    },
}
VARIABLES: Final[dict[Split, tuple[str, ...]]] = {
    "train": tuple("a b x y n m i j k u v p q left right one two number value other".split()),
    "held_out": tuple("s t w z amount price width height".split()),
}
LISTS: Final[dict[Split, tuple[str, ...]]] = {
    "train": ("numbers", "items", "values", "data", "words", "xs", "things"),
    "held_out": ("prices", "elements", "rows"),
}
_RESULTS: Final = ("result", "total", "answer", "r", "s", "acc")


@dataclass(frozen=True)
class Gap:
    prefix: str
    middle: str
    suffix: str


def gap(random: Random, split: Split, names: Sequence[str] = ()) -> Gap:
    """A function in which the middle is missing; with variables of these ``names``, if given."""
    slots = {kind: random.choice(names) for kind, names in _NAMES[split].items()}
    variables = [_variable(random, split) for _ in range(2)]
    while variables[0] == variables[1]:
        variables[1] = _variable(random, split)
    if names:
        variables = random.sample(names, 2)
    taken = {*variables}
    lists = random.choice(LISTS[split])
    if split == "train" and random.random() < 0.6:
        lists = made_up(random) + "s"
    if names:
        lists = random.choice([name for name in names if name not in taken])
    result = random.choice([name for name in _RESULTS if name not in taken and name != lists])
    item = random.choice([name for name in ("item", "x", "n", "value", "i") if name != result])
    slots |= {"a": variables[0], "b": variables[1], "l": lists, "r": result, "i": item}
    slots["n"] = random.choice(("name", "person", "who", "user"))
    if split == "train" and random.random() < 0.5:
        slots = {key: _decorated(random, key, value) for key, value in slots.items()}
    prefix, middle, suffix = (part.format(**slots) for part in random.choice(_FUNCTIONS))
    if random.random() < 0.3:
        suffix = suffix.rstrip("\n") or "\n"
    return Gap(prefix, middle, suffix)


def _variable(random: Random, split: Split) -> str:
    if split == "train" and random.random() < 0.75:
        return made_up(random, random.randint(1, 3))
    return random.choice(VARIABLES[split])


def _decorated(random: Random, key: str, value: str) -> str:
    """The name of a function with a word more; other names as they are."""
    if len(key) == 1:
        return value
    word = made_up(random, 1)
    return random.choice((f"{value}_{word}", f"{word}_{value}"))
