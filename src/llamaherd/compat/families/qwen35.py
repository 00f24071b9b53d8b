"""Qwen 3 Next and 3.5, whose layers are mostly recurrent: Ollama's convert_qwen3next.go.

The encoder is that of Qwen 3 VL.
"""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families.rope import LENGTH, SECTIONS, set_sections
from llamaherd.gguf import Array

#: How many of a head's pairs are rotated by time, height and width.
_SECTIONS: Final = (11, 11, 10)

_STEP_BIAS: Final = ".ssm_dt"


def text(draft: Draft) -> None:
    next_text(draft)
    if len(draft.numbers(SECTIONS)) != LENGTH:
        set_sections(draft, draft.architecture, _SECTIONS)


def next_text(draft: Draft) -> None:
    """Qwen 3 Next, which has no places in two dimensions.

    A head that predicts several tokens at once (``mtp.``) is left out, as nothing uses it.
    """
    heads = "attention.head_count_kv"
    if isinstance(draft.gguf.arch_value(heads), Array):
        # The recurrent layers have none; llama.cpp wants the number of the others.
        draft.set({f"{draft.architecture}.{heads}": max(draft.numbers(heads), default=0)})
    draft.rename(lambda name: f"{name}.bias" if name.endswith(_STEP_BIAS) else name)
    draft.drop("mtp.")
