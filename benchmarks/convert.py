"""How fast safetensors become GGUF, and how much memory that takes.

``python -m benchmarks.convert`` writes a random model of 2 GB, converts it as the server does, and
prints megabytes read a second and the peak memory of the converting process.
"""

from __future__ import annotations

import argparse
import json
import resource
import struct
import sys
import tempfile
import time
from math import prod
from pathlib import Path
from typing import Final

import numpy as np

from llamaherd.create.convert.jobs import ConvertModel
from llamaherd.create.convert.process import convert
from llamaherd.store.blobs import BlobStore

N_VOCAB: Final = 64_000
N_EMBD: Final = 2048
N_FF: Final = 8192
N_LAYER: Final = 12

_SIZES: Final = {"BF16": 2, "F16": 2, "F32": 4}
_CHUNK: Final = 1 << 22


def shapes(layers: int) -> dict[str, tuple[int, ...]]:
    """Of a Llama whose two ends are one matrix."""
    table: dict[str, tuple[int, ...]] = {
        "model.embed_tokens.weight": (N_VOCAB, N_EMBD),
        "model.norm.weight": (N_EMBD,),
    }
    for layer in range(layers):
        block = f"model.layers.{layer}."
        table |= {
            f"{block}input_layernorm.weight": (N_EMBD,),
            f"{block}post_attention_layernorm.weight": (N_EMBD,),
            f"{block}self_attn.q_proj.weight": (N_EMBD, N_EMBD),
            f"{block}self_attn.k_proj.weight": (N_EMBD // 4, N_EMBD),
            f"{block}self_attn.v_proj.weight": (N_EMBD // 4, N_EMBD),
            f"{block}self_attn.o_proj.weight": (N_EMBD, N_EMBD),
            f"{block}mlp.gate_proj.weight": (N_FF, N_EMBD),
            f"{block}mlp.up_proj.weight": (N_FF, N_EMBD),
            f"{block}mlp.down_proj.weight": (N_EMBD, N_FF),
        }
    return table


def write_model(folder: Path, dtype: str) -> int:
    """The size of the tensors, in bytes."""
    table = shapes(N_LAYER if _SIZES[dtype] == 2 else N_LAYER // 2 - 1)
    header, end = {}, 0
    for name, shape in table.items():
        offsets = [end, end + prod(shape) * _SIZES[dtype]]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(header).encode()
    random = np.random.default_rng(0)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for start in range(0, end, _CHUNK):
            count = min(_CHUNK, end - start) // _SIZES[dtype]
            file.write(_random_bytes(random, count, dtype))
    _write_small_files(folder, sum(name.endswith("q_proj.weight") for name in table))
    return end


def _random_bytes(random: np.random.Generator, count: int, dtype: str) -> bytes:
    values = random.standard_normal(count, np.float32) * np.float32(0.02)
    if dtype == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    return values.astype(np.float16 if dtype == "F16" else np.float32).tobytes()


def _write_small_files(folder: Path, layers: int) -> None:
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": N_EMBD,
        "intermediate_size": N_FF,
        "num_hidden_layers": layers,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "vocab_size": N_VOCAB,
        "tie_word_embeddings": True,
    }
    vocabulary = {f"t{index}": index for index in range(N_VOCAB)}
    model = {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": True}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "tokenizer.json").write_text(json.dumps({"model": model}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--type", choices=sorted(_SIZES), default="BF16", dest="dtype")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        size = write_model(folder, arguments.dtype)
        blobs = BlobStore(folder / "blobs")
        files = {path.name: str(path) for path in folder.iterdir()}
        start = time.perf_counter()
        for _ in convert(blobs, ConvertModel(files)):
            pass
        seconds = time.perf_counter() - start
    # Kilobytes on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * unit
    largest = N_VOCAB * N_EMBD * _SIZES[arguments.dtype]
    print(
        f"{arguments.dtype}: {size / 1e6:.0f} MB in {seconds:.2f} s, {size / 1e6 / seconds:.0f} "
        f"MB/s; peak memory {peak / 1e6:.0f} MB, largest tensor {largest / 1e6:.0f} MB"
    )


if __name__ == "__main__":
    main()
