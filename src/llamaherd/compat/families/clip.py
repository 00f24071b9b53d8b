"""Projectors that are files of their own, as llama.cpp's older converters wrote them."""

from __future__ import annotations

from llamaherd.compat.draft import Draft


def projector(draft: Draft) -> None:
    """Files of LLaVA 1.5 and BakLLaVA do not say that theirs are two layers (``mlp``)."""
    sees = draft.gguf.get("clip.has_vision_encoder", bool, False)
    typed = draft.has("clip.projector_type") or draft.has("clip.vision.projector_type")
    if sees and not typed:
        draft.set({"clip.projector_type": "mlp"})
