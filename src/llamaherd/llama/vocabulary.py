"""A model's vocabulary: text to tokens and back, safe against what makes llama.cpp abort."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from functools import cached_property
from itertools import islice
from typing import Any, Final

from llamaherd.llama.alphabet import alphabet_of
from llamaherd.llama.attributes import (
    CONTROL,
    LSTRIP,
    RSTRIP,
    UNKNOWN,
    USER_DEFINED,
    special_texts,
    texts_having,
)
from llamaherd.llama.backend import InvalidText, InvalidToken, TokenTable
from llamaherd.llama.library import C, function
from llamaherd.llama.pieces import SIZE, Cutter
from llamaherd.llama.stack import longest_run, with_room

#: The longest text, in bytes, that is made of tokens: vocabularies have tokens of any length, and
#: a frame has its limits (``runner.child.LONGEST_ANSWER``).
LONGEST_TEXT: Final = 1 << 25

#: How long a text for a BPE vocabulary may go on without white space, in characters. The tokenizer
#: needs memory for all of it at once (``llama.stack``).
LONGEST_RUN: Final = 1 << 19

#: Texts of more characters are tokenized in pieces.
_LONG: Final = 4 * SIZE

#: Enough of a vocabulary's own tokens to see what surrounds them.
_PROBED: Final = 16

_piece: Final = function(
    "llama_token_to_piece",
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_int32,
    ctypes.c_int32,
    ctypes.c_bool,
)


class Vocabulary:
    """Wraps a ``llama_vocab``; the methods may be called from any thread."""

    def __init__(self, pointer: Any) -> None:
        self._pointer = pointer
        self.size: Final = int(C.llama_vocab_n_tokens(pointer))
        self.bos: Final = int(C.llama_vocab_bos(pointer))
        self.add_bos: Final = bool(C.llama_vocab_get_add_bos(pointer))
        newline = int(C.llama_vocab_nl(pointer))
        self._is_bpe = bool(C.llama_vocab_type(pointer) == C.LLAMA_VOCAB_TYPE_BPE)
        self._pieces: list[bytes | None] = [None] * self.size
        self.newline: Final = (
            newline if 0 <= newline < self.size and self.piece(newline) == b"\n" else None
        )
        self._alphabet = alphabet_of(self)
        self._surroundings_missing = self._lacks_surroundings()

    def surroundings(self) -> tuple[list[int], list[int]]:
        """The tokens that are put before and behind a text; raises as ``tokenize``."""
        around = self.tokenize("", add_special=True, parse_special=False)
        begin = int(self.add_bos)
        return around[:begin], around[begin:]

    def separator(self) -> list[int]:
        """What stands between the two texts of a pair, as in llama.cpp's server."""
        ends = [C.llama_vocab_eos(self._pointer)] * C.llama_vocab_get_add_eos(self._pointer)
        parts = [C.llama_vocab_sep(self._pointer)] * C.llama_vocab_get_add_sep(self._pointer)
        return [int(token) for token in (*ends, *parts) if token >= 0]

    def tokenize(self, text: str, *, add_special: bool, parse_special: bool) -> list[int]:
        """The tokens of ``text``; ``add_special`` puts BOS and EOS where the vocabulary wants them.

        A text that begins with the BOS token's own text gets no second one. Raises ``InvalidText``
        for a character that this vocabulary has no token for, for more than ``LONGEST_RUN`` of them
        in one go, and when it lacks what it wants to put around a text.
        """
        if add_special and self._surroundings_missing:
            raise InvalidText("this vocabulary lacks the tokens that a text begins and ends with")
        if self._alphabet is not None:
            self._alphabet.check(text, parse_special=parse_special)
        run = longest_run(text) if self._is_bpe else 0
        if run > LONGEST_RUN:
            raise InvalidText(
                f"the text has about {run} characters without white space between them,"
                f" at most {LONGEST_RUN} can be tokenized"
            )
        if len(text) > _LONG:
            return with_room(run, lambda: self._tokenize_long(text, add_special, parse_special))
        return with_room(run, lambda: self._tokenize(text, add_special, parse_special))

    def _tokenize_long(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        before, behind = self.surroundings() if add_special else ([], [])
        tokens = self.cutter.tokenize(
            text.encode("utf-8", "replace").decode(),
            lambda piece: self._tokenize(piece, False, parse_special),
            parse_special=parse_special,
        )
        tokens = [*before, *tokens, *behind]
        return self._with_one_bos(tokens) if add_special else tokens

    def _tokenize(self, text: str, add_special: bool, parse_special: bool) -> list[int]:
        encoded = text.encode("utf-8", "replace")
        capacity = len(encoded) + 16
        while True:
            buffer = (ctypes.c_int32 * capacity)()
            count = C.llama_tokenize(
                self._pointer, encoded, len(encoded), buffer, capacity, add_special, parse_special
            )
            if count >= 0:
                break
            if count == -(2**31):
                raise InvalidText("the text is too long to be tokenized")
            capacity = -count
        tokens = buffer[:count]
        return self._with_one_bos(tokens) if add_special else tokens

    def _with_one_bos(self, tokens: list[int]) -> list[int]:
        twice = self.add_bos and tokens[:2] == [self.bos, self.bos]
        return tokens[1:] if twice else tokens

    @cached_property
    def cutter(self) -> Cutter:
        """Where long texts may be cut."""
        always, parsed = special_texts(self)
        texts = (self.text(token) for token in range(self.size))
        return Cutter(
            always,
            parsed,
            strips_left=frozenset(texts_having(self, LSTRIP)),
            strips_right=bool(texts_having(self, RSTRIP)),
            letters=frozenset().union(*texts, " ") if self.is_sentencepiece else None,
        )

    def _lacks_surroundings(self) -> bool:
        """Whether llama.cpp would abort where it puts special tokens around a text."""
        if C.llama_vocab_type(self._pointer) == C.LLAMA_VOCAB_TYPE_WPM:
            wanted = [self.bos, int(C.llama_vocab_sep(self._pointer))]
        else:
            wanted = [self.bos] if self.add_bos else []
            if C.llama_vocab_get_add_eos(self._pointer):
                wanted.append(int(C.llama_vocab_eos(self._pointer)))
        return any(token < 0 for token in wanted)

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text whose tokens these are, special tokens included.

        The space that a SentencePiece vocabulary puts before a text is taken off again. Raises
        ``InvalidToken``, or ``InvalidText`` for more than ``LONGEST_TEXT`` bytes.
        """
        self.check(tokens)
        if sum(len(self.piece(token)) for token in tokens) > LONGEST_TEXT:
            raise InvalidText(f"the text of these tokens has more than {LONGEST_TEXT} bytes")
        capacity = 8 * len(tokens) + 64
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            length = C.llama_detokenize(
                self._pointer, array, len(tokens), buffer, capacity, False, True
            )
            if length >= 0:
                return buffer.raw[:length].decode("utf-8", "replace")
            capacity = -length

    def check(self, tokens: Sequence[int]) -> None:
        """Raises ``InvalidToken`` for a number that is no token: llama.cpp would abort on it."""
        for token in tokens:
            if not 0 <= token < self.size:
                raise InvalidToken(
                    f"token {token} is not in the vocabulary, which has {self.size} tokens"
                )

    def piece(self, token: int) -> bytes:
        cached = self._pieces[token]
        if cached is None:
            cached = self._pieces[token] = self._read_piece(token)
        return cached

    def is_end(self, token: int) -> bool:
        return bool(C.llama_vocab_is_eog(self._pointer, token))

    def table(self) -> TokenTable:
        """The vocabulary for grammars."""
        tokens = range(self.size)
        tokenizer = None
        if self._alphabet is None and self._spells():
            vocabulary = ctypes.cast(self._pointer, ctypes.c_void_p).value
            tokenize = ctypes.cast(C.llama_tokenize, ctypes.c_void_p).value
            assert vocabulary is not None
            assert tokenize is not None
            tokenizer = vocabulary, tokenize
        return TokenTable(
            pieces=[self.piece(token) for token in tokens],
            special=frozenset(token for token in tokens if self._is_special(token)),
            ends=[token for token in tokens if self.is_end(token)],
            tokenizer=tokenizer,
        )

    def _spells(self) -> bool:
        """Whether the tokens of a text have its characters and no others.

        SentencePiece vocabularies may put a space after each token that their file defines.
        """
        own = (
            token
            for token in range(self.size)
            if self.attributes(token) & USER_DEFINED and not self._is_special(token)
        )
        for token in islice(own, _PROBED):
            text = f"a{self.piece(token).decode('utf-8', 'replace')}a"
            tokens = self.tokenize(text, add_special=False, parse_special=True)
            if b"".join(map(self.piece, tokens)).removeprefix(b" ") != text.encode():
                return False
        return True

    def _is_special(self, token: int) -> bool:
        """Many vocabularies define their control tokens as if they were text."""
        attributes = self.attributes(token)
        if attributes & (CONTROL | UNKNOWN):
            return True
        piece = self.piece(token)
        looks_special = piece.startswith(b"<") and piece.endswith(b">")
        return bool(attributes & USER_DEFINED) and looks_special

    def text(self, token: int) -> str:
        """The token as the vocabulary spells it."""
        return str(C.llama_vocab_get_text(self._pointer, token).decode("utf-8", "replace"))

    def attributes(self, token: int) -> int:
        """``llama_token_attr`` flags."""
        return int(C.llama_vocab_get_attr(self._pointer, token))

    @property
    def is_sentencepiece(self) -> bool:
        return bool(C.llama_vocab_type(self._pointer) == C.LLAMA_VOCAB_TYPE_SPM)

    def _read_piece(self, token: int) -> bytes:
        capacity = 32
        while True:
            buffer = ctypes.create_string_buffer(capacity)
            length = _piece(self._pointer, token, buffer, capacity, 0, True)
            if length >= 0:
                return buffer.raw[:length]
            capacity = -length
