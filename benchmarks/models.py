"""Random-weight models of any Llama shape with a real tokenizer, quantised as Q4_K_M.

``python -m benchmarks.models llama-3.2-1b`` writes one into the cache folder and prints its path.
Speed depends on shapes and types alone, so such a model is measured like the real one. Its weights
are scaled so that logits spread like a trained model's and no end-of-text token is ever likely.
"""

from __future__ import annotations

import argparse
import math
import os
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import gguf
import numpy as np
import numpy.typing as npt

from llamaherd.gguf import GGUF, Array, Value

Bytes = npt.NDArray[np.uint8]


class Shape(NamedTuple):
    """Widths in elements. ``rope_factor`` is Llama 3's stretching of the context."""

    n_layer: int
    n_embd: int
    n_head: int
    n_head_kv: int
    head_size: int
    n_ff: int
    n_vocab: int = 128_256
    n_ctx: int = 131_072
    rope_base: float = 500_000.0
    rope_factor: float | None = 32.0
    tied: bool = True


SHAPES: Final = {
    "llama-3.2-1b": Shape(16, 2048, 32, 8, 64, 8192),
    "llama-3.2-3b": Shape(28, 3072, 24, 8, 128, 8192),
    "llama-3.1-8b": Shape(32, 4096, 32, 8, 128, 14336, rope_factor=8.0, tied=False),
}

#: In llama-cpp-python's source package.
VOCABULARY: Final = "vendor/llama.cpp/models/ggml-vocab-llama-bpe.gguf"

#: Standard deviation of the logits of ordinary tokens, and how much less all others have.
LOGIT_SPREAD: Final = 4.0
RARE: Final = 1 / 64
#: How much attention adds to the residual, against a feed-forward layer. Random attention is an
#: average over the whole context; as loud as the rest, it makes every next token the same.
ATTENTION_SHARE: Final = 0.1

#: The scales of all sub-blocks; the block's own scale does the rest.
_SUB_SCALE: Final = 4
#: Standard deviation of the integers 0..15 and 0..63, drawn evenly.
_SPREAD_4_BITS: Final = math.sqrt((16**2 - 1) / 12)
_SPREAD_6_BITS: Final = math.sqrt((64**2 - 1) / 12)

_CHUNK_BYTES: Final = 1 << 22
_ALIGNMENT: Final = 32

_Q4_K: Final = gguf.GGMLQuantizationType.Q4_K
_Q6_K: Final = gguf.GGMLQuantizationType.Q6_K
_F32: Final = gguf.GGMLQuantizationType.F32


class Tensor(NamedTuple):
    """``rows`` by ``width`` elements; ``spread`` is the standard deviation of the weights."""

    name: str
    kind: gguf.GGMLQuantizationType
    rows: int
    width: int
    spread: float = 0.0

    @property
    def row_blocks(self) -> int:
        return self.width // int(gguf.GGML_QUANT_SIZES[self.kind][0])

    @property
    def row_bytes(self) -> int:
        return self.row_blocks * int(gguf.GGML_QUANT_SIZES[self.kind][1])


def cache_folder() -> Path:
    """Where generated models and the vocabulary are kept between runs."""
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "llamaherd-benchmarks"


def cached_model(name: str, *, cache: Path | None = None, vocabulary: Path | None = None) -> Path:
    """The model of ``SHAPES[name]`` in the cache folder, written there if it is missing."""
    path = (cache or cache_folder()) / f"{name}-q4_k_m.gguf"
    if not path.exists():
        write_model(path, SHAPES[name], vocabulary or cached_vocabulary(cache), name=name)
    return path


def cached_vocabulary(cache: Path | None = None) -> Path:
    """A vocabulary-only GGUF of Llama 3, taken from the engine's source package if missing."""
    path = (cache or cache_folder()) / Path(VOCABULARY).name
    if not path.exists():
        with tempfile.TemporaryDirectory() as folder, _replacing(path) as partial:
            package = f"llama-cpp-python=={version('llama-cpp-python')}"
            command = [
                "download",
                "--quiet",
                "--no-deps",
                "--no-binary",
                "llama-cpp-python",
                package,
            ]
            subprocess.run([sys.executable, "-m", "pip", *command, "-d", folder], check=True)
            (archive,) = Path(folder).glob("*.tar.gz")
            with tarfile.open(archive) as tar:
                member = next(item for item in tar if item.name.endswith(VOCABULARY))
                content = tar.extractfile(member)
                assert content is not None
                partial.write_bytes(content.read())
    return path


def write_model(
    path: Path, shape: Shape, vocabulary: Path, *, name: str = "random", seed: int = 0
) -> None:
    """Write a model, the same for the same arguments, in little memory.

    Raises ValueError for a shape that can't be quantised or is too small for the vocabulary.
    """
    if any(width % 256 for width in (shape.n_embd, shape.n_ff, shape.n_head * shape.head_size)):
        raise ValueError(f"rows of Q4_K are multiples of 256 elements: {shape}")
    tensors = list(_tensors(shape))
    with GGUF.open(vocabulary) as source, _replacing(path) as partial:
        types = _padded(
            source.get("tokenizer.ggml.token_type", Array), shape, gguf.TokenType.UNUSED
        )
        ordinary = np.array(types) == gguf.TokenType.NORMAL
        _write_header(partial, shape, source, tensors, name)
        random = np.random.Generator(np.random.SFC64(seed))
        with partial.open("ab") as file:
            for tensor in tensors:
                file.write(bytes(-file.tell() % _ALIGNMENT))
                for chunk in _data(tensor, shape, ordinary, random):
                    file.write(chunk.tobytes())


def _tensors(shape: Shape) -> Iterator[Tensor]:
    """All tensors, with the types that llama.cpp's quantiser gives them for Q4_K_M."""
    n_embd, n_ff = shape.n_embd, shape.n_ff
    n_queries, n_keys = shape.n_head * shape.head_size, shape.n_head_kv * shape.head_size
    vocabulary_spread = LOGIT_SPREAD / math.sqrt(n_embd)
    embedding_kind = _Q6_K if shape.tied else _Q4_K
    yield Tensor("token_embd.weight", embedding_kind, shape.n_vocab, n_embd, vocabulary_spread)
    yield Tensor("output_norm.weight", _F32, 1, n_embd)
    if not shape.tied:
        yield Tensor("output.weight", _Q6_K, shape.n_vocab, n_embd, vocabulary_spread)
    if shape.rope_factor is not None:
        yield Tensor("rope_freqs.weight", _F32, 1, shape.head_size // 2)
    for layer in range(shape.n_layer):
        finer = _Q6_K if _gets_more_bits(layer, shape.n_layer) else _Q4_K
        yield Tensor(f"blk.{layer}.attn_norm.weight", _F32, 1, n_embd)
        yield Tensor(f"blk.{layer}.ffn_norm.weight", _F32, 1, n_embd)
        for part, kind, rows, width, gain in (
            ("attn_q", _Q4_K, n_queries, n_embd, 1.0),
            ("attn_k", _Q4_K, n_keys, n_embd, 1.0),
            ("attn_v", finer, n_keys, n_embd, 1.0),
            ("attn_output", _Q4_K, n_embd, n_queries, ATTENTION_SHARE),
            ("ffn_gate", _Q4_K, n_ff, n_embd, 1.0),
            ("ffn_up", _Q4_K, n_ff, n_embd, 1.0),
            ("ffn_down", finer, n_embd, n_ff, 1.0),
        ):
            yield Tensor(f"blk.{layer}.{part}.weight", kind, rows, width, gain / math.sqrt(width))


def _gets_more_bits(layer: int, n_layer: int) -> bool:
    """``use_more_bits`` of llama-quant.cpp: the first and last eighth, and every third between."""
    eighth = n_layer // 8
    return layer < eighth or layer >= 7 * n_layer // 8 or (layer - eighth) % 3 == 2


def _write_header(
    path: Path, shape: Shape, vocabulary: GGUF, tensors: list[Tensor], name: str
) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name(name)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_K_M)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_block_count(shape.n_layer)
    writer.add_context_length(shape.n_ctx)
    writer.add_embedding_length(shape.n_embd)
    writer.add_feed_forward_length(shape.n_ff)
    writer.add_head_count(shape.n_head)
    writer.add_head_count_kv(shape.n_head_kv)
    writer.add_key_length(shape.head_size)
    writer.add_value_length(shape.head_size)
    writer.add_rope_dimension_count(shape.head_size)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(shape.n_vocab)
    _copy_tokenizer(writer, shape, vocabulary)
    for tensor in tensors:
        size = (tensor.width,) if tensor.kind is _F32 else (tensor.rows, tensor.width)
        nbytes = tensor.rows * tensor.row_bytes
        writer.add_tensor_info(tensor.name, size, np.dtype(np.float32), nbytes, tensor.kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


def _copy_tokenizer(writer: gguf.GGUFWriter, shape: Shape, vocabulary: GGUF) -> None:
    """Everything about the tokenizer, tables by token made as long as the vocabulary is to be."""
    padding = {"tokens": "<|unused|>", "scores": 0.0, "token_type": gguf.TokenType.UNUSED}
    for key, value in vocabulary.metadata.items():
        prefix, _, table = key.rpartition(".")
        if not prefix.startswith("tokenizer"):
            continue
        type_ = gguf.GGUFValueType(vocabulary.metadata.type_of(key))
        if not isinstance(value, Array):
            writer.add_key_value(key, value, type_)
            continue
        items = _padded(value, shape, padding[table]) if table in padding else list(value)
        writer.add_key_value(key, items, type_, gguf.GGUFValueType(value.item_type))


def _padded(table: Array, shape: Shape, padding: Value) -> list[Value]:
    missing = shape.n_vocab - len(table)
    if missing < 0:
        raise ValueError(f"the vocabulary's {len(table)} tokens are more than {shape.n_vocab}")
    if isinstance(padding, str):
        return [*table, *(f"{padding}{number}" for number in range(missing))]
    return [*table, *[padding] * missing]


def _data(
    tensor: Tensor, shape: Shape, ordinary: npt.NDArray[np.bool_], random: np.random.Generator
) -> Iterator[npt.NDArray[np.generic]]:
    """A tensor's data in pieces."""
    if tensor.name == "rope_freqs.weight":
        yield _rope_factors(shape)
        return
    if tensor.kind is _F32:
        yield np.ones(tensor.width, "<f4")
        return
    blocks = _q4_k_blocks if tensor.kind is _Q4_K else _q6_k_blocks
    spreads = np.full(tensor.rows, tensor.spread)
    if tensor.name == ("token_embd.weight" if shape.tied else "output.weight"):
        spreads[~ordinary] *= RARE
    rows = max(1, _CHUNK_BYTES // tensor.row_bytes)
    for start in range(0, tensor.rows, rows):
        yield blocks(np.repeat(spreads[start : start + rows], tensor.row_blocks), random)


def _q4_k_blocks(spreads: npt.NDArray[np.float64], random: np.random.Generator) -> Bytes:
    """``block_q4_K`` of ggml-common.h, a block for each spread.

    A weight is ``d * scale * q - dmin * min``. With all scales and mins alike and ``dmin`` the mean
    of q times ``d``, the weights' mean is zero.
    """
    blocks = _random_blocks(_Q4_K, len(spreads), random)
    d = spreads / (_SUB_SCALE * _SPREAD_4_BITS)
    blocks[:, 0:2] = _half_precision(d)
    blocks[:, 2:4] = _half_precision(d * 7.5)
    # Six bits each for eight scales and eight mins; the upper four of them have theirs split.
    blocks[:, 4:12] = _SUB_SCALE
    blocks[:, 12:16] = _SUB_SCALE << 4 | _SUB_SCALE
    return blocks


def _q6_k_blocks(spreads: npt.NDArray[np.float64], random: np.random.Generator) -> Bytes:
    """``block_q6_K`` of ggml-common.h, a block for each spread. ``d * scale * (q - 32)``."""
    blocks = _random_blocks(_Q6_K, len(spreads), random)
    blocks[:, 192:208] = _SUB_SCALE
    blocks[:, 208:210] = _half_precision(spreads / (_SUB_SCALE * _SPREAD_6_BITS))
    return blocks


def _random_blocks(
    kind: gguf.GGMLQuantizationType, count: int, random: np.random.Generator
) -> Bytes:
    size = gguf.GGML_QUANT_SIZES[kind][1]
    return np.frombuffer(bytearray(random.bytes(count * size)), np.uint8).reshape(count, size)


def _half_precision(values: npt.NDArray[np.float64]) -> Bytes:
    return values.astype("<f2").view(np.uint8).reshape(-1, 2)


def _rope_factors(shape: Shape) -> npt.NDArray[np.float32]:
    """By how much Llama 3 slows each rotation down: ``rope_type: llama3`` in Hugging Face configs.

    Waves longer than the 8,192 tokens of the first training are slowed by the whole factor, those
    shorter than a quarter of it not at all.
    """
    assert shape.rope_factor is not None
    exponents = np.arange(0, shape.head_size, 2) / shape.head_size
    waves_per_context = 8192 / (2 * np.pi * shape.rope_base**exponents)
    kept = np.clip((waves_per_context - 1) / (4 - 1), 0, 1)
    return (1 / (kept + (1 - kept) / shape.rope_factor)).astype("<f4")


@contextmanager
def _replacing(path: Path) -> Iterator[Path]:
    """A path to write to, which becomes ``path`` when all is well and is removed when not."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f"{path.name}.{os.getpid()}.partial")
    try:
        yield partial
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="benchmarks.models", description=__doc__)
    parser.add_argument("name", choices=SHAPES)
    parser.add_argument("out", type=Path, nargs="?", help="instead of the cache folder")
    parser.add_argument("--vocab", type=Path, help="a GGUF to take the tokenizer from")
    parser.add_argument("--cache", type=Path, help=f"instead of {cache_folder()}")
    parser.add_argument("--seed", type=int, default=0, help="for a model that goes to OUT")
    options = parser.parse_args()
    if options.out is None:
        print(cached_model(options.name, cache=options.cache, vocabulary=options.vocab))
        return
    vocabulary = options.vocab or cached_vocabulary(options.cache)
    shape = SHAPES[options.name]
    write_model(options.out, shape, vocabulary, name=options.name, seed=options.seed)
    print(options.out)


if __name__ == "__main__":
    main()
