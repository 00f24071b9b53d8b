"""BPE tokenizers from ``tokenizer.json``, those that merge bytes and those of characters."""

from __future__ import annotations

import re
from typing import Final

from llamaherd.create.convert.tokenizers.pre_tokenizers import pre_tokenizer_name
from llamaherd.create.convert.tokenizers.tokenizer_json import (
    TOKENIZER_FILE,
    TokenizerFile,
    flatten,
)
from llamaherd.create.convert.tokenizers.vocabulary import Token, TokenType, Vocabulary, by_number
from llamaherd.errors import BadRequest

#: What SentencePiece writes for a space.
SPACE: Final = "\u2581"

_BYTE: Final = re.compile(r"<0x[0-9A-F]{2}>")

#: The byte-level alphabet moves what can't be seen up by this much (``bytes_to_unicode`` of GPT-2).
_SHIFT: Final = 256


def read_byte_pairs(tokenizer: TokenizerFile) -> Vocabulary:
    """Raises ``BadRequest`` for what llama.cpp can't do."""
    if _is_sentencepiece(tokenizer):
        return _sentencepiece(tokenizer)
    numbers = tokenizer.model.numbers()
    merges = [
        " ".join(part.replace(" ", chr(ord(" ") + _SHIFT)) for part in pair)
        for pair in _merges(tokenizer)
    ]
    tokens = {number: Token(text) for number, text in by_number(numbers).items()}
    return Vocabulary("gpt2", tokens, pre=pre_tokenizer_name(tokenizer), merges=merges)


def _is_sentencepiece(tokenizer: TokenizerFile) -> bool:
    """Such a one was made of a SentencePiece model, and can become one again."""
    if tokenizer.model.byte_fallback:
        return True
    if any(part.get("type") == "Metaspace" for part in _pre_tokenizers(tokenizer)):
        return True
    return any(part.get("content") == SPACE for part in _normalizers(tokenizer))


def _sentencepiece(tokenizer: TokenizerFile) -> Vocabulary:
    """The earlier a piece can be merged, the higher it scores: the order that its training gave."""
    numbers = tokenizer.model.numbers()
    scores: dict[str, float] = {}
    for rank, pair in enumerate(_merges(tokenizer)):
        scores.setdefault("".join(pair), -float(rank))
    unreached = -float(len(scores))
    tokens = {
        number: Token(text, _piece_type(tokenizer, text), scores.get(text, unreached))
        for number, text in by_number(numbers).items()
    }
    prefix = _adds_space(tokenizer)
    more = {"tokenizer.ggml.add_space_prefix": prefix}
    return Vocabulary("llama", tokens, scored=True, add_bos=True, more={**more})


def _piece_type(tokenizer: TokenizerFile, text: str) -> TokenType:
    if text == tokenizer.model.unk_token:
        return TokenType.UNKNOWN
    if tokenizer.model.byte_fallback and _BYTE.fullmatch(text):
        return TokenType.BYTE
    return TokenType.NORMAL


def _adds_space(tokenizer: TokenizerFile) -> bool:
    if any(part.get("type") == "Prepend" for part in _normalizers(tokenizer)):
        return True
    return any(
        part.get("type") == "Metaspace"
        and part.get("prepend_scheme", "always") != "never"
        and part.get("add_prefix_space", True)
        for part in _pre_tokenizers(tokenizer)
    )


def _normalizers(tokenizer: TokenizerFile) -> list[dict[str, object]]:
    return list(flatten(tokenizer.normalizer, "normalizers"))


def _pre_tokenizers(tokenizer: TokenizerFile) -> list[dict[str, object]]:
    return list(flatten(tokenizer.pre_tokenizer, "pretokenizers"))


def _merges(tokenizer: TokenizerFile) -> list[tuple[str, str]]:
    merges = []
    for index, merge in enumerate(tokenizer.model.merges or []):
        pair = tuple(merge.split(" ")) if isinstance(merge, str) else merge
        if len(pair) != 2 or not all(pair):
            raise BadRequest(f"{TOKENIZER_FILE}: model.merges[{index}]: expected two parts")
        merges.append((pair[0], pair[1]))
    return merges
