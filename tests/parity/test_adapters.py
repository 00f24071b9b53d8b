"""Adapters as PEFT saves them, converted and under llama.cpp, against PEFT itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import peft
import pytest
import torch
import transformers

from tests.support.adapters import convert_adapter
from tests.support.checkpoints import (
    CASES,
    TOKENS,
    convert_folder,
    tolerance,
    write_checkpoint,
    write_tokenizer,
)
from tests.support.evaluate import evaluate

pytestmark = pytest.mark.filterwarnings("default")

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "plain": {"r": 4, "lora_alpha": 16, "target_modules": "all-linear"},
    "rslora": {"r": 8, "lora_alpha": 6, "use_rslora": True, "target_modules": "all-linear"},
    "patterns": {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": "all-linear",
        "rank_pattern": {"o_proj": 8, "down_proj": 2, "dense": 2},
        "alpha_pattern": {r"layers\.0\..*q_proj": 32, "o_proj": 5, "query": 3},
    },
}


@pytest.mark.parametrize("kind", CONFIGURATIONS)
@pytest.mark.parametrize(
    "name", ["llama", "mistral", "gemma2", "gemma3", "phi3", "qwen2", "qwen3", "bert"]
)
def test_outputs_are_those_of_peft(name: str, kind: str, tmp_path: Path) -> None:
    assert_same(name, CONFIGURATIONS[kind], tmp_path)


def test_both_ends(tmp_path: Path) -> None:
    targets = ["embed_tokens", "lm_head", "q_proj"]
    assert_same("llama", {"r": 4, "lora_alpha": 16, "target_modules": targets}, tmp_path)


def assert_same(name: str, configuration: dict[str, Any], tmp_path: Path) -> None:
    case = CASES[name]
    folder = write_checkpoint(tmp_path / "model", case)
    kind: Any = transformers.AutoModelForCausalLM if case.is_causal else transformers.AutoModel
    plain = kind.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model = peft.get_peft_model(plain, peft.LoraConfig(**configuration)).eval()
    torch.manual_seed(0)
    with torch.no_grad():
        for parameter_name, parameter in model.named_parameters():
            if "lora_" in parameter_name:
                parameter.copy_(torch.randn_like(parameter) * 0.12)
        result = model(torch.tensor([TOKENS]))
        with model.disable_adapter():
            unchanged = model(torch.tensor([TOKENS]))
    expected, before = (
        np.asarray((each.logits if case.is_causal else each.last_hidden_state)[0].numpy())
        for each in (result, unchanged)
    )
    assert abs(expected - before).max() > 0.1 * expected.std()
    model.save_pretrained(tmp_path / "adapter")
    (tmp_path / "adapter" / "README.md").unlink(missing_ok=True)
    write_tokenizer(folder, wordpiece=not case.is_causal)
    base = convert_folder(folder, tmp_path / "model.gguf")
    adapter = convert_adapter(tmp_path / "adapter", base, tmp_path / "adapter.gguf")
    actual = evaluate(base, TOKENS, vectors=not case.is_causal, adapters=[adapter])
    assert abs(actual - expected).max() < tolerance("F32") * expected.std()
