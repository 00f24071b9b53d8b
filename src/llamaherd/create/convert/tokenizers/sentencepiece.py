"""``tokenizer.model``: a SentencePiece model, a protocol buffer of which we need a few fields.

The fields: ``sentencepiece_model.proto`` of https://github.com/google/sentencepiece. The encoding:
https://protobuf.dev/programming-guides/encoding.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.tokenizers.vocabulary import Token, TokenType, Vocabulary
from llamaherd.errors import BadRequest

SENTENCEPIECE_FILE: Final = "tokenizer.model"

#: Wire types.
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

#: Fields of ModelProto, SentencePiece, TrainerSpec and NormalizerSpec.
_PIECES, _TRAINER, _NORMALIZER = 1, 2, 3
_TEXT, _SCORE, _TYPE = 1, 2, 3
_MODEL_TYPE = 3
_SPECIAL: Final = {40: "unk", 41: "bos", 42: "eos", 43: "pad"}
_CHARSMAP, _DUMMY_PREFIX, _REMOVE_SPACES = 2, 3, 4

_UNIGRAM, _BPE = 1, 2

Field = int | bytes


def read_sentencepiece(folder: ModelFolder) -> Vocabulary:
    """Raises ``BadRequest`` for a file that is damaged, or of an algorithm llama.cpp lacks."""
    tokens: dict[int, Token] = {}
    trainer: dict[int, Field] = {}
    normalizer: dict[int, Field] = {}
    for number, value in _fields(folder.read(SENTENCEPIECE_FILE)):
        if number == _PIECES:
            tokens[len(tokens)] = _piece(_message(value), len(tokens))
        elif number == _TRAINER:
            trainer = _message(value)
        elif number == _NORMALIZER:
            normalizer = _message(value)
    kind = trainer.get(_MODEL_TYPE, _UNIGRAM)
    if kind not in (_UNIGRAM, _BPE):
        raise _damaged(f"model type {kind!r}, expected {_UNIGRAM} or {_BPE}")
    return _vocabulary(tokens, trainer, normalizer, unigram=kind == _UNIGRAM)


def _vocabulary(
    tokens: dict[int, Token],
    trainer: dict[int, Field],
    normalizer: dict[int, Field],
    *,
    unigram: bool,
) -> Vocabulary:
    special = {"unk": 0, "bos": 1, "eos": 2}
    for number, name in _SPECIAL.items():
        if isinstance(value := trainer.get(number), int):
            special[name] = value
    vocabulary = Vocabulary("t5" if unigram else "llama", tokens, scored=True, add_bos=True)
    vocabulary.special = {name: value for name, value in special.items() if value in tokens}
    vocabulary.more["tokenizer.ggml.add_space_prefix"] = bool(normalizer.get(_DUMMY_PREFIX, 1))
    if unigram:
        removes = bool(normalizer.get(_REMOVE_SPACES, 1))
        vocabulary.more["tokenizer.ggml.remove_extra_whitespaces"] = removes
        if isinstance(charsmap := normalizer.get(_CHARSMAP), bytes) and charsmap:
            vocabulary.more["tokenizer.ggml.precompiled_charsmap"] = charsmap
    return vocabulary


def _piece(fields: dict[int, Field], index: int) -> Token:
    text, score = fields.get(_TEXT), fields.get(_SCORE, bytes(4))
    kind = fields.get(_TYPE, int(TokenType.NORMAL))
    if not isinstance(text, bytes) or not isinstance(score, bytes) or len(score) != 4:
        raise _damaged(f"piece {index}")
    try:
        return Token(text.decode(), _type(kind), struct.unpack("<f", score)[0])
    except (UnicodeDecodeError, ValueError):
        raise _damaged(f"piece {index}") from None


def _type(kind: Field) -> TokenType:
    if not isinstance(kind, int):
        raise ValueError(kind)
    return TokenType(kind)


def _message(value: Field) -> dict[int, Field]:
    """The last of each field, as the encoding has it."""
    if not isinstance(value, bytes):
        raise _damaged("a number where a message was expected")
    return dict(_fields(value))


def _fields(content: bytes) -> Iterator[tuple[int, Field]]:
    """The numbers of the fields and their values; fixed-width numbers as their bytes."""
    at = 0
    while at < len(content):
        key, at = _varint(content, at)
        number, wire = key >> 3, key & 7
        if wire == _VARINT:
            value, at = _varint(content, at)
            yield number, value
            continue
        if wire == _BYTES:
            length, at = _varint(content, at)
        elif wire in (_FIXED32, _FIXED64):
            length = 4 if wire == _FIXED32 else 8
        else:
            raise _damaged(f"wire type {wire}")
        if length > len(content) - at:
            raise _damaged(f"a field of {length} bytes where {len(content) - at} are left")
        yield number, content[at : at + length]
        at += length


def _varint(content: bytes, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for index, byte in enumerate(content[at : at + 10]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            return value, at + index + 1
    raise _damaged("a number that does not end")


def _damaged(what: str) -> BadRequest:
    return BadRequest(f"{SENTENCEPIECE_FILE}: not a sound SentencePiece model: {what}")
