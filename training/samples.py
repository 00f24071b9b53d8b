"""An endless stream of samples from a seed."""

from __future__ import annotations

from collections.abc import Iterator
from random import Random
from typing import Final

from training import prompts
from training.prompts import Segment
from training.world.code import gap
from training.world.conversation import conversation
from training.world.harder import harder
from training.world.stories import plain_story

#: Turns of a conversation, by how often. The long ones teach to look far back.
_TURNS: Final = {1: 66, 2: 18, 3: 8, 5: 4, 8: 3, 16: 1}

#: From this place on a worker's conversations are harder: after about two thirds of the training.
HARDER_FROM: Final = 52_000


def samples(seed: int, worker: int = 0, first: int = 0) -> Iterator[list[Segment]]:
    """Those of one worker, from the ``first`` on; each depends on seed, worker and place only."""
    place = first
    while True:
        yield sample(Random(f"{seed}/{worker}/{place}"), late=place >= HARDER_FROM)
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
    return list(prompts.chat(talk, spaced=random.random() < 0.15))
