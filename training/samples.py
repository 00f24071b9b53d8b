"""An endless stream of samples from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

from training import prompts
from training.prompts import Segment
from training.schedule import FINISHING_FROM
from training.world.code import gap
from training.world.conversation import Conversation, conversation, opened
from training.world.finishing import VARIABLES, near_names, unusual_record
from training.world.harder import harder
from training.world.stories import plain_story
from training.world.sums import sums

#: Turns of a conversation, by how often. The long ones teach to look far back.
_TURNS: Final = {1: 66, 2: 18, 3: 8, 5: 4, 8: 3, 16: 1}

#: From this place on a worker's conversations are harder: after about two thirds of the training.
HARDER_FROM: Final = 56_000


def samples(seed: int, worker: int = 0, first: int = 0) -> Iterator[list[Segment]]:
    """Those of one worker, from the ``first`` on; each depends on seed, worker and place only."""
    place = first
    while True:
        random = Random(f"{seed}/{worker}/{place}")
        if place < FINISHING_FROM:
            yield sample(random, late=place >= HARDER_FROM)
        else:
            yield finishing_sample(random)
        place += 1


def sample(random: Random, *, late: bool = False) -> list[Segment]:
    draw = random.random()
    if draw < 0.1:
        return list(prompts.fill(gap(random, "train")))
    if draw < 0.11:
        text = plain_story(random, "train")
        return [Segment("<|endoftext|>", False), Segment(text + "<|endoftext|>", True)]
    (turns,) = random.choices(list(_TURNS), list(_TURNS.values()))
    talk = conversation(random, "train", turns=turns, with_tools=draw < 0.5)
    if late:
        talk = harder(random, talk)
    return _chat(random, talk)


def finishing_sample(random: Random) -> list[Segment]:
    """Mostly calls of tools and records; a quarter is of all kinds, sums above all, lest they be
    forgotten."""
    draw = random.random()
    if draw < 0.55:
        return _chat(random, near_names(random))
    if draw < 0.68:
        return _chat(random, unusual_record(random))
    if draw < 0.75:
        return list(prompts.fill(gap(random, "train", VARIABLES)))
    if draw < 0.83:
        return _chat(random, opened(random, [sums(random, "train", random.random() < 0.3)], ()))
    return sample(random)


def _chat(random: Random, talk: Conversation) -> list[Segment]:
    return list(prompts.chat(talk, spaced=random.random() < 0.15))
