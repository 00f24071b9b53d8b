"""Random LoRA adapters as PEFT stores them, for the models of ``checkpoints``."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import numpy as np

from llamaherd.create.convert.adapters.conversion import AdapterConversion
from llamaherd.create.convert.folder import ModelFolder
from tests.support.checkpoints import Array, Case, DType, bfloat16_bits, write_safetensors

RANK: Final = 4
ALPHA: Final = 8

#: By module: A, of shape (rank, columns), and B, of shape (rows, rank).
Pairs = dict[str, tuple[Array, Array]]


def modules_of(case: Case) -> list[str]:
    """What PEFT's ``all-linear`` takes: every matrix but the two ends."""
    return [
        name.removesuffix(".weight")
        for name, shape in case.shapes.items()
        if len(shape) == 2 and "embed" not in name and name != "lm_head.weight"
    ]


def random_pairs(
    case: Case, modules: Iterable[str], *, rank: int = RANK, seed: int = 1, gain: float = 0.5
) -> Pairs:
    """Numbers that every type can hold, large enough to change what a model says."""
    random = np.random.default_rng(seed)

    def matrix(rows: int, columns: int, scale: float) -> Array:
        values = random.standard_normal((rows, columns)) * scale
        values[np.abs(values) < 2**-12] = 0
        return bfloat16_bits(values.astype(np.float32))[1]

    pairs = {}
    for module in modules:
        rows, columns = case.shapes[f"{module}.weight"]
        if "embed" in module:
            rows, columns = columns, rows
        pairs[module] = (matrix(rank, columns, gain / np.sqrt(columns)), matrix(rows, rank, gain))
    return pairs


def peft_tensors(pairs: Pairs) -> dict[str, Array]:
    tensors: dict[str, Array] = {}
    for module, (a, b) in pairs.items():
        stem = f"base_model.model.{module}"
        if "embed" in module:
            tensors |= {f"{stem}.lora_embedding_A": a, f"{stem}.lora_embedding_B": b}
        else:
            tensors |= {f"{stem}.lora_A.weight": a, f"{stem}.lora_B.weight": b}
    return tensors


def peft_config(**more: Any) -> dict[str, Any]:
    return {
        "peft_type": "LORA",
        "r": RANK,
        "lora_alpha": ALPHA,
        "bias": "none",
        "modules_to_save": None,
        "init_lora_weights": True,
        "use_dora": False,
        "use_rslora": False,
        "alpha_pattern": {},
        "rank_pattern": {},
        **more,
    }


def write_adapter_folder(
    folder: Path, tensors: Mapping[str, Array], config: dict[str, Any], dtype: DType = "F32"
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "adapter_config.json").write_text(json.dumps(config))
    write_safetensors(folder / "adapter_model.safetensors", tensors, dtype)
    return folder


def convert_adapter(folder: Path, base: Path, target: Path) -> Path:
    """Convert in this process, which shows errors best."""
    files = {path.name: path for path in folder.iterdir()}
    with target.open("wb") as file:
        AdapterConversion(ModelFolder(files), base).adapter.write(file.write)
    return target


def merged(
    weights: Mapping[str, Array], pairs: Pairs, scales: Mapping[str, float]
) -> dict[str, Array]:
    """The weights of a model in which the adapter's changes are part of the matrices."""
    changed = dict(weights)
    for module, (a, b) in pairs.items():
        change = b @ a * np.float32(scales[module])
        changed[f"{module}.weight"] = weights[f"{module}.weight"] + (
            change.T if "embed" in module else change
        )
    return changed
