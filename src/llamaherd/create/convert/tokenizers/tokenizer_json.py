"""``tokenizer.json``, as the tokenizers library writes it: its parts, typed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import msgspec

from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.tokenizers.vocabulary import AddedToken
from llamaherd.errors import BadRequest

TOKENIZER_FILE: Final = "tokenizer.json"

Parts = dict[str, Any]


class Model(msgspec.Struct):
    """``vocab`` maps texts to numbers, or lists texts with log probabilities (Unigram)."""

    vocab: dict[str, int] | list[tuple[str, float]]
    type: str | None = None
    merges: list[str | tuple[str, str]] | None = None
    unk_token: str | None = None
    unk_id: int | None = None
    byte_fallback: bool | None = None
    ignore_merges: bool | None = None
    continuing_subword_prefix: str | None = None

    @property
    def kind(self) -> str:
        """Old files don't say."""
        return self.type or ("BPE" if self.merges is not None else "WordPiece")

    def numbers(self) -> dict[str, int]:
        if isinstance(self.vocab, list):
            raise BadRequest(f"{TOKENIZER_FILE}: model.vocab: expected an object for {self.kind}")
        return self.vocab


class TokenizerFile(msgspec.Struct):
    model: Model
    added_tokens: list[AddedToken] | None = None
    normalizer: Parts | None = None
    pre_tokenizer: Parts | None = None
    post_processor: Parts | None = None


def read_tokenizer(folder: ModelFolder) -> TokenizerFile:
    return folder.json(TOKENIZER_FILE, TokenizerFile)


def flatten(part: Parts | None, inner: str) -> Iterator[Parts]:
    """A part, or the parts of a sequence of them, which stand under ``inner``."""
    if part is None:
        return
    if part.get("type") != "Sequence":
        yield part
        return
    parts = part.get(inner)
    if not isinstance(parts, list) or not all(isinstance(each, dict) for each in parts):
        raise BadRequest(f"{TOKENIZER_FILE}: {inner}: expected a list of objects")
    for each in parts:
        yield from flatten(each, inner)
