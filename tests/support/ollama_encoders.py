"""Tiny vision encoders under their authors' names, converted as llama.cpp and as Ollama do.

What llama.cpp makes of one follows its ``conversion/`` (gemma.py, llava.py, qwenvl.py, qwen3vl.py,
llama4.py) and the names in the ``gguf`` package; what Ollama makes of it follows its ``convert/``
(convert_gemma3.go, convert_mistral.go, convert_qwen25vl.go, convert_qwen3vl.go, convert_llama4.go),
whose replacements of names are repeated here as they are there.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Final, Literal, get_args

import numpy as np

from tests.support.ollama_checkpoints import (
    BLOCKS,
    CLIP,
    HALF,
    HEADS,
    HIDDEN,
    MODEL_WIDTH,
    WIDTH,
    Checkpoint,
    Encoder,
    Floats,
    by_gguf,
    llama_cpp_keys,
    ollama_keys,
    renamed,
    replacer,
)
from tests.support.ollama_qwen_encoders import QWEN_NAMES, make_qwen3vl, make_qwen25vl

Family = Literal["gemma3", "mistral3", "qwen25vl", "qwen3vl", "llama4"]
FAMILIES: Final[tuple[Family, ...]] = get_args(Family)


def make_encoder(family: Family, *, seed: int = 0) -> Encoder:
    checkpoint = Checkpoint(np.random.default_rng(seed))
    return _MAKERS[family](checkpoint)


def _gemma3(checkpoint: Checkpoint) -> Encoder:
    side, patch, per_side = 56, 7, 4
    tower = "vision_tower.vision_model"
    checkpoint.add(f"{tower}.embeddings.patch_embedding.weight", WIDTH, 3, patch, patch)
    checkpoint.add(f"{tower}.embeddings.patch_embedding.bias", WIDTH)
    checkpoint.add(f"{tower}.embeddings.position_embedding.weight", (side // patch) ** 2, WIDTH)
    for block in range(BLOCKS):
        layer = f"{tower}.encoder.layers.{block}"
        for norm in ("layer_norm1", "layer_norm2"):
            checkpoint.norm(f"{layer}.{norm}")
        for part in ("q_proj", "k_proj", "v_proj", "out_proj"):
            checkpoint.linear(f"{layer}.self_attn.{part}", WIDTH, WIDTH)
        checkpoint.linear(f"{layer}.mlp.fc1", HIDDEN, WIDTH)
        checkpoint.linear(f"{layer}.mlp.fc2", WIDTH, HIDDEN)
    checkpoint.norm(f"{tower}.post_layernorm")
    checkpoint.add("multi_modal_projector.mm_input_projection_weight", WIDTH, MODEL_WIDTH)
    checkpoint.add("multi_modal_projector.mm_soft_emb_norm.weight", WIDTH)
    tensors = checkpoint.tensors
    theirs = by_gguf(renamed(tensors, lambda name: name.replace("_weight", ".weight")))
    theirs["mm.soft_emb_norm.weight"] = theirs["mm.soft_emb_norm.weight"] + 1
    ours = renamed(
        tensors,
        replacer(
            *("lm_head", "output"),
            *("model.embed_tokens", "token_embd"),
            *("model.norm", "output_norm"),
            *("vision_tower.vision_model.embeddings", "v"),
            *("vision_tower.vision_model", "v"),
            *("vision_model.vision_model.embeddings", "v"),
            *("vision_model.vision_model", "v"),
            *("language_model.", ""),
            *("model.layers", "blk"),
            *("encoder.layers", "blk"),
            *("input_layernorm", "attn_norm"),
            *("self_attn.q_proj", "attn_q"),
            *("self_attn.q_norm", "attn_q_norm"),
            *("self_attn.k_proj", "attn_k"),
            *("self_attn.k_norm", "attn_k_norm"),
            *("self_attn.v_proj", "attn_v"),
            *("self_attn.o_proj", "attn_output"),
            *("self_attn.out_proj", "attn_output"),
            *("mlp.gate_proj", "ffn_gate"),
            *("mlp.down_proj", "ffn_down"),
            *("mlp.up_proj", "ffn_up"),
            *("post_attention_layernorm", "post_attention_norm"),
            *("pre_feedforward_layernorm", "ffn_norm"),
            *("post_feedforward_layernorm", "post_ffw_norm"),
            *("input_projection_weight", "input_projection.weight"),
            *("multi_modal_projector", "mm"),
        ),
    )
    ours["mm.mm_soft_emb_norm.weight"] = ours["mm.mm_soft_emb_norm.weight"] + 1
    return Encoder(
        theirs,
        llama_cpp_keys(
            "gemma3",
            "gelu",
            image_size=side,
            patch_size=patch,
            image_mean=HALF,
            image_std=HALF,
            attention__layer_norm_epsilon=1e-6,
            projector__scale_factor=side // patch // per_side,
        ),
        ours,
        ollama_keys(
            image_size=side,
            patch_size=patch,
            num_channels=3,
            attention__layer_norm_epsilon=1e-6,
        )
        | {"mm.tokens_per_image": per_side**2},
    )


def _mistral3(checkpoint: Checkpoint) -> Encoder:
    side, patch = 56, 14
    checkpoint.add("vision_tower.patch_conv.weight", WIDTH, 3, patch, patch)
    checkpoint.norm("vision_tower.ln_pre", bias=False)
    for block in range(BLOCKS):
        layer = f"vision_tower.transformer.layers.{block}"
        for norm in ("attention_norm", "ffn_norm"):
            checkpoint.norm(f"{layer}.{norm}", bias=False)
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            checkpoint.linear(f"{layer}.attention.{part}", WIDTH, WIDTH, bias=False)
        for part in ("gate_proj", "up_proj"):
            checkpoint.linear(f"{layer}.feed_forward.{part}", HIDDEN, WIDTH, bias=False)
        checkpoint.linear(f"{layer}.feed_forward.down_proj", WIDTH, HIDDEN, bias=False)
    projector = "multi_modal_projector"
    checkpoint.norm(f"{projector}.norm", bias=False)
    checkpoint.linear(f"{projector}.patch_merger.merging_layer", WIDTH, 4 * WIDTH, bias=False)
    checkpoint.linear(f"{projector}.linear_1", MODEL_WIDTH, WIDTH, bias=False)
    checkpoint.linear(f"{projector}.linear_2", MODEL_WIDTH, MODEL_WIDTH, bias=False)
    tensors = checkpoint.tensors

    def permute(name: str, data: Floats) -> Floats:
        """``LlamaModel.permute``."""
        if not name.endswith(("q_proj.weight", "k_proj.weight")):
            return data
        halves = data.reshape(HEADS, 2, WIDTH // HEADS // 2, WIDTH)
        return halves.swapaxes(1, 2).reshape(data.shape)

    theirs = by_gguf({name: permute(name, data) for name, data in tensors.items()})
    ours = renamed(
        tensors,
        replacer(
            *("language_model.model.norm", "output_norm"),
            *("language_model.model.", ""),
            *("language_model.", ""),
            *("layers", "blk"),
            *("transformer.layers", "blk"),
            *("vision_tower", "v"),
            *("ln_pre", "encoder_norm"),
            *("input_layernorm", "attn_norm"),
            *("post_attention_layernorm", "ffn_norm"),
            *("embed_tokens", "token_embd"),
            *("self_attn.q_proj", "attn_q"),
            *("self_attn.k_proj", "attn_k"),
            *("self_attn.v_proj", "attn_v"),
            *("self_attn.o_proj", "attn_output"),
            *("mlp.down_proj", "ffn_down"),
            *("mlp.gate_proj", "ffn_gate"),
            *("mlp.up_proj", "ffn_up"),
            *("attention.q_proj", "attn_q"),
            *("attention.k_proj", "attn_k"),
            *("attention.v_proj", "attn_v"),
            *("attention.o_proj", "attn_output"),
            *("attention_norm", "attn_norm"),
            *("feed_forward.gate_proj", "ffn_gate"),
            *("feed_forward.down_proj", "ffn_down"),
            *("feed_forward.up_proj", "ffn_up"),
            *("multi_modal_projector", "mm"),
            *("ffn_norm", "ffn_norm"),
            *("lm_head", "output"),
        ),
    )
    return Encoder(
        theirs,
        llama_cpp_keys(
            "pixtral",
            "silu",
            image_size=side,
            patch_size=patch,
            attention__layer_norm_epsilon=1e-5,
            spatial_merge_size=2,
            **CLIP,
        ),
        ours,
        ollama_keys(
            image_size=side,
            patch_size=patch,
            num_channels=3,
            attention__key_length=WIDTH // HEADS,
            rope__freq_base=10_000.0,
        )
        | {"spatial_merge_size": 2},
    )


def _llama4(checkpoint: Checkpoint) -> Encoder:
    patch, side = 14, 56
    checkpoint.add("vision_model.class_embedding", WIDTH)
    checkpoint.add("vision_model.positional_embedding_vlm", (side // patch) ** 2 + 1, WIDTH)
    checkpoint.linear("vision_model.patch_embedding.linear", WIDTH, 3 * patch**2, bias=False)
    for norm in ("layernorm_pre", "layernorm_post"):
        checkpoint.norm(f"vision_model.{norm}")
    for block in range(BLOCKS):
        layer = f"vision_model.model.layers.{block}"
        for norm in ("input_layernorm", "post_attention_layernorm"):
            checkpoint.norm(f"{layer}.{norm}")
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            checkpoint.linear(f"{layer}.self_attn.{part}", WIDTH, WIDTH)
        checkpoint.linear(f"{layer}.mlp.fc1", HIDDEN, WIDTH)
        checkpoint.linear(f"{layer}.mlp.fc2", WIDTH, HIDDEN)
    checkpoint.linear("vision_model.vision_adapter.mlp.fc1", HIDDEN, 4 * WIDTH, bias=False)
    checkpoint.linear("vision_model.vision_adapter.mlp.fc2", HIDDEN, HIDDEN, bias=False)
    checkpoint.linear("multi_modal_projector.linear_1", MODEL_WIDTH, HIDDEN, bias=False)
    tensors = checkpoint.tensors

    def their_name(name: str) -> str:
        if "positional_embedding_vlm" in name:
            return f"{name}.weight"
        # The names in ``gguf`` take this norm for one of Gemma 4's; clip.cpp wants it here.
        name = re.sub(
            r"^vision_model\.model\.layers\.(\d+)\.post_attention_layernorm",
            r"v.blk.\1.ln2",
            name,
        )
        return name.replace("multi_modal_projector.linear_1", "mm.model.fc")

    ours = renamed(
        tensors,
        replacer(
            *QWEN_NAMES[:4],
            *("model.norm", "output_norm"),
            *("model.layers", "blk"),
            *("input_layernorm", "attn_norm"),
            *("self_attn.q_proj", "attn_q"),
            *("self_attn.k_proj", "attn_k"),
            *("self_attn.v_proj", "attn_v"),
            *("self_attn.o_proj", "attn_output"),
            *("mlp.gate_proj", "ffn_gate"),
            *("mlp.down_proj", "ffn_down"),
            *("mlp.up_proj", "ffn_up"),
            *("post_attention_layernorm", "ffn_norm"),
            *("language_model.", ""),
            *("vision_model", "v"),
            *("multi_modal_projector", "mm"),
            *("patch_embedding.linear", "patch_embedding"),
        ),
    )
    return Encoder(
        by_gguf(renamed(tensors, their_name)),
        llama_cpp_keys(
            "llama4",
            "gelu",
            image_size=side,
            patch_size=patch,
            image_mean=HALF,
            image_std=HALF,
            attention__layer_norm_epsilon=1e-5,
            projector__scale_factor=2,
        ),
        ours,
        ollama_keys(
            image_size=side,
            patch_size=patch,
            layer_norm_epsilon=1e-5,
            pixel_shuffle_ratio=0.5,
            rope__freq_base=10_000.0,
        ),
    )


_MAKERS: Final[Mapping[Family, Callable[[Checkpoint], Encoder]]] = {
    "gemma3": _gemma3,
    "mistral3": _mistral3,
    "qwen25vl": make_qwen25vl,
    "qwen3vl": make_qwen3vl,
    "llama4": _llama4,
}
