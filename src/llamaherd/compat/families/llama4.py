"""Llama 4: Ollama's convert_llama4.go."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families import encoders

_ENCODER_PARTS: Final = {
    "v.positional_embedding_vlm": "v.position_embd.weight",
    "v.class_embedding": "v.class_embd",
    "v.layernorm_post": "v.post_ln",
    "v.layernorm_pre": "v.pre_ln",
    "v.patch_embedding": "v.patch_embd",
    "v.vision_adapter.mlp.fc1": "mm.model.mlp.1",
    "v.vision_adapter.mlp.fc2": "mm.model.mlp.2",
    "mm.linear_1": "mm.model.fc",
    "attn_output": "attn_out",
    "attn_norm": "ln1",
    "ffn_norm": "ln2",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
}


def text(draft: Draft) -> None:
    draft.take({"intermediate_size_moe": "llama4.expert_feed_forward_length"})


def projector(draft: Draft) -> None:
    encoders.begin(draft, "llama4", "gelu")
    draft.require(encoders.FEED_FORWARD | encoders.IMAGE_SIZE)
    draft.require({"vision.layer_norm_epsilon": "clip.vision.attention.layer_norm_epsilon"})
    ratio = draft.value("vision.pixel_shuffle_ratio", float, 0.5)
    if not 0 < ratio <= 1:
        raise draft.unsound(f"key 'llama4.vision.pixel_shuffle_ratio' is {ratio}, expected 0 to 1")
    draft.set({"clip.vision.projector.scale_factor": round(1 / ratio)})
    draft.rename_parts(_ENCODER_PARTS)
