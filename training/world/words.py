"""The words that the texts are filled with, and which of them training never sees.

What has to be copied (names, places, things asked for) is made up of syllables most of the time, so
that a model can't learn it by heart. Of the real words, those in ``HELD_OUT`` are kept for the
evaluation.
"""

from __future__ import annotations

from random import Random
from typing import Final, Literal

#: Which part of the world a text is made of: the one to learn from or the one to be tested with.
Split = Literal["train", "held_out"]

_WOMEN: Final = """
    Anna Maria Lena Sofia Emma Lucy Clara Nora Julia Ida Ella Mia Zoe Eva Alice Greta Hanna Olga
    Vera Rosa Carla Diana Paula Laura Amy Kate Jane Mary Linda Susan Karen Nancy Betty Helen
    Sandra Donna Carol Ruth Sharon Laura Amina Fatima Leila Yuki Mei Priya Anita Chloe Grace
    Lily Ruby Molly Daisy Elena Irina Marta Petra Silvia Teresa
""".split()
_MEN: Final = """
    Ben Tom Max Paul Leo Finn Noah Liam Oscar Hugo Felix Emil Karl Jonas Lukas Peter John James
    Robert Michael David William Richard Joseph Charles Daniel Mark Steven Kevin Brian George
    Edward Ronald Jason Jeff Ryan Jacob Gary Eric Adam Henry Carlos Diego Pedro Juan Luis Omar
    Ali Hassan Kenji Wei Raj Arjun Ivan Boris Dmitri Sven Lars Nils Tim Sam
""".split()
_HELD_OUT_NAMES: Final = """
    Miriam Tabea Ingrid Beatrice Penelope Harriet Josephine Matilda Naomi Rebecca Yasmin Aisha
    Freya Astrid Camille Dominic Gregory Vincent Theodore Sebastian Malcolm Desmond Rupert
    Tobias Bernard Alfonso Rashid Kofi Takeshi Mateo
""".split()

_CITIES: Final = [
    *"""
        Paris London Berlin Madrid Lisbon Vienna Prague Warsaw Dublin Athens Oslo Stockholm
        Helsinki Brussels Amsterdam Zurich Geneva Milan Naples Venice Munich Hamburg Cologne
        Lyon Nice Porto Seville Bilbao Moscow Kiev Istanbul Ankara Cairo Lagos Nairobi Tunis
        Delhi Mumbai Bangkok Hanoi Jakarta Manila Seoul Osaka Beijing Shanghai Sydney Perth
        Auckland Toronto Montreal Boston Chicago Denver Houston Miami Seattle Dallas Lima Quito
        Havana Santiago Caracas Leeds York Oxford Rome Tokyo Graz Bern Turin Genoa
    """.split(),
    "New York",
    "San Francisco",
    "Los Angeles",
    "Cape Town",
]
_HELD_OUT_CITIES: Final = [
    *"""
        Budapest Copenhagen Reykjavik Bratislava Ljubljana Marseille Valencia Rotterdam
        Edinburgh Glasgow Liverpool Stuttgart Dresden Salzburg Palermo Florence Krakow Riga
        Tallinn Vilnius Casablanca Marrakesh Karachi Singapore Melbourne Brisbane Vancouver
        Phoenix Portland Bogota
    """.split(),
    "Buenos Aires",
    "Kuala Lumpur",
    "Salt Lake City",
]

NAMES: Final[dict[Split, tuple[str, ...]]] = {
    "train": tuple(dict.fromkeys(_WOMEN + _MEN)),
    "held_out": tuple(_HELD_OUT_NAMES),
}
CITIES: Final[dict[Split, tuple[str, ...]]] = {
    "train": tuple(_CITIES),
    "held_out": tuple(_HELD_OUT_CITIES),
}

THINGS: Final[dict[Split, tuple[str, ...]]] = {
    "train": tuple(
        """apples books coins cups eggs flowers hats keys leaves marbles nuts oranges pears pens
        plates shells stamps stars sticks stones sweets toys balls boxes cards carrots cherries
        cookies""".split()
    ),
    "held_out": tuple("buttons plums candles lemons feathers ribbons spoons tickets".split()),
}

_ONSETS: Final = (
    "b c d f g h j k l m n p r s t v w z br cr dr fr gr pr tr bl cl fl gl pl sl st sh ch th qu y"
).split()
_VOWELS: Final = "a e i o u a e i o ai ea ee ie oa oo ou".split()
_CODAS: Final = ["", "", "", "", *"n r l s t m k x nd rt ck sh th ng".split()]

#: Real words of the evaluation, which no made-up word may equal.
_FORBIDDEN: Final = frozenset(
    word.lower() for word in (*_HELD_OUT_NAMES, *_HELD_OUT_CITIES, *THINGS["held_out"])
)


def made_up(random: Random, syllables: int | None = None) -> str:
    """A word in small letters that isn't one, but could be said."""
    count = syllables or random.choice((1, 2, 2, 2, 3, 3))
    while True:
        word = "".join(
            random.choice(_ONSETS) + random.choice(_VOWELS) + random.choice(_CODAS)
            for _ in range(count)
        )
        if 3 <= len(word) <= 14 and word not in _FORBIDDEN:
            return word


def letters(random: Random) -> str:
    """Letters in any order: the hardest thing to copy."""
    return "".join(random.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(random.randint(3, 8)))


def name(random: Random, split: Split) -> str:
    """A first name, made up more often than not."""
    return _proper(random, split, NAMES)


def city(random: Random, split: Split) -> str:
    if split == "train" and random.random() < 0.05:
        return f"{made_up(random, 1).capitalize()} {made_up(random, 2).capitalize()}"
    return _proper(random, split, CITIES)


def _proper(random: Random, split: Split, known: dict[Split, tuple[str, ...]]) -> str:
    if split == "held_out":
        return random.choice(known["held_out"])
    draw = random.random()
    if draw < 0.25:
        return random.choice(known["train"])
    if draw < 0.5:
        return _blended(random, known["train"])
    if draw < 0.62:
        return letters(random).capitalize()
    return made_up(random).capitalize()


def _blended(random: Random, known: tuple[str, ...]) -> str:
    """The beginning of one word and the end of another: new, but of the usual parts."""
    while True:
        first, second = random.choice(known), random.choice(known)
        word = first[: random.randint(1, len(first))] + second[random.randint(1, len(second)) :]
        word = word.replace(" ", "").capitalize()
        if 3 <= len(word) <= 14 and word.lower() not in _FORBIDDEN:
            return word


def things(random: Random, split: Split) -> str:
    """Countable things, in the plural."""
    if split == "train" and random.random() < 0.3:
        return made_up(random) + "s"
    return random.choice(THINGS[split])


def number(random: Random, digits: int = 3) -> int:
    """A number of at most so many digits, short ones as likely as long ones."""
    size = random.randint(1, digits)
    return random.randint(10 ** (size - 1) if size > 1 else 0, 10**size - 1)
