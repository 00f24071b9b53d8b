"""Positions in time, height and width (M-RoPE)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from llamaherd.compat.draft import Draft

SECTIONS: Final = "rope.dimension_sections"

#: So many numbers llama.cpp wants of them, the last for what isn't a place.
LENGTH: Final = 4


def set_sections(draft: Draft, architecture: str, usual: Sequence[int]) -> None:
    """Say how many pairs of a head are rotated by time, height and width.

    Ollama's files have three, under either of two names, or none where they are the ``usual``.
    """
    sections = draft.numbers(SECTIONS) or draft.numbers("rope.mrope_section") or list(usual)
    draft.set({f"{architecture}.{SECTIONS}": [*sections, 0][:LENGTH]})
