"""The sizes of a model, as its GGUF file says them, that decide how it can be loaded."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from llamaherd.errors import InvalidGGUF
from llamaherd.gguf import GGUF, Array

#: ``llama_pooling_type``: how the vectors of all tokens become one.
_MEAN, _CLS, _RANK = 1, 2, 4

_LARGEST: Final = 2**31 - 1
_MOST_LAYERS: Final = 4096


@dataclass(frozen=True, slots=True)
class ModelShape:
    """The sizes of a model that decide about its memory.

    ``key_width`` and ``value_width`` are the values that one token takes in the caches of all
    layers together, ``state_width`` the 32-bit values of one sequence in all recurrent layers.
    ``head_sizes`` are the lengths of a key and a value. ``context_train`` 0 is unknown. ``weights``
    is in bytes, of which a ``projector`` takes so many. That and weights that can't be ``mapped``
    into memory are read into it.

    ``embeds`` says that the model is made for embeddings. One that ``pools`` can do nothing else,
    and evaluates a text as a whole; one that ``ranks`` gives pairs of texts a score. Without
    ``causal`` every token looks at all others, and there is no cache.
    """

    layers: int
    embedding: int
    heads: int
    key_width: int
    value_width: int
    head_sizes: tuple[int, int]
    context_train: int
    vocabulary: int
    weights: int
    state_width: int = 0
    embeds: bool = False
    pools: bool = False
    ranks: bool = False
    causal: bool = True
    mapped: bool = True
    projector: int = 0

    @classmethod
    def of(cls, gguf: GGUF) -> ModelShape:
        """Read the sizes from an open file; raises ``InvalidGGUF`` for impossible ones."""
        layers = _size(gguf, "block_count", most=_MOST_LAYERS)
        embedding = _size(gguf, "embedding_length")
        heads = _per_layer(gguf, "attention.head_count", layers, 0)
        heads_kv = _per_layer(gguf, "attention.head_count_kv", layers, None) or heads
        head = embedding // max(1, max(heads, default=1))
        key = _size(gguf, "attention.key_length", head)
        value = _size(gguf, "attention.value_length", head)
        pooling = gguf.arch_value("pooling_type")
        causal = gguf.arch_value("attention.causal") is not False
        vocabulary = _size(gguf, "vocab_size", 0)
        if not vocabulary and isinstance(tokens := gguf.get("tokenizer.ggml.tokens"), Array):
            vocabulary = len(tokens)
        return cls(
            layers=layers,
            embedding=embedding,
            heads=max(heads, default=0),
            key_width=sum(heads_kv) * key,
            value_width=sum(heads_kv) * value,
            head_sizes=(key, value),
            context_train=_size(gguf, "context_length", 0),
            vocabulary=vocabulary,
            weights=gguf.data_size,
            state_width=heads_kv.count(0) * _recurrent_state(gguf),
            embeds=pooling is not None,
            pools=pooling in (_MEAN, _CLS, _RANK) or not causal,
            ranks=pooling == _RANK,
            causal=causal,
        )


def _size(gguf: GGUF, name: str, default: int | None = None, most: int = _LARGEST) -> int:
    number = gguf.arch_value(name, int) if default is None else gguf.arch_value(name, int, default)
    return _checked(gguf, name, number, most)


def _checked(gguf: GGUF, name: str, number: object, most: int = _LARGEST) -> int:
    if not isinstance(number, int) or not 0 <= number <= most:
        key = f"{gguf.architecture}.{name}"
        raise InvalidGGUF(f"{key} is {number!r}, expected a whole number from 0 to {most}")
    return number


def _per_layer(gguf: GGUF, name: str, layers: int, default: int | None) -> list[int]:
    """A number for each layer; the file has one for all or a list. Empty without any."""
    value = gguf.arch_value(name)
    value = default if value is None else value
    if value is None:
        return []
    if not isinstance(value, Array):
        return [_checked(gguf, name, value)] * layers
    return [_checked(gguf, name, value[index]) for index in range(min(layers, len(value)))]


def _recurrent_state(gguf: GGUF) -> int:
    """Values of the convolution and the state of one Mamba layer and sequence.

    ``n_embd_r`` and ``n_embd_s`` of llama-hparams.cpp.
    """
    inner = _size(gguf, "ssm.inner_size", 0)
    state = _size(gguf, "ssm.state_size", 0)
    groups = _size(gguf, "ssm.group_count", 0)
    convolution = max(0, _size(gguf, "ssm.conv_kernel", 0) - 1)
    return convolution * (inner + 2 * groups * state) + state * inner
