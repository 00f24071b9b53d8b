"""Families whose files differ in keys and names: what becomes of those."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llamaherd.compat import projector_of, text_of
from llamaherd.compat.families import llama3
from llamaherd.errors import InvalidGGUF
from llamaherd.gguf import GGUF
from llamaherd.llama.derived import DerivedReader
from tests.support.ollama_files import Contents, Raw, read, write

Keys = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]


class Translator:
    """Writes files of an architecture and reads what becomes of them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def text(self, architecture: str, keys: Keys, shapes: Shapes) -> tuple[Keys, Shapes] | None:
        return self._translate(architecture, keys, shapes, projector=False)

    def projector(self, architecture: str, keys: Keys, shapes: Shapes) -> tuple[Keys, Shapes]:
        made = self._translate(architecture, keys, shapes, projector=True)
        assert made is not None
        return made

    def _translate(
        self, architecture: str, keys: Keys, shapes: Shapes, *, projector: bool
    ) -> tuple[Keys, Shapes] | None:
        """Keys without a dot before them, as ``.block_count``, are the architecture's."""
        contents = Contents({}, {name: _zeros(shape) for name, shape in shapes.items()})
        for key, value in keys.items():
            contents.set(**{f"{architecture}{key}" if key.startswith(".") else key: value})
        source = write(self._folder / "source.gguf", architecture, contents)
        with GGUF.open(source) as file:
            derived = (projector_of if projector else text_of)(file)
        if derived is None:
            return None
        made = self._folder / "derived.gguf"
        with closing(DerivedReader(source, derived)) as reader:
            reader.write(made)
        result = read(made)
        return (
            {key: value[1] for key, value in result.keys.items()},
            {name: tensor.data.shape[::-1] for name, tensor in result.tensors.items()},
        )


def _zeros(shape: tuple[int, ...]) -> Raw:
    return Raw(np.zeros(shape[::-1], np.float32), gguf.GGMLQuantizationType.F32)


@pytest.fixture
def translate(tmp_path: Path) -> Translator:
    return Translator(tmp_path)


def made(result: tuple[Keys, Shapes] | None) -> tuple[Keys, Shapes]:
    assert result is not None
    return result


# --- language models -----------------------------------------------------------------------------


def test_embedding_gemma(translate: Translator) -> None:
    keys, shapes = made(
        translate.text(
            "gemma3",
            {".embedding_length": 8, ".attention.causal": False, ".pooling_type": 1},
            {"dense.0.weight": (8, 32), "dense.1.weight": (32, 8), "norm.weight": (8,)},
        )
    )
    assert keys["general.architecture"] == "gemma-embedding"
    assert keys["gemma-embedding.embedding_length"] == 8
    assert keys["gemma-embedding.pooling_type"] == 1
    assert "gemma-embedding.attention.causal" not in keys
    assert keys["gemma-embedding.dense_2_feat_out"] == 32
    assert keys["gemma-embedding.dense_3_feat_in"] == 32
    assert shapes == {
        "dense_2.weight": (8, 32),
        "dense_3.weight": (32, 8),
        "output_norm.weight": (8,),
    }


def test_gemma_3_of_a_long_context_has_positions_closer(translate: Translator) -> None:
    tensors: Shapes = {"token_embd.weight": (8, 2)}
    for context, expected in ((131072, 8.0), (32768, None)):
        keys, _ = made(translate.text("gemma3", {".context_length": context}, tensors))
        assert keys.get("gemma3.rope.scaling.factor") == expected


def test_gemma_3s_older_names_of_rotations(translate: Translator) -> None:
    keys, _ = made(
        translate.text(
            "gemma3",
            {
                ".context_length": 512,
                ".rope.global.freq_base": 5.0,
                ".rope.local.freq_base": 7.0,
                ".attention.layer_norm_rms_epsilon": 0.5,
            },
            {"token_embd.weight": (8, 2)},
        )
    )
    assert keys["gemma3.rope.freq_base"] == 5.0
    assert keys["gemma3.rope.freq_base_swa"] == 7.0
    assert keys["gemma3.attention.layer_norm_rms_epsilon"] == 0.5


def test_gemma_3n_has_tokens_with_both_embeddings(translate: Translator) -> None:
    tokens = {"tokenizer.ggml.tokens": ["a", "b", "<image>"], "tokenizer.ggml.token_type": [1] * 3}
    shapes: Shapes = {"token_embd.weight": (8, 3), "per_layer_token_embd.weight": (4, 2)}
    keys, made_shapes = made(
        translate.text("gemma3n", tokens | {"tokenizer.ggml.model": "t5"}, shapes)
    )
    assert keys["tokenizer.ggml.tokens"] == ["a", "b"]
    assert keys["tokenizer.ggml.token_type"] == [1, 1]
    assert keys["tokenizer.ggml.model"] == "llama"
    assert made_shapes["token_embd.weight"] == (8, 2)
    whole = shapes | {"per_layer_token_embd.weight": (4, 3)}
    assert translate.text("gemma3n", tokens, whole) is None


def test_gemma_4(translate: Translator) -> None:
    keys, shapes = made(
        translate.text(
            "gemma4",
            {"tokenizer.ggml.model": "llama"},
            {
                "blk.0.ffn_gate_inp.per_expert_scale": (2,),
                "a.blk.0.ln1.weight": (2,),
                "v.blk.0.ln1.weight": (2,),
                "mm.input_projection.weight": (2,),
            },
        )
    )
    assert keys["tokenizer.ggml.model"] == "gemma4"
    assert shapes == {"blk.0.ffn_down_exps.scale": (2,)}


def test_qwen_3_5(translate: Translator) -> None:
    keys, shapes = made(
        translate.text(
            "qwen35",
            {
                ".attention.head_count_kv": [0, 0, 0, 2],
                ".rope.dimension_sections": [11, 11, 10],
            },
            {
                "blk.0.ssm_dt": (4,),
                "mtp.fc.weight": (4,),
                "v.pos_embed.weight": (4,),
                "output_norm.weight": (4,),
            },
        )
    )
    assert keys["qwen35.attention.head_count_kv"] == 2
    assert keys["qwen35.rope.dimension_sections"] == [11, 11, 10, 0]
    assert shapes == {"blk.0.ssm_dt.bias": (4,), "output_norm.weight": (4,)}


def test_qwen_3_next(translate: Translator) -> None:
    keys, shapes = made(translate.text("qwen3next", {}, {"blk.0.ssm_dt": (4,)}))
    assert shapes == {"blk.0.ssm_dt.bias": (4,)}
    assert "qwen3next.rope.dimension_sections" not in keys
    assert translate.text("qwen3next", {}, {"blk.0.ssm_dt.bias": (4,)}) is None


def test_lfm2(translate: Translator) -> None:
    shapes: Shapes = {"output_norm.weight": (4,), "blk.0.ffn_gate.weight": (4, 12)}
    keys, renamed = made(translate.text("lfm2", {".feed_forward_length": 18}, shapes))
    assert keys["lfm2.feed_forward_length"] == 12
    assert keys["tokenizer.ggml.pre"] == "lfm2"
    assert renamed.keys() == {"token_embd_norm.weight", "blk.0.ffn_gate.weight"}
    assert translate.text("lfm2", {}, renamed) is None


def test_olmo3(translate: Translator) -> None:
    keys, shapes = made(translate.text("olmo3", {".block_count": 3}, {"output_norm.weight": (4,)}))
    assert keys["general.architecture"] == "olmo2"
    assert keys["olmo2.block_count"] == 3
    assert shapes == {"output_norm.weight": (4,)}


@pytest.mark.parametrize("pre", ["default", None])
def test_llama_3_without_rules_for_cutting_texts(
    pre: str | None, translate: Translator, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A vocabulary of 128,010 tokens takes a second to write.
    monkeypatch.setattr(llama3, "END_OF_TURN", (2, "<|eot_id|>"))
    keys: Keys = {} if pre is None else {"tokenizer.ggml.pre": pre}

    def text(end: str, model: str = "gpt2", **others: str) -> tuple[Keys, Shapes] | None:
        others = {f"tokenizer.ggml.{key}": value for key, value in others.items()}
        vocabulary = {"tokenizer.ggml.model": model, "tokenizer.ggml.tokens": ["a", "b", end]}
        return translate.text("llama", keys | others | vocabulary, {"output_norm.weight": (4,)})

    assert made(text("<|eot_id|>"))[0]["tokenizer.ggml.pre"] == "llama-bpe"
    assert text("<|eot_id|>", pre="smaug-bpe") is None
    assert text("<|eot_id|>", model="llama") is None
    assert text("else") is None


def test_glm_4_7_flash(translate: Translator) -> None:
    keys, _ = made(
        translate.text(
            "glm4moelite",
            {
                ".attention.kv_lora_rank": 512,
                ".attention.key_length": 256,
                ".attention.key_length_mla": 576,
                ".attention.head_count_kv": 20,
                ".rope.dimension_count": 64,
                "tokenizer.ggml.eos_token_ids": [7, 8, 9],
            },
            {"output_norm.weight": (4,)},
        )
    )
    assert keys["general.architecture"] == "deepseek2"
    names = ("head_count_kv", "key_length", "value_length", "key_length_mla", "value_length_mla")
    values = [keys[f"deepseek2.attention.{name}"] for name in names]
    assert values == [1, 576, 512, 256, 256]
    assert keys["tokenizer.ggml.eot_token_id"] == 8
    assert keys["tokenizer.ggml.eom_token_id"] == 9


def test_nemotron_3(translate: Translator) -> None:
    keys, shapes = made(
        translate.text(
            "nemotron_h_moe",
            {},
            {
                "blk.1.ffn_latent_in.weight": (8, 3),
                "blk.1.ffn_latent_out.weight": (3, 8),
                "mtp.layers.0.norm.weight": (4,),
            },
        )
    )
    assert keys["nemotron_h_moe.moe_latent_size"] == 3
    assert shapes.keys() == {"blk.1.ffn_latent_down.weight", "blk.1.ffn_latent_up.weight"}
    assert translate.text("nemotron_h_moe", {}, shapes) is None


def test_nemotron_3_that_sees_and_hears(translate: Translator) -> None:
    shapes: Shapes = {
        "blk.0.attn_norm.weight": (4,),
        "v.position_embd": (4,),
        "a.blk.0.norm.weight": (4,),
        "mm.norm.weight": (4,),
    }
    for experts, architecture in ((2, "nemotron_h_moe"), (0, "nemotron_h")):
        keys, kept = made(translate.text("nemotron_h_omni", {".expert_count": experts}, shapes))
        assert keys["general.architecture"] == architecture
        assert keys[f"{architecture}.expert_count"] == experts
        assert kept.keys() == {"blk.0.attn_norm.weight"}


def test_laguna(translate: Translator) -> None:
    keys, shapes = made(
        translate.text("laguna", {".rope.swa.freq_base": 3.0}, {"blk.0.attn_g.weight": (4,)})
    )
    assert keys["laguna.rope.freq_base_swa"] == 3.0
    assert shapes.keys() == {"blk.0.attn_gate.weight"}


def test_rules_for_characters_in_base64(translate: Translator) -> None:
    name = "tokenizer.ggml.precompiled_charsmap"
    tensors: Shapes = {"output_norm.weight": (4,)}
    keys, _ = made(translate.text("bert", {name: list("AQL/")}, tensors))
    assert keys[name] == [1, 2, 255]
    assert translate.text("bert", {name: [1, 2]}, tensors) is None
    with pytest.raises(InvalidGGUF, match="precompiled_charsmap' is not base64"):
        translate.text("bert", {name: list("A!==")}, tensors)


def test_glm_ocr(translate: Translator) -> None:
    keys, shapes = made(
        translate.text(
            "glmocr",
            {
                ".block_count": 1,
                ".attention.key_length": 16,
                ".rope.mrope_section": [2, 3, 3],
                "tokenizer.ggml.eos_token_ids": [7, 8],
            },
            {
                "blk.0.ffn_gate.weight": (4, 6),
                "blk.0.ffn_up.weight": (4, 6),
                "blk.0.attn_out.weight": (4, 4),
                "blk.0.post_attn_norm.weight": (4,),
                "blk.0.post_ffn_norm.weight": (4,),
                "v.blk.0.ln1.weight": (4,),
            },
        )
    )
    assert keys["general.architecture"] == "glm4"
    assert keys["glm4.rope.dimension_sections"] == [2, 3, 3, 0]
    assert keys["glm4.rope.dimension_count"] == 16
    assert keys["tokenizer.ggml.eot_token_id"] == 8
    assert shapes == {
        "blk.0.ffn_up.weight": (4, 12),
        "blk.0.attn_output.weight": (4, 4),
        "blk.0.post_attention_norm.weight": (4,),
        "blk.0.post_ffw_norm.weight": (4,),
    }


def test_deepseek_ocr(translate: Translator) -> None:
    keys, shapes = made(
        translate.text(
            "deepseekocr",
            {".block_count": 2},
            {
                "blk.1.ffn_down_exps.weight": (6, 4, 2),
                "blk.1.ffn_down_shexp.weight": (12, 4),
                "s.blk.0.norm1.weight": (4,),
                "v.blk.0.layer_norm1.weight": (4,),
                "mm.layers.weight": (4,),
            },
        )
    )
    assert keys["general.architecture"] == "deepseek2-ocr"
    assert keys["deepseek2-ocr.expert_feed_forward_length"] == 6
    assert keys["deepseek2-ocr.expert_shared_count"] == 2
    assert shapes.keys() == {"blk.1.ffn_down_exps.weight", "blk.1.ffn_down_shexp.weight"}


def test_gpt_oss_of_an_early_converter_is_refused(translate: Translator) -> None:
    with pytest.raises(
        InvalidGGUF, match=r"tensor 'blk\.0\.ffn_gate_up_exps\.weight' has the rows"
    ):
        translate.text("gptoss", {}, {"blk.0.ffn_gate_up_exps.weight": (4, 8, 2)})


# --- projectors ----------------------------------------------------------------------------------

SIZES: Keys = {
    ".embedding_length": 8,
    ".vision.block_count": 1,
    ".vision.embedding_length": 4,
    ".vision.attention.head_count": 2,
    ".vision.patch_size": 2,
}


def test_gemma_4s_projector_does_not_hear(translate: Translator) -> None:
    keys, shapes = translate.projector(
        "gemma4",
        SIZES
        | {
            ".vision.feed_forward_length": 6,
            ".vision.attention.layer_norm_epsilon": 0.5,
            ".vision.projector.scale_factor": 3,
            ".audio.block_count": 1,
        },
        {
            "v.blk.0.ln1.weight": (4,),
            "v.clamp_data": (32,),
            "mm.input_projection.weight": (4, 8),
            "mm.a.fc.weight": (4, 8),
            "a.blk.0.ln1.weight": (4,),
            "output_norm.weight": (8,),
        },
    )
    assert keys["clip.projector_type"] == "gemma4v"
    assert keys["clip.vision.image_mean"] == [0.0] * 3
    assert keys["clip.vision.projector.scale_factor"] == 3
    assert not any(key.startswith(("clip.audio", "clip.has_audio", "clip.use")) for key in keys)
    assert shapes.keys() == {"v.blk.0.ln1.weight", "mm.input_projection.weight"}


def test_glm_ocrs_projector(translate: Translator) -> None:
    keys, shapes = translate.projector(
        "glmocr",
        SIZES
        | {
            ".vision.out_hidden_size": 10,
            ".vision.intermediate_size": 6,
            ".vision.attention.layer_norm_rms_epsilon": 0.5,
            ".vision.image_size": 8,
            ".vision.spatial_merge_size": 2,
            ".vision.image_mean": [0.25] * 3,
        },
        {"v.patch_embd_0.weight": (2, 2, 3, 4), "v.patch_embd_1.weight": (2, 2, 3, 4)},
    )
    assert keys["clip.vision.projection_dim"] == 10
    assert keys["clip.vision.feed_forward_length"] == 6
    assert keys["clip.vision.image_mean"] == [0.25] * 3
    assert shapes.keys() == {"v.patch_embd.weight", "v.patch_embd.weight.1"}


def test_deepseek_ocrs_projector(translate: Translator) -> None:
    sizes = {key: value for key, value in SIZES.items() if not key.endswith("attention.head_count")}
    keys, shapes = translate.projector(
        "deepseekocr",
        sizes
        | {
            ".vision.head_count": 2,
            ".vision.image_size": 8,
            ".sam.block_count": 1,
            ".sam.embedding_length": 4,
            ".sam.head_count": 2,
        },
        {
            "s.position_embd": (4, 2, 2),
            "s.blk.0.attn.proj.weight": (4, 4),
            "s.blk.0.attn.rel_pos_h": (2, 3),
            "s.blk.0.norm1.weight": (4,),
            "v.blk.0.self_attn.qkv_proj.weight": (4, 12),
            "v.pre_layrnorm.weight": (4,),
            "mm.layers.weight": (4, 8),
            "mm.view_seperator": (8,),
        },
    )
    assert keys["clip.vision.attention.head_count"] == 2
    assert keys["clip.vision.sam.block_count"] == 1
    assert shapes.keys() == {
        "v.sam.pos_embd.weight",
        "v.sam.blk.0.attn.out.weight",
        "v.sam.blk.0.attn.pos_h.weight",
        "v.sam.blk.0.pre_ln.weight",
        "v.blk.0.attn_qkv.weight",
        "v.pre_ln.weight",
        "mm.model.fc.weight",
        "v.view_seperator",
    }
