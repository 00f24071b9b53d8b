"""Samples as tensors: of about the same length in each batch, so that little is padding."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from random import Random
from typing import Final, NamedTuple

import torch
from tokenizers import Tokenizer

from training.prompts import CONTROL, Segment
from training.samples import samples
from training.schedule import BLOCK, SAMPLES

#: Tokens in a batch, padding included: rows times length.
TOKENS: Final = 4096

#: Rows are padded to one of these lengths, which all divide ``TOKENS``, or nearly so.
LENGTHS: Final = (32, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 1536, 2048)

#: What a token counts that the model only reads, against one that it is to write. Special tokens
#: count nothing there: whether to think, for one, is not for the model to guess.
_READ: Final = 0.1


class Batch(NamedTuple):
    """Of shape (rows, length): what is read, what comes next, and how much that counts."""

    tokens: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor


class Encoded(NamedTuple):
    tokens: list[int]
    weights: list[float]


def batches(tokenizer: Tokenizer, seed: int, worker: int, block: int = 0) -> Iterator[Batch]:
    """From the start of a block on. Workers' batches of the same place have similar lengths."""
    padding = token_id(tokenizer, CONTROL[0])
    while True:
        made = samples(seed, worker, block * SAMPLES)
        encoded = [encode(tokenizer, sample) for sample in islice(made, SAMPLES)]
        found = list(_grouped([each for each in encoded if len(each.tokens) <= LENGTHS[-1] + 1]))
        order = list(range(BLOCK))
        Random(f"{seed}/{block}").shuffle(order)
        for place in order:
            length, rows = found[place * len(found) // BLOCK]
            yield _batch(rows, length, padding)
        block += 1


def encode(tokenizer: Tokenizer, sample: Sequence[Segment]) -> Encoded:
    special = token_id(tokenizer, CONTROL[0])
    tokens: list[int] = []
    weights: list[float] = []
    for text, written in sample:
        ids = tokenizer.encode(text, add_special_tokens=False).ids
        tokens += ids
        weights += [1.0 if written else _READ if number < special else 0.0 for number in ids]
    return Encoded(tokens, weights)


def token_id(tokenizer: Tokenizer, text: str) -> int:
    found = tokenizer.token_to_id(text)
    assert found is not None
    return int(found)


def _grouped(encoded: list[Encoded]) -> Iterator[tuple[int, list[Encoded]]]:
    """Full batches, from the shortest rows to the longest."""
    encoded.sort(key=lambda each: len(each.tokens))
    start = 0
    for length in LENGTHS:
        end = start
        while end < len(encoded) and len(encoded[end].tokens) <= length + 1:
            end += 1
        rows = TOKENS // length
        while end - start >= rows:
            yield length, encoded[start : start + rows]
            start += rows


def _batch(rows: Sequence[Encoded], length: int, padding: int) -> Batch:
    shape = (len(rows), length)
    batch = Batch(torch.full(shape, padding), torch.full(shape, padding), torch.zeros(shape))
    for index, (tokens, weights) in enumerate(rows):
        size = len(tokens) - 1
        batch.tokens[index, :size] = torch.tensor(tokens[:-1])
        batch.targets[index, :size] = torch.tensor(tokens[1:])
        batch.weights[index, :size] = torch.tensor(weights[1:])
    return batch
