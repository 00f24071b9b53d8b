"""Tiny random models that see, as Hugging Face stores them, one for each kind that we convert.

As in ``checkpoints``, the same seed gives the same weights everywhere, so what transformers
computes of a picture is recorded once and compared with ever after. Pictures have a size that no
image processor changes, as no two resize alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llamaherd.create.convert.convert import Conversion
from llamaherd.create.convert.folder import ModelFolder
from tests.support.checkpoints import (
    N_EMBD,
    N_VOCAB,
    Case,
    DType,
    Shapes,
    decoder_config,
    decoder_shapes,
    tolerance,
    weights,
    write_safetensors,
    write_tokenizer,
)
from tests.support.mtmd_oracle import MARKER, Question, ask_oracle
from tests.support.pictures import Pixels, picture
from tests.support.vision import VisionModel

#: What transformers made of them.
RECORDED_REPLIES: Final = Path(__file__).parents[1] / "data" / "convert-vision.json"

#: The vision encoders' sizes.
_WIDTH: Final = 32
_FF: Final = 48
_LAYERS: Final = 3
_HEADS: Final = 2

#: So many tokens of each reply are compared.
N_PREDICT: Final = 8

#: The token that stands for a part of an image in transformers; nothing is written so.
IMAGE_TOKEN: Final = 90
_ADDED: Final = 80


@dataclass(frozen=True)
class VisionCase:
    """``processor`` is the image processor's file, ``added`` are further tokens, from 80 on;
    ``width`` and ``height`` are those of the picture that stands for the marker in ``prompt``.
    After each ``row`` of image tokens but the last comes the first of the added tokens.

    ``approximates`` says that the original has GELU where llama.cpp has but an approximation, and
    ``class_token_last`` that llama.cpp has a token in another place."""

    case: Case
    processor: dict[str, Any]
    width: int
    height: int
    added: Sequence[str] = ()
    row: int = 0
    approximates: bool = False
    class_token_last: bool = False
    prompt: str = f"ab {MARKER} cde fg"

    def image_tokens(self, count: int) -> list[int]:
        """The ``count`` tokens of an image, as transformers has them."""
        row = [IMAGE_TOKEN] * (self.row or count)
        return ([*row, _ADDED] * count)[:count]

    @property
    def picture(self) -> Pixels:
        return picture(3, self.width, self.height)


@dataclass(frozen=True)
class Reply:
    """``prompt`` has ``IMAGE_TOKEN`` for each part of an image; ``tokens`` are those of the reply,
    ``logits`` what the first of them was taken from."""

    prompt: list[int]
    tokens: list[int]
    logits: npt.NDArray[np.float32]


def recorded_replies() -> dict[str, Reply]:
    """By case: what transformers makes of the case's prompt and picture."""
    table: dict[str, Any] = json.loads(RECORDED_REPLIES.read_text())
    return {
        name: Reply(entry["prompt"], entry["tokens"], np.array(entry["logits"], np.float32))
        for name, entry in table.items()
    }


def engine_reply(model: VisionModel, case: VisionCase) -> Reply:
    """What llama.cpp makes of the case's prompt and picture."""
    (answer,) = ask_oracle(model, Question(case.prompt, [case.picture], N_PREDICT))
    prompt: list[int] = []
    for chunk in answer.chunks:
        prompt += case.image_tokens(chunk.n_tokens) if chunk.tokens is None else chunk.tokens
    return Reply(prompt, answer.tokens, answer.logits)


def vision_tolerance(case: VisionCase, dtype: DType) -> float:
    """How far logits may be off, as a part of their spread."""
    return tolerance(dtype) + (0.01 if case.approximates else 0)


def _normalised(kind: str, **more: Any) -> dict[str, Any]:
    return {
        "image_processor_type": kind,
        "do_convert_rgb": True,
        "do_normalize": True,
        "do_rescale": True,
        "do_resize": True,
        "image_mean": [0.5, 0.45, 0.4],
        "image_std": [0.5, 0.25, 0.3],
        "rescale_factor": 1 / 255,
        **more,
    }


def _wrapped(language: str, shapes: Shapes) -> Shapes:
    """Under the names that the parts of a language model have within another."""
    return {f"{language}{name}": shape for name, shape in shapes.items()}


def _siglip(prefix: str, patch: int, places: int, *, biased: bool = True) -> Shapes:
    shapes: Shapes = {
        f"{prefix}embeddings.patch_embedding.weight": (_WIDTH, 3, patch, patch),
        f"{prefix}embeddings.position_embedding.weight": (places, _WIDTH),
    }
    if biased:
        shapes[f"{prefix}embeddings.patch_embedding.bias"] = (_WIDTH,)
    for layer in range(_LAYERS):
        block = f"{prefix}encoder.layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes |= _linear(f"{block}self_attn.{name}", _WIDTH, _WIDTH)
        shapes |= _linear(f"{block}mlp.fc1", _FF, _WIDTH) | _linear(f"{block}mlp.fc2", _WIDTH, _FF)
        shapes |= _norm(f"{block}layer_norm1") | _norm(f"{block}layer_norm2")
    return shapes | _norm(f"{prefix}post_layernorm")


def _linear(name: str, rows: int, columns: int) -> Shapes:
    return {f"{name}.weight": (rows, columns), f"{name}.bias": (rows,)}


def _norm(name: str) -> Shapes:
    return {f"{name}.weight": (_WIDTH,), f"{name}.bias": (_WIDTH,)}


def _seeing(architecture: str, text: dict[str, Any], vision: dict[str, Any], **more: Any) -> Any:
    return {
        "architectures": [architecture],
        "text_config": {key: value for key, value in text.items() if key != "architectures"},
        "vision_config": vision,
        **more,
    }


_SIGLIP: Final = {
    "model_type": "siglip_vision_model",
    "hidden_size": _WIDTH,
    "image_size": 56,
    "intermediate_size": _FF,
    "layer_norm_eps": 1e-6,
    "num_attention_heads": _HEADS,
    "num_hidden_layers": _LAYERS,
    "patch_size": 7,
    "vision_use_head": False,
}


def _gemma3() -> VisionCase:
    text = decoder_config(
        "",
        model_type="gemma3_text",
        head_dim=32,
        num_hidden_layers=6,
        query_pre_attn_scalar=32,
        sliding_window=24,
        tie_word_embeddings=True,
        rope_theta=1_000_000.0,
        rope_local_base_freq=100.0,
        rope_scaling={"rope_type": "linear", "factor": 8.0},
    )
    norms = (
        "input_layernorm",
        "post_attention_layernorm",
        "pre_feedforward_layernorm",
        "post_feedforward_layernorm",
    )
    decoder = decoder_shapes(head=32, tied=True, n_layer=6, layer_norms=norms, head_norms=True)
    shapes = _wrapped("language_model.", decoder) | _siglip("vision_tower.vision_model.", 7, 64)
    shapes["multi_modal_projector.mm_input_projection_weight"] = (_WIDTH, N_EMBD)
    shapes["multi_modal_projector.mm_soft_emb_norm.weight"] = (_WIDTH,)
    config = _seeing(
        "Gemma3ForConditionalGeneration",
        text,
        _SIGLIP,
        model_type="gemma3",
        mm_tokens_per_image=16,
        image_token_index=IMAGE_TOKEN,
        boi_token_index=_ADDED,
        eoi_token_index=_ADDED + 1,
    )
    return VisionCase(
        Case(config, shapes, zero_norms=True, embedding_gain=0.5),
        _normalised("Gemma3ImageProcessor", size={"height": 56, "width": 56}),
        56,
        56,
        added=("<start_of_image>", "<end_of_image>"),
    )


_MROPE: Final = {"type": "mrope", "mrope_section": [2, 3, 3]}
_QWEN_TOKENS: Final = ("<|vision_start|>", "<|vision_end|>")


def _qwen(architecture: str, model_type: str, vision: dict[str, Any], more: Shapes) -> VisionCase:
    text = decoder_config(architecture, model_type=model_type, rope_scaling=_MROPE)
    config = text | {
        "rope_theta": 1_000_000.0,
        "use_sliding_window": False,
        "image_token_id": IMAGE_TOKEN,
        "video_token_id": IMAGE_TOKEN + 1,
        "vision_start_token_id": _ADDED,
        "vision_end_token_id": _ADDED + 1,
        "vision_config": {
            "depth": 4,
            "in_channels": 3,
            "num_heads": _HEADS,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            **vision,
        },
    }
    shapes = decoder_shapes(biased=tuple(f"self_attn.{name}_proj" for name in "qkv"))
    shapes["visual.patch_embed.proj.weight"] = (_WIDTH, 3, 2, 14, 14)
    for layer in range(4):
        block = f"visual.blocks.{layer}."
        shapes |= _linear(f"{block}attn.qkv", 3 * _WIDTH, _WIDTH)
        shapes |= _linear(f"{block}attn.proj", _WIDTH, _WIDTH)
    shapes |= _linear("visual.merger.mlp.0", 4 * _WIDTH, 4 * _WIDTH)
    shapes |= _linear("visual.merger.mlp.2", N_EMBD, 4 * _WIDTH)
    processor = _normalised(
        "Qwen2VLImageProcessor",
        max_pixels=12_845_056,
        merge_size=2,
        min_pixels=3136,
        patch_size=14,
        temporal_patch_size=2,
    )
    return VisionCase(Case(config, shapes | more), processor, 168, 140, added=_QWEN_TOKENS)


def _qwen2_vl() -> VisionCase:
    more: Shapes = _norm("visual.merger.ln_q")
    for layer in range(4):
        block = f"visual.blocks.{layer}."
        more |= _norm(f"{block}norm1") | _norm(f"{block}norm2")
        more |= _linear(f"{block}mlp.fc1", 2 * _WIDTH, _WIDTH)
        more |= _linear(f"{block}mlp.fc2", _WIDTH, 2 * _WIDTH)
    vision = {"embed_dim": _WIDTH, "hidden_size": N_EMBD, "mlp_ratio": 2}
    return _qwen("Qwen2VLForConditionalGeneration", "qwen2_vl", vision, more)


def _qwen25_vl() -> VisionCase:
    more: Shapes = {"visual.merger.ln_q.weight": (_WIDTH,)}
    for layer in range(4):
        block = f"visual.blocks.{layer}."
        more |= {f"{block}norm1.weight": (_WIDTH,), f"{block}norm2.weight": (_WIDTH,)}
        more |= _linear(f"{block}mlp.gate_proj", _FF, _WIDTH)
        more |= _linear(f"{block}mlp.up_proj", _FF, _WIDTH)
        more |= _linear(f"{block}mlp.down_proj", _WIDTH, _FF)
    vision = {
        "fullatt_block_indexes": [1, 3],
        "hidden_act": "silu",
        "hidden_size": _WIDTH,
        "intermediate_size": _FF,
        "out_hidden_size": N_EMBD,
        "window_size": 112,
    }
    return _qwen("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", vision, more)


def _llava(vision: dict[str, Any], tower: Shapes, text: str, **more: Any) -> VisionCase:
    biased = tuple(f"self_attn.{name}_proj" for name in "qkv") if text == "qwen2" else ()
    config = _seeing(
        "LlavaForConditionalGeneration",
        decoder_config("", model_type=text),
        {**_SIGLIP, "patch_size": 14, **vision},
        model_type="llava",
        image_token_index=IMAGE_TOKEN,
        image_seq_length=16,
        **more,
    )
    shapes = _wrapped("language_model.", decoder_shapes(biased=biased)) | tower
    shapes |= _linear("multi_modal_projector.linear_1", N_EMBD, _WIDTH)
    shapes |= _linear("multi_modal_projector.linear_2", N_EMBD, N_EMBD)
    size = {"height": 56, "width": 56}
    processor = _normalised("SiglipImageProcessor", size=size)
    is_clip = vision.get("model_type") == "clip_vision_model"
    return VisionCase(
        Case(config, shapes), processor, 56, 56, approximates=True, class_token_last=is_clip
    )


def _llava_clip() -> VisionCase:
    prefix = "vision_tower.vision_model."
    tower = _siglip(prefix, 14, 17, biased=False) | _norm(f"{prefix}pre_layrnorm")
    tower[f"{prefix}embeddings.class_embedding"] = (_WIDTH,)
    vision = {"model_type": "clip_vision_model", "layer_norm_eps": 1e-5, "projection_dim": 32}
    return _llava(vision, tower, "llama")


def _llava_siglip() -> VisionCase:
    tower = _siglip("vision_tower.vision_model.", 14, 16)
    choice = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    return _llava({}, tower, "qwen2", **choice)


def _pixtral_shapes(prefix: str) -> Shapes:
    shapes: Shapes = {
        f"{prefix}patch_conv.weight": (_WIDTH, 3, 14, 14),
        f"{prefix}ln_pre.weight": (_WIDTH,),
    }
    for layer in range(_LAYERS):
        block = f"{prefix}transformer.layers.{layer}."
        for name in "qkvo":
            shapes[f"{block}attention.{name}_proj.weight"] = (_WIDTH, _WIDTH)
        shapes |= {
            f"{block}feed_forward.gate_proj.weight": (_FF, _WIDTH),
            f"{block}feed_forward.up_proj.weight": (_FF, _WIDTH),
            f"{block}feed_forward.down_proj.weight": (_WIDTH, _FF),
            f"{block}attention_norm.weight": (_WIDTH,),
            f"{block}ffn_norm.weight": (_WIDTH,),
        }
    return shapes


_PIXTRAL: Final = {
    "model_type": "pixtral",
    "head_dim": _WIDTH // _HEADS,
    "hidden_act": "silu",
    "hidden_size": _WIDTH,
    "image_size": 224,
    "intermediate_size": _FF,
    "num_attention_heads": _HEADS,
    "num_hidden_layers": _LAYERS,
    "patch_size": 14,
    "rope_theta": 10_000.0,
}
_ROWS: Final = ("[IMG_BREAK]", "[IMG_END]")


def _mistral_text() -> dict[str, Any]:
    return decoder_config("", model_type="mistral", head_dim=32, sliding_window=None)


def _mistral3() -> VisionCase:
    config = _seeing(
        "Mistral3ForConditionalGeneration",
        _mistral_text(),
        _PIXTRAL,
        model_type="mistral3",
        image_token_index=IMAGE_TOKEN,
        multimodal_projector_bias=False,
        spatial_merge_size=2,
        tie_word_embeddings=False,
        vision_feature_layer=-1,
    )
    shapes = _wrapped("language_model.", decoder_shapes(head=32))
    shapes |= _pixtral_shapes("vision_tower.")
    shapes |= {
        "multi_modal_projector.linear_1.weight": (N_EMBD, _WIDTH),
        "multi_modal_projector.linear_2.weight": (N_EMBD, N_EMBD),
        "multi_modal_projector.norm.weight": (_WIDTH,),
        "multi_modal_projector.patch_merger.merging_layer.weight": (_WIDTH, 4 * _WIDTH),
    }
    processor = _normalised(
        "PixtralImageProcessor",
        patch_size={"height": 28, "width": 28},
        size={"longest_edge": 224},
    )
    return VisionCase(Case(config, shapes), processor, 140, 112, added=_ROWS, row=5)


def _pixtral() -> VisionCase:
    config = _seeing(
        "LlavaForConditionalGeneration",
        _mistral_text(),
        _PIXTRAL,
        model_type="llava",
        image_token_index=IMAGE_TOKEN,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    shapes = _wrapped("language_model.", decoder_shapes(head=32))
    shapes |= _pixtral_shapes("vision_tower.")
    shapes |= _linear("multi_modal_projector.linear_1", N_EMBD, _WIDTH)
    shapes |= _linear("multi_modal_projector.linear_2", N_EMBD, N_EMBD)
    processor = _normalised(
        "PixtralImageProcessor",
        patch_size={"height": 14, "width": 14},
        size={"longest_edge": 224},
    )
    return VisionCase(Case(config, shapes), processor, 70, 56, added=_ROWS, row=5)


def _idefics3(name: str, model_type: str) -> VisionCase:
    config = _seeing(
        f"{name}ForConditionalGeneration",
        decoder_config("", model_type="llama"),
        {**_SIGLIP, "model_type": f"{model_type}_vision", "patch_size": 14},
        model_type=model_type,
        image_token_id=IMAGE_TOKEN,
        scale_factor=2,
        tie_word_embeddings=False,
    )
    decoder = {
        name.replace("model.", "model.text_model."): shape
        for name, shape in decoder_shapes().items()
    }
    shapes = decoder | _siglip("model.vision_model.", 14, 16)
    shapes["model.connector.modality_projection.proj.weight"] = (N_EMBD, 4 * _WIDTH)
    processor = _normalised(
        f"{name}ImageProcessor",
        do_image_splitting=True,
        max_image_size={"longest_edge": 56},
        resample=1,
        size={"longest_edge": 112},
    )
    added = (
        "<fake_token_around_image>",
        "<global-img>",
        "\n\n",
        *(f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)),
    )
    return VisionCase(Case(config, shapes), processor, 112, 56, added=added)


VISION_CASES: Final = {
    "gemma3": _gemma3(),
    "qwen2-vl": _qwen2_vl(),
    "qwen2.5-vl": _qwen25_vl(),
    "llava-clip": _llava_clip(),
    "llava-siglip": _llava_siglip(),
    "idefics3": _idefics3("Idefics3", "idefics3"),
    "smolvlm": _idefics3("SmolVLM", "smolvlm"),
    "mistral3": _mistral3(),
    "pixtral": _pixtral(),
}


def write_vision_checkpoint(folder: Path, case: VisionCase, dtype: DType = "F32") -> Path:
    """Configuration, weights, image processor and tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case.case.config))
    (folder / "preprocessor_config.json").write_text(json.dumps(case.processor))
    write_safetensors(folder / "model.safetensors", weights(case.case), dtype)
    write_tokenizer(folder, added=dict(zip(case.added, range(_ADDED, N_VOCAB), strict=False)))
    return folder


def convert_vision_folder(folder: Path, target: Path) -> VisionModel:
    """Convert in this process: ``target`` is the folder for both files."""
    files = {path.name: path for path in folder.iterdir() if path.is_file()}
    conversion = Conversion(ModelFolder(files))
    assert conversion.projector is not None
    model = VisionModel(target / "model.gguf", target / "mmproj.gguf")
    for path, contents in (
        (model.model, conversion.model),
        (model.projector, conversion.projector),
    ):
        with path.open("wb") as file:
            contents.write(file.write)
    return model
