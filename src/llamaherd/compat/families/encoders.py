"""What the vision encoders of all families have in common.

llama.cpp's names of keys and tensors are those of ``tools/mtmd/clip-impl.h``.
"""

from __future__ import annotations

from typing import Final, Literal

from llamaherd.compat.draft import Draft
from llamaherd.gguf.header import Value

#: Keys of a model's architecture and what a projector calls them.
SIZES: Final = {
    "vision.block_count": "clip.vision.block_count",
    "vision.embedding_length": "clip.vision.embedding_length",
    "vision.attention.head_count": "clip.vision.attention.head_count",
    "vision.patch_size": "clip.vision.patch_size",
    "embedding_length": "clip.vision.projection_dim",
}
FEED_FORWARD: Final = {"vision.feed_forward_length": "clip.vision.feed_forward_length"}
IMAGE_SIZE: Final = {"vision.image_size": "clip.vision.image_size"}
EPSILON: Final = {"vision.attention.layer_norm_epsilon": "clip.vision.attention.layer_norm_epsilon"}
COLOURS: Final = {
    "vision.image_mean": "clip.vision.image_mean",
    "vision.image_std": "clip.vision.image_std",
}
MERGE: Final = {"vision.spatial_merge_size": "clip.vision.spatial_merge_size"}

#: The mean and the deviation of pixels by which OpenAI's CLIP was trained; others take a half.
CLIP_MEAN: Final = [0.48145466, 0.4578275, 0.40821073]
CLIP_DEVIATION: Final = [0.26862954, 0.26130258, 0.27577711]
HALF: Final = [0.5, 0.5, 0.5]


def begin(
    draft: Draft,
    projector: str,
    activation: Literal["gelu", "silu"] | None = None,
    *,
    mean: list[float] = HALF,
    deviation: list[float] = HALF,
) -> None:
    """Set what every projector of one image encoder has, but what is set already.

    ``projector`` is clip-impl.h's name; without an ``activation`` it is the quick form of GELU.
    """
    values: dict[str, Value] = {
        "general.architecture": "clip",
        "general.type": "mmproj",
        "clip.projector_type": projector,
        "clip.has_vision_encoder": True,
    }
    if activation is not None:
        values[f"clip.use_{activation}"] = True
    draft.set(values)
    draft.require({name: key for name, key in SIZES.items() if not draft.has(key)})
    draft.default({"clip.vision.image_mean": mean, "clip.vision.image_std": deviation})


def split_frames(draft: Draft, name: str, channels: int) -> None:
    """Of the kernel of a convolution over two frames make one for each.

    The source has it as width, height, frame, and channels in and out together, as Ollama's
    convert_qwen3vl.go writes it; llama.cpp wants ``v.patch_embd.weight`` and
    ``v.patch_embd.weight.1`` of 32-bit floats, with channels in and out apart.
    """
    width, height, frames, planes = shape = draft.shape(name, 4)
    if frames != 2 or planes % channels:
        raise draft.unsound(
            f"tensor {name!r} has the shape {shape}, expected two frames of {channels} channels"
        )
    draft.spend(frames * planes, name)
    (span,) = draft.tensor(name).spans
    size = span.nbytes // (frames * planes)
    draft.drop(name)
    for frame, target in enumerate(("v.patch_embd.weight", "v.patch_embd.weight.1")):
        draft.put(
            target,
            (width, height, channels, planes // channels),
            "F32",
            [
                span._replace(offset=span.offset + (plane * frames + frame) * size, nbytes=size)
                for plane in range(planes)
            ],
        )
