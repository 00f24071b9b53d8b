"""Tokenizers in all the forms that Hugging Face has them become GGUF's."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.tokenizers.byte_pairs import SPACE, read_byte_pairs
from llamaherd.create.convert.tokenizers.sentencepiece import (
    SENTENCEPIECE_FILE,
    read_sentencepiece,
)
from llamaherd.create.convert.tokenizers.special import (
    TOKENIZER_CONFIG,
    special_metadata,
    template_metadata,
)
from llamaherd.create.convert.tokenizers.tokenizer_json import (
    TOKENIZER_FILE,
    TokenizerFile,
    read_tokenizer,
)
from llamaherd.create.convert.tokenizers.unigram import read_unigram
from llamaherd.create.convert.tokenizers.vocabulary import AddedToken, Vocabulary
from llamaherd.create.convert.tokenizers.wordpiece import read_wordpiece
from llamaherd.create.convert.writer import Value
from llamaherd.errors import BadRequest

_READERS: Final = {
    "BPE": read_byte_pairs,
    "WordPiece": read_wordpiece,
    "Unigram": read_unigram,
}


def tokenizer_metadata(folder: ModelFolder, size: int) -> dict[str, Value]:
    """For a model with ``size`` tokens. Raises ``BadRequest`` for tokenizers that can't be used.

    A SentencePiece model says more than the ``tokenizer.json`` that was made of it, so it wins.
    """
    tokenizer = read_tokenizer(folder) if TOKENIZER_FILE in folder else None
    if SENTENCEPIECE_FILE in folder:
        vocabulary = read_sentencepiece(folder)
    elif tokenizer is not None:
        vocabulary = _read(tokenizer)
    else:
        raise BadRequest(f"{TOKENIZER_FILE} and {SENTENCEPIECE_FILE} are missing, expected one")
    vocabulary.add(_added(folder, tokenizer, vocabulary))
    special = special_metadata(folder, vocabulary, tokenizer, size)
    return vocabulary.metadata(size) | special | template_metadata(folder)


def token_number(folder: ModelFolder, text: str) -> int:
    """The number of an added token. Raises ``BadRequest`` if there is no such token."""
    tokenizer = read_tokenizer(folder) if TOKENIZER_FILE in folder else None
    for token in _stored_added(folder, tokenizer):
        if token.content == text:
            return token.id
    raise BadRequest(f"{TOKENIZER_FILE}: added_tokens: {text} is missing")


def _read(tokenizer: TokenizerFile) -> Vocabulary:
    reader = _READERS.get(tokenizer.model.kind)
    if reader is None:
        kinds = ", ".join(_READERS)
        raise BadRequest(
            f"{TOKENIZER_FILE}: model.type: expected {kinds}, not {tokenizer.model.kind}"
        )
    return reader(tokenizer)


def _added(
    folder: ModelFolder, tokenizer: TokenizerFile | None, vocabulary: Vocabulary
) -> list[AddedToken]:
    added = _stored_added(folder, tokenizer)
    if vocabulary.model == "llama":
        # Added tokens are looked for in the text as it was written, with plain spaces.
        for token in added:
            token.content = token.content.replace(SPACE, " ")
    return added


def _stored_added(folder: ModelFolder, tokenizer: TokenizerFile | None) -> list[AddedToken]:
    added = list(tokenizer.added_tokens or []) if tokenizer else _added_in_config(folder)
    if any(token.id < 0 for token in added):
        raise BadRequest(f"{TOKENIZER_FILE}: added_tokens: a number below 0")
    return added


def _added_in_config(folder: ModelFolder) -> list[AddedToken]:
    table: Any = folder.json_object(TOKENIZER_CONFIG).get("added_tokens_decoder") or {}
    try:
        return [
            msgspec.convert({"id": int(number)} | dict(token), AddedToken)
            for number, token in table.items()
        ]
    except (AttributeError, TypeError, ValueError) as error:
        raise BadRequest(f"{TOKENIZER_CONFIG}: added_tokens_decoder: {error}") from None
