"""Records what the normal tests compare with: ``python -m tests.parity.record``.

Logits of the tiny models by transformers, also of those that see, the small tokenizers, and their
tokens.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import sentencepiece
from tokenizers import Tokenizer

from tests.parity.reference import outputs
from tests.parity.train import write_all
from tests.parity.vision import reply
from tests.support.checkpoints import CASES, RECORDED_OUTPUTS, sample, write_checkpoint
from tests.support.tokenizers import FOLDER, RECORDED, TEXTS
from tests.support.vision_cases import VISION_CASES, VisionCase
from tests.support.vision_checkpoints import (
    RECORDED_REPLIES,
    convert_vision_folder,
    engine_reply,
    write_vision_checkpoint,
)


def main() -> None:
    recorded = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, case in CASES.items():
            rows = outputs(write_checkpoint(Path(folder) / name, case), case)
            recorded[name] = {"spread": round(float(rows.std()), 5), "sample": sample(rows)}
    _write(RECORDED_OUTPUTS, recorded)
    _write(RECORDED_REPLIES, {name: vision(case) for name, case in VISION_CASES.items()})
    write_all(FOLDER)
    folders = sorted(path for path in FOLDER.iterdir() if path.is_dir())
    _write(RECORDED, {path.name: tokens(path) for path in folders})


def vision(case: VisionCase) -> dict[str, Any]:
    """The reply to the prompt as llama.cpp splits it up, which the tests compare too."""
    with tempfile.TemporaryDirectory() as name:
        folder = write_vision_checkpoint(Path(name) / "model", case)
        prompt = engine_reply(convert_vision_folder(folder, Path(name)), case).prompt
        said = reply(folder, case, prompt)
    logits = [round(float(value), 5) for value in said.logits]
    return {"prompt": said.prompt, "tokens": said.tokens, "logits": logits}


def tokens(folder: Path) -> list[list[int]]:
    if (model := folder / "tokenizer.model").exists():
        processor = sentencepiece.SentencePieceProcessor(model_file=str(model))
        return [[1, *processor.encode(text)] for text in TEXTS]
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(text).ids for text in TEXTS]


def _write(path: Path, table: dict[str, Any]) -> None:
    lines = (f"{json.dumps(key)}: {json.dumps(value)}" for key, value in table.items())
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")


if __name__ == "__main__":
    main()
