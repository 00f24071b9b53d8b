"""Unigram tokenizers from ``tokenizer.json``, those of XLM-RoBERTa and its kin."""

from __future__ import annotations

import base64
import binascii
from typing import Final

from llamaherd.create.convert.tokenizers.tokenizer_json import (
    TOKENIZER_FILE,
    TokenizerFile,
    flatten,
)
from llamaherd.create.convert.tokenizers.vocabulary import Token, TokenType, Vocabulary
from llamaherd.create.convert.writer import Value
from llamaherd.errors import BadRequest

#: Far beyond the logarithm of any probability; GGUF keeps it as F32.
_MAX_SCORE: Final = 1e30


def read_unigram(tokenizer: TokenizerFile) -> Vocabulary:
    pieces = tokenizer.model.vocab
    if isinstance(pieces, dict):
        raise BadRequest(f"{TOKENIZER_FILE}: model.vocab: expected a list for Unigram")
    unknown = tokenizer.model.unk_id
    for number, (_, score) in enumerate(pieces):
        if abs(score) > _MAX_SCORE:
            raise BadRequest(
                f"{TOKENIZER_FILE}: model.vocab[{number}]: expected a log probability, not {score}"
            )
    tokens = {
        number: Token(text, TokenType.UNKNOWN if number == unknown else TokenType.NORMAL, score)
        for number, (text, score) in enumerate(pieces)
    }
    return Vocabulary("t5", tokens, scored=True, more=_normalization(tokenizer))


def _normalization(tokenizer: TokenizerFile) -> dict[str, Value]:
    metaspace = [
        part
        for part in flatten(tokenizer.pre_tokenizer, "pretokenizers")
        if part.get("type") == "Metaspace"
    ]
    adds_space = any(
        part.get("prepend_scheme", "always") != "never" and part.get("add_prefix_space", True)
        for part in metaspace
    )
    more: dict[str, Value] = {
        "tokenizer.ggml.add_space_prefix": adds_space,
        # Transformers' fast tokenizers collapse spaces, if not by this then by their normaliser.
        "tokenizer.ggml.remove_extra_whitespaces": True,
    }
    for part in flatten(tokenizer.normalizer, "normalizers"):
        charsmap = part.get("precompiled_charsmap")
        if part.get("type") == "Precompiled" and isinstance(charsmap, str) and charsmap:
            try:
                more["tokenizer.ggml.precompiled_charsmap"] = base64.b64decode(charsmap)
            except (binascii.Error, ValueError):
                raise BadRequest(
                    f"{TOKENIZER_FILE}: normalizer.precompiled_charsmap: expected base64"
                ) from None
    return more
