"""Qwen 2.5 VL: Ollama's convert_qwen25vl.go."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families import encoders
from llamaherd.compat.families.rope import set_sections

#: How many of a head's pairs are rotated by time, height and width, in models of all sizes.
_SECTIONS: Final = (16, 24, 24)

#: One block sees the whole image after so many that see a window.
_FULL_ATTENTION: Final = 8

#: llama.cpp's converter writes this, the encoder taking images of any size.
_IMAGE_SIZE: Final = 560

_ENCODER_PARTS: Final = {
    "v.merger.ln_q": "v.post_ln",
    "v.merger.mlp": "mm",
    "v.patch_embd_0.weight": "v.patch_embd.weight",
    "v.patch_embd_1.weight": "v.patch_embd.weight.1",
}


def text(draft: Draft) -> None:
    """llama.cpp has one architecture for both Qwen 2 VL and 2.5 VL."""
    draft.become("qwen2vl")
    set_sections(draft, "qwen2vl", _SECTIONS)


def projector(draft: Draft) -> None:
    encoders.begin(
        draft,
        "qwen2.5vl_merger",
        "silu",
        mean=encoders.CLIP_MEAN,
        deviation=encoders.CLIP_DEVIATION,
    )
    draft.require(encoders.EPSILON)
    draft.take(
        encoders.MERGE | encoders.FEED_FORWARD | {"vision.window_size": "clip.vision.window_size"}
    )
    full = draft.numbers("vision.fullatt_block_indexes")
    draft.default(
        {
            "clip.vision.feed_forward_length": draft.matrix("v.blk.0.ffn_up.weight")[1],
            "clip.vision.n_wa_pattern": full[0] + 1 if full else _FULL_ATTENTION,
            "clip.vision.image_size": _IMAGE_SIZE,
        }
    )
    draft.rename_parts(_ENCODER_PARTS)
    draft.widen("v.patch_embd.weight", "v.patch_embd.weight.1")
