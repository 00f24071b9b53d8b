"""Llama 3 from before files said how a text is cut before byte pairs are merged (April 2024)."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.gguf import GGUF, Array

_PRE: Final = "tokenizer.ggml.pre"

#: A token that only this vocabulary has, and its number.
END_OF_TURN: Final = (128009, "<|eot_id|>")


def concerns(gguf: GGUF) -> bool:
    """Whether it is such a file; quick for others, of which there are many."""
    if gguf.get("tokenizer.ggml.model", str, "") != "gpt2":
        return False
    if gguf.get(_PRE, str, "default") not in ("", "default"):
        return False
    number, text = END_OF_TURN
    tokens = gguf.get("tokenizer.ggml.tokens", Array, None)
    return tokens is not None and len(tokens) > number and tokens[number] == text


def text(draft: Draft) -> None:
    draft.set({_PRE: "llama-bpe"})
