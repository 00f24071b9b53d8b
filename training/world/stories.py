"""Short stories: a hero, a wish or a trouble, a turn and an end."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Final

from training.world import words
from training.world.exchange import Exchange, exchange
from training.world.phrases import Phrases, fill
from training.world.words import Split

_ANIMALS: Final[dict[Split, tuple[str, ...]]] = {
    "train": tuple(
        """llama llama llama cat dog fox rabbit bear mouse bird duck horse cow pig goat frog turtle
        lion tiger monkey donkey hen squirrel wolf""".split()
    ),
    "held_out": ("llama", "sheep", "hedgehog", "kitten", "badger"),
}
_NATURES: Final = "little small young brave kind curious clever gentle happy shy friendly".split()
_HOMES: Final = (
    "in a quiet valley",
    "on a green hill",
    "near a blue lake",
    "in a small village",
    "at the edge of a forest",
    "on a little farm",
    "high up in the mountains",
    "by the river",
)
_FRIENDS: Final = (
    "an old owl|a kind farmer|a small girl|a tall boy|a wise turtle|a grey donkey".split("|")
)


@dataclass(frozen=True)
class Plot:
    """Each part is one sentence or two; parts with alternatives pick one.

    The slots: ``hero`` (a name), ``he``, ``him``, ``his`` and so on, ``friend``, ``thing``.
    """

    subject: str
    wish: tuple[str, ...]
    trouble: tuple[str, ...]
    turn: tuple[str, ...]
    end: tuple[str, ...]
    things: tuple[str, ...] = ("ball",)


_ENDINGS: Final = (
    "{hero} was very happy.",
    "From that day on, {hero} and {the_friend} were best friends.",
    "That night {hero} slept well and dreamed of the next day.",
    "{hero} smiled all the way home.",
)

PLOTS: Final = (
    Plot(
        "a lost {thing}",
        (
            "{He} had a {thing} that {he} loved more than anything else.",
            "Every day {he} played with a {colour} {thing}.",
        ),
        (
            "One morning the {thing} was gone. {hero} looked under the bed and behind the door, "
            "but it was not there.",
            "One windy day {he} lost the {thing} in the tall grass.",
        ),
        (
            'Then {hero} met {friend}. "I saw your {thing} near the old tree," said {the_friend}.',
            "{Friend} came by and helped {him} look for it. They searched until the sun went down.",
        ),
        (
            "There it was! {hero} thanked {the_friend} and held the {thing} tight.",
            "At last they found the {thing} under a bush. {hero} jumped for joy.",
        ),
        ("ball", "kite", "hat", "bell", "scarf", "drum", "boat", "blanket"),
    ),
    Plot(
        "the dark",
        ("{He} loved to play in the sun.", "{He} was not afraid of anything in the daytime."),
        (
            "But when night came, {he} was afraid of the dark.",
            "But at night {he} could not sleep, because it was so dark.",
        ),
        (
            '{Friend} sat down next to {him}. "Look at the stars," said {the_friend}. '
            '"They shine only when it is dark."',
            '{Friend} gave {him} a small lamp. "The dark is only the day asleep," '
            "said {the_friend}.",
        ),
        (
            "{hero} looked up and saw a thousand lights. {He} was not afraid any more.",
            "{hero} looked at the light and soon fell asleep.",
        ),
    ),
    Plot(
        "learning to {skill}",
        ("{He} wanted to learn how to {skill}.", "More than anything, {he} wished to {skill}."),
        (
            "{He} tried again and again, but it did not work.",
            "The first time {he} tried, everybody laughed. {hero} felt sad.",
        ),
        (
            '{Friend} saw this and said, "Do not give up. Try once every day."',
            '"Nobody can do it at once," said {friend}. "Let us practice together."',
        ),
        (
            "After a week {hero} could {skill} better than anyone else.",
            "One day it worked! {hero} could {skill} at last.",
        ),
        ("sing", "dance", "swim", "jump", "paint", "whistle"),
    ),
    Plot(
        "a storm",
        ("One day {he} went for a long walk.", "One afternoon {he} went out to pick berries."),
        (
            "Suddenly the sky turned black and a storm began. {hero} could not find the way home.",
            "Then it began to rain, and the wind blew hard. {hero} was cold and wet.",
        ),
        (
            '{Friend} called from a warm house, "Come in and wait with me!"',
            "In a cave {he} met {friend}. They told each other stories until the rain stopped.",
        ),
        (
            "When the storm was over, a rainbow stood in the sky, and {the_friend} showed {him} "
            "the way home.",
            "Soon the sun came back. {hero} thanked {the_friend} and walked home.",
        ),
    ),
    Plot(
        "sharing",
        ("One day {he} found a basket full of {thing}.", "{He} had a big bag of {thing}."),
        (
            "{He} wanted to keep all of it and hid behind a tree. But eating alone was no fun.",
            "{hero} ate and ate until {his} belly hurt.",
        ),
        (
            "Then {friend} came along and looked very hungry. {hero} gave {the_friend} half of the "
            "{thing}.",
            '{Friend} walked by. "I have had nothing to eat today," said {the_friend}. '
            "{hero} shared the {thing}.",
        ),
        (
            "They sat in the sun and ate together. Sharing made the {thing} taste even better.",
            '"Thank you," said {the_friend}. {hero} felt warm inside.',
        ),
        ("apples", "cookies", "carrots", "berries", "nuts", "pears", "cherries"),
    ),
    Plot(
        "finding a friend",
        ("But {he} had nobody to play with.", "{He} was often alone and wished for a friend."),
        (
            "One day {he} went out to look for one. {He} walked and walked, but met nobody.",
            "The others were too busy to play. {hero} sat down and cried.",
        ),
        (
            "Then {he} heard a voice. It was {friend}, who was alone too.",
            '{Friend} stopped and asked, "Why are you so sad? Come and play with me!"',
        ),
        (
            "They played until it was dark and met again the next day.",
            "They ran, laughed and told jokes all day long.",
        ),
    ),
    Plot(
        "helping",
        ("{He} liked to help wherever {he} could.", "{He} was always ready to help."),
        (
            "One day {he} saw that {friend} had fallen into a hole.",
            "One day {he} heard someone call for help. It was {friend}, stuck in the mud.",
        ),
        (
            "{hero} found a long rope and pulled as hard as {he} could.",
            "{hero} ran to the village and came back with a ladder.",
        ),
        (
            'Soon {the_friend} was free. "You saved me," said {the_friend}.',
            "It took a long time, but at last {the_friend} was safe.",
        ),
    ),
    Plot(
        "a secret {thing}",
        ("One day {he} dug a hole in the garden.", "One evening {he} went into the old barn."),
        (
            "There {he} found a {colour} {thing}. Nobody knew whose it was.",
            "In a corner stood a {thing} that shone like gold.",
        ),
        (
            '{hero} showed it to {friend}. "This {thing} brings luck to those who are kind," said '
            "{the_friend}.",
            '{hero} asked {friend} about it. "I lost that {thing} long ago," said {the_friend}.',
        ),
        (
            "So {hero} gave it away and got a big hug for it.",
            "{hero} was proud to have found it, and they put the {thing} where all could see it.",
        ),
        ("box", "lamp", "key", "clock", "ring", "chest", "flute"),
    ),
)

_COLOURS: Final = "red blue green yellow white purple".split()

_ASK: Final = Phrases(
    (
        "Tell me a story.",
        "Tell me a short story.",
        "Write a story.",
        "A story, please.",
        "Can you tell me a story?",
        "Please tell me a bedtime story.",
        "I want to hear a story.",
        "Write a short story for me.",
        "Tell me another story.",
        "Once upon a time",
        "Tell me a tale.",
        "Make up a story.",
        "Do you know a story?",
        "One more story, please.",
    ),
    ("Would you tell me a story?", "Could you write me a short story?", "I would love a story."),
)
_ASK_HERO: Final = Phrases(
    (
        "Tell me a story about a {animal}.",
        "Write a short story about a {animal}.",
        "Tell me a story about a {nature} {animal}.",
        "A story about a {animal}, please.",
        "Can you write a story about a {nature} {animal}?",
        "Write a tale about a {animal}.",
        "story about a {animal}",
        "Tell a short story about a {nature} {animal}.",
    ),
    ("Would you tell me a story about a {animal}?", "I would like a tale of a {nature} {animal}."),
)
_ASK_NAME: Final = Phrases(
    (
        "Tell me a story about a {animal} named {hero}.",
        "Tell me a story about {hero} the {animal}.",
        "Write a story about a {nature} {animal} called {hero}.",
        "A story about {hero}, a {nature} {animal}.",
        "Write a short story about {hero} the {animal}.",
        "Can you tell me a story about a {animal} named {hero}?",
    ),
    (
        "Would you tell me a tale about a {animal} with the name {hero}?",
        "I would like a story in which {hero} is a {animal}.",
    ),
)
_ASK_PLOT: Final = Phrases(
    (
        "Tell me a story about {subject}.",
        "Write a short story about {subject}.",
        "A story about {subject}, please.",
        "Can you tell me a story about {subject}?",
        "Tell me a tale about {subject}.",
    ),
    ("Would you write me a story about {subject}?", "I would like a story about {subject}."),
)
_OPENINGS: Final = (
    "Once upon a time, there was {a_nature} {animal} named {hero}. {He} lived {home}.",
    "Once there was {a_nature} {animal} called {hero}, who lived {home}.",
    "{hero} was {a_nature} {animal} who lived {home}.",
)
_THOUGHTS: Final = (
    "A story about {a_nature} {animal} named {hero}. It is about {subject}.",
    "The hero is {hero}, {a_nature} {animal}. The story is about {subject}.",
)


def story(random: Random, split: Split, think: bool) -> Exchange:
    slots, plot = _cast(random, split)
    ask = random.choice((_ASK, _ASK_HERO, _ASK_HERO, _ASK_NAME, _ASK_NAME, _ASK_PLOT))
    question = ask.say(random, split, **slots)
    thought = fill(random.choice(_THOUGHTS), **slots) if think else ""
    return exchange(question, tell(random, plot, slots), thought)


def tell(random: Random, plot: Plot, slots: dict[str, str]) -> str:
    parts = [random.choice(_OPENINGS)]
    parts += [random.choice(part) for part in (plot.wish, plot.trouble, plot.turn, plot.end)]
    if random.random() < 0.7:
        parts.append(random.choice(_ENDINGS))
    return " ".join(fill(part, **slots) for part in parts)


def plain_story(random: Random, split: Split) -> str:
    """One without a question, as a text to be continued."""
    slots, plot = _cast(random, split)
    return tell(random, plot, slots)


def _cast(random: Random, split: Split) -> tuple[dict[str, str], Plot]:
    plot = random.choice(PLOTS)
    he, him, his = random.choice((("he", "him", "his"), ("she", "her", "her")))
    friend = random.choice(_FRIENDS)
    nature = random.choice(_NATURES)
    thing = random.choice(plot.things)
    slots = {
        "hero": words.name(random, split),
        "animal": random.choice(_ANIMALS[split]),
        "nature": nature,
        "a_nature": f"a {nature}",
        "home": random.choice(_HOMES),
        "he": he,
        "He": he.capitalize(),
        "him": him,
        "his": his,
        "friend": friend,
        "Friend": friend[0].upper() + friend[1:],
        "the_friend": "the " + friend.split(" ", 1)[1],
        "thing": thing,
        "skill": thing,
        "colour": random.choice(_COLOURS),
    }
    slots["subject"] = fill(plot.subject, **slots)
    return slots, plot
