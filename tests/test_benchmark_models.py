"""The benchmarks' random-weight models: sound files, sane weights, a whole tokenizer."""

from __future__ import annotations

from pathlib import Path

import gguf as reference
import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.models import LOGIT_SPREAD, RARE, SHAPES, Shape, cached_model, write_model
from llamaherd.gguf import GGUF, Array, file_type_name
from tests.support.models import write_model as write_tiny_model

SMALL = Shape(9, 256, 4, 2, 64, 512, n_vocab=600, n_ctx=1024, tied=False)


@pytest.fixture(scope="module")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_model(tmp_path_factory.mktemp("vocabulary") / "tiny.gguf")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, vocabulary: Path) -> Path:
    path = tmp_path_factory.mktemp("model") / "small.gguf"
    write_model(path, SMALL, vocabulary)
    return path


def weights(model: Path, name: str) -> npt.NDArray[np.float32]:
    (tensor,) = (tensor for tensor in reference.GGUFReader(model).tensors if tensor.name == name)
    values: npt.NDArray[np.float32] = reference.dequantize(tensor.data, tensor.tensor_type)
    return values


def test_types_are_those_of_q4_k_m(model: Path) -> None:
    with GGUF.open(model) as gguf:
        types = {tensor.name: tensor.type for tensor in gguf.tensors}
        assert file_type_name(gguf.file_type) == "Q4_K_M"
    finer = [layer for layer in range(9) if types[f"blk.{layer}.attn_v.weight"] == "Q6_K"]
    assert finer == [0, 3, 6, 7, 8]
    assert finer == [layer for layer in range(9) if types[f"blk.{layer}.ffn_down.weight"] == "Q6_K"]
    assert types["blk.0.attn_q.weight"] == types["token_embd.weight"] == "Q4_K"
    assert types["output.weight"] == "Q6_K"
    assert types["blk.0.attn_norm.weight"] == "F32"


def test_tied_embeddings_are_the_output_too(tmp_path: Path, vocabulary: Path) -> None:
    path = tmp_path / "tied.gguf"
    write_model(path, SMALL._replace(tied=True), vocabulary)
    with GGUF.open(path) as gguf:
        types = {tensor.name: tensor.type for tensor in gguf.tensors}
    assert types["token_embd.weight"] == "Q6_K"
    assert "output.weight" not in types


@pytest.mark.parametrize("name", ["blk.1.ffn_up.weight", "blk.0.ffn_down.weight"])
def test_weights_keep_the_size_of_what_flows_through_them(model: Path, name: str) -> None:
    values = weights(model, name)
    assert np.isfinite(values).all()
    assert values.std() == pytest.approx(values.shape[1] ** -0.5, rel=0.02)
    assert abs(values.mean()) < 0.05 * values.std()


def test_only_ordinary_tokens_are_likely(model: Path) -> None:
    spread = weights(model, "output.weight").std(axis=1) * SMALL.n_embd**0.5
    assert spread[300] == pytest.approx(LOGIT_SPREAD, rel=0.2)
    end_of_text, padding = 2, 599
    assert spread[[end_of_text, padding]].max() < 2 * LOGIT_SPREAD * RARE


def test_the_tokenizer_is_whole_and_as_long_as_the_vocabulary(
    model: Path, vocabulary: Path
) -> None:
    with GGUF.open(model) as gguf, GGUF.open(vocabulary) as source:
        tokens = list(gguf.get("tokenizer.ggml.tokens", Array))
        original = list(source.get("tokenizer.ggml.tokens", Array))
        assert tokens[: len(original)] == original
        assert len(set(tokens)) == len(gguf.get("tokenizer.ggml.scores", Array)) == 600
        assert {key for key in source.metadata if key.startswith("tokenizer.")} == {
            key for key in gguf.metadata if key.startswith("tokenizer.")
        }


def test_long_waves_are_slowed_by_the_whole_factor_and_short_ones_not(model: Path) -> None:
    factors = weights(model, "rope_freqs.weight")
    assert (factors[0], factors[-1]) == (1.0, 32.0)
    assert (np.diff(factors) >= 0).all()


def test_the_same_seed_gives_the_same_file(tmp_path: Path, model: Path, vocabulary: Path) -> None:
    for seed, same in ((0, True), (1, False)):
        write_model(tmp_path / "again.gguf", SMALL, vocabulary, seed=seed)
        assert ((tmp_path / "again.gguf").read_bytes() == model.read_bytes()) is same


@pytest.mark.parametrize(
    ("shape", "reason"),
    [
        (SMALL._replace(n_ff=500), "multiples of 256"),
        (SMALL._replace(n_vocab=100), "512 tokens are more than 100"),
    ],
)
def test_an_impossible_shape_leaves_nothing_behind(
    tmp_path: Path, vocabulary: Path, shape: Shape, reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        write_model(tmp_path / "model.gguf", shape, vocabulary)
    assert list(tmp_path.iterdir()) == []


def test_a_cached_model_is_written_once(
    tmp_path: Path, vocabulary: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SHAPES, "small", SMALL)
    path = cached_model("small", cache=tmp_path, vocabulary=vocabulary)
    written = path.stat().st_mtime_ns
    assert cached_model("small", cache=tmp_path) == path
    assert path.stat().st_mtime_ns == written
    assert list(tmp_path.iterdir()) == [path]
