"""The benchmarks that need no more than a model that writes, of which ``make bench`` runs two.

``python -m benchmarks [ARGS of benchmarks.decode]``. MODEL in the environment names a GGUF file;
without it, a random model of Llama-3.2-1B's shape is made once and kept.
"""

from __future__ import annotations

import os
import subprocess
import sys

from benchmarks.models import cached_model


def main() -> None:
    model = os.environ.get("MODEL") or str(cached_model("llama-3.2-1b"))
    for module, arguments in (
        ("benchmarks.startup", []),
        ("benchmarks.decode", [model, *sys.argv[1:]]),
        ("benchmarks.structured", [model]),
        ("benchmarks.logprobs", [model]),
    ):
        print(f"{module} {' '.join(arguments)}", flush=True)
        subprocess.run([sys.executable, "-m", module, *arguments], check=True)


if __name__ == "__main__":
    main()
