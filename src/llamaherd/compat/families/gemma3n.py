"""Gemma 3n: Ollama's convert_gemma3n.go, which leaves out the encoders of images and sounds."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import LARGEST, Draft
from llamaherd.compat.families import gemma3
from llamaherd.gguf import Array

_TOKENS: Final = "tokenizer.ggml.tokens"
_TYPES: Final = "tokenizer.ggml.token_type"

#: ``llama_token_type`` of llama.h, and the texts of tokens that stand for a byte.
_BYTE: Final = 6
_BYTES: Final = frozenset(f"<0x{byte:02X}>" for byte in range(256))

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
    _type_bytes(draft, tokens)


def _type_bytes(draft: Draft, count: int) -> None:
    """Say which tokens are bytes, or replies would have their names; files may call them normal."""
    texts, types = (draft.gguf.get(key, Array, ()) for key in (_TOKENS, _TYPES))
    stored = [type_ for type_ in types if type(type_) is int and 0 <= type_ <= LARGEST][:count]
    typed = [_BYTE if text in _BYTES else type_ for text, type_ in zip(texts, stored, strict=False)]
    if typed != stored and len(typed) == len(stored) == count:
        draft.set({_TYPES: typed})
