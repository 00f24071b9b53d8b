"""Tiny GGUF models for tests: a real tokenizer, random weights, written in milliseconds.

The weights are random but chosen so that greedy decoding writes varied, printable text and never
ends by itself: the output rows of special and byte tokens are zero, which no maximum falls on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal

import gguf
import numpy as np
import numpy.typing as npt

FileType = Literal["f32", "f16", "bf16", "q8_0"]

VOCABULARY: Final = Path(__file__).parents[1] / "data" / "stories260k-vocab.json"

_FILE_TYPES: Final = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}

_EOS: Final = 2

#: Standard deviation of the logits: wide enough that sampling stays among sensible tokens.
_LOGIT_SCALE: Final = 4.0


def write_model(
    path: Path,
    *,
    n_layer: int = 2,
    n_embd: int = 64,
    n_head: int = 8,
    n_head_kv: int = 4,
    n_ff: int = 192,
    n_ctx: int = 512,
    ftype: FileType = "f32",
    byte_tokens: bool = True,
    chat_template: str | None = None,
    seed: int = 0,
    metadata: Mapping[str, Any] | None = None,
    shard_tensors: int = 0,
    extra_tokens: Sequence[str] = (),
    control_tokens: Sequence[str] = (),
    architecture: str = "llama",
) -> Path:
    """Write a model of the llama architecture with stories260K's SentencePiece vocabulary.

    ``byte_tokens=False`` leaves the ``<0xXX>`` tokens out, so text outside the vocabulary (an
    emoji) makes llama.cpp's tokenizer abort the process. ``metadata`` adds or overrides GGUF keys.
    ``extra_tokens`` are texts with a token each; it writes them only if it must. After them come
    the ``control_tokens``, which a text contains only where special tokens are read in it.
    Another ``architecture`` must have the same tensors, and keys alike.
    For ``q8_0`` the widths must be multiples of 32. The same arguments give the same bytes.
    ``shard_tensors`` cuts the file into shards of so many tensors, named after ``path``.
    """
    keys: dict[str, Any] = {
        f"{architecture}.context_length": n_ctx,
        f"{architecture}.embedding_length": n_embd,
        f"{architecture}.block_count": n_layer,
        f"{architecture}.feed_forward_length": n_ff,
        f"{architecture}.attention.head_count": n_head,
        f"{architecture}.attention.head_count_kv": n_head_kv,
        f"{architecture}.rope.dimension_count": n_embd // n_head,
        f"{architecture}.attention.layer_norm_rms_epsilon": 1e-5,
    }
    if chat_template is not None:
        keys["tokenizer.chat_template"] = chat_template
    n_extra = len(extra_tokens) + len(control_tokens)
    types = [*vocabulary(byte_tokens)[2], *[int(gguf.TokenType.USER_DEFINED)] * n_extra]
    weights = Weights(np.random.default_rng(seed), types, n_embd)
    head = n_embd // n_head
    for layer in range(n_layer):
        weights.add_attention(layer, n_embd, head * n_head_kv)
        weights.add_feed_forward(layer, n_ff)
    keys |= metadata or {}
    return write_gguf(
        path,
        architecture,
        keys,
        weights.tensors,
        ftype=ftype,
        byte_tokens=byte_tokens,
        shard_tensors=shard_tensors,
        extra_tokens=extra_tokens,
        control_tokens=control_tokens,
    )


def write_parrot(
    path: Path, text: str, *, n_ctx: int = 512, step: int = 4, endless: bool = False
) -> Path:
    """A model that answers every prompt with exactly ``text``, whatever the sampling options.

    It writes ``step`` or a few more characters with each token. Every piece of the text is a token
    of its own, whose successor is the next piece; any other token is followed by the first, so
    prompts must not end with a piece of the text. All layers pass on what they are given. If it is
    ``endless``, the last piece is written again and again.
    """
    known = vocabulary(True)[0]
    pieces = _pieces(text, step, set(known))
    n_embd = -(-(len(pieces) + 1) // 32) * 32
    # A token's embedding says how many pieces have been written; that column holds what follows.
    places = [*(0 for _ in known), *range(1, len(pieces) + 1)]
    following = [*range(len(known), len(places)), len(places) - 1 if endless else _EOS]
    output = np.zeros((len(places), n_embd), np.float32)
    output[following, range(len(following))] = 5 * _LOGIT_SCALE
    keys = {
        "llama.context_length": n_ctx,
        "llama.embedding_length": n_embd,
        "llama.block_count": 1,
        "llama.feed_forward_length": 32,
        "llama.attention.head_count": 2,
        "llama.attention.head_count_kv": 2,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
    }
    weights = Weights(np.random.default_rng(0), [], n_embd)
    weights.add_attention(0, n_embd, n_embd)
    weights.add_feed_forward(0, 32)
    for name in ("attn_output", "ffn_down"):
        weights.tensors[f"blk.0.{name}.weight"][:] = 0
    embeddings = np.eye(n_embd, dtype=np.float32)[places]
    weights.tensors |= {"token_embd.weight": embeddings, "output.weight": output}
    return write_gguf(path, "llama", keys, weights.tensors, extra_tokens=pieces)


def _pieces(text: str, step: int, known: set[str]) -> list[str]:
    """The text in pieces that differ from each other and from all ``known`` tokens."""
    pieces: list[str] = []
    rest = text
    while rest:
        size = next(
            (n for n in range(step, len(rest)) if rest[:n] not in known and rest[:n] not in pieces),
            len(rest),
        )
        pieces.append(rest[:size])
        rest = rest[size:]
    while len(pieces) > 1 and (pieces[-1] in known or pieces[-1] in pieces[:-1]):
        last = pieces.pop()
        pieces[-1] += last
    return pieces


def write_sliding_window_model(
    path: Path,
    *,
    window: int,
    n_ctx: int = 512,
    chat_template: str | None = None,
    seed: int = 0,
    context_gain: float = 1.0,
    control_tokens: Sequence[str] = (),
) -> Path:
    """A model of the gemma3 architecture, whose layers but the sixth see ``window`` tokens back.

    With a higher ``context_gain`` what it writes depends more on what was before the last token.
    """
    n_embd, n_head, n_layer, n_ff = 64, 4, 6, 128
    head = n_embd // n_head
    types = [*vocabulary(True)[2], *[int(gguf.TokenType.CONTROL)] * len(control_tokens)]
    weights = Weights(np.random.default_rng(seed), types, n_embd)
    for layer in range(n_layer):
        weights.add_attention(layer, n_embd, n_embd)
        weights.add_feed_forward(layer, n_ff)
        for norm, width, gain in (
            ("post_attention_norm", n_embd, context_gain),
            ("post_ffw_norm", n_embd, 1.0),
            ("attn_q_norm", head, 1.0),
            ("attn_k_norm", head, 1.0),
        ):
            weights.tensors[f"blk.{layer}.{norm}.weight"] = np.full(width, gain, np.float32)
    keys: dict[str, Any] = {
        "gemma3.context_length": n_ctx,
        "gemma3.embedding_length": n_embd,
        "gemma3.block_count": n_layer,
        "gemma3.feed_forward_length": n_ff,
        "gemma3.attention.head_count": n_head,
        "gemma3.attention.head_count_kv": n_head,
        "gemma3.attention.key_length": head,
        "gemma3.attention.value_length": head,
        "gemma3.attention.sliding_window": window,
        "gemma3.attention.layer_norm_rms_epsilon": 1e-5,
    }
    if chat_template is not None:
        keys["tokenizer.chat_template"] = chat_template
    return write_gguf(path, "gemma3", keys, weights.tensors, control_tokens=control_tokens)


def write_adapter(
    path: Path,
    model_layers: int = 2,
    *,
    n_embd: int = 64,
    gain: float = 1.0,
    seed: int = 1,
    architecture: str = "llama",
    kind: str = "lora",
    alpha: float = 4.0,
    tensors: Mapping[str, tuple[int, ...]] | None = None,
) -> Path:
    """A LoRA adapter of rank 4 for the attention outputs of a llama model.

    ``tensors`` are further ones by shape, rows first; without dimensions, one that goes.
    """
    rank = 4
    weights = Weights(np.random.default_rng(seed), [], n_embd)
    found: dict[str, npt.NDArray[np.float32]] = {}
    for layer in range(model_layers):
        name = f"blk.{layer}.attn_output.weight"
        found[f"{name}.lora_a"] = weights.matrix(rank, n_embd, gain)
        found[f"{name}.lora_b"] = weights.matrix(n_embd, rank, gain)
    for name, shape in (tensors or {}).items():
        found.pop(name, None)
        if shape:
            found[name] = np.zeros(shape, np.float32)
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_type("adapter")
    writer.add_string("adapter.type", kind)
    writer.add_float32("adapter.lora.alpha", alpha)
    for name, data in found.items():
        writer.add_tensor(name, data)
    return write_out(writer, path)


@cache
def vocabulary(byte_tokens: bool) -> tuple[list[str], list[float], list[int]]:
    """The tokens, their scores and their types."""
    table = json.loads(VOCABULARY.read_text())
    rows = list(zip(table["tokens"], table["scores"], table["types"], strict=True))
    if not byte_tokens:
        rows = [row for row in rows if row[2] != gguf.TokenType.BYTE]
        rows.append(("\n", rows[-1][1] - 1, int(gguf.TokenType.NORMAL)))
    tokens, scores, types = zip(*rows, strict=True)
    return list(tokens), list(scores), list(types)


class Weights:
    """Random tensors by name, in the order in which they are added."""

    def __init__(self, random: np.random.Generator, types: list[int], n_embd: int) -> None:
        self._random = random
        self._n_embd = n_embd
        output = self.matrix(len(types), n_embd, _LOGIT_SCALE)
        output[np.array(types) != gguf.TokenType.NORMAL] = 0
        self.tensors: dict[str, npt.NDArray[np.float32]] = {
            "token_embd.weight": self.matrix(len(types), n_embd, np.sqrt(n_embd)),
            "output_norm.weight": np.ones(n_embd, np.float32),
            "output.weight": output,
        }

    def matrix(self, rows: int, columns: int, gain: float = 1.0) -> npt.NDArray[np.float32]:
        scale = gain / np.sqrt(columns)
        return np.asarray(self._random.standard_normal((rows, columns)) * scale, np.float32)

    def add_attention(self, layer: int, n_query: int, n_key: int) -> None:
        block, n_embd = f"blk.{layer}.", self._n_embd
        self.tensors |= {
            f"{block}attn_norm.weight": np.ones(n_embd, np.float32),
            f"{block}attn_q.weight": self.matrix(n_query, n_embd, 2.0),
            f"{block}attn_k.weight": self.matrix(n_key, n_embd, 2.0),
            f"{block}attn_v.weight": self.matrix(n_key, n_embd, 2.0),
            f"{block}attn_output.weight": self.matrix(n_embd, n_query, 2.0),
        }

    def add_feed_forward(self, layer: int, n_ff: int) -> None:
        block, n_embd = f"blk.{layer}.", self._n_embd
        self.tensors |= {
            f"{block}ffn_norm.weight": np.ones(n_embd, np.float32),
            f"{block}ffn_gate.weight": self.matrix(n_ff, n_embd),
            f"{block}ffn_up.weight": self.matrix(n_ff, n_embd),
            f"{block}ffn_down.weight": self.matrix(n_embd, n_ff, 2.0),
        }


def write_gguf(
    path: Path,
    architecture: str,
    keys: Mapping[str, Any],
    tensors: Mapping[str, npt.NDArray[np.float32]],
    *,
    ftype: FileType = "f32",
    byte_tokens: bool = True,
    extra_tokens: Sequence[str] = (),
    control_tokens: Sequence[str] = (),
    shard_tensors: int = 0,
) -> Path:
    """A file with these keys and tensors, and the tokens that ``write_model`` tells of."""
    quantization, file_type = _FILE_TYPES[ftype]
    tokens, scores, types = vocabulary(byte_tokens)
    tokens = [*tokens, *extra_tokens, *control_tokens]
    scores = [*scores, *[0.0] * (len(extra_tokens) + len(control_tokens))]
    types = [
        *types,
        *[int(gguf.TokenType.USER_DEFINED)] * len(extra_tokens),
        *[int(gguf.TokenType.CONTROL)] * len(control_tokens),
    ]
    writer = gguf.GGUFWriter(path, architecture, split_max_tensors=shard_tensors)
    writer.add_name("tiny")
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(file_type)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(_EOS)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    for key, value in keys.items():
        _set_key(writer, key, value)
    for name, data in tensors.items():
        plain = data.ndim == 1 or "ssm" in name
        kind = gguf.GGMLQuantizationType.F32 if plain else quantization
        writer.add_tensor(name, gguf.quants.quantize(data, kind), raw_dtype=kind)
    return write_out(writer, path)


def write_out(writer: gguf.GGUFWriter, path: Path) -> Path:
    """Write the file at ``path`` for which all has been added."""
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _set_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    for keys in writer.kv_data:
        keys.pop(key, None)
    if key == "general.alignment":
        writer.data_alignment = value
    match value:
        case bool():
            writer.add_bool(key, value)
        case int():
            writer.add_uint32(key, value)
        case float():
            writer.add_float32(key, value)
        case str():
            writer.add_string(key, value)
        case list():
            writer.add_array(key, value)
        case _:
            raise TypeError(f"no GGUF type for {key}={value!r}")
