"""The special tokens of a GGUF's vocabulary, which templates write into their text."""

from __future__ import annotations

from typing import Final

from llamaherd.gguf import GGUF, Array
from llamaherd.prompt.template import SpecialTokens

#: A GGUF's template for conversations with tools, if it isn't the one for all conversations.
TOOL_TEMPLATE: Final = "tokenizer.chat_template.tool_use"

#: Vocabularies of the BPE kind to which llama.cpp adds a BOS though their file doesn't say so.
_BPE_WITH_BOS: Final = ("llama-bpe", "llama3", "llama-v3")


def special_tokens(gguf: GGUF) -> SpecialTokens:
    """Texts of BOS and EOS, empty where the vocabulary has none; defaults are llama.cpp's.

    Raises ``InvalidGGUF`` when the file says something impossible.
    """
    sentencepiece = gguf.get("tokenizer.ggml.model", str, "") == "llama"
    adds_bos = sentencepiece or gguf.get("tokenizer.ggml.pre", str, "") in _BPE_WITH_BOS
    return SpecialTokens(
        bos=_text(gguf, "bos", 1 if sentencepiece else None),
        eos=_text(gguf, "eos", 2 if sentencepiece else None),
        adds_bos=gguf.get("tokenizer.ggml.add_bos_token", bool, adds_bos),
    )


def _text(gguf: GGUF, name: str, default: int | None) -> str:
    token = gguf.get(f"tokenizer.ggml.{name}_token_id", int, default)
    vocabulary = gguf.get("tokenizer.ggml.tokens", Array, None)
    if token is None or vocabulary is None or not 0 <= token < len(vocabulary):
        return ""
    text = vocabulary[token]
    return text if isinstance(text, str) else ""
