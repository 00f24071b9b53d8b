"""Names and shapes of the tensors that vision encoders have in checkpoints."""

from __future__ import annotations

from typing import Final

from tests.support.checkpoints import Shapes

#: The encoders' sizes.
WIDTH: Final = 32
FF: Final = 48
LAYERS: Final = 3
HEADS: Final = 2


def wrapped(language: str, shapes: Shapes) -> Shapes:
    """Under the names that the parts of a language model have within another."""
    return {f"{language}{name}": shape for name, shape in shapes.items()}


def siglip(prefix: str, patch: int, places: int, *, biased: bool = True) -> Shapes:
    shapes: Shapes = {
        f"{prefix}embeddings.patch_embedding.weight": (WIDTH, 3, patch, patch),
        f"{prefix}embeddings.position_embedding.weight": (places, WIDTH),
    }
    if biased:
        shapes[f"{prefix}embeddings.patch_embedding.bias"] = (WIDTH,)
    for layer in range(LAYERS):
        block = f"{prefix}encoder.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= linear(f"{block}self_attn.{name}", WIDTH, WIDTH)
        shapes |= linear(f"{block}mlp.fc1", FF, WIDTH) | linear(f"{block}mlp.fc2", WIDTH, FF)
        shapes |= norm(f"{block}layer_norm1") | norm(f"{block}layer_norm2")
    return shapes | norm(f"{prefix}post_layernorm")


def linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def norm(name: str, width: int = WIDTH) -> Shapes:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def pixtral_tower(prefix: str) -> Shapes:
    shapes: Shapes = {
        f"{prefix}patch_conv.weight": (WIDTH, 3, 14, 14),
        f"{prefix}ln_pre.weight": (WIDTH,),
    }
    for layer in range(LAYERS):
        block = f"{prefix}transformer.layers.{layer}."
        for name in "qkvo":
            shapes[f"{block}attention.{name}_proj.weight"] = (WIDTH, WIDTH)
        shapes |= {
            f"{block}feed_forward.gate_proj.weight": (FF, WIDTH),
            f"{block}feed_forward.up_proj.weight": (FF, WIDTH),
            f"{block}feed_forward.down_proj.weight": (WIDTH, FF),
            f"{block}attention_norm.weight": (WIDTH,),
            f"{block}ffn_norm.weight": (WIDTH,),
        }
    return shapes
