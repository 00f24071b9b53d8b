"""DeepSeek-OCR, with two encoders one after the other: Ollama's convert_deepseekocr.go."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families import encoders

ENCODERS: Final = ("s.", "v.", "mm.")

_ARCHITECTURE: Final = "deepseek2-ocr"

_FIRST: Final = "s."

_SIZES: Final = {
    "vision.head_count": "clip.vision.attention.head_count",
    "sam.block_count": "clip.vision.sam.block_count",
    "sam.embedding_length": "clip.vision.sam.embedding_length",
    "sam.head_count": "clip.vision.sam.head_count",
}

_ENCODER_PARTS: Final = {
    "self_attn.out_proj": "attn_out",
    "self_attn.qkv_proj": "attn_qkv",
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "v.pre_layrnorm": "v.pre_ln",
    "v.sam.position_embd": "v.sam.pos_embd.weight",
    "attn.proj": "attn.out",
    "attn.rel_pos_h": "attn.pos_h.weight",
    "attn.rel_pos_w": "attn.pos_w.weight",
    "norm1": "pre_ln",
    "norm2": "post_ln",
    "mm.layers": "mm.model.fc",
    "mm.image_newline": "v.image_newline",
    "mm.view_seperator": "v.view_seperator",
}

#: What llama.cpp's converter writes for a model of this kind, whatever its size.
_DEFAULTS: Final = {
    "clip.vision.feed_forward_length": 64,
    "clip.vision.projector.scale_factor": 1,
    "clip.vision.window_size": 14,
    "clip.vision.attention.layer_norm_epsilon": 1e-6,
}


def text(draft: Draft) -> None:
    draft.become(_ARCHITECTURE)
    # The first block has no experts.
    expert, _, _ = draft.shape("blk.1.ffn_down_exps.weight", 3)
    shared, _ = draft.matrix("blk.1.ffn_down_shexp.weight")
    draft.default(
        {
            f"{_ARCHITECTURE}.attention.layer_norm_rms_epsilon": 1e-6,
            f"{_ARCHITECTURE}.expert_feed_forward_length": expert,
            f"{_ARCHITECTURE}.expert_shared_count": shared // expert,
        }
    )


def projector(draft: Draft) -> None:
    draft.require(_SIZES)
    encoders.begin(draft, "deepseekocr", "gelu")
    draft.require(encoders.IMAGE_SIZE)
    draft.default(_DEFAULTS)
    draft.rename(
        lambda name: f"v.sam.{name.removeprefix(_FIRST)}" if name.startswith(_FIRST) else name
    )
    draft.rename_parts(_ENCODER_PARTS)
    draft.widen("v.patch_embd.weight", "v.position_embd.weight", "v.sam.patch_embd.weight")
