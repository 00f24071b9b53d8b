"""What transformers computes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import transformers

from tests.support.checkpoints import TOKENS, Case


def outputs(folder: Path, case: Case) -> npt.NDArray[np.float32]:
    """A row for each of ``TOKENS``: logits, or vectors of models that don't write text.

    Raises AssertionError when the checkpoint isn't exactly what transformers expects.
    """
    kind: Any = transformers.AutoModelForCausalLM if case.is_causal else transformers.AutoModel
    model, loading = kind.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
        local_files_only=True,
    )
    missing = [name for name in loading["missing_keys"] if "pooler" not in name]
    assert not missing, missing
    assert not loading["unexpected_keys"], loading["unexpected_keys"]
    with torch.no_grad():
        result = model.eval()(torch.tensor([TOKENS]))
    rows = result.logits if case.is_causal else result.last_hidden_state
    return np.asarray(rows[0].numpy(), np.float32)
