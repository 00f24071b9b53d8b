"""A converted adapter changes a model as merging it would: ``W + scale * B @ A``.

Tiny random models of every architecture with a random adapter, under llama.cpp. ``make
test-parity`` compares with PEFT itself.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llamaherd.create.adapters import check_adapter
from llamaherd.create.convert.adapters.base import BaseModel
from llamaherd.errors import BadRequest
from llamaherd.gguf import GGUF
from tests.support.adapters import (
    ALPHA,
    RANK,
    Pairs,
    convert_adapter,
    merged,
    modules_of,
    peft_config,
    peft_tensors,
    random_pairs,
    write_adapter_folder,
)
from tests.support.checkpoints import (
    CASES,
    TOKENS,
    Array,
    Case,
    DType,
    convert_folder,
    tolerance,
    weights,
    write_checkpoint,
    write_safetensors,
    write_tokenizer,
)
from tests.support.evaluate import evaluate
from tests.support.models import write_model
from tests.support.ollama_models import make_model
from tests.support.vision_cases import VISION_CASES
from tests.support.vision_checkpoints import convert_vision_folder, write_vision_checkpoint

#: An adapter must change outputs by this part of their spread, or a test could not fail.
NOTICEABLE = 0.1


def write_base(folder: Path, case: Case, tensors: Mapping[str, Array] | None = None) -> Path:
    write_checkpoint(folder, case)
    if tensors is not None:
        write_safetensors(folder / "model.safetensors", tensors)
    write_tokenizer(folder, wordpiece=not case.is_causal)
    return convert_folder(folder, folder / "model.gguf")


WriteBase = Callable[[Path, Case, Mapping[str, Array] | None], Path]


@pytest.fixture
def llama(tmp_path: Path) -> Path:
    return write_base(tmp_path / "base", CASES["llama"])


def assert_acts_as_merged(
    tmp_path: Path,
    case: Case,
    pairs: Pairs,
    scales: Mapping[str, float],
    config: dict[str, Any],
    write: WriteBase = write_base,
) -> None:
    base = write(tmp_path / "base", case, None)
    folder = write_adapter_folder(tmp_path / "adapter", peft_tensors(pairs), config)
    adapter = convert_adapter(folder, base, tmp_path / "adapter.gguf")
    check_adapter("adapter", adapter, base)
    whole = write(tmp_path / "merged", case, merged(weights(case), pairs, scales))
    vectors = not case.is_causal
    plain = evaluate(base, TOKENS, vectors=vectors)
    adapted = evaluate(base, TOKENS, vectors=vectors, adapters=[adapter])
    expected = evaluate(whole, TOKENS, vectors=vectors)
    assert np.abs(adapted - plain).max() > NOTICEABLE * expected.std()
    assert np.abs(adapted - expected).max() < tolerance("F32") * expected.std()


class TestNumbers:
    @pytest.mark.parametrize("name", CASES)
    def test_of_every_architecture(self, name: str, tmp_path: Path) -> None:
        case = CASES[name]
        if "num_experts_per_tok" in case.config:
            # With all experts in use, rounding can't tip the choice between them.
            case = replace(case, config=case.config | {"num_experts_per_tok": 4})
        pairs = random_pairs(case, modules_of(case))
        scales = dict.fromkeys(pairs, ALPHA / RANK)
        assert_acts_as_merged(tmp_path, case, pairs, scales, peft_config())

    @pytest.mark.parametrize("name", VISION_CASES)
    def test_of_language_models_that_see(self, name: str, tmp_path: Path) -> None:
        seeing = VISION_CASES[name]

        def write(folder: Path, case: Case, tensors: Mapping[str, Array] | None) -> Path:
            write_vision_checkpoint(folder / "model", seeing, tensors=tensors)
            return convert_vision_folder(folder / "model", folder).model

        case = seeing.case
        modules = [
            name
            for name in modules_of(case)
            if re.fullmatch(r"(language_model\.)?model\.(\w+_model\.)?layers\..*", name)
        ]
        pairs = random_pairs(case, modules)
        scales = dict.fromkeys(pairs, ALPHA / RANK)
        assert_acts_as_merged(tmp_path, case, pairs, scales, peft_config(), write)

    def test_of_both_ends(self, tmp_path: Path) -> None:
        case = CASES["llama"]
        pairs = random_pairs(case, ["model.embed_tokens", "lm_head"])
        scales = dict.fromkeys(pairs, ALPHA / RANK)
        assert_acts_as_merged(tmp_path, case, pairs, scales, peft_config())

    def test_with_ranks_and_strengths_of_their_own(self, tmp_path: Path) -> None:
        case = CASES["llama"]
        names = ["self_attn.q_proj", "self_attn.v_proj", "mlp.up_proj"]
        q, v, up = (f"model.layers.0.{name}" for name in names)
        pairs = random_pairs(case, [q]) | random_pairs(case, [v, up], rank=2)
        config = peft_config(
            rank_pattern={"v_proj": 2, "up_proj": 2},
            alpha_pattern={"layers.0.self_attn.v_proj": 6, r"mlp\..*": 3, "proj": 100},
        )
        scales = {q: ALPHA / RANK, v: 6 / 2, up: 3 / 2}
        assert_acts_as_merged(tmp_path, case, pairs, scales, config)

    def test_stabilised_by_the_root_of_the_rank(self, tmp_path: Path) -> None:
        case = CASES["llama"]
        q, v = (f"model.layers.1.self_attn.{name}_proj" for name in "qv")
        pairs = random_pairs(case, [q], rank=16) | random_pairs(case, [v])
        config = peft_config(use_rslora=True, r=16, rank_pattern={"v_proj": RANK})
        scales = {q: ALPHA / math.sqrt(16), v: ALPHA / math.sqrt(RANK)}
        assert_acts_as_merged(tmp_path, case, pairs, scales, config)


class TestForms:
    """However the same adapter is stored, the same file comes of it."""

    PAIRS = random_pairs(CASES["llama"], [*modules_of(CASES["llama"]), "model.embed_tokens"])

    @pytest.fixture
    def expected(self, llama: Path, tmp_path: Path) -> bytes:
        return self.converted(llama, tmp_path / "peft", peft_tensors(self.PAIRS))

    @staticmethod
    def converted(
        base: Path,
        folder: Path,
        tensors: Mapping[str, Array],
        config: dict[str, Any] | None = None,
        dtype: DType = "F32",
    ) -> bytes:
        write_adapter_folder(folder, tensors, config or peft_config(), dtype)
        return convert_adapter(folder, base, folder.with_suffix(".gguf")).read_bytes()

    def test_what_it_says_of_itself(self, expected: bytes, tmp_path: Path) -> None:
        with GGUF.open(tmp_path / "peft.gguf") as gguf:
            assert dict(gguf.metadata) == {
                "general.architecture": "llama",
                "general.type": "adapter",
                "general.file_type": 0,
                "adapter.type": "lora",
                "adapter.lora.alpha": float(ALPHA),
            }
            assert {tensor.type for tensor in gguf.tensors} == {"F32"}

    @pytest.mark.parametrize("dtype", ["F16", "BF16"])
    def test_every_type(self, dtype: DType, expected: bytes, llama: Path, tmp_path: Path) -> None:
        tensors = peft_tensors(self.PAIRS)
        assert self.converted(llama, tmp_path / dtype, tensors, dtype=dtype) == expected

    def test_mlx(self, expected: bytes, llama: Path, tmp_path: Path) -> None:
        tensors: dict[str, Array] = {}
        for module, (a, b) in self.PAIRS.items():
            tensors |= {f"{module}.lora_a": a.T, f"{module}.lora_b": b.T}
        parameters = {"rank": RANK, "scale": ALPHA / RANK, "dropout": 0.0}
        config = {"fine_tune_type": "lora", "num_layers": 2, "lora_parameters": parameters}
        assert self.converted(llama, tmp_path / "mlx", tensors, config) == expected
        old = {"lora_layers": 2, "lora_parameters": {"rank": RANK, "alpha": ALPHA, "scale": 1.0}}
        assert self.converted(llama, tmp_path / "old-mlx", tensors, old) == expected

    def test_several_files(self, expected: bytes, llama: Path, tmp_path: Path) -> None:
        tensors = list(peft_tensors(self.PAIRS).items())
        folder = write_adapter_folder(tmp_path / "parts", dict(tensors[::2]), peft_config())
        write_safetensors(folder / "adapter_model-2.safetensors", dict(tensors[1::2]))
        target = convert_adapter(folder, llama, tmp_path / "parts.gguf")
        with GGUF.open(target) as ours, GGUF.open(tmp_path / "peft.gguf") as theirs:
            assert {t.name: t.shape for t in ours.tensors} == {
                t.name: t.shape for t in theirs.tensors
            }

    @pytest.mark.parametrize(
        ("plain", "wrapped"),
        [
            ("base_model.model.", ""),
            ("base_model.model.model.", "base_model.model."),
            ("base_model.model.model.", "base_model.model.model.language_model."),
            ("base_model.model.model.", "base_model.model.language_model.model."),
            ("lora_A.weight", "lora_A.default.weight"),
        ],
    )
    def test_names(
        self, plain: str, wrapped: str, expected: bytes, llama: Path, tmp_path: Path
    ) -> None:
        tensors = {
            name.replace(plain, wrapped, 1): values
            for name, values in peft_tensors(self.PAIRS).items()
        }
        assert self.converted(llama, tmp_path / "wrapped", tensors) == expected

    def test_what_it_stores_of_the_base_is_left_out(
        self, expected: bytes, llama: Path, tmp_path: Path
    ) -> None:
        tensors = peft_tensors(self.PAIRS)
        tensors["base_model.model.model.embed_tokens.base_layer.weight"] = np.zeros((96, 64))
        assert self.converted(llama, tmp_path / "with-base", tensors) == expected


def test_heads_that_the_model_is_not_used_for_are_left_out(tmp_path: Path) -> None:
    base = write_base(tmp_path / "base", CASES["bert"])
    pairs = random_pairs(CASES["bert"], modules_of(CASES["bert"])[:1])
    tensors = peft_tensors(pairs | {"pooler.dense": next(iter(pairs.values()))})
    folder = write_adapter_folder(tmp_path / "adapter", tensors, peft_config())
    with GGUF.open(convert_adapter(folder, base, tmp_path / "adapter.gguf")) as gguf:
        assert [tensor.name for tensor in gguf.tensors] == [
            "blk.0.attn_q.weight.lora_a",
            "blk.0.attn_q.weight.lora_b",
        ]


def test_a_model_in_ollamas_form_is_known_by_what_it_becomes(tmp_path: Path) -> None:
    ours, _ = make_model("qwen25vl", tmp_path).write(tmp_path)
    model = BaseModel(ours)
    assert model.architecture == "qwen2vl"
    place = model.place("model.layers.1.self_attn.q_proj")
    assert place.wanted.name == "blk.1.attn_q.weight"


class TestRefused:
    def test_a_model_whose_blocks_get_other_numbers(self, tmp_path: Path) -> None:
        """Llama 3.2 Vision without the blocks for images: block 2 of 3 becomes block 1."""
        ours, _ = make_model("mllama", tmp_path).write(tmp_path)
        with pytest.raises(BadRequest, match="num_hidden_layers: expected the number of its"):
            BaseModel(ours)

    MODULE = "model.layers.0.self_attn.q_proj"
    PAIRS = random_pairs(CASES["llama"], [MODULE])

    def refused(
        self,
        base: Path,
        tmp_path: Path,
        match: str,
        *,
        tensors: Mapping[str, Array] | None = None,
        config: dict[str, Any] | None = None,
    ) -> None:
        folder = write_adapter_folder(
            tmp_path / "adapter", tensors or peft_tensors(self.PAIRS), config or peft_config()
        )
        with pytest.raises(BadRequest, match=match):
            convert_adapter(folder, base, tmp_path / "adapter.gguf")

    @pytest.mark.parametrize(
        ("config", "match"),
        [
            ({}, r"adapter_config\.json: peft_type: expected 'LORA'"),
            ({"peft_type": "IA3"}, r"adapter_config\.json: peft_type: expected 'LORA'.*'IA3'"),
            (peft_config(use_dora=True), r"adapter_config\.json: use_dora: expected False"),
            (peft_config(bias="all"), r"adapter_config\.json: bias: expected 'none'"),
            (peft_config(lora_bias=True), "lora_bias"),
            (peft_config(modules_to_save=["lm_head"]), "modules_to_save"),
            (peft_config(target_parameters=["x.weight"]), "target_parameters"),
            (peft_config(trainable_token_indices=[1]), "trainable_token_indices"),
            (peft_config(layer_replication=[[0, 1]]), "layer_replication"),
            (peft_config(alora_invocation_tokens=[1]), "alora_invocation_tokens"),
            (peft_config(init_lora_weights="pissa"), "init_lora_weights"),
            (peft_config(lora_alpha=0), "lora_alpha: expected a number above 0"),
            (peft_config(lora_alpha="8"), "lora_alpha: expected a number"),
            (peft_config(r=0), "r: expected a whole number from 1"),
            (peft_config(alpha_pattern={"(a+)+": 1}), "alpha_pattern: expected names or simple"),
            (peft_config(alpha_pattern={".*.*.*": 1}), "alpha_pattern: expected names or simple"),
            (peft_config(alpha_pattern={"(": 1}), r"alpha_pattern: '\(': "),
            (
                peft_config(alpha_pattern={"q_proj": "x"}),
                "alpha_pattern: q_proj: expected a number",
            ),
            ({"fine_tune_type": "dora", "lora_parameters": {"rank": 4}}, "fine_tune_type"),
            ({"lora_parameters": {"rank": 4}}, "scale is missing"),
            ({"lora_parameters": {"rank": 4, "scale": 0}}, "scale: expected a number above 0"),
        ],
    )
    def test_kinds_that_the_engine_does_not_have(
        self, config: dict[str, Any], match: str, llama: Path, tmp_path: Path
    ) -> None:
        folder = write_adapter_folder(tmp_path / "adapter", peft_tensors(self.PAIRS), config)
        with pytest.raises(BadRequest, match=match):
            convert_adapter(folder, llama, tmp_path / "adapter.gguf")

    @pytest.mark.parametrize(
        ("name", "shape", "match"),
        [
            (f"{MODULE}.lora_magnitude_vector", (64,), "DoRA"),
            (f"{MODULE}.lora_B.bias", (64,), "a bias"),
            ("lm_head.modules_to_save.weight", (96, 64), "a module of its own"),
            ("model.norm.weight", (64,), "no LoRA"),
            ("model.layers.0.mlp.up_proj.lora_A.weight", (4, 64), "no B of its LoRA"),
            ("model.layers.0.mlp.up_proj.lora_A.weight", (4, 8, 8), "expected a matrix"),
            ("model.layers.0.mlp.up_proj.lora_A.weight", (0, 64), "expected a matrix"),
            (f"{MODULE}.lora_A.default.weight", (4, 64), f"a second A of {MODULE}"),
        ],
    )
    def test_tensors_that_are_no_pairs(
        self, name: str, shape: tuple[int, ...], match: str, llama: Path, tmp_path: Path
    ) -> None:
        tensors = peft_tensors(self.PAIRS) | {f"base_model.model.{name}": np.zeros(shape)}
        self.refused(llama, tmp_path, match, tensors=tensors)

    @pytest.mark.parametrize(
        ("module", "a", "b", "match"),
        [
            ("model.layers.2.self_attn.q_proj", (4, 64), (64, 4), "layers.2.*no such matrix"),
            ("transformer.h.0.attn", (4, 64), (64, 4), "transformer.h.0.attn.*no such matrix"),
            ("model.layers.0.input_layernorm", (4, 64), (64, 4), "no such matrix"),
            (MODULE, (4, 32), (64, 4), r"shape \[64, 32\], the base model's is \[64, 64\]"),
            (MODULE, (4, 64), (32, 4), r"shape \[32, 64\], the base model's is \[64, 64\]"),
            (MODULE, (4, 64), (64, 8), "rank 8, but 4 in its A"),
        ],
    )
    def test_what_does_not_fit_the_base(
        self,
        module: str,
        a: tuple[int, int],
        b: tuple[int, int],
        match: str,
        llama: Path,
        tmp_path: Path,
    ) -> None:
        tensors = peft_tensors({module: (np.zeros(a), np.zeros(b))})
        self.refused(llama, tmp_path, match, tensors=tensors)

    @pytest.mark.parametrize("module", ["model.embed_tokens", "lm_head"])
    def test_ends_that_are_one_matrix(self, module: str, tmp_path: Path) -> None:
        base = write_base(tmp_path / "base", CASES["llama3"])
        pairs = random_pairs(CASES["llama"], [module])
        match = f"{module}: the base model has one matrix for its token embeddings and its output"
        self.refused(base, tmp_path, match, tensors=peft_tensors(pairs))

    def test_a_module_under_two_names(self, llama: Path, tmp_path: Path) -> None:
        wrapped = self.MODULE.replace("model.", "model.language_model.")
        pair = self.PAIRS[self.MODULE]
        tensors = peft_tensors({self.MODULE: pair, wrapped: pair})
        self.refused(llama, tmp_path, f"{wrapped}: .* has it as {self.MODULE}", tensors=tensors)

    def test_experts_that_differ(self, tmp_path: Path) -> None:
        case = CASES["mixtral"]
        base = write_base(tmp_path / "base", case)
        experts = [name for name in modules_of(case) if name.endswith("w1") and ".0." in name]
        some = random_pairs(case, experts[:3])
        self.refused(base, tmp_path, r"experts\.3\.w1: not adapted", tensors=peft_tensors(some))
        uneven = some | random_pairs(case, experts[3:4], rank=2)
        self.refused(base, tmp_path, r"w1: rank 2, but 4", tensors=peft_tensors(uneven))

    @pytest.mark.parametrize(
        ("key", "match"),
        [
            ("llama.block_count", "num_hidden_layers: expected at most its 21 tensors"),
            ("llama.expert_count", "num_local_experts: expected at most 4096"),
            ("llama.attention.head_count", "base model"),
        ],
    )
    def test_a_base_that_claims_too_much(self, key: str, match: str, tmp_path: Path) -> None:
        base = write_model(tmp_path / "base.gguf", metadata={key: 2_000_000_000})
        self.refused(base, tmp_path, match)

    def test_an_adapter_without_its_configuration(self, llama: Path, tmp_path: Path) -> None:
        folder = write_adapter_folder(tmp_path / "adapter", peft_tensors(self.PAIRS), {})
        (folder / "adapter_config.json").unlink()
        with pytest.raises(BadRequest, match=r"adapter_config\.json is missing"):
            convert_adapter(folder, llama, tmp_path / "adapter.gguf")
        (folder / "adapter_config.json").write_text(json.dumps(peft_config()))
        write_safetensors(folder / "adapter_model.safetensors", {})
        with pytest.raises(BadRequest, match="no LoRA tensors"):
            convert_adapter(folder, llama, tmp_path / "adapter.gguf")
