"""The measured part of the model card, ``docs/cria.md``, between two marks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from llamaherd.client import Client
from training.client import ask

CARD: Final = Path(__file__).parents[1] / "docs/cria.md"

_BEGIN: Final = "<!-- measured -->\n"
_END: Final = "<!-- end of what is measured -->"

#: What the stories of the card are asked for: words that training never has.
STORIES: Final = (
    "Would you tell me a story?",
    "I would love a story.",
    "I would like a tale of a brave llama.",
    "Would you tell me a story about a hedgehog?",
    "I would like a story in which Penelope is a llama.",
    "Would you tell me a tale about a kitten with the name Rupert?",
    "I would like a story in which Takeshi is a badger.",
    "Would you write me a story about a storm?",
    "I would like a story about learning to whistle.",
    "Would you write me a story about a lost bell?",
)


def stories(client: Client, model: str) -> list[tuple[str, str]]:
    """Each question with its answer, by the model's own parameters and a seed for each."""
    return [
        (
            question,
            ask(
                client,
                {
                    "model": model,
                    "messages": [{"role": "user", "content": question}],
                    "options": {"seed": seed},
                },
            ).content,
        )
        for seed, question in enumerate(STORIES, 1)
    ]


def write(facts: str, table: str, told: Sequence[tuple[str, str]]) -> None:
    """Replaces what the card says about an earlier model."""
    before, _, rest = CARD.read_text().partition(_BEGIN)
    _, _, after = rest.partition(_END)
    shown = "\n\n".join(f"> *{question}*\n>\n> {answer}" for question, answer in told)
    measured = f"{facts}\n\n{table}\n\n### Ten stories\n\n{shown}\n\n"
    CARD.write_text(f"{before}{_BEGIN}{measured}{_END}{after}")
