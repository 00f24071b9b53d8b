"""A question and all that follows until the answer: what conversations are made of."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from llamaherd.messages import Message, Tool
from training.world.words import Split


@dataclass(frozen=True)
class Exchange:
    """Messages from the user's to the assistant's last; ``tools`` are those that it needs."""

    messages: tuple[Message, ...]
    tools: tuple[Tool, ...] = ()


#: Makes an exchange; the last argument says whether the assistant thinks before it answers.
Maker = Callable[[Random, Split, bool], Exchange]


def exchange(question: str, answer: str, thinking: str = "") -> Exchange:
    return Exchange(
        (
            Message(role="user", content=question),
            Message(role="assistant", content=answer, thinking=thinking),
        )
    )
