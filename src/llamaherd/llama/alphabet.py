"""The characters that a SentencePiece vocabulary can spell, checked before llama.cpp tokenizes.

llama.cpp spells a character that is no token by the tokens of its bytes, ``<0x00>`` to ``<0xFF>``,
and ends the process when there are none (``llm_tokenizer_spm_session`` in llama-vocab.cpp). As it
merges characters only into tokens, a text is safe when each of its characters is.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final

from llamaherd.llama.attributes import Attributed, special_texts
from llamaherd.llama.backend import InvalidText

#: How SentencePiece writes a space.
_SPACE: Final = "▁"

#: Where nearly all SentencePiece vocabularies have their byte tokens.
_FIRST_BYTE_TOKEN: Final = 3


class Alphabet:
    """Which texts can be spelled. ``always`` are the tokens that are found in any text, ``special``
    those found only where special tokens are parsed; their own characters need no spelling."""

    def __init__(
        self, tokens: Collection[str], always: Iterable[str], special: Iterable[str]
    ) -> None:
        self._tokens = frozenset(tokens)
        # llama.cpp looks for the longest first.
        self._always = sorted(always, key=len, reverse=True)
        self._all = sorted([*self._always, *special], key=len, reverse=True)

    def check(self, text: str, *, parse_special: bool) -> None:
        """Raises ``InvalidText`` naming the first character that can't be spelled."""
        if all(map(self._can_spell, set(text))):
            return
        fragments = [text]
        for token in self._all if parse_special else self._always:
            fragments = [part for fragment in fragments for part in fragment.split(token)]
        for fragment in fragments:
            for character in fragment:
                if not self._can_spell(character):
                    raise InvalidText(
                        f"the model's vocabulary has no token for the character {character!r}"
                        f" (U+{ord(character):04X})"
                    )

    def _can_spell(self, character: str) -> bool:
        if (_SPACE if character == " " else character) in self._tokens:
            return True
        return all(
            f"<0x{byte:02X}>" in self._tokens or (byte < 128 and chr(byte) in self._tokens)
            for byte in character.encode("utf-8", "replace")
        )


def alphabet_of(vocabulary: Attributed) -> Alphabet | None:
    """None when every text can be spelled, as with almost all models."""
    if not vocabulary.is_sentencepiece or _has_usual_byte_tokens(vocabulary):
        return None
    texts = [vocabulary.text(token) for token in range(vocabulary.size)]
    special = special_texts(vocabulary)
    return Alphabet(texts, special.always, special.parsed)


def _has_usual_byte_tokens(vocabulary: Attributed) -> bool:
    return vocabulary.size >= _FIRST_BYTE_TOKEN + 256 and all(
        vocabulary.text(_FIRST_BYTE_TOKEN + byte) == f"<0x{byte:02X}>" for byte in range(256)
    )
