"""Qwen 3 VL, with and without experts: Ollama's convert_qwen3vl.go."""

from __future__ import annotations

from math import isqrt
from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families import encoders
from llamaherd.compat.families.rope import LENGTH, SECTIONS, set_sections
from llamaherd.gguf import Array

_SECTIONS: Final = (24, 20, 20)

_ENCODER_PARTS: Final = {
    "v.merger.norm": "v.post_ln",
    "v.merger.linear_fc1": "mm.0",
    "v.merger.linear_fc2": "mm.2",
    "v.patch_embed": "v.patch_embd",
    "v.pos_embed": "v.position_embd",
    "mlp.linear_fc1": "ffn_up",
    "mlp.linear_fc2": "ffn_down",
    "linear_fc1": "fc1",
    "linear_fc2": "fc2",
    "norm1": "ln1",
    "norm2": "ln2",
}

_DEEPSTACK: Final = "v.deepstack_merger."


def text(draft: Draft) -> None:
    architecture = draft.architecture
    if len(draft.numbers(SECTIONS)) == LENGTH:
        return
    set_sections(draft, architecture, _SECTIONS)
    taps = len(draft.numbers("vision.deepstack_visual_indexes"))
    draft.default({f"{architecture}.n_deepstack_layers": taps})


def projector(draft: Draft) -> None:
    taps = draft.numbers("vision.deepstack_visual_indexes")
    blocks = draft.blocks("vision.block_count")
    _encoder(draft, blocks, taps)
    draft.rename(lambda name: _tapped(draft, name, taps))
    draft.rename_parts(_ENCODER_PARTS)
    draft.widen("v.position_embd.weight")


def _encoder(draft: Draft, blocks: range, taps: list[int]) -> None:
    """The keys, the joined attention and the frames, by the names that Ollama's file has."""
    # A converter that found no such numbers wrote empty lists.
    draft.take(
        {name: key for name, key in encoders.COLOURS.items() if draft.value(name, Array, ())}
    )
    encoders.begin(draft, "qwen3vl_merger", "gelu")
    draft.take(encoders.MERGE | encoders.FEED_FORWARD | encoders.EPSILON)
    widened = draft.matrix("v.blk.0.mlp.linear_fc1.weight")[1]
    positions = draft.matrix("v.pos_embed.weight")[1]
    tapped_blocks = set(taps)
    tapped: list[int] = [block in tapped_blocks for block in blocks]
    draft.default(
        {
            "clip.vision.feed_forward_length": widened,
            "clip.vision.image_size": isqrt(positions) * draft.size("vision.patch_size"),
            "clip.vision.attention.layer_norm_epsilon": 1e-6,
            "clip.vision.is_deepstack_layers": tapped,
        }
    )
    for block in blocks:
        for kind in ("weight", "bias"):
            parts = [f"v.blk.{block}.attn_{part}.{kind}" for part in "qkv"]
            if parts[0] in draft:
                draft.join(f"v.blk.{block}.attn_qkv.{kind}", parts)
    encoders.split_frames(draft, "v.patch_embed.weight", draft.size("vision.num_channels", 3))


def _tapped(draft: Draft, name: str, taps: list[int]) -> str:
    """What takes a block's output to a layer of the language model is named after that block."""
    if not name.startswith(_DEEPSTACK):
        return name
    number, _, rest = name.removeprefix(_DEEPSTACK).partition(".")
    if not number.isdecimal() or int(number) >= len(taps):
        raise draft.unsound(f"tensor {name!r} is one more than vision.deepstack_visual_indexes has")
    return f"v.deepstack.{taps[int(number)]}.{rest}"
