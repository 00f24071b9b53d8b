"""Encoders of Qwen, after Ollama's convert_qwen25vl.go and convert_qwen3vl.go and llama.cpp's
conversion/qwenvl.py and qwen3vl.py."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import numpy as np

from tests.support.ollama_checkpoints import (
    BLOCKS,
    CLIP,
    HALF,
    HIDDEN,
    MODEL_WIDTH,
    WIDTH,
    Checkpoint,
    Encoder,
    Tensors,
    by_gguf,
    llama_cpp_keys,
    ollama_keys,
    renamed,
    replacer,
)

#: Blocks of Qwen 3 VL whose output goes to a layer of the language model.
TAPS: Final = (1,)

QWEN_NAMES: Final = (
    *("lm_head", "output"),
    *("model.embed_tokens", "token_embd"),
    *("model.layers", "blk"),
    *("input_layernorm", "attn_norm"),
    *("self_attn.k_proj", "attn_k"),
    *("self_attn.k_norm", "attn_k_norm"),
    *("self_attn.v_proj", "attn_v"),
    *("self_attn.q_proj", "attn_q"),
    *("self_attn.q_norm", "attn_q_norm"),
    *("self_attn.o_proj", "attn_output"),
    *("mlp.down_proj", "ffn_down"),
    *("mlp.gate_proj", "ffn_gate"),
    *("mlp.up_proj", "ffn_up"),
    *("post_attention_layernorm", "ffn_norm"),
    *("model.norm", "output_norm"),
)


def make_qwen25vl(checkpoint: Checkpoint) -> Encoder:
    patch = 14
    checkpoint.add("visual.patch_embed.proj.weight", WIDTH, 3, 2, patch, patch)
    for block in range(BLOCKS):
        layer = f"visual.blocks.{block}"
        for norm in ("norm1", "norm2"):
            checkpoint.norm(f"{layer}.{norm}", bias=False)
        checkpoint.linear(f"{layer}.attn.qkv", 3 * WIDTH, WIDTH)
        checkpoint.linear(f"{layer}.attn.proj", WIDTH, WIDTH)
        for part in ("gate_proj", "up_proj"):
            checkpoint.linear(f"{layer}.mlp.{part}", HIDDEN, WIDTH)
        checkpoint.linear(f"{layer}.mlp.down_proj", WIDTH, HIDDEN)
    checkpoint.norm("visual.merger.ln_q", bias=False)
    checkpoint.linear("visual.merger.mlp.0", 4 * WIDTH, 4 * WIDTH)
    checkpoint.linear("visual.merger.mlp.2", MODEL_WIDTH, 4 * WIDTH)

    def split(joined: str, parts: Sequence[str], frames: Sequence[str]) -> Iterator[Any]:
        for name, data in checkpoint.tensors.items():
            if "patch_embed.proj" in name:
                yield from zip(frames, data.swapaxes(0, 2).swapaxes(1, 2), strict=True)
            elif joined in name:
                names = (name.replace(joined, part) for part in parts)
                yield from zip(names, np.split(data, 3), strict=True)
            else:
                yield name, data

    theirs = dict(
        split(
            ".qkv.",
            [f".{part}." for part in "qkv"],
            ["v.patch_embd.weight", "v.patch_embd.weight.1"],
        )
    )
    ours = dict(
        split(
            "attn.qkv",
            [f"attn_{part}" for part in "qkv"],
            [f"visual.patch_embd_{frame}.weight" for frame in range(2)],
        )
    )
    return Encoder(
        by_gguf(theirs),
        llama_cpp_keys(
            "qwen2.5vl_merger",
            "silu",
            image_size=560,
            patch_size=patch,
            attention__layer_norm_epsilon=1e-6,
            n_wa_pattern=2,
            **CLIP,
        ),
        renamed(
            ours,
            replacer(
                *QWEN_NAMES,
                *("visual", "v"),
                *("blocks", "blk"),
                *("attn.proj", "attn_out"),
                *("norm1", "ln1"),
                *("norm2", "ln2"),
            ),
        ),
        ollama_keys(
            "feed_forward_length",
            num_channels=3,
            patch_size=patch,
            spatial_merge_size=2,
            spatial_patch_size=patch,
            window_size=112,
            temporal_patch_size=2,
            attention__layer_norm_epsilon=1e-6,
            rope__freq_base=10_000.0,
            fullatt_block_indexes=[1],
        ),
    )


def make_qwen3vl(checkpoint: Checkpoint) -> Encoder:
    patch, side = 16, 64
    visual = "model.visual"
    checkpoint.add(f"{visual}.patch_embed.proj.weight", WIDTH, 3, 2, patch, patch)
    checkpoint.add(f"{visual}.patch_embed.proj.bias", WIDTH)
    checkpoint.add(f"{visual}.pos_embed.weight", (side // patch) ** 2, WIDTH)
    for block in range(BLOCKS):
        layer = f"{visual}.blocks.{block}"
        for norm in ("norm1", "norm2"):
            checkpoint.norm(f"{layer}.{norm}")
        checkpoint.linear(f"{layer}.attn.qkv", 3 * WIDTH, WIDTH)
        checkpoint.linear(f"{layer}.attn.proj", WIDTH, WIDTH)
        checkpoint.linear(f"{layer}.mlp.linear_fc1", HIDDEN, WIDTH)
        checkpoint.linear(f"{layer}.mlp.linear_fc2", WIDTH, HIDDEN)
    mergers = {"merger": WIDTH} | {f"deepstack_merger_list.{tap}": 4 * WIDTH for tap in range(1)}
    for merger, norm_width in mergers.items():
        checkpoint.norm(f"{visual}.{merger}.norm", norm_width)
        checkpoint.linear(f"{visual}.{merger}.linear_fc1", 4 * WIDTH, 4 * WIDTH)
        checkpoint.linear(f"{visual}.{merger}.linear_fc2", MODEL_WIDTH, 4 * WIDTH)

    def their_name(name: str) -> str:
        name = name.removeprefix("model.")
        name = re.sub(
            r"^visual\.deepstack_merger_list\.(\d+)\.(?:linear_)?",
            lambda match: f"v.deepstack.{TAPS[int(match[1])]}.",
            name,
        )
        name = name.replace("visual.merger.norm", "v.post_ln")
        return name.replace("visual.merger.linear_fc1", "mm.0").replace(
            "visual.merger.linear_fc2", "mm.2"
        )

    patches = checkpoint.tensors[f"{visual}.patch_embed.proj.weight"]
    theirs = renamed(checkpoint.tensors, their_name)
    del theirs["visual.patch_embed.proj.weight"]
    theirs["v.patch_embd.weight"] = patches[:, :, 0]
    theirs["v.patch_embd.weight.1"] = patches[:, :, 1]
    ours: Tensors = {}
    rename = replacer(
        *QWEN_NAMES,
        *("model.language_", ""),
        *("model.visual", "v"),
        *("patch_embed.proj", "patch_embed"),
        *("blocks", "blk"),
        *("attn.qkv", "attn_qkv"),
        *("attn.proj", "attn_out"),
        *("deepstack_merger_list", "deepstack_merger"),
    )
    for name, data in renamed(checkpoint.tensors, rename).items():
        if "attn_qkv" in name:
            for part, piece in zip("qkv", np.split(data, 3), strict=True):
                ours[name.replace("attn_qkv", f"attn_{part}")] = piece
        elif "patch_embed" in name and name.endswith("weight"):
            ours[name] = data.reshape(-1, *data.shape[2:])
        else:
            ours[name] = data
    return Encoder(
        by_gguf(theirs),
        llama_cpp_keys(
            "qwen3vl_merger",
            "gelu",
            image_size=side,
            patch_size=patch,
            image_mean=HALF,
            image_std=HALF,
            attention__layer_norm_epsilon=1e-6,
            spatial_merge_size=2,
            is_deepstack_layers=[block in TAPS for block in range(BLOCKS)],
        ),
        ours,
        ollama_keys(
            "feed_forward_length",
            num_channels=3,
            patch_size=patch,
            spatial_merge_size=2,
            temporal_patch_size=2,
            attention__layer_norm_epsilon=1e-6,
            rope__freq_base=10_000.0,
            deepstack_visual_indexes=list(TAPS),
            shortest_edge=65536,
            longest_edge=16777216,
            image_mean=HALF,
            image_std=HALF,
        ),
    )
