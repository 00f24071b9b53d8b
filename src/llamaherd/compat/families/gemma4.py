"""Gemma 4: Ollama's convert_gemma4.go. What hears is left out, as nothing here sends it sounds."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families import encoders

ENCODERS: Final = ("v.", "mm.", "a.", "model.vision_tower.")

_SOUNDS: Final = ("a.", "mm.a.")

#: The bounds of layers' numbers once more, for Ollama's own engine.
_BOUNDS: Final = "v.clamp_data"

#: llama.cpp wants a size, but the encoder takes images of any.
_IMAGE_SIZE: Final = 224


def text(draft: Draft) -> None:
    if draft.gguf.get("tokenizer.ggml.model", str, "") == "llama":
        # The vocabulary is of byte pairs, and the file has their merges.
        draft.set({"tokenizer.ggml.model": "gemma4"})
    draft.rename_parts({"ffn_gate_inp.per_expert_scale": "ffn_down_exps.scale"})


def projector(draft: Draft) -> None:
    draft.drop(*_SOUNDS, _BOUNDS, "model.vision_tower.")
    # The model scales pixels itself.
    encoders.begin(draft, "gemma4v", mean=[0.0] * 3, deviation=[1.0] * 3)
    draft.require(encoders.FEED_FORWARD | encoders.EPSILON)
    draft.take({"vision.projector.scale_factor": "clip.vision.projector.scale_factor"})
    draft.default({"clip.vision.image_size": _IMAGE_SIZE})
    draft.widen("v.patch_embd.weight")
