"""WordPiece tokenizers, those of BERT."""

from __future__ import annotations

from typing import Final

from llamaherd.create.convert.tokenizers.byte_pairs import SPACE
from llamaherd.create.convert.tokenizers.tokenizer_json import (
    TOKENIZER_FILE,
    TokenizerFile,
    flatten,
)
from llamaherd.create.convert.tokenizers.vocabulary import Token, Vocabulary, by_number
from llamaherd.create.convert.writer import Value
from llamaherd.errors import BadRequest

#: Marks a piece that goes on with a word. llama.cpp marks those that begin one instead.
_CONTINUES: Final = "##"


def read_wordpiece(tokenizer: TokenizerFile) -> Vocabulary:
    prefix = tokenizer.model.continuing_subword_prefix
    if prefix not in (None, _CONTINUES):
        raise BadRequest(
            f"{TOKENIZER_FILE}: model.continuing_subword_prefix: expected {_CONTINUES!r}, "
            f"not {prefix!r}"
        )
    tokens = {
        number: Token(_marked(text))
        for number, text in by_number(tokenizer.model.numbers()).items()
    }
    return Vocabulary("bert", tokens, add_bos=True, more=_normalization(tokenizer))


def _marked(text: str) -> str:
    return text.removeprefix(_CONTINUES) if text.startswith(_CONTINUES) else SPACE + text


def _normalization(tokenizer: TokenizerFile) -> dict[str, Value]:
    """Accents go with the case unless it is said otherwise, as in ``BertNormalizer``."""
    lowercase = strip_accents = False
    for part in flatten(tokenizer.normalizer, "normalizers"):
        match part.get("type"):
            case "BertNormalizer":
                lowercase = part.get("lowercase") is not False
                said = part.get("strip_accents")
                strip_accents = lowercase if said is None else said is True
            case "Lowercase":
                lowercase = True
            case "StripAccents":
                strip_accents = True
    return {
        "tokenizer.ggml.normalizer.lowercase": lowercase,
        "tokenizer.ggml.normalizer.strip_accents": strip_accents,
        "tokenizer.ggml.add_sep_token": True,
    }
