"""What every kind of tokenizer comes down to: a table of tokens as GGUF has it."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final

import msgspec

from llamaherd.create.convert.writer import Value

#: The score of a token that no text is ever split into by itself.
UNUSED_SCORE: Final = -10_000.0

#: Tokens that steer a model though its files don't call them special.
_SEEMS_SPECIAL: Final = re.compile(r"<\|.*\|>|<｜.*｜>|<unused\d*>|<pad>|<mask>|<2mass>|\[@BOS@\]")


class TokenType(IntEnum):
    """``llama_token_type`` of llama.h; SentencePiece has the same numbers."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class AddedToken(msgspec.Struct):
    """A token that was added to a vocabulary; in text it is found before anything else."""

    id: int
    content: str
    special: bool = False

    @property
    def type(self) -> TokenType:
        if self.special or _SEEMS_SPECIAL.fullmatch(self.content):
            return TokenType.CONTROL
        return TokenType.USER_DEFINED


@dataclass(frozen=True, slots=True)
class Token:
    text: str
    type: TokenType = TokenType.NORMAL
    score: float = 0.0


@dataclass(slots=True)
class Vocabulary:
    """``model`` and ``pre`` are llama.cpp's names of the algorithm; ``tokens`` are by number.

    ``add_bos`` and ``add_eos`` say what is put around a text, unless other files say otherwise.
    ``special`` has the numbers of special tokens that the files name only by number; ``more`` is
    further metadata.
    """

    model: str
    tokens: dict[int, Token]
    pre: str = "default"
    merges: list[str] | None = None
    scored: bool = False
    add_bos: bool = False
    add_eos: bool = False
    special: dict[str, int] = field(default_factory=dict)
    more: dict[str, Value] = field(default_factory=dict)

    def add(self, added: Iterable[AddedToken]) -> None:
        for token in added:
            old = self.tokens.get(token.id)
            kind = token.type
            if old is not None and old.type == TokenType.UNKNOWN:
                kind = TokenType.UNKNOWN
            self.tokens[token.id] = Token(token.content, kind, -1000.0)

    def numbers(self) -> dict[str, int]:
        """The number of each token by its text."""
        return {token.text: number for number, token in self.tokens.items()}

    def metadata(self, size: int) -> dict[str, Value]:
        """``size`` tokens, as many as the model has rows: gaps are filled, what is beyond goes."""
        table = [
            self.tokens.get(number) or Token(f"[PAD{number}]", TokenType.UNUSED, UNUSED_SCORE)
            for number in range(size)
        ]
        metadata: dict[str, Value] = {
            "tokenizer.ggml.model": self.model,
            "tokenizer.ggml.pre": self.pre,
            "tokenizer.ggml.tokens": [token.text for token in table],
            "tokenizer.ggml.token_type": [int(token.type) for token in table],
        }
        if self.scored:
            metadata["tokenizer.ggml.scores"] = [float(token.score) for token in table]
        if self.merges is not None:
            metadata["tokenizer.ggml.merges"] = self.merges
        return metadata | self.more


def by_number(numbers: Mapping[str, int]) -> dict[int, str]:
    return {number: text for text, number in numbers.items()}
