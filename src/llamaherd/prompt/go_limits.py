"""Bounds on the work of one template execution: templates come from strangers."""

from __future__ import annotations

from llamaherd.errors import TemplateError

#: Nodes, commands and iterations. A chat template takes some tens of them per message.
MAX_STEPS = 1_000_000

#: Characters printed or built, intermediate strings included.
MAX_TEXT = 32 * 1024 * 1024

#: Blocks, pipelines and templates running inside each other.
MAX_DEPTH = 150


class Meter:
    """Counts work down and raises TemplateError when there is none left to give."""

    def __init__(self, steps: int = MAX_STEPS, text: int = MAX_TEXT) -> None:
        self._max_steps = steps
        self._max_text = text
        self._steps = steps
        self._text = text
        self._depth = 0

    def step(self, count: int = 1) -> None:
        self._steps -= count
        if self._steps < 0:
            raise TemplateError(f"template: execution takes more than {self._max_steps} steps")

    def text(self, length: int) -> None:
        self._text -= length
        if self._text < 0:
            raise TemplateError(f"template: output is longer than {self._max_text} characters")

    def enter(self) -> None:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise TemplateError(f"template: exceeded maximum template depth ({MAX_DEPTH})")

    def leave(self) -> None:
        self._depth -= 1

    @property
    def is_deepest(self) -> bool:
        """Whether entering anything more would fail."""
        return self._depth >= MAX_DEPTH
