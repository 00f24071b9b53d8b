"""Tiny models that see, as Hugging Face configures them, one for each kind that we convert.

Pictures have a size that no image processor changes, as no two resize alike.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from tests.support.checkpoints import N_EMBD, Case, Shapes, decoder_config, decoder_shapes
from tests.support.mtmd_oracle import MARKER
from tests.support.pictures import Pixels, picture
from tests.support.vision_shapes import (
    FF,
    HEADS,
    LAYERS,
    WIDTH,
    linear,
    norm,
    pixtral_tower,
    siglip,
    wrapped,
)

#: The token that stands for a part of an image in transformers; nothing is written so.
IMAGE_TOKEN: Final = 90

#: The number of the first of a case's further tokens.
FIRST_ADDED: Final = 80


@dataclass(frozen=True)
class VisionCase:
    """``processor`` is the image processor's file, ``added`` are further tokens, from 80 on;
    ``width`` and ``height`` are those of the picture that stands for the marker in ``prompt``.
    After each ``row`` of image tokens but the last comes the first of the added tokens."""

    case: Case
    processor: dict[str, Any]
    width: int
    height: int
    added: Sequence[str] = ()
    row: int = 0
    prompt: str = f"ab {MARKER} cde fg"

    def image_tokens(self, count: int) -> list[int]:
        """The ``count`` tokens of an image, as transformers has them."""
        row = [IMAGE_TOKEN] * (self.row or count)
        return ([*row, FIRST_ADDED] * count)[:count]

    @property
    def picture(self) -> Pixels:
        return picture(3, self.width, self.height)


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


def _seeing(architecture: str, text: dict[str, Any], vision: dict[str, Any], **more: Any) -> Any:
    return {
        "architectures": [architecture],
        "text_config": {key: value for key, value in text.items() if key != "architectures"},
        "vision_config": vision,
        **more,
    }


_SIGLIP: Final = {
    "model_type": "siglip_vision_model",
    "hidden_size": WIDTH,
    "image_size": 56,
    "intermediate_size": FF,
    "layer_norm_eps": 1e-6,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
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
    shapes = wrapped("language_model.", decoder) | siglip("vision_tower.vision_model.", 7, 64)
    shapes["multi_modal_projector.mm_input_projection_weight"] = (WIDTH, N_EMBD)
    shapes["multi_modal_projector.mm_soft_emb_norm.weight"] = (WIDTH,)
    config = _seeing(
        "Gemma3ForConditionalGeneration",
        text,
        _SIGLIP,
        model_type="gemma3",
        mm_tokens_per_image=16,
        image_token_index=IMAGE_TOKEN,
        boi_token_index=FIRST_ADDED,
        eoi_token_index=FIRST_ADDED + 1,
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


_QWEN_PROCESSOR: Final = _normalised(
    "Qwen2VLImageProcessor",
    max_pixels=12_845_056,
    merge_size=2,
    min_pixels=3136,
    patch_size=14,
    temporal_patch_size=2,
)


def _qwen(architecture: str, model_type: str, vision: dict[str, Any], more: Shapes) -> VisionCase:
    text = decoder_config(architecture, model_type=model_type, rope_scaling=_MROPE)
    config = text | {
        "rope_theta": 1_000_000.0,
        "use_sliding_window": False,
        "image_token_id": IMAGE_TOKEN,
        "video_token_id": IMAGE_TOKEN + 1,
        "vision_start_token_id": FIRST_ADDED,
        "vision_end_token_id": FIRST_ADDED + 1,
        "vision_config": {
            "depth": 4,
            "in_channels": 3,
            "num_heads": HEADS,
            "patch_size": 14,
            "spatial_merge_size": 2,
            "temporal_patch_size": 2,
            **vision,
        },
    }
    shapes = decoder_shapes(biased=tuple(f"self_attn.{name}_proj" for name in "qkv"))
    shapes["visual.patch_embed.proj.weight"] = (WIDTH, 3, 2, 14, 14)
    for layer in range(4):
        block = f"visual.blocks.{layer}."
        shapes |= linear(f"{block}attn.qkv", 3 * WIDTH, WIDTH)
        shapes |= linear(f"{block}attn.proj", WIDTH, WIDTH)
    shapes |= linear("visual.merger.mlp.0", 4 * WIDTH, 4 * WIDTH)
    shapes |= linear("visual.merger.mlp.2", N_EMBD, 4 * WIDTH)
    return VisionCase(Case(config, shapes | more), _QWEN_PROCESSOR, 168, 140, added=_QWEN_TOKENS)


def _qwen2_vl() -> VisionCase:
    more: Shapes = norm("visual.merger.ln_q")
    for layer in range(4):
        block = f"visual.blocks.{layer}."
        more |= norm(f"{block}norm1") | norm(f"{block}norm2")
        more |= linear(f"{block}mlp.fc1", 2 * WIDTH, WIDTH)
        more |= linear(f"{block}mlp.fc2", WIDTH, 2 * WIDTH)
    vision = {"embed_dim": WIDTH, "hidden_size": N_EMBD, "mlp_ratio": 2}
    return _qwen("Qwen2VLForConditionalGeneration", "qwen2_vl", vision, more)


def _qwen25_vl() -> VisionCase:
    more: Shapes = {"visual.merger.ln_q.weight": (WIDTH,)}
    for layer in range(4):
        block = f"visual.blocks.{layer}."
        more |= {f"{block}norm1.weight": (WIDTH,), f"{block}norm2.weight": (WIDTH,)}
        more |= linear(f"{block}mlp.gate_proj", FF, WIDTH)
        more |= linear(f"{block}mlp.up_proj", FF, WIDTH)
        more |= linear(f"{block}mlp.down_proj", WIDTH, FF)
    vision = {
        "fullatt_block_indexes": [1, 3],
        "hidden_act": "silu",
        "hidden_size": WIDTH,
        "intermediate_size": FF,
        "out_hidden_size": N_EMBD,
        "window_size": 112,
    }
    return _qwen("Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl", vision, more)


def _qwen3_vl() -> VisionCase:
    text = decoder_config(
        "",
        model_type="qwen3_vl_text",
        head_dim=32,
        num_hidden_layers=3,
        rope_scaling={"mrope_interleaved": True, "mrope_section": [6, 5, 5], "type": "default"},
        rope_theta=5_000_000.0,
    )
    vision = {
        "deepstack_visual_indexes": [0, 2],
        "depth": 4,
        "hidden_act": "gelu_pytorch_tanh",
        "hidden_size": WIDTH,
        "in_channels": 3,
        "intermediate_size": FF,
        "num_heads": HEADS,
        "num_position_embeddings": 64,
        "out_hidden_size": N_EMBD,
        "patch_size": 14,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
    }
    config = _seeing(
        "Qwen3VLForConditionalGeneration",
        text,
        vision,
        model_type="qwen3_vl",
        image_token_id=IMAGE_TOKEN,
        tie_word_embeddings=False,
        video_token_id=IMAGE_TOKEN + 1,
        vision_end_token_id=FIRST_ADDED + 1,
        vision_start_token_id=FIRST_ADDED,
    )
    shapes = {
        name.replace("model.", "model.language_model."): shape
        for name, shape in decoder_shapes(head=32, n_layer=3, head_norms=True).items()
    }
    visual = "model.visual."
    shapes |= {
        f"{visual}patch_embed.proj.weight": (WIDTH, 3, 2, 14, 14),
        f"{visual}patch_embed.proj.bias": (WIDTH,),
        f"{visual}pos_embed.weight": (64, WIDTH),
    }
    for layer in range(4):
        block = f"{visual}blocks.{layer}."
        shapes |= norm(f"{block}norm1") | norm(f"{block}norm2")
        shapes |= linear(f"{block}attn.qkv", 3 * WIDTH, WIDTH)
        shapes |= linear(f"{block}attn.proj", WIDTH, WIDTH)
        shapes |= linear(f"{block}mlp.linear_fc1", FF, WIDTH)
        shapes |= linear(f"{block}mlp.linear_fc2", WIDTH, FF)
    for merger, width in (
        ("merger", WIDTH),
        ("deepstack_merger_list.0", 4 * WIDTH),
        ("deepstack_merger_list.1", 4 * WIDTH),
    ):
        shapes |= norm(f"{visual}{merger}.norm", width)
        shapes |= linear(f"{visual}{merger}.linear_fc1", 4 * WIDTH, 4 * WIDTH)
        shapes |= linear(f"{visual}{merger}.linear_fc2", N_EMBD, 4 * WIDTH)
    case = Case(config, shapes)
    return VisionCase(case, _QWEN_PROCESSOR, 168, 140, added=_QWEN_TOKENS)


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
    shapes = wrapped("language_model.", decoder_shapes(biased=biased)) | tower
    shapes |= linear("multi_modal_projector.linear_1", N_EMBD, WIDTH)
    shapes |= linear("multi_modal_projector.linear_2", N_EMBD, N_EMBD)
    size = {"height": 56, "width": 56}
    processor = _normalised("SiglipImageProcessor", size=size)
    return VisionCase(Case(config, shapes), processor, 56, 56)


def _llava_clip() -> VisionCase:
    prefix = "vision_tower.vision_model."
    tower = siglip(prefix, 14, 17, biased=False) | norm(f"{prefix}pre_layrnorm")
    tower[f"{prefix}embeddings.class_embedding"] = (WIDTH,)
    vision = {"model_type": "clip_vision_model", "layer_norm_eps": 1e-5, "projection_dim": 32}
    return _llava(vision, tower, "llama")


def _llava_siglip() -> VisionCase:
    tower = siglip("vision_tower.vision_model.", 14, 16)
    choice = {"vision_feature_layer": -1, "vision_feature_select_strategy": "full"}
    return _llava({}, tower, "qwen2", **choice)


_PIXTRAL: Final = {
    "model_type": "pixtral",
    "head_dim": WIDTH // HEADS,
    "hidden_act": "silu",
    "hidden_size": WIDTH,
    "image_size": 224,
    "intermediate_size": FF,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
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
    shapes = wrapped("language_model.", decoder_shapes(head=32))
    shapes |= pixtral_tower("vision_tower.")
    shapes |= {
        "multi_modal_projector.linear_1.weight": (N_EMBD, WIDTH),
        "multi_modal_projector.linear_2.weight": (N_EMBD, N_EMBD),
        "multi_modal_projector.norm.weight": (WIDTH,),
        "multi_modal_projector.patch_merger.merging_layer.weight": (WIDTH, 4 * WIDTH),
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
        {**_PIXTRAL, "hidden_act": "gelu"},
        model_type="llava",
        image_token_index=IMAGE_TOKEN,
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    )
    shapes = wrapped("language_model.", decoder_shapes(head=32))
    shapes |= pixtral_tower("vision_tower.")
    shapes |= linear("multi_modal_projector.linear_1", N_EMBD, WIDTH)
    shapes |= linear("multi_modal_projector.linear_2", N_EMBD, N_EMBD)
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
    shapes = decoder | siglip("model.vision_model.", 14, 16)
    shapes["model.connector.modality_projection.proj.weight"] = (N_EMBD, 4 * WIDTH)
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
    "qwen3-vl": _qwen3_vl(),
    "llava-clip": _llava_clip(),
    "llava-siglip": _llava_siglip(),
    "idefics3": _idefics3("Idefics3", "idefics3"),
    "smolvlm": _idefics3("SmolVLM", "smolvlm"),
    "mistral3": _mistral3(),
    "pixtral": _pixtral(),
}
