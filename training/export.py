"""A trained folder as what the package carries: ``python -m training.export FOLDER``.

Converted and quantised as everybody's models are: by ``create``, from safetensors.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Final

from llamaherd.api.requests import CreateRequest
from llamaherd.create.create import create_model
from llamaherd.store.blobs import digest_of
from llamaherd.store.library import Library
from llamaherd.store.names import Name
from training.shape import SHAPE

QUANTIZATION: Final = "Q8_0"

_FILES: Final = (
    "config.json",
    "generation_config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
)


def export(folder: Path, file: Path) -> str:
    """Writes the GGUF file; its digest."""
    (folder / "config.json").write_text(json.dumps(SHAPE.config(), indent=2))
    tokens = json.loads((folder / "tokenizer.json").read_text())["added_tokens"]
    numbers = {token["content"]: token["id"] for token in tokens}
    ends = [numbers["<|end|>"], numbers["<|endoftext|>"]]
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": ends}))
    with tempfile.TemporaryDirectory() as place:
        library = Library(Path(place))
        library.prepare()
        files = {name: library.blobs.put((folder / name).read_bytes()) for name in _FILES}
        request = CreateRequest(model="cria", files=files, quantize=QUANTIZATION)
        for progress in create_model(library, request):
            print(progress.status)
        path = library.get(Name.parse("cria")).model_path
        assert path is not None
        shutil.copyfile(path, file)
    return digest_of(file.read_bytes())


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description="Convert and quantise Cria.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("file", type=Path)
    given = parser.parse_args(arguments)
    print(export(given.folder, given.file))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
