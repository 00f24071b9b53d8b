"""Tiny vision models for tests: a language model and the projector that makes images its input.

One of each way in which an image becomes input:

- ``llava``: images of one size, whose parts are read one after another like words;
- ``gemma3``: images of one size between two tokens, whose parts all see each other;
- ``qwen2vl``: images of many sizes, whose parts have places in two dimensions (M-RoPE);
- ``idefics3``: an overview and tiles of the image, with tokens around each of them.

The projectors are read by ``tools/mtmd/clip.cpp`` of llama.cpp, which also names their keys and
tensors. Their weights are random, scaled so that another image gives clearly other logits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, get_args

import gguf
import numpy as np
import numpy.typing as npt

from tests.support.models import write_model, write_out, write_sliding_window_model

Kind = Literal["llava", "gemma3", "qwen2vl", "idefics3"]
KINDS: Final[tuple[Kind, ...]] = get_args(Kind)

#: How far back the layers of the gemma3 model see, but the sixth.
WINDOW: Final = 24

#: The width and height of images for models with images of one size, and of idefics3's tiles.
SIDE: Final = 56

#: The tiles along the longer side of an image.
TILES: Final = 2

#: The width of embeddings: the language model's, and those within the projectors.
_MODEL_WIDTH: Final = 64
_WIDTH: Final = 32


@dataclass(frozen=True)
class VisionModel:
    """The two files of a model that sees."""

    model: Path
    projector: Path


def write_vision_model(
    directory: Path,
    kind: Kind,
    *,
    n_ctx: int = 512,
    chat_template: str | None = None,
    seed: int = 0,
) -> VisionModel:
    """Write a model and its projector; the same arguments give the same bytes."""
    path = directory / f"{kind}.gguf"
    match kind:
        case "llava":
            write_model(path, n_ctx=n_ctx, chat_template=chat_template, seed=seed)
        case "gemma3":
            write_sliding_window_model(
                path,
                window=WINDOW,
                n_ctx=n_ctx,
                chat_template=chat_template,
                seed=seed,
                context_gain=5.0,
                control_tokens=["<start_of_image>", "<end_of_image>"],
            )
        case "qwen2vl":
            write_model(
                path,
                architecture="qwen2vl",
                n_head=4,
                n_ctx=n_ctx,
                chat_template=chat_template,
                seed=seed,
                # How many of a head's eight pairs are turned by time, height and width.
                metadata={"qwen2vl.rope.dimension_sections": [2, 3, 3, 0]},
                control_tokens=["<|vision_start|>", "<|vision_end|>"],
            )
        case "idefics3":
            sides = range(1, TILES + 1)
            write_model(
                path,
                n_ctx=n_ctx,
                chat_template=chat_template,
                seed=seed,
                extra_tokens=["\n\n"],
                control_tokens=[
                    "<fake_token_around_image>",
                    "<global-img>",
                    *(f"<row_{row}_col_{column}>" for row in sides for column in sides),
                ],
            )
    return VisionModel(path, write_projector(directory / f"{kind}-mmproj.gguf", kind, seed=seed))


def write_projector(path: Path, kind: Kind, *, n_embd: int = _MODEL_WIDTH, seed: int = 0) -> Path:
    """Write a projector for language models with embeddings of the width ``n_embd``."""
    match kind:
        case "llava":
            encoder = _Encoder("mlp", seed, patch=14, class_token=True)
            encoder.add_linear("mm.0", n_embd, _WIDTH)
            encoder.add_linear("mm.2", n_embd, n_embd, gain=2.0)
        case "gemma3":
            encoder = _Encoder("gemma3", seed, patch=7)
            encoder.keys["clip.vision.projector.scale_factor"] = 2
            encoder.tensors["mm.soft_emb_norm.weight"] = np.ones(_WIDTH, np.float32)
            # The model multiplies the embeddings of tokens, but not these, by their width's root.
            projection = encoder.matrix((n_embd, _WIDTH), np.sqrt(n_embd))
            encoder.tensors["mm.input_projection.weight"] = projection.T.copy()
        case "qwen2vl":
            encoder = _Encoder("qwen2vl_merger", seed, patch=14, learned_positions=False)
            # An image is taken as two frames of a video, each with weights of its own.
            encoder.tensors["v.patch_embd.weight.1"] = encoder.patches(14)
            encoder.add_linear("mm.0", n_embd, 4 * _WIDTH)
            encoder.add_linear("mm.2", n_embd, n_embd, gain=2.0)
        case "idefics3":
            encoder = _Encoder("idefics3", seed, patch=14)
            encoder.keys["clip.vision.projector.scale_factor"] = 2
            encoder.keys["clip.vision.preproc_image_size"] = TILES * SIDE
            encoder.tensors["mm.model.fc.weight"] = encoder.matrix((n_embd, 4 * _WIDTH))
    return encoder.write(path, n_embd)


class _Encoder:
    """A vision transformer of three blocks, in the making."""

    _BLOCKS: Final = 3
    _HEADS: Final = 2
    _HIDDEN: Final = 2 * _WIDTH

    def __init__(
        self,
        projector: str,
        seed: int,
        *,
        patch: int,
        class_token: bool = False,
        learned_positions: bool = True,
    ) -> None:
        self._random = np.random.default_rng(seed)
        self.keys: dict[str, bool | int | str] = {
            "clip.projector_type": projector,
            "clip.has_vision_encoder": True,
            "clip.use_gelu": True,
            "clip.vision.image_size": SIDE,
            "clip.vision.patch_size": patch,
            "clip.vision.embedding_length": _WIDTH,
            "clip.vision.feed_forward_length": self._HIDDEN,
            "clip.vision.block_count": self._BLOCKS,
            "clip.vision.attention.head_count": self._HEADS,
        }
        self.tensors: dict[str, npt.NDArray[np.float32]] = {
            "v.patch_embd.weight": self.patches(patch)
        }
        if learned_positions:
            count = (SIDE // patch) ** 2 + class_token
            self.tensors["v.position_embd.weight"] = self.matrix((count, _WIDTH), np.sqrt(_WIDTH))
        if class_token:
            self.tensors["v.class_embd"] = self.matrix((_WIDTH,), np.sqrt(_WIDTH))
        for block in range(self._BLOCKS):
            name = f"v.blk.{block}."
            for norm in ("ln1", "ln2"):
                self._add_norm(name + norm)
            for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
                self.add_linear(name + part, _WIDTH, _WIDTH)
            self.add_linear(f"{name}ffn_up", self._HIDDEN, _WIDTH)
            self.add_linear(f"{name}ffn_down", _WIDTH, self._HIDDEN)
        self._add_norm("v.post_ln")

    def matrix(self, shape: Sequence[int], gain: float = 1.0) -> npt.NDArray[np.float32]:
        """Random weights; of inputs of variance 1 come outputs of variance ``gain`` squared."""
        scale = gain / np.sqrt(shape[-1])
        return np.asarray(self._random.standard_normal(shape) * scale, np.float32)

    def patches(self, side: int) -> npt.NDArray[np.float32]:
        weights = self.matrix((_WIDTH, 3 * side * side), 4.0)
        return weights.reshape(_WIDTH, 3, side, side)

    def add_linear(self, name: str, rows: int, columns: int, gain: float = 1.0) -> None:
        self.tensors[f"{name}.weight"] = self.matrix((rows, columns), gain)
        self.tensors[f"{name}.bias"] = np.zeros(rows, np.float32)

    def _add_norm(self, name: str) -> None:
        self.tensors[f"{name}.weight"] = np.ones(_WIDTH, np.float32)
        self.tensors[f"{name}.bias"] = np.zeros(_WIDTH, np.float32)

    def write(self, path: Path, n_embd: int) -> Path:
        writer = gguf.GGUFWriter(path, "clip")
        writer.add_type("mmproj")
        writer.add_name("tiny projector")
        writer.add_file_type(gguf.LlamaFileType.ALL_F32)
        for key, value in self.keys.items():
            writer.add_key_value(key, value, _TYPES[type(value)])
        writer.add_uint32("clip.vision.projection_dim", n_embd)
        writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-6)
        writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
        writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])
        for name, values in self.tensors.items():
            writer.add_tensor(name, values)
        return write_out(writer, path)


_TYPES: Final = {
    bool: gguf.GGUFValueType.BOOL,
    int: gguf.GGUFValueType.UINT32,
    str: gguf.GGUFValueType.STRING,
}
