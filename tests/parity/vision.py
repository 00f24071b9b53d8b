"""What transformers computes of pictures."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from tests.support.vision_cases import IMAGE_TOKEN, VisionCase
from tests.support.vision_checkpoints import N_PREDICT, Reply


def reply(folder: Path, case: VisionCase, prompt: Sequence[int]) -> Reply:
    """To the tokens of ``prompt``, some of which stand for the case's picture.

    Raises AssertionError when the checkpoint isn't exactly what transformers expects.
    """
    model, image = _model(folder), _image(folder, case)
    first = logits = _logits(model, prompt, image)
    tokens = [int(logits.argmax())]
    while len(tokens) < N_PREDICT:
        logits = _logits(model, [*prompt, *tokens], image)
        tokens.append(int(logits.argmax()))
    return Reply(list(prompt), tokens, first)


def _model(folder: Path) -> Any:
    model, loading = transformers.AutoModelForImageTextToText.from_pretrained(
        folder,
        dtype=torch.float32,
        attn_implementation="eager",
        output_loading_info=True,
        local_files_only=True,
    )
    assert not loading["missing_keys"], loading["missing_keys"]
    assert not loading["unexpected_keys"], loading["unexpected_keys"]
    return model.eval()


def _image(folder: Path, case: VisionCase) -> dict[str, torch.Tensor]:
    """What the checkpoint's image processor makes of the picture."""
    processor = transformers.AutoImageProcessor.from_pretrained(
        folder, backend="pil", local_files_only=True
    )
    return dict(processor(Image.fromarray(case.picture), return_tensors="pt"))


def _logits(model: Any, tokens: Sequence[int], image: dict[str, torch.Tensor]) -> Any:
    ids = torch.tensor([list(tokens)])
    extra = {}
    if model.config.model_type == "gemma3":
        # What belongs to one image sees all of it.
        extra["token_type_ids"] = (ids == IMAGE_TOKEN).long()
    elif "image_grid_thw" in image:
        # What belongs to an image has its place there.
        extra["mm_token_type_ids"] = (ids == IMAGE_TOKEN).int()
    with torch.no_grad():
        result = model(input_ids=ids, **image, **extra)
    return np.asarray(result.logits[0, -1].numpy(), np.float32)
