"""Does this build of the engine compute rightly on this machine?

Run as ``python -m llamaherd.llama.selftest [--no-extra-buffers] [--gpu]``, in a process of its own
because an unsound build ends in a segmentation fault. GCC before 14 miscompiles llama.cpp's use of
AMX tiles: prompts of more than a few tokens, and any Q8_0 model, crash. So two tiny models with
the same random weights, Q8_0 and F16, read a prompt of 600 tokens and then some single ones, whole
and in chunks; that takes llama.cpp's matrix and vector routines by turns over the same numbers.
The logits must be finite and, up to rounding, equal.

Prints one JSON object; the exit status is 0 if all is sound, 1 if the numbers are wrong.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import gguf
import numpy as np
import numpy.typing as npt

from llamaherd.llama.library import C, initialise

Logits = npt.NDArray[np.float32]

PROMPT_TOKENS: Final = 600
SINGLE_TOKENS: Final = 4

#: Chunks of all the sizes that take different paths: single tokens, part and whole tiles.
CHUNKS: Final = (1, 3, 16, 60, 128, 256, 136)

#: How far logits may be apart at most, in standard deviations of the logits. Rounding moves them
#: by 0.05, since llama.cpp quantises what goes into a Q8_0 product too; wrong numbers by 3 or more.
TOLERANCE: Final = 0.25

#: Q8_0 against F16 weights: 0.1 apart.
TYPE_TOLERANCE: Final = 0.5

_WIDTH: Final = 256  # the block of llama.cpp's K-quants, and a multiple of every tile
_HEADS: Final = 4
_FEED_FORWARD: Final = 512
_LAYERS: Final = 2
_VOCABULARY: Final = 512

_TYPES: Final = {
    "q8_0": gguf.GGMLQuantizationType.Q8_0,
    "f16": gguf.GGMLQuantizationType.F16,
}


#: A list of devices ends with NULL.
_NO_DEVICES: Final = (ctypes.c_void_p * 1)(None)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one test: deviations are in standard deviations of the logits."""

    name: str
    deviation: float
    sound: bool


def run(*, extra_buffers: bool = True, gpu: bool = False) -> list[Outcome]:
    """Test each weight type, and the types against each other."""
    initialise()
    whole: dict[str, Logits] = {}
    outcomes = []
    with tempfile.TemporaryDirectory(prefix="llamaherd-selftest-") as folder:
        for name, weight_type in _TYPES.items():
            path = write_model(Path(folder) / f"{name}.gguf", weight_type)
            with _model(path, extra_buffers=extra_buffers, gpu=gpu) as model:
                whole[name] = decode(model, (PROMPT_TOKENS,))
                chunked = decode(model, CHUNKS)
            outcomes.append(_compare(name, whole[name], chunked, TOLERANCE))
    first, second = whole
    outcomes.append(
        _compare(f"{first} against {second}", whole[first], whole[second], TYPE_TOLERANCE)
    )
    return outcomes


def _compare(name: str, expected: Logits, found: Logits, tolerance: float) -> Outcome:
    with np.errstate(all="ignore"):
        deviation = float(np.max(np.abs(expected - found)) / np.std(expected))
    sound = bool(np.isfinite(expected).all() and np.isfinite(found).all())
    return Outcome(name, deviation, sound and deviation <= tolerance)


def decode(model: Any, chunks: Sequence[int]) -> Logits:
    """Logits after the prompt, read in these chunks, and after each of the single tokens."""
    parameters = C.llama_context_default_params()
    parameters.n_ctx = 1024
    parameters.n_batch = 1024
    parameters.n_ubatch = 512
    parameters.n_threads = parameters.n_threads_batch = 1
    context = C.llama_init_from_model(model, parameters)
    if not context:
        raise RuntimeError("llama.cpp could not make a context")
    try:
        random = np.random.default_rng(1)
        tokens = random.integers(_VOCABULARY, size=sum(chunks) + SINGLE_TOKENS, dtype=np.int32)
        rows = []
        position = 0
        for length in (*chunks, *[1] * SINGLE_TOKENS):
            rows.append(_step(context, tokens[position : position + length]))
            position += length
        return np.stack(rows[len(chunks) - 1 :])
    finally:
        C.llama_free(context)


def _step(context: Any, tokens: npt.NDArray[np.int32]) -> Logits:
    """Decode one batch after what came before; the logits of its last token."""
    pointer = tokens.ctypes.data_as(ctypes.POINTER(ctypes.c_int32))
    status = C.llama_decode(context, C.llama_batch_get_one(pointer, len(tokens)))
    if status != 0:
        raise RuntimeError(f"llama_decode of {len(tokens)} tokens returned {status}")
    logits = C.llama_get_logits_ith(context, -1)
    return np.ctypeslib.as_array(logits, shape=(_VOCABULARY,)).copy()


@contextmanager
def _model(path: Path, *, extra_buffers: bool, gpu: bool) -> Iterator[Any]:
    parameters = C.llama_model_default_params()
    parameters.use_extra_bufts = extra_buffers
    parameters.n_gpu_layers = 999 if gpu else 0
    if not gpu:
        # No device at all; otherwise long prompts go to an accelerator all the same.
        parameters.devices = ctypes.cast(_NO_DEVICES, ctypes.c_void_p)
    model = C.llama_model_load_from_file(str(path).encode(), parameters)
    if not model:
        raise RuntimeError(f"llama.cpp could not load {path.name}")
    try:
        yield model
    finally:
        C.llama_model_free(model)


def write_model(path: Path, weight_type: gguf.GGMLQuantizationType) -> Path:
    """A model of the llama architecture without a vocabulary; the same weights for every type."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_vocab_size(_VOCABULARY)
    writer.add_context_length(1024)
    writer.add_embedding_length(_WIDTH)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED_FORWARD)
    writer.add_head_count(_HEADS)
    writer.add_rope_dimension_count(_WIDTH // _HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("none")

    def matrix(name: str, rows: int, columns: int) -> None:
        weights = random.normal(0, columns**-0.5, (rows, columns)).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(weights, weight_type), raw_dtype=weight_type)

    def ones(name: str) -> None:
        writer.add_tensor(name, np.ones(_WIDTH, np.float32))

    matrix("token_embd.weight", _VOCABULARY, _WIDTH)
    ones("output_norm.weight")
    matrix("output.weight", _VOCABULARY, _WIDTH)
    for layer in range(_LAYERS):
        ones(f"blk.{layer}.attn_norm.weight")
        ones(f"blk.{layer}.ffn_norm.weight")
        for part in ("q", "k", "v", "output"):
            matrix(f"blk.{layer}.attn_{part}.weight", _WIDTH, _WIDTH)
        matrix(f"blk.{layer}.ffn_gate.weight", _FEED_FORWARD, _WIDTH)
        matrix(f"blk.{layer}.ffn_up.weight", _FEED_FORWARD, _WIDTH)
        matrix(f"blk.{layer}.ffn_down.weight", _WIDTH, _FEED_FORWARD)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Test the engine's build with two tiny models.")
    parser.add_argument(
        "--no-extra-buffers", action="store_true", help="keep the weights in their plain layout"
    )
    parser.add_argument("--gpu", action="store_true", help="compute on the accelerator")
    options = parser.parse_args(arguments)
    outcomes = run(extra_buffers=not options.no_extra_buffers, gpu=options.gpu)
    sound = all(outcome.sound for outcome in outcomes)
    json.dump(
        {
            "sound": sound,
            "extra_buffers": not options.no_extra_buffers,
            "gpu": options.gpu,
            "tests": [asdict(outcome) for outcome in outcomes],
        },
        sys.stdout,
    )
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
