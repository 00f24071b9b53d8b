"""What transformers computes of pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
import transformers
from PIL import Image

from tests.support.mtmd_oracle import Answer, Chunk
from tests.support.vision_checkpoints import IMAGE_TOKEN, VisionCase

#: The places of image tokens are marked with it in what transformers calls types of tokens.
_IMAGE_TYPE: Final = 1


def answer(folder: Path, case: VisionCase, chunks: list[Chunk], n_predict: int) -> Answer:
    """To the prompt that ``chunks`` are of, with the case's picture.

    Raises AssertionError when the checkpoint isn't exactly what transformers expects, or when the
    image takes another number of tokens there.
    """
    model = _model(folder)
    tokens: list[int] = []
    for chunk in chunks:
        tokens += case.image_tokens(chunk.n_tokens) if chunk.tokens is None else chunk.tokens
    image = _image(folder, case)
    first = None
    written: list[int] = []
    for _ in range(n_predict):
        logits = _logits(model, [*tokens, *written], image)
        first = logits if first is None else first
        written.append(int(logits.argmax()))
    assert first is not None
    return Answer(written, first, chunks)


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
    """As the image processor of the checkpoint makes it of the picture."""
    processor = transformers.AutoImageProcessor.from_pretrained(
        folder, backend="pil", local_files_only=True
    )
    return dict(processor(Image.fromarray(case.picture), return_tensors="pt"))


def _logits(model: Any, tokens: list[int], image: dict[str, torch.Tensor]) -> Any:
    ids = torch.tensor([tokens])
    types = (ids == IMAGE_TOKEN).long() * _IMAGE_TYPE
    named = "mm_token_type_ids" if "image_grid_thw" in image else "token_type_ids"
    extra = {named: types} if model.config.model_type in ("gemma3",) or named[0] == "m" else {}
    with torch.no_grad():
        result = model(input_ids=ids, **image, **extra)
    return np.asarray(result.logits[0, -1].numpy(), np.float32)
