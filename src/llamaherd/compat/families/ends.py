"""Tokens that end a reply, of which Ollama's files list any number."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.gguf import Array

#: llama.cpp has a key for each, and knows the usual ones by their texts, but not GLM's.
_KEYS: Final = ("tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")


def set_ends(draft: Draft) -> None:
    """Say which tokens end a reply beside the first of them, which has a key in all files."""
    ends = draft.gguf.get("tokenizer.ggml.eos_token_ids")
    if isinstance(ends, Array):
        others = [token for token in list(ends)[1:] if type(token) is int and token >= 0]
        draft.default(dict(zip(_KEYS, others, strict=False)))
