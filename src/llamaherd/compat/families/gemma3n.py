"""Gemma 3n: Ollama's convert_gemma3n.go, which leaves out the encoders of images and sounds."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families import gemma3

_EMBEDDINGS: Final = "token_embd.weight"
_PER_LAYER: Final = "per_layer_token_embd.weight"


def text(draft: Draft) -> None:
    """Drop tokens of images and sounds, which have an embedding but none for each layer."""
    _, tokens = draft.matrix(_PER_LAYER)
    if draft.matrix(_EMBEDDINGS)[1] <= tokens:
        return
    draft.set({"tokenizer.ggml.model": "llama"})
    gemma3.no_prefix(draft)
    draft.take({"rope.freq_base_local": "gemma3n.rope.freq_base_swa"})
    draft.cut(_EMBEDDINGS, tokens)
    gemma3.shorten_vocabulary(draft, _EMBEDDINGS)
