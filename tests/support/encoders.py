"""Tiny models of the BERT architecture with random weights, which turn texts into vectors."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import gguf
import numpy as np
import numpy.typing as npt

from tests.support.models import write_out

LETTERS: Final = "abcdefghijklmnopqrstuvwxyz"
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
UNKNOWN, CLS, SEP = 1, 2, 3

#: Every letter at the beginning of a word, and within it.
_TOKENS: Final = [*_SPECIAL, *(f"\u2581{letter}" for letter in LETTERS), *LETTERS]

WIDTH: Final = 64
CONTEXT: Final = 64

MEAN, FIRST, LAST, RANK = (
    gguf.PoolingType.MEAN,
    gguf.PoolingType.CLS,
    gguf.PoolingType.LAST,
    gguf.PoolingType.RANK,
)


def spelled(text: str) -> list[int]:
    """The tokens of a text of small letters and spaces, with those around it."""
    tokens = [CLS]
    for word in text.split():
        first, *others = (LETTERS.index(letter) for letter in word)
        tokens += [len(_SPECIAL) + first, *(len(_SPECIAL) + 26 + other for other in others)]
    return [*tokens, SEP]


def write_encoder(
    path: Path, *, pooling: int | None = MEAN, seed: int = 0, rank_template: str | None = None
) -> Path:
    """A model that reads small letters; without ``pooling`` it doesn't say how vectors become one.

    One that ranks has a head of one output. The same arguments give the same bytes.
    """
    n_layer, n_ctx = 2, CONTEXT
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_name("tiny encoder")
    writer.add_block_count(n_layer)
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(2 * WIDTH)
    writer.add_head_count(4)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_uint32("bert.pooling_type", int(pooling))
    if rank_template is not None:
        writer.add_string("tokenizer.chat_template.rerank", rank_template)
    writer.add_token_type_count(2)
    writer.add_tokenizer_model("bert")
    writer.add_token_list(_TOKENS)
    writer.add_token_types(
        [int(gguf.TokenType.CONTROL)] * len(_SPECIAL)
        + [int(gguf.TokenType.NORMAL)] * (len(_TOKENS) - len(_SPECIAL))
    )
    writer.add_pad_token_id(0)
    writer.add_unk_token_id(UNKNOWN)
    writer.add_bos_token_id(CLS)
    writer.add_sep_token_id(SEP)
    writer.add_eos_token_id(SEP)
    for name, values in _weights(n_layer, n_ctx, seed, ranks=pooling == RANK).items():
        writer.add_tensor(name, values)
    return write_out(writer, path)


def _weights(
    n_layer: int, n_ctx: int, seed: int, *, ranks: bool
) -> dict[str, npt.NDArray[np.float32]]:
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int) -> npt.NDArray[np.float32]:
        return np.asarray(random.normal(0, 1.5 / np.sqrt(columns), (rows, columns)), np.float32)

    shapes = {
        "attn_q": (WIDTH, WIDTH),
        "attn_k": (WIDTH, WIDTH),
        "attn_v": (WIDTH, WIDTH),
        "attn_output": (WIDTH, WIDTH),
        "ffn_up": (2 * WIDTH, WIDTH),
        "ffn_down": (WIDTH, 2 * WIDTH),
    }
    ones, zeros = np.ones(WIDTH, np.float32), np.zeros(WIDTH, np.float32)
    found = {
        "token_embd.weight": matrix(len(_TOKENS), WIDTH),
        "position_embd.weight": matrix(n_ctx, WIDTH),
        "token_types.weight": matrix(2, WIDTH),
        "token_embd_norm.weight": ones,
        "token_embd_norm.bias": zeros,
    }
    for layer in range(n_layer):
        for name, (rows, columns) in shapes.items():
            found[f"blk.{layer}.{name}.weight"] = matrix(rows, columns)
            found[f"blk.{layer}.{name}.bias"] = np.zeros(rows, np.float32)
        for name in ("attn_output_norm", "layer_output_norm"):
            found[f"blk.{layer}.{name}.weight"] = ones
            found[f"blk.{layer}.{name}.bias"] = zeros
    if ranks:
        found["cls.output.weight"] = matrix(1, WIDTH)
        found["cls.output.bias"] = np.full(1, 0.25, np.float32)
    return found
