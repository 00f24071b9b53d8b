"""How much memory a loaded model takes, from what llama.cpp reports while it loads.

The C interface has no function for it (``llama_get_memory_breakdown`` returns a C++ map), so the
lines that announce each buffer are read: ``CPU_Mapped model buffer size =   636.18 MiB``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_BUFFER: Final = re.compile(
    r"(?P<device>\S+) +(?P<kind>model|LoRA|KV|RS|compute|output) buffer size"
    r" = +(?P<size>[\d.]+) MiB"
)

#: Weights in a layout of the processor's liking: copies, so that the mapped file's pages that they
#: were made from are read once and never needed again.
_COPIES: Final = re.compile(r".*REPACK$|AMX")

#: Buffers in main memory: the CPU's own, repacked for it, or pinned for transfers.
_HOST: Final = re.compile(r"CPU|.*_Host$|BLAS|AMX")


_LAYERS: Final = re.compile(r"offloaded (?P<some>\d+)/(?P<all>\d+) layers to GPU")


@dataclass(frozen=True, slots=True)
class MemoryUse:
    """Bytes by purpose; ``vram`` is the part of their sum that lies on accelerators.

    That is everything where all layers do, as Ollama counts: some buffers always stay in main
    memory, such as the embeddings of tokens and those for transfers.
    """

    model: int = 0
    cache: int = 0
    compute: int = 0
    vram: int = 0

    def __add__(self, other: MemoryUse) -> MemoryUse:
        return MemoryUse(
            self.model + other.model,
            self.cache + other.cache,
            self.compute + other.compute,
            self.vram + other.vram,
        )


def memory_use(log: Iterable[str]) -> MemoryUse:
    """Add up the buffers that these lines of llama.cpp's log announce.

    Compute buffers may be announced again when they are measured anew; the last one counts.
    """
    sizes: dict[tuple[str, str], int] = {}
    is_whole = False
    for line in log:
        if layers := _LAYERS.search(line):
            is_whole = layers["some"] == layers["all"]
        if found := _BUFFER.search(line):
            key = found["device"], found["kind"]
            size = round(float(found["size"]) * 2**20)
            # One device may have several of each: for split files, adapters, sliding windows.
            added = found["kind"] in ("model", "LoRA", "KV", "RS")
            sizes[key] = size + (sizes.get(key, 0) if added else 0)

    def total(*kinds: str) -> int:
        return sum(size for (_, kind), size in sizes.items() if kind in kinds)

    def weights(pattern: str | re.Pattern[str]) -> int:
        return sum(
            size
            for (device, kind), size in sizes.items()
            if kind == "model" and re.match(pattern, device)
        )

    model = total("model", "LoRA") - min(weights(r".*_Mapped$"), weights(_COPIES))
    cache, compute = total("KV", "RS"), total("compute", "output")
    vram = sum(size for (device, _), size in sizes.items() if not _HOST.match(device))
    return MemoryUse(model, cache, compute, model + cache + compute if is_whole else vram)
