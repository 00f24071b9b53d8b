"""Tiny models with layers that keep a state instead of keys and values; see ``models``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from tests.support.models import Weights, vocabulary, write_gguf


def write_recurrent_model(path: Path, *, n_ctx: int = 512) -> Path:
    """A model of the mamba architecture, which keeps a state instead of keys and values."""
    n_embd, n_layer, n_state, n_rank, n_convolution = 64, 2, 16, 4, 4
    n_inner = 2 * n_embd
    weights = Weights(np.random.default_rng(0), vocabulary(True)[2], n_embd)
    for layer in range(n_layer):
        block = f"blk.{layer}."
        decay = np.tile(-np.arange(1, n_state + 1, dtype=np.float32), (n_inner, 1))
        weights.tensors |= {
            f"{block}attn_norm.weight": np.ones(n_embd, np.float32),
            f"{block}ssm_in.weight": weights.matrix(2 * n_inner, n_embd, 2.0),
            f"{block}ssm_conv1d.weight": weights.matrix(n_inner, n_convolution),
            f"{block}ssm_conv1d.bias": np.zeros(n_inner, np.float32),
            f"{block}ssm_x.weight": weights.matrix(n_rank + 2 * n_state, n_inner, 2.0),
            f"{block}ssm_dt.weight": weights.matrix(n_inner, n_rank),
            f"{block}ssm_dt.bias": np.full(n_inner, -2, np.float32),
            f"{block}ssm_a": decay,
            f"{block}ssm_d": np.ones(n_inner, np.float32),
            f"{block}ssm_out.weight": weights.matrix(n_embd, n_inner, 2.0),
        }
    keys = {
        "mamba.context_length": n_ctx,
        "mamba.embedding_length": n_embd,
        "mamba.block_count": n_layer,
        "mamba.feed_forward_length": 0,
        "mamba.attention.head_count": 0,
        "mamba.ssm.conv_kernel": n_convolution,
        "mamba.ssm.inner_size": n_inner,
        "mamba.ssm.state_size": n_state,
        "mamba.ssm.time_step_rank": n_rank,
        "mamba.attention.layer_norm_rms_epsilon": 1e-5,
    }
    return write_gguf(path, "mamba", keys, weights.tensors)


def write_hybrid_model(
    path: Path, *, n_ctx: int = 512, seed: int = 0, control_tokens: Sequence[str] = ()
) -> Path:
    """A model of the qwen35 architecture: every second layer attends, the others keep a state
    (gated delta net), and places have several dimensions (M-RoPE)."""
    n_embd, n_head, n_ff, n_layer = 64, 4, 128, 4
    head = n_embd // n_head
    types = [*vocabulary(True)[2], *[int(gguf.TokenType.CONTROL)] * len(control_tokens)]
    weights = Weights(np.random.default_rng(seed), types, n_embd)
    for layer in range(n_layer):
        block = f"blk.{layer}."
        if layer % 2:
            weights.add_attention(layer, n_embd, n_embd)
            weights.tensors |= {
                # Each query has a gate beside it.
                f"{block}attn_q.weight": weights.matrix(2 * n_embd, n_embd, 2.0),
                f"{block}attn_output.weight": weights.matrix(n_embd, n_embd, 4.0),
                f"{block}attn_q_norm.weight": np.ones(head, np.float32),
                f"{block}attn_k_norm.weight": np.ones(head, np.float32),
            }
        else:
            weights.tensors |= _delta_net(weights, block, n_embd)
        weights.add_feed_forward(layer, n_ff)
        # It has another name with this architecture.
        norm = weights.tensors.pop(f"{block}ffn_norm.weight")
        weights.tensors[f"{block}post_attention_norm.weight"] = norm
    keys = {
        "qwen35.context_length": n_ctx,
        "qwen35.embedding_length": n_embd,
        "qwen35.block_count": n_layer,
        "qwen35.feed_forward_length": n_ff,
        "qwen35.full_attention_interval": 2,
        "qwen35.attention.head_count": n_head,
        "qwen35.attention.head_count_kv": n_head,
        "qwen35.attention.key_length": head,
        "qwen35.attention.value_length": head,
        "qwen35.attention.layer_norm_rms_epsilon": 1e-5,
        "qwen35.rope.dimension_count": head,
        # How many of a head's eight pairs are turned by time, height and width.
        "qwen35.rope.dimension_sections": [2, 3, 3, 0],
        "qwen35.ssm.conv_kernel": _KERNEL,
        "qwen35.ssm.state_size": _STATE,
        "qwen35.ssm.inner_size": _HEADS * _STATE,
        "qwen35.ssm.group_count": _HEADS,
        "qwen35.ssm.time_step_rank": _HEADS,
    }
    return write_gguf(path, "qwen35", keys, weights.tensors, control_tokens=control_tokens)


#: The heads of the hybrid model's recurrent layers, the width of each, and of their convolution.
_HEADS, _STATE, _KERNEL = 2, 16, 4


def _delta_net(weights: Weights, block: str, n_embd: int) -> dict[str, npt.NDArray[np.float32]]:
    width = _HEADS * _STATE
    return {
        f"{block}attn_norm.weight": np.ones(n_embd, np.float32),
        f"{block}attn_qkv.weight": weights.matrix(3 * width, n_embd, 2.0),
        f"{block}attn_gate.weight": weights.matrix(width, n_embd, 2.0),
        f"{block}ssm_conv1d.weight": weights.matrix(3 * width, _KERNEL, 2.0),
        f"{block}ssm_dt.bias": np.full(_HEADS, -2, np.float32),
        f"{block}ssm_a": np.full(_HEADS, -1, np.float32),
        f"{block}ssm_alpha.weight": weights.matrix(_HEADS, n_embd),
        f"{block}ssm_beta.weight": weights.matrix(_HEADS, n_embd),
        f"{block}ssm_norm.weight": np.ones(_STATE, np.float32),
        f"{block}ssm_out.weight": weights.matrix(n_embd, width, 4.0),
    }
