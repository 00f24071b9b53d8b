"""Greetings, questions about the model itself and llamas, and what it can't answer."""

from __future__ import annotations

from random import Random
from typing import Final

from training.world import words
from training.world.exchange import Exchange, exchange
from training.world.phrases import Phrases, fill
from training.world.topics import REAL_MODEL, TOPICS
from training.world.words import Split

_NAMING: Final = Phrases(
    (
        "My name is {name}.",
        "I am {name}.",
        "Hi, I am {name}.",
        "Hello, my name is {name}.",
        "I'm {name}.",
        "Call me {name}.",
        "Hello Cria, I am {name}!",
        "{name} here.",
    ),
    ("Good morning, my name is {name}.", "They call me {name}."),
)
_NAMED: Final = (
    "Hello {name}! Nice to meet you.",
    "Nice to meet you, {name}! I am Cria.",
)

_UNKNOWN: Final = Phrases(
    (
        "Who is the president of {place}?",
        "Why is the sky blue?",
        "What is the capital of {place}?",
        "Explain {thing} to me.",
        "Write a poem about {thing}.",
        "What is {thing}?",
        "How does {thing} work?",
        "Who wrote {thing}?",
        "When was {name} born?",
        "Who is {name}?",
        "What happened in {number}?",
        "Translate {thing} into French.",
        "Write an essay about {thing}.",
        "What is the meaning of life?",
        "How do I cook {thing}?",
        "What is the best {thing}?",
        "Give me advice about {thing}.",
        "Summarize the history of {place}.",
        "How old is {name}?",
        "Where is {place}?",
        "What do you think about {thing}?",
        "Why do people like {thing}?",
        "Can you fix my {thing}?",
        "Is {thing} good for me?",
        "How far is {place}?",
        "How many people live in {place}?",
        "What is the weather in {place}?",
        "What time is it?",
        "What is {number} times {number}?",
        "What is {number} divided by {number}?",
        "Write a program that sorts {thing}.",
        "What is quantum physics?",
        "Tell me about {place}.",
        "Tell me about {name}.",
        "Do you like {thing}?",
        "What is the square root of {number}?",
        "Who won the game yesterday?",
        "What are the news today?",
        "Explain gravity.",
        "Write a letter to {name}.",
        "Plan a trip to {place}.",
        "What does {thing} mean?",
    ),
    (
        "Who invented {thing}?",
        "What is the population of {place}?",
        "Describe {thing} in detail.",
        "Why does {thing} exist?",
        "Write a song about {thing}.",
        "What should I do in {place}?",
    ),
)
_DONT_KNOW: Final = (
    f"I don't know that. I am only a small demonstration model. For a real one, run: {REAL_MODEL}",
    f"I am too small to know that. A real model can help you: {REAL_MODEL}",
)
_THINGS: Final = (
    "music bread chess rain the moon a computer football the sea bicycles gravity democracy cheese "
    "coffee physics history poetry light sleep money trees the sun winter dogs cars volcanoes"
).split(" ")


def small_talk(random: Random, split: Split, think: bool) -> Exchange:
    draw = random.random()
    if draw < 0.08:
        who = words.name(random, split)
        thought = f"The user is called {who}. I greet them." if think else ""
        answer = fill(random.choice(_NAMED), name=who)
        return exchange(_NAMING.say(random, split, name=who), answer, thought)
    topic = random.choice(TOPICS)
    answer = random.choice(topic.answers)
    return exchange(topic.questions.say(random, split), answer, topic.thought if think else "")


def unknown(random: Random, split: Split, think: bool) -> Exchange:
    """A question that is too hard: the answer says so, and how to get a real model."""
    question = _UNKNOWN.say(
        random,
        split,
        place=words.city(random, split),
        name=words.name(random, split),
        thing=random.choice(_THINGS) if random.random() < 0.6 else words.made_up(random),
        number=words.number(random, 4),
    )
    thought = "I don't know that. I am only a small model." if think else ""
    return exchange(question, random.choice(_DONT_KNOW), thought)
