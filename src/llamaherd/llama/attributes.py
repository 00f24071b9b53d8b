"""What a vocabulary says of its tokens: ``llama_token_attr`` in llama.h."""

from __future__ import annotations

from typing import Final, NamedTuple, Protocol

UNKNOWN: Final = 1 << 0
CONTROL: Final = 1 << 3
USER_DEFINED: Final = 1 << 4
LSTRIP: Final = 1 << 7
RSTRIP: Final = 1 << 8


class Attributed(Protocol):
    """A vocabulary; see ``llama.vocabulary``."""

    @property
    def size(self) -> int: ...
    @property
    def is_sentencepiece(self) -> bool: ...
    def text(self, token: int) -> str: ...
    def attributes(self, token: int) -> int: ...


class SpecialTexts(NamedTuple):
    """The texts of special tokens: those that are found in any text, and those that are found only
    where special tokens are parsed."""

    always: list[str]
    parsed: list[str]


def texts_having(vocabulary: Attributed, flags: int, without: int = 0) -> list[str]:
    """The texts of the tokens with one of these ``flags`` and none of the others."""
    texts = []
    for token in range(vocabulary.size):
        found = vocabulary.attributes(token)
        if found & flags and not found & without and (text := vocabulary.text(token)):
            texts.append(text)
    return texts


def special_texts(vocabulary: Attributed) -> SpecialTexts:
    """Told apart as by ``tokenizer_st_partition`` in llama-vocab.cpp.

    llama.cpp makes control tokens of some that are user-defined, such as ``</s>``; they stay both.
    """
    parsed = CONTROL | UNKNOWN
    return SpecialTexts(
        texts_having(vocabulary, USER_DEFINED, without=parsed), texts_having(vocabulary, parsed)
    )
