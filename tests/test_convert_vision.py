"""A folder of a model that sees becomes two files, which together see what the original does.

Tiny random models of every kind. What transformers replies about a picture is recorded
(``tests/parity/record.py``), and the weights are made anew from their seed. ``make test-parity``
compares with transformers itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaherd.create.convert.convert import Conversion
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.errors import BadRequest
from llamaherd.gguf import GGUF, Array
from tests.support.checkpoints import DType, Shapes, weights, write_safetensors
from tests.support.vision_cases import VISION_CASES, VisionCase
from tests.support.vision_checkpoints import (
    convert_vision_folder,
    engine_reply,
    recorded_replies,
    vision_tolerance,
    write_vision_checkpoint,
)

RECORDED = recorded_replies()


@pytest.mark.parametrize("name", VISION_CASES)
def test_replies_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    case, expected = VISION_CASES[name], RECORDED[name]
    folder = write_vision_checkpoint(tmp_path / "model", case)
    actual = engine_reply(convert_vision_folder(folder, tmp_path), case)
    assert actual.prompt == expected.prompt
    error = np.abs(actual.logits - expected.logits).max()
    assert error < vision_tolerance("F32") * expected.logits.std()
    assert actual.tokens == expected.tokens


def test_recorded_replies_are_as_different_as_the_cases() -> None:
    assert len({tuple(reply.tokens) for reply in RECORDED.values()}) >= len(RECORDED) - 1


@pytest.mark.parametrize(
    ("stored", "matrices", "file_type"),
    [("F32", "F16", 1), ("F16", "F16", 1), ("BF16", "BF16", 32)],
)
def test_what_is_convolved_or_added_stays_exact(
    stored: DType, matrices: str, file_type: int, tmp_path: Path
) -> None:
    folder = write_vision_checkpoint(tmp_path / "model", VISION_CASES["gemma3"], stored)
    with GGUF.open(convert_vision_folder(folder, tmp_path).projector) as gguf:
        assert gguf.architecture == "clip"
        assert gguf.get("general.type", str) == "mmproj"
        assert gguf.file_type == file_type
        for tensor in gguf.tensors:
            is_matrix = tensor.name.startswith("v.blk.") and len(tensor.shape) > 1
            assert tensor.type == (matrices if is_matrix else "F32"), tensor.name


class TestNames:
    """Every generation of transformers has put the parts under other names."""

    @pytest.mark.parametrize(
        ("name", "respelt"),
        [
            ("gemma3", {"language_model.model.": "model.language_model."}),
            ("gemma3", {"vision_tower.vision_model.": "vision_tower."}),
            (
                "gemma3",
                {
                    "language_model.model.": "model.language_model.",
                    "vision_tower.": "model.vision_tower.",
                    "multi_modal_projector.": "model.multi_modal_projector.",
                },
            ),
            ("qwen2-vl", {"model.": "model.language_model.", "visual.": "model.visual."}),
            (
                "llava-clip",
                {
                    "language_model.model.": "model.language_model.",
                    "language_model.lm_head": "lm_head",
                    "vision_tower.": "model.vision_tower.",
                    "multi_modal_projector.": "model.multi_modal_projector.",
                },
            ),
        ],
    )
    def test_all_give_the_same(self, name: str, respelt: dict[str, str], tmp_path: Path) -> None:
        case = VISION_CASES[name]
        folder = write_vision_checkpoint(tmp_path / "model", case)
        usual = convert_vision_folder(folder, tmp_path)
        before = usual.model.read_bytes(), usual.projector.read_bytes()
        tensors = {respell(key, respelt): value for key, value in weights(case.case).items()}
        write_safetensors(folder / "model.safetensors", tensors)
        other = convert_vision_folder(folder, tmp_path)
        assert (other.model.read_bytes(), other.projector.read_bytes()) == before

    def test_a_qwen_with_its_language_model_apart(self, tmp_path: Path) -> None:
        """As transformers 5 saves it."""
        case = VISION_CASES["qwen2.5-vl"]
        folder = write_vision_checkpoint(tmp_path / "model", case)
        usual = convert_vision_folder(folder, tmp_path)
        before = usual.model.read_bytes(), usual.projector.read_bytes()
        config = dict(case.case.config)
        whole = ("architectures", "model_type", "vision_config", "tie_word_embeddings")
        text = {key: value for key, value in config.items() if key not in whole}
        rope = {"mrope_section": [2, 3, 3], "rope_theta": 1e6, "rope_type": "default"}
        text |= {"rope_parameters": rope, "rope_scaling": None}
        parts = {key: config[key] for key in whole}
        rewrite(folder, "config.json", lambda _: parts | {"text_config": text})
        other = convert_vision_folder(folder, tmp_path)
        assert (other.model.read_bytes(), other.projector.read_bytes()) == before


def respell(name: str, respelt: dict[str, str]) -> str:
    prefix = next((each for each in respelt if name.startswith(each)), "")
    return respelt.get(prefix, "") + name.removeprefix(prefix)


def rewrite(folder: Path, file: str, change: Callable[[dict[str, Any]], Any]) -> None:
    """Replaces the content of a JSON file by what ``change`` makes of it."""
    (folder / file).write_text(json.dumps(change(json.loads((folder / file).read_text()))))


def refused(folder: Path) -> str:
    with pytest.raises(BadRequest) as caught:
        Conversion(ModelFolder({path.name: path for path in folder.iterdir()}))
    return str(caught.value)


class TestImageProcessor:
    def folder(self, tmp_path: Path, **changes: Any) -> Path:
        folder = write_vision_checkpoint(tmp_path / "model", VISION_CASES["gemma3"])
        rewrite(folder, "preprocessor_config.json", lambda content: content | changes)
        return folder

    def test_one_that_is_missing_is_named(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path)
        (folder / "preprocessor_config.json").unlink()
        assert refused(folder) == "preprocessor_config.json is missing"

    def test_may_be_a_section_of_another_file(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path)
        before = convert_vision_folder(folder, tmp_path).projector.read_bytes()
        content = json.loads((folder / "preprocessor_config.json").read_text())
        (folder / "preprocessor_config.json").unlink()
        (folder / "processor_config.json").write_text(json.dumps({"image_processor": content}))
        assert convert_vision_folder(folder, tmp_path).projector.read_bytes() == before

    def test_colours_that_are_not_normalised(self, tmp_path: Path) -> None:
        folder = self.folder(tmp_path, do_normalize=False)
        with GGUF.open(convert_vision_folder(folder, tmp_path).projector) as gguf:
            assert list(gguf.get("clip.vision.image_mean", Array)) == [0, 0, 0]
            assert list(gguf.get("clip.vision.image_std", Array)) == [1, 1, 1]

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"image_mean": None}, "image_mean is missing"),
            ({"image_mean": [0.5]}, "image_mean: expected 3 numbers, for red, green and blue"),
            ({"image_std": [1, 0, 1]}, "image_std: expected numbers above 0"),
            ({"image_std": "0.5"}, "image_std: expected a list of numbers"),
            ({"rescale_factor": 1}, "rescale_factor: expected 1/255"),
            ({"do_rescale": False}, "rescale_factor: expected 1/255"),
        ],
    )
    def test_settings_that_can_not_be(
        self, changes: dict[str, Any], message: str, tmp_path: Path
    ) -> None:
        assert refused(self.folder(tmp_path, **changes)).startswith(
            f"preprocessor_config.json: {message}"
        )


@pytest.mark.parametrize(
    ("name", "section", "changes", "message"),
    [
        ("gemma3", "", {"mm_tokens_per_image": 15}, "mm_tokens_per_image: expected the square"),
        (
            "gemma3",
            "vision_config",
            {"image_size": 9000},
            "image_size: expected between patch_size",
        ),
        ("gemma3", "vision_config", {"hidden_size": 33}, "hidden_size: expected a multiple of 2"),
        ("gemma3", "vision_config", {"intermediate_size": 32}, "intermediate_size: expected other"),
        ("gemma3", "vision_config", {"num_channels": 1}, "num_channels: expected 3"),
        ("gemma3", "vision_config", {"hidden_act": "relu"}, "hidden_act: expected one of gelu"),
        (
            "gemma3",
            "text_config",
            {"sliding_window_pattern": 3},
            "sliding_window_pattern: expected",
        ),
        ("qwen2-vl", "vision_config", {"spatial_merge_size": 3}, "spatial_merge_size: expected 2"),
        ("qwen2-vl", "rope_scaling", {"mrope_section": [8, 8]}, "mrope_section: expected 3 counts"),
        ("qwen2.5-vl", "vision_config", {"window_size": 96}, "window_size: expected 112"),
        (
            "qwen2.5-vl",
            "vision_config",
            {"fullatt_block_indexes": [0, 3]},
            "fullatt_block_indexes: expected every so many of 4 layers",
        ),
        ("llava-clip", "text_config", {"model_type": "opt"}, "model_type: expected one of llama"),
        (
            "llava-clip",
            "vision_config",
            {"model_type": "vit"},
            "model_type: expected one of clip_v",
        ),
        ("llava-clip", "", {"vision_feature_layer": 4}, "vision_feature_layer: expected one of 3"),
        (
            "llava-clip",
            "",
            {"vision_feature_select_strategy": "full"},
            "vision_feature_select_strategy: expected 'default'",
        ),
        (
            "pixtral",
            "",
            {"vision_feature_select_strategy": None},
            "vision_feature_select_strategy: expected 'full'",
        ),
        ("pixtral", "", {"vision_feature_layer": None}, "vision_feature_layer: expected -1"),
        (
            "pixtral",
            "vision_config",
            {"num_attention_heads": 16},
            "hidden_size: expected a multiple",
        ),
        ("idefics3", "", {"scale_factor": 3}, "scale_factor: expected a divisor of 4"),
        ("mistral3", "text_config", {"rms_norm_eps": 1e-6}, "rms_norm_eps: expected 1e-05"),
        ("mistral3", "vision_config", {"rope_theta": 100}, "rope_theta: expected 10000.0"),
    ],
)
def test_what_the_engine_has_otherwise_is_refused(
    name: str, section: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    def change(config: dict[str, Any]) -> dict[str, Any]:
        return config | ({section: config[section] | changes} if section else changes)

    folder = write_vision_checkpoint(tmp_path, VISION_CASES[name])
    rewrite(folder, "config.json", change)
    assert message in refused(folder)


class TestTensors:
    def rewrite(self, folder: Path, name: str, change: Callable[[Shapes], Any]) -> str:
        """What is said to a model whose tensors have been changed."""
        case = VISION_CASES[name]
        shapes = dict(case.case.shapes)
        change(shapes)
        changed = type(case.case)(case.case.config, shapes)
        write_vision_checkpoint(folder, VisionCase(changed, case.processor, 56, 56, case.added))
        return refused(folder)

    def test_one_that_is_missing_is_named(self, tmp_path: Path) -> None:
        name = "visual.blocks.1.attn.qkv.weight"
        message = self.rewrite(tmp_path, "qwen2-vl", lambda shapes: shapes.pop(name))
        assert message == f"the safetensors files have no tensor {name}"

    def test_one_of_another_shape_is_named(self, tmp_path: Path) -> None:
        name = "visual.blocks.1.attn.qkv.bias"
        message = self.rewrite(tmp_path, "qwen2-vl", lambda shapes: shapes.update({name: (95,)}))
        assert message == f"model.safetensors: tensor {name}: shape [95], expected [96]"

    def test_frames_are_part_of_a_shape(self, tmp_path: Path) -> None:
        name = "visual.patch_embed.proj.weight"
        shape = (32, 3, 1, 14, 14)
        message = self.rewrite(tmp_path, "qwen2-vl", lambda shapes: shapes.update({name: shape}))
        assert message.endswith(
            f"tensor {name}: shape [32, 3, 1, 14, 14], expected [32, 3, 2, 14, 14]"
        )

    def test_one_that_we_do_not_know_is_named(self, tmp_path: Path) -> None:
        name = "vision_tower.vision_model.encoder.layers.0.gate"
        message = self.rewrite(tmp_path, "gemma3", lambda shapes: shapes.update({name: (4,)}))
        assert message == f"model.safetensors: tensor {name} has no place in architecture gemma3"

    @pytest.mark.parametrize(
        ("name", "token"),
        [("mistral3", "[IMG_BREAK]"), ("idefics3", "<fake_token_around_image>")],
    )
    def test_a_token_that_the_tokenizer_does_not_have(
        self, name: str, token: str, tmp_path: Path
    ) -> None:
        folder = write_vision_checkpoint(tmp_path, VISION_CASES[name])
        rewrite(folder, "tokenizer.json", lambda content: content | {"added_tokens": []})
        assert refused(folder) == f"tokenizer.json: added_tokens: {token} is missing"


def test_what_published_configurations_leave_out(tmp_path: Path) -> None:
    """The sizes of Gemma 3 4B's language model are told by the file as far as they are not those
    of transformers' class; the tensors don't come that far."""
    folder = write_vision_checkpoint(tmp_path, VISION_CASES["gemma3"])
    text = {
        "hidden_size": 64,
        "intermediate_size": 96,
        "model_type": "gemma3_text",
        "num_hidden_layers": 6,
        "sliding_window": 1024,
    }
    rewrite(folder, "config.json", lambda config: config | {"text_config": text})
    assert refused(folder).endswith("embed_tokens.weight: shape [96, 64], expected [262208, 64]")
