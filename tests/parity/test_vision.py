"""Converted models that see, under llama.cpp, against the originals under transformers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tests.parity.vision import reply
from tests.support.checkpoints import DType
from tests.support.vision_cases import VISION_CASES
from tests.support.vision_checkpoints import (
    convert_vision_folder,
    engine_reply,
    recorded_replies,
    vision_tolerance,
    write_vision_checkpoint,
)

pytestmark = pytest.mark.filterwarnings("default")


@pytest.mark.parametrize("dtype", ["F32", "F16", "BF16"])
@pytest.mark.parametrize("name", VISION_CASES)
def test_replies_are_those_of_transformers(name: str, dtype: DType, tmp_path: Path) -> None:
    case = VISION_CASES[name]
    folder = write_vision_checkpoint(tmp_path / "model", case, dtype)
    actual = engine_reply(convert_vision_folder(folder, tmp_path), case)
    expected = reply(folder, case, actual.prompt)
    error = np.abs(actual.logits - expected.logits).max()
    assert error < vision_tolerance(dtype) * expected.logits.std()
    if dtype != "BF16":
        # Its rounding can decide between tokens that are about as probable.
        assert actual.tokens == expected.tokens


@pytest.mark.parametrize("name", VISION_CASES)
def test_what_is_recorded_is_still_true(name: str, tmp_path: Path) -> None:
    case, recorded = VISION_CASES[name], recorded_replies()[name]
    folder = write_vision_checkpoint(tmp_path, case)
    now = reply(folder, case, recorded.prompt)
    np.testing.assert_allclose(now.logits, recorded.logits, atol=1e-3)
    assert now.tokens == recorded.tokens
