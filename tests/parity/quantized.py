"""Compares with llama.cpp's own quantiser: ``python -m tests.parity.quantized LLAMA-QUANTIZE``.

The argument is the tool, built from the same llama.cpp as the engine: ``cmake --build . --target
llama-quantize`` in ``vendor/llama.cpp`` of llama-cpp-python's source package. Says which files
differ by a byte, and records the tensors' types for the normal tests.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path

from llamaherd.create.quantize.types import TARGETS
from llamaherd.errors import BadRequest
from llamaherd.llama import quantize as llama
from tests.support.quantized import MODELS, RECORDED, targets, tensor_types, write

_TOOL_NAMES = {"MXFP4": "MXFP4_MOE"}


def main(tool: str) -> int:
    recorded: dict[str, dict[str, str | None]] = {}
    different = compared = 0
    with tempfile.TemporaryDirectory() as folder:
        theirs, ours = Path(folder) / "theirs.gguf", Path(folder) / "ours.gguf"
        for name in MODELS:
            source = write(name, Path(folder) / f"{name}.gguf")
            recorded[name] = {}
            for target in targets(name):
                command: list[str | Path] = [
                    tool,
                    source,
                    theirs,
                    _TOOL_NAMES.get(target, target),
                    "2",
                ]
                done = subprocess.run(command, capture_output=True, check=False)
                works = done.returncode == 0
                recorded[name][target] = tensor_types(theirs) if works else None
                compared += 1
                if quantized(source, ours, target) != works or (
                    works and ours.read_bytes() != theirs.read_bytes()
                ):
                    different += 1
                    print(f"{name} as {target} is different")
    print(f"{compared - different} of {compared} are the same")
    lines = (f"{json.dumps(key)}: {json.dumps(value, indent=1)}" for key, value in recorded.items())
    RECORDED.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return int(different > 0)


def quantized(source: Path, result: Path, target: str) -> bool:
    """Whether that could be done."""
    try:
        llama.quantize(source, result, TARGETS[target], threads=2)
    except BadRequest:
        return False
    return True


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
