"""Converted models under llama.cpp against the originals under transformers, here and now."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.parity.record import tokens
from tests.parity.reference import outputs
from tests.support.checkpoints import (
    CASES,
    RECORDED_OUTPUTS,
    TOKENS,
    DType,
    convert_folder,
    sample,
    tolerance,
    write_checkpoint,
    write_tokenizer,
)
from tests.support.evaluate import evaluate
from tests.support.tokenizers import FOLDER, recorded

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("name", CASES)
def test_every_output_is_that_of_transformers(name: str, dtype: DType, tmp_path: Path) -> None:
    case = CASES[name]
    folder = write_checkpoint(tmp_path, case, dtype)
    expected = outputs(folder, case)
    write_tokenizer(folder, wordpiece=not case.is_causal)
    path = convert_folder(folder, tmp_path / "model.gguf")
    actual = evaluate(path, TOKENS, vectors=not case.is_causal)
    assert abs(actual - expected).max() < tolerance(dtype) * expected.std()


@pytest.mark.parametrize("name", CASES)
def test_what_is_recorded_is_still_true(name: str, tmp_path: Path) -> None:
    case = CASES[name]
    rows = outputs(write_checkpoint(tmp_path, case), case)
    wanted = json.loads(RECORDED_OUTPUTS.read_text())[name]["sample"]
    np.testing.assert_allclose(sample(rows), wanted, atol=1e-3)


@pytest.mark.parametrize("name", recorded())
def test_recorded_tokens_are_still_true(name: str) -> None:
    assert tokens(FOLDER / name) == recorded()[name]
