"""Mistral Small 3.1 and later, Ministral 3: Ollama's convert_mistral.go."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families import encoders
from llamaherd.gguf import Array

_SCALING: Final = {
    "rope.scaling.beta_fast": "mistral3.rope.scaling.yarn_beta_fast",
    "rope.scaling.beta_slow": "mistral3.rope.scaling.yarn_beta_slow",
    "rope.scaling.mscale_all_dim": "mistral3.rope.scaling.yarn_log_multiplier",
    "rope.scaling_beta": "mistral3.attention.temperature_scale",
}

_ENCODER_PARTS: Final = {
    "v.patch_conv": "v.patch_embd",
    "v.encoder_norm": "v.pre_ln",
    "attn_output": "attn_out",
    "attn_norm": "ln1",
    "ffn_norm": "ln2",
    "mm.linear_1": "mm.1",
    "mm.linear_2": "mm.2",
    "mm.patch_merger.merging_layer": "mm.patch_merger",
    "mm.norm": "mm.input_norm",
}

_BREAK: Final = "[IMG_BREAK]"


def text(draft: Draft) -> None:
    draft.take(_SCALING)
    byte_pairs = draft.gguf.get("tokenizer.ggml.model", str, "") == "gpt2"
    if byte_pairs and draft.gguf.get("tokenizer.ggml.pre", str, "") in ("", "default"):
        draft.set({"tokenizer.ggml.pre": "tekken"})


def projector(draft: Draft) -> None:
    encoders.begin(
        draft,
        "pixtral",
        "silu",
        mean=encoders.CLIP_MEAN,
        deviation=encoders.CLIP_DEVIATION,
    )
    draft.require(encoders.FEED_FORWARD | encoders.IMAGE_SIZE)
    draft.take({"spatial_merge_size": "clip.vision.spatial_merge_size"})
    draft.take(encoders.EPSILON)
    draft.default({"clip.vision.attention.layer_norm_epsilon": 1e-5})
    _add_break(draft)
    for block in draft.blocks("vision.block_count"):
        for part in ("attn_q", "attn_k"):
            _pair_rows(draft, f"v.blk.{block}.{part}.weight")
    draft.rename_parts(_ENCODER_PARTS)
    draft.widen("v.patch_embd.weight")


def _add_break(draft: Draft) -> None:
    """The embedding of the token that ends a row of an image, which llama.cpp's file repeats."""
    tokens = draft.gguf.get("tokenizer.ggml.tokens", Array)
    token = next((index for index, token in enumerate(tokens) if token == _BREAK), None)
    if token is None:
        raise draft.unsound(f"the vocabulary has no token {_BREAK}")
    rows = draft.rows("token_embd.weight")
    if token >= len(rows):
        raise draft.unsound(f"tensor 'token_embd.weight' has no row for the token {_BREAK}")
    draft.put("v.token_embd.img_break", (draft.size("embedding_length"),), "F32", [rows[token]])


def _pair_rows(draft: Draft, name: str) -> None:
    """Put the rows of a head that are rotated together beside each other.

    A head has the first of all pairs and then the second ones; Ollama's converter reorders those of
    the language model only, llama.cpp's (``LlamaModel.permute``) the encoder's too.
    """
    tensor = draft.tensor(name)
    heads = draft.size("vision.attention.head_count")
    rows = draft.rows(name)
    if len(rows) % (2 * heads):
        raise draft.unsound(f"tensor {name!r} has {len(rows)} rows, for {heads} heads")
    draft.spend(len(rows), name)
    half = len(rows) // heads // 2
    paired = [
        rows[start + pair + member]
        for start in range(0, len(rows), 2 * half)
        for pair in range(half)
        for member in (0, half)
    ]
    draft.put(name, tensor.shape, tensor.type, paired)
