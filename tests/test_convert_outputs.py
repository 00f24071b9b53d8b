"""A converted model computes what the original does: tiny random models of every architecture.

What transformers makes of them is recorded (``tests/parity/record.py``), and the weights are made
anew from their seed. ``make test-parity`` compares all outputs with transformers itself.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaherd.errors import BadRequest
from llamaherd.gguf import GGUF
from tests.support.checkpoints import (
    CASES,
    N_EMBD,
    N_VOCAB,
    RECORDED_OUTPUTS,
    TOKENS,
    Case,
    DType,
    bert_shapes,
    convert_folder,
    decoder_config,
    decoder_shapes,
    sample,
    tolerance,
    weights,
    write_checkpoint,
    write_safetensors,
    write_tokenizer,
)
from tests.support.evaluate import evaluate

RECORDED = json.loads(RECORDED_OUTPUTS.read_text())


def converted(tmp_path: Path, case: Case, dtype: DType = "F32") -> Path:
    folder = write_checkpoint(tmp_path / "model", case, dtype)
    write_tokenizer(folder, wordpiece=not case.is_causal)
    return convert_folder(folder, tmp_path / "model.gguf")


def assert_computes(path: Path, name: str, dtype: DType = "F32") -> None:
    rows = evaluate(path, TOKENS, vectors=not CASES[name].is_causal)
    recorded = RECORDED[name]
    error = np.abs(np.array(sample(rows)) - np.array(recorded["sample"])).max()
    assert error < tolerance(dtype) * recorded["spread"]


@pytest.mark.parametrize("name", CASES)
def test_the_outputs_are_those_of_transformers(name: str, tmp_path: Path) -> None:
    assert_computes(converted(tmp_path, CASES[name]), name)


@pytest.mark.parametrize("dtype", ["F16", "BF16"])
def test_from_every_type(dtype: DType, tmp_path: Path) -> None:
    path = converted(tmp_path, CASES["llama-biased"], dtype)
    assert_computes(path, "llama-biased", dtype)


class TestTypes:
    @pytest.mark.parametrize(
        ("stored", "matrices", "file_type"),
        [("F32", "F16", 1), ("F16", "F16", 1), ("BF16", "BF16", 32)],
    )
    def test_matrices_take_two_bytes_and_the_rest_stays_exact(
        self, stored: DType, matrices: str, file_type: int, tmp_path: Path
    ) -> None:
        with GGUF.open(converted(tmp_path, CASES["mixtral"], stored)) as gguf:
            assert gguf.file_type == file_type
            for tensor in gguf.tensors:
                vector = len(tensor.shape) == 1 or tensor.name.endswith("ffn_gate_inp.weight")
                assert tensor.type == ("F32" if vector else matrices), tensor.name

    def test_what_f16_can_not_hold_is_refused(self, tmp_path: Path) -> None:
        case = CASES["llama"]
        folder = write_checkpoint(tmp_path, case)
        write_tokenizer(folder)
        tensors = weights(case)
        tensors["lm_head.weight"][3, 5] = 70_000
        write_safetensors(folder / "model.safetensors", tensors)
        with pytest.raises(BadRequest, match=r"lm_head.weight has numbers beyond 65504"):
            convert_folder(folder, tmp_path / "model.gguf")


class TestShards:
    def write(self, folder: Path, name: str = "llama") -> dict[str, Any]:
        """The model in two files, with an index."""
        tensors = weights(CASES[name])
        write_checkpoint(folder, CASES[name])
        (folder / "model.safetensors").unlink()
        write_tokenizer(folder)
        names = sorted(tensors)
        index: dict[str, Any] = {"metadata": {}, "weight_map": {}}
        for part, own in enumerate((names[::2], names[1::2]), start=1):
            file = f"model-0000{part}-of-00002.safetensors"
            write_safetensors(folder / file, {each: tensors[each] for each in own})
            index["weight_map"] |= dict.fromkeys(own, file)
        self.write_index(folder, index)
        return index

    def write_index(self, folder: Path, index: dict[str, Any]) -> None:
        (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    def test_make_one_model(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        assert_computes(convert_folder(tmp_path, tmp_path / "model.gguf"), "llama")

    def test_one_that_is_missing_is_named(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        (tmp_path / "model-00002-of-00002.safetensors").unlink()
        with pytest.raises(BadRequest, match=r"model-00002-of-00002.safetensors is missing"):
            convert_folder(tmp_path, tmp_path / "model.gguf")

    def test_an_index_that_is_wrong(self, tmp_path: Path) -> None:
        index = self.write(tmp_path)
        index["weight_map"]["model.norm.weight"] = "model-00001-of-00002.safetensors"
        index["weight_map"]["lm_head.weight"] = "model-00002-of-00002.safetensors"
        self.write_index(tmp_path, index)
        with pytest.raises(BadRequest, match=r"no tensor .*, where model.safetensors.index.json"):
            convert_folder(tmp_path, tmp_path / "model.gguf")

    def test_a_tensor_that_is_there_twice(self, tmp_path: Path) -> None:
        self.write(tmp_path)
        tensors = {"model.norm.weight": np.ones(N_EMBD, np.float32)}
        write_safetensors(tmp_path / "model-extra.safetensors", tensors)
        with pytest.raises(BadRequest, match=r"tensor model.norm.weight is in .* too"):
            convert_folder(tmp_path, tmp_path / "model.gguf")


class TestTiedEmbeddings:
    CONFIG = decoder_config("LlamaForCausalLM", tie_word_embeddings=True)

    def test_may_be_stored_as_either_end(self, tmp_path: Path) -> None:
        shapes = decoder_shapes(tied=True)
        shapes["lm_head.weight"] = shapes.pop("model.embed_tokens.weight")
        with GGUF.open(converted(tmp_path, Case(self.CONFIG, shapes))) as gguf:
            names = {tensor.name for tensor in gguf.tensors}
        assert "token_embd.weight" in names
        assert "output.weight" not in names

    def test_stored_twice_count_once(self, tmp_path: Path) -> None:
        with GGUF.open(converted(tmp_path, Case(self.CONFIG, decoder_shapes()))) as gguf:
            assert "output.weight" not in {tensor.name for tensor in gguf.tensors}

    def test_models_that_are_not_tied_need_both(self, tmp_path: Path) -> None:
        case = Case(decoder_config("LlamaForCausalLM"), decoder_shapes(tied=True))
        with pytest.raises(BadRequest, match=r"have no tensor lm_head.weight"):
            converted(tmp_path, case)


def test_the_first_checkpoints_of_bert_call_norms_otherwise(tmp_path: Path) -> None:
    shapes = bert_shapes(prefix="bert.", gamma=True) | {"cls.predictions.bias": (N_VOCAB,)}
    old = Case(CASES["bert"].config, shapes, is_causal=False)
    assert len(evaluate(converted(tmp_path, old), TOKENS, vectors=True)) == len(TOKENS)


@pytest.mark.parametrize(
    ("files", "pooling"),
    [
        ({}, 1),
        ({"1_Pooling/config.json": {"pooling_mode_cls_token": True}}, 2),
        ({"1_Pooling/config.json": {"pooling_mode_mean_tokens": True}}, 1),
        ({"1_Pooling/config.json": {"pooling_mode": "lasttoken"}}, 3),
    ],
)
def test_how_vectors_become_one(files: dict[str, Any], pooling: int, tmp_path: Path) -> None:
    folder = write_checkpoint(tmp_path, CASES["bert"])
    write_tokenizer(folder, wordpiece=True)
    if files:
        files |= {"modules.json": [{"idx": 1, "path": "1_Pooling", "type": "x.models.Pooling"}]}
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(json.dumps(content))
    with GGUF.open(convert_folder(folder, tmp_path / "model.gguf")) as gguf:
        assert gguf.get("bert.pooling_type", int) == pooling
