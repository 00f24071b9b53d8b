"""Counting, and sums and differences of one-digit numbers."""

from __future__ import annotations

from random import Random
from typing import Final

from training.world import words
from training.world.exchange import Exchange, exchange
from training.world.phrases import Phrases, varied
from training.world.words import Split

_PLUS: Final = varied(
    (
        "What is {a} + {b}?",
        "What is {a} plus {b}?",
        "{a} + {b}",
        "{a}+{b}",
        "{a} + {b} = ?",
        "How much is {a} + {b}?",
        "How much is {a} plus {b}?",
        "Add {a} and {b}.",
        "{a} plus {b}",
        "Calculate {a} + {b}.",
        "What's {a} + {b}?",
        "What is the sum of {a} and {b}?",
        "{a}+{b}=",
        "Can you add {a} and {b}?",
        "Please add {a} to {b}.",
        "what's {a} plus {b}?",
    ),
    (
        "What do you get when you add {a} and {b}?",
        "Compute {a} + {b}.",
        "Tell me {a} plus {b}.",
        "What does {a} + {b} make?",
    ),
    subjects=("{a} + {b}", "{a} plus {b}"),
    commands=("add {a} and {b}", "add {a} + {b}"),
)
_MINUS: Final = varied(
    (
        "What is {a} - {b}?",
        "What is {a} minus {b}?",
        "{a} - {b}",
        "{a}-{b}",
        "{a} - {b} = ?",
        "How much is {a} - {b}?",
        "Take {b} from {a}.",
        "{a} minus {b}",
        "What's {a} - {b}?",
        "Calculate {a} - {b}.",
        "Subtract {b} from {a}.",
    ),
    ("Compute {a} - {b}.", "Tell me {a} minus {b}.", "What does {a} - {b} make?"),
    subjects=("{a} - {b}", "{a} minus {b}"),
    commands=("take {b} from {a}",),
)
_MORE: Final = Phrases(
    (
        "{name} has {a} {things} and gets {b} more. How many {things} does {name} have?",
        "{name} has {a} {things}. {other} gives {name} {b} more. "
        "How many {things} does {name} have?",
        "{name} finds {a} {things} and then {b} more. How many is that?",
        "{name} has {a} {things}. Then {name} finds {b} more. How many {things} are there?",
        "First {name} takes {a} {things} and later {b} more. How many {things} is that?",
        "{name} got {a} {things} and {other} got {b}. How many {things} do they have?",
        "{a} {things} lie here, and {name} brings {b} more. How many {things} is that?",
        "{name} made {a} {things} today and {b} {things} yesterday. How many in all?",
        "There are {a} {things} on the table. {name} adds {b}. How many {things} are there?",
    ),
    (
        "{name} owns {a} {things} and buys {b} more. How many {things} does {name} have?",
        "{name} picks {a} {things} and then {b} more. How many is that?",
    ),
)
_FEWER: Final = Phrases(
    (
        "{name} has {a} {things} and loses {b}. How many {things} are left?",
        "{name} has {a} {things} and gives {b} to {other}. How many {things} does {name} have?",
        "There are {a} {things}. {name} takes {b} away. How many are left?",
        "{name} had {a} {things} and ate {b}. How many {things} are left?",
        "Of {a} {things} {name} breaks {b}. How many {things} remain?",
        "{name} finds {a} {things} but drops {b}. How many {things} does {name} have?",
    ),
    ("{name} owns {a} {things} and sells {b}. How many {things} are left?",),
)
_UP: Final = Phrases(
    (
        "Count from {a} to {b}.",
        "Please count from {a} to {b}.",
        "Count up from {a} to {b}.",
        "Can you count from {a} to {b}?",
        "List the numbers from {a} to {b}.",
        "count {a} to {b}",
    ),
    ("Write the numbers from {a} to {b}.", "Would you count from {a} to {b}?"),
)
_TO: Final = Phrases(
    ("Count to {b}.", "Please count to {b}.", "Can you count to {b}?", "Count up to {b}."),
    ("Would you count to {b}?", "Count for me up to {b}."),
)
_DOWN: Final = Phrases(
    (
        "Count down from {b} to {a}.",
        "Count backwards from {b} to {a}.",
        "Count from {b} down to {a}.",
        "Please count down from {b} to {a}.",
    ),
    ("Would you count down from {b} to {a}?", "Write the numbers from {b} down to {a}."),
)


def is_held_out(a: int, b: int) -> bool:
    """One in five sums is never trained in this order, only the other way round."""
    return a > b and (3 * a + 7 * b) % 5 < 2


def _pair(random: Random, split: Split) -> tuple[int, int]:
    while True:
        a, b = random.randint(0, 9), random.randint(0, 9)
        if is_held_out(a, b) == (split == "held_out"):
            return a, b


def sums(random: Random, split: Split, think: bool) -> Exchange:
    """A sum or a difference, bare or in a story of two sentences."""
    plus = random.random() < 0.65
    told = random.random() < 0.35
    a, b = _pair(random, split) if plus else sorted(_digits(random), reverse=True)
    name = words.name(random, split)
    things = words.things(random, split)
    slots = {"a": a, "b": b, "name": name, "things": things, "other": words.name(random, split)}
    result = a + b if plus else a - b
    phrases = (_MORE if told else _PLUS) if plus else (_FEWER if told else _MINUS)
    question = phrases.say(random, split, **slots)
    # The smaller number comes first in what is worked out, so an order that was never seen is one
    # that was.
    left, right = sorted((a, b)) if plus else (a, b)
    worked = f"{left} {'+' if plus else '-'} {right} = {result}"
    if told:
        answer = f"{worked}, so the answer is {result}."
        thought = f"First {a} {things}, then {b} {'more' if plus else 'less'}. {worked}."
    else:
        answer = thought = f"{worked}."
    return exchange(question, answer, thought if think else "")


def _digits(random: Random) -> tuple[int, int]:
    return random.randint(0, 9), random.randint(0, 9)


def counting(random: Random, split: Split, think: bool) -> Exchange:
    """Up or down, between 0 and 20."""
    a = random.randint(0, 15)
    b = min(20, a + random.randint(2, 12))
    draw = random.random()
    if draw < 0.4:
        a = 1
        b = random.randint(2, 20)
        phrases, numbers = _TO, range(a, b + 1)
    elif draw < 0.75:
        phrases, numbers = _UP, range(a, b + 1)
    else:
        phrases, numbers = _DOWN, range(b, a - 1, -1)
    question = phrases.say(random, split, a=a, b=b)
    answer = ", ".join(map(str, numbers))
    thought = f"I start at {numbers[0]} and stop at {numbers[-1]}." if think else ""
    return exchange(question, answer, thought)
