"""Tiny random models that see, as Hugging Face stores them, and what is replied about pictures.

As in ``checkpoints``, the same seed gives the same weights everywhere, so what transformers
computes is recorded once and compared with ever after.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llamaherd.create.convert.convert import Conversion
from llamaherd.create.convert.folder import ModelFolder
from tests.support.checkpoints import (
    N_VOCAB,
    Array,
    DType,
    tolerance,
    weights,
    write_safetensors,
    write_tokenizer,
)
from tests.support.mtmd_oracle import Question, ask_oracle
from tests.support.vision import VisionModel
from tests.support.vision_cases import FIRST_ADDED, VisionCase

#: What transformers made of them.
RECORDED_REPLIES: Final = Path(__file__).parents[1] / "data" / "convert-vision.json"

#: So many tokens of each reply are compared.
N_PREDICT: Final = 8


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


def vision_tolerance(dtype: DType) -> float:
    """How far logits may be off, as a part of their spread: another kind of GELU makes a
    hundredth."""
    return tolerance(dtype) if dtype == "BF16" else 0.005


def write_vision_checkpoint(
    folder: Path,
    case: VisionCase,
    dtype: DType = "F32",
    tensors: Mapping[str, Array] | None = None,
) -> Path:
    """Configuration, image processor, tokenizer, and ``tensors`` or the case's own weights."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case.case.config))
    (folder / "preprocessor_config.json").write_text(json.dumps(case.processor))
    tensors = weights(case.case) if tensors is None else tensors
    write_safetensors(folder / "model.safetensors", tensors, dtype)
    write_tokenizer(folder, added=dict(zip(case.added, range(FIRST_ADDED, N_VOCAB), strict=False)))
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
