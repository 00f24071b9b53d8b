"""GLM-OCR: Ollama's convert_glmocr.go."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families import encoders
from llamaherd.compat.families.ends import set_ends
from llamaherd.compat.families.rope import set_sections

_ARCHITECTURE: Final = "glm4"

_PARTS: Final = {
    "attn_out": "attn_output",
    "post_attn_norm": "post_attention_norm",
    "post_ffn_norm": "post_ffw_norm",
}

_ENCODER_PARTS: Final = {
    "v.patch_embd_0.weight": "v.patch_embd.weight",
    "v.patch_embd_1.weight": "v.patch_embd.weight.1",
}


def text(draft: Draft) -> None:
    draft.become(_ARCHITECTURE)
    if sections := draft.numbers("rope.mrope_section"):
        # Only then has the converter put the pairs where this kind of rotation wants them.
        set_sections(draft, _ARCHITECTURE, sections)
    draft.take({"attention.key_length": f"{_ARCHITECTURE}.rope.dimension_count"})
    draft.set({"tokenizer.ggml.pre": "chatglm-bpe"})
    set_ends(draft)
    for block in draft.blocks("block_count"):
        gate, up = (f"blk.{block}.ffn_{part}.weight" for part in ("gate", "up"))
        if gate in draft:
            draft.join(up, [gate, up])
    draft.rename_parts(_PARTS)


def projector(draft: Draft) -> None:
    draft.require({"vision.out_hidden_size": "clip.vision.projection_dim"})
    draft.require({"vision.intermediate_size": "clip.vision.feed_forward_length"})
    draft.require(
        {"vision.attention.layer_norm_rms_epsilon": "clip.vision.attention.layer_norm_epsilon"}
    )
    draft.require(encoders.IMAGE_SIZE)
    draft.take(encoders.MERGE | encoders.COLOURS)
    encoders.begin(
        draft, "glm4v", "silu", mean=encoders.CLIP_MEAN, deviation=encoders.CLIP_DEVIATION
    )
    draft.rename_parts(_ENCODER_PARTS)
    draft.widen("v.patch_embd.weight", "v.patch_embd.weight.1")
