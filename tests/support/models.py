"""Tiny GGUF models for tests: a real tokenizer, random weights, written in milliseconds.

The weights are random but chosen so that greedy decoding writes varied, printable text and never
ends by itself: the output rows of special and byte tokens are zero, which no maximum falls on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt

FileType = Literal["f32", "f16", "q8_0"]

VOCABULARY: Final = Path(__file__).parents[1] / "data" / "stories260k-vocab.json"

_FILE_TYPES: Final = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
}

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
) -> Path:
    """Write a model of the llama architecture with stories260K's SentencePiece vocabulary.

    ``byte_tokens=False`` leaves the ``<0xXX>`` tokens out, so text outside the vocabulary (an
    emoji) makes llama.cpp's tokenizer abort the process. ``metadata`` adds or overrides GGUF keys.
    For ``q8_0`` the widths must be multiples of 32. The same arguments give the same bytes.
    """
    tokens, scores, types = _vocabulary(byte_tokens)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("tiny")
    writer.add_vocab_size(len(tokens))
    writer.add_context_length(n_ctx)
    writer.add_embedding_length(n_embd)
    writer.add_block_count(n_layer)
    writer.add_feed_forward_length(n_ff)
    writer.add_head_count(n_head)
    writer.add_head_count_kv(n_head_kv)
    writer.add_rope_dimension_count(n_embd // n_head)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_file_type(_FILE_TYPES[ftype][1])
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_add_bos_token(True)
    if chat_template is not None:
        writer.add_chat_template(chat_template)
    for key, value in (metadata or {}).items():
        _set_key(writer, key, value)
    shape = _Shape(n_layer, n_embd, n_embd // n_head * n_head_kv, n_ff)
    for name, data in _weights(shape, types, np.random.default_rng(seed)).items():
        quantization = gguf.GGMLQuantizationType.F32 if data.ndim == 1 else _FILE_TYPES[ftype][0]
        writer.add_tensor(name, gguf.quants.quantize(data, quantization), raw_dtype=quantization)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class _Shape(NamedTuple):
    n_layer: int
    n_embd: int
    n_embd_kv: int
    n_ff: int


@cache
def _vocabulary(byte_tokens: bool) -> tuple[list[str], list[float], list[int]]:
    table = json.loads(VOCABULARY.read_text())
    rows = list(zip(table["tokens"], table["scores"], table["types"], strict=True))
    if not byte_tokens:
        rows = [row for row in rows if row[2] != gguf.TokenType.BYTE]
        rows.append(("\n", rows[-1][1] - 1, int(gguf.TokenType.NORMAL)))
    tokens, scores, types = zip(*rows, strict=True)
    return list(tokens), list(scores), list(types)


def _weights(
    shape: _Shape, types: list[int], random: np.random.Generator
) -> dict[str, npt.NDArray[np.float32]]:
    def matrix(rows: int, columns: int, gain: float = 1.0) -> npt.NDArray[np.float32]:
        scale = gain / np.sqrt(columns)
        return np.asarray(random.standard_normal((rows, columns)) * scale, np.float32)

    ones = np.ones(shape.n_embd, np.float32)
    output = matrix(len(types), shape.n_embd, _LOGIT_SCALE)
    output[np.array(types) != gguf.TokenType.NORMAL] = 0
    weights = {
        "token_embd.weight": random.standard_normal((len(types), shape.n_embd)).astype(np.float32),
        "output_norm.weight": ones,
        "output.weight": output,
    }
    for layer in range(shape.n_layer):
        block = f"blk.{layer}."
        weights |= {
            f"{block}attn_norm.weight": ones,
            f"{block}attn_q.weight": matrix(shape.n_embd, shape.n_embd, 2.0),
            f"{block}attn_k.weight": matrix(shape.n_embd_kv, shape.n_embd, 2.0),
            f"{block}attn_v.weight": matrix(shape.n_embd_kv, shape.n_embd, 2.0),
            f"{block}attn_output.weight": matrix(shape.n_embd, shape.n_embd, 2.0),
            f"{block}ffn_norm.weight": ones,
            f"{block}ffn_gate.weight": matrix(shape.n_ff, shape.n_embd),
            f"{block}ffn_up.weight": matrix(shape.n_ff, shape.n_embd),
            f"{block}ffn_down.weight": matrix(shape.n_embd, shape.n_ff, 2.0),
        }
    return weights


def _set_key(writer: gguf.GGUFWriter, key: str, value: Any) -> None:
    for keys in writer.kv_data:
        keys.pop(key, None)
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
