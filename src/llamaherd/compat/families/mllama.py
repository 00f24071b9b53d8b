"""Llama 3.2 Vision: Ollama's convert_mllama.go.

Images go into blocks of their own between those of Llama 3.1, which llama.cpp can't do. Without an
image those blocks are passed over (model/models/mllama/model_text.go), and what is left is Llama.
"""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families.gemma3 import shorten_vocabulary

_ARCHITECTURE: Final = "llama"

_EMBEDDINGS: Final = "token_embd.weight"


def text(draft: Draft) -> None:
    of_images = set(draft.numbers("attention.cross_attention_layers"))
    kept = [block for block in draft.blocks("block_count") if block not in of_images]
    draft.become(_ARCHITECTURE)
    draft.set({f"{_ARCHITECTURE}.block_count": len(kept)})
    draft.drop(*(f"blk.{block}." for block in of_images))
    numbers = {str(old): str(new) for new, old in enumerate(kept)}

    def renumber(name: str) -> str:
        first, number, *rest = name.split(".")
        return ".".join((first, numbers.get(number, number), *rest)) if first == "blk" else name

    draft.rename(renumber)
    # Tokens that stand for images can be read but not written.
    _, written = draft.matrix("output.weight")
    if draft.matrix(_EMBEDDINGS)[1] > written:
        draft.cut(_EMBEDDINGS, written)
    shorten_vocabulary(draft, _EMBEDDINGS)
