"""Files from strangers: whatever is wrong with them is told by file, and nothing else happens."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.create.convert.checkpoint import Checkpoint
from llamaherd.create.convert.convert import Conversion
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.errors import BadRequest
from tests.support.checkpoints import CASES, Case, write_checkpoint, write_tokenizer

MODEL = "model.safetensors"


def folder_of(path: Path) -> ModelFolder:
    return ModelFolder({file.name: file for file in path.iterdir()})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path, CASES["llama"])
    write_tokenizer(tmp_path)
    return tmp_path


def refused(folder: Path) -> str:
    with pytest.raises(BadRequest) as caught:
        Conversion(folder_of(folder))
    return str(caught.value)


# --- safetensors ----------------------------------------------------------------------------


def safetensors(header: Any, data: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def entry(dtype: Any = "F32", shape: Any = (2,), offsets: Any = (0, 8)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "0 bytes, too short"),
        (b"\1\2\3", "3 bytes, too short"),
        (safetensors({}, length=1000), "a header of 1000 bytes in a file of 10"),
        (safetensors({}, length=2**64 - 1), "a header of 18446744073709551615 bytes"),
        (safetensors(b"not json"), "JSON is malformed"),
        (safetensors(b"[" * 100_000 + b"]" * 100_000), "Expected `object`, got `array`"),
        (safetensors(b'{"a":' * 100_000), "nested too deeply|truncated"),
        (safetensors({"a": 1}), "tensor a: Expected `object`, got `int`"),
        (safetensors({"a": {"dtype": "F32"}}), "missing required field `shape`"),
        (safetensors({"a": entry(offsets=(0, 8))}), "from 0 to 8, the file has 0 bytes"),
        (safetensors({"a": entry(offsets=(8, 0))}, bytes(8)), "from 8 to 0"),
        (safetensors({"a": entry(offsets=(-8, 0))}, bytes(8)), "from -8 to 0"),
        (safetensors({"a": entry(offsets=(0, 2**70))}, bytes(8)), "from 0 to"),
        (safetensors({"a": entry(offsets=(0, 4))}, bytes(8)), "4 bytes, expected 8 for F32"),
        (safetensors({"a": entry(shape=[2**40, 2**40])}, bytes(8)), "8 bytes, expected"),
        (safetensors({"a": entry(shape=[-1, -2])}, bytes(8)), "a shape with 2 dimensions"),
        (safetensors({"a": entry(shape=[1] * 9)}, bytes(8)), "a shape with 9 dimensions"),
        (safetensors({"a": entry(dtype=3)}, bytes(8)), "Expected `str`"),
    ],
)
def test_unsound_safetensors_are_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / MODEL).write_bytes(content)
    assert re.search(f"{MODEL}: .*({message})", refused(folder))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_headers_do_no_harm(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    header = {"a": entry(), "b": entry("BF16", [2, 3], [8, 20])}
    content = bytearray(safetensors(header, bytes(20)))
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / MODEL
    path.write_bytes(content)
    with suppress(BadRequest):
        checkpoint = Checkpoint.open(ModelFolder({MODEL: path}))
        for name in checkpoint:
            tensor = checkpoint[name]
            assert 8 <= tensor.offset <= tensor.offset + tensor.nbytes <= len(content)


# --- tensors --------------------------------------------------------------------------------


def rewrite(folder: Path, change: Callable[[dict[str, tuple[int, ...]]], Any]) -> str:
    """What is said to a model whose tensors have been changed."""
    shapes = dict(CASES["llama"].shapes)
    change(shapes)
    write_checkpoint(folder, Case(CASES["llama"].config, shapes))
    return refused(folder)


def test_a_tensor_that_is_missing_is_named(folder: Path) -> None:
    message = rewrite(folder, lambda shapes: shapes.pop("model.layers.1.self_attn.q_proj.weight"))
    assert "no tensor model.layers.1.self_attn.q_proj.weight" in message


def test_a_tensor_of_another_shape_is_named(folder: Path) -> None:
    message = rewrite(folder, lambda shapes: shapes.update({"model.norm.weight": (63,)}))
    assert message == f"{MODEL}: tensor model.norm.weight: shape [63], expected [64]"


def test_a_tensor_that_we_do_not_know_is_named(folder: Path) -> None:
    name = "model.layers.0.self_attn.sinks"
    message = rewrite(folder, lambda shapes: shapes.update({name: (4,)}))
    assert message == f"{MODEL}: tensor {name} has no place in architecture llama"


def test_what_follows_from_the_configuration_is_no_stranger(folder: Path) -> None:
    shapes = {**CASES["llama"].shapes, "model.layers.0.self_attn.rotary_emb.inv_freq": (8,)}
    write_checkpoint(folder, Case(CASES["llama"].config, shapes))
    Conversion(folder_of(folder))


def test_a_type_that_is_none_of_ours_is_named(folder: Path) -> None:
    content = (folder / MODEL).read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    header["model.norm.weight"]["dtype"] = "F8_E4M3"
    (folder / MODEL).write_bytes(safetensors(header, content[8 + length :]))
    assert "model.norm.weight: type F8_E4M3, expected F32 or F16 or BF16" in refused(folder)


def test_a_file_that_is_cut_off_meanwhile(folder: Path) -> None:
    conversion = Conversion(folder_of(folder))
    content = (folder / MODEL).read_bytes()
    (folder / MODEL).write_bytes(content[:-4])
    with pytest.raises(BadRequest, match=r"the file ends within tensor"):
        conversion.model.write(lambda piece: None)


# --- config.json ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architectures": ["GPT2LMHeadModel"]}, "architectures: expected one of LlamaForCausalLM"),
        ({"architectures": None}, "architectures: expected a list with a name, not None"),
        ({"architectures": [{}]}, "architectures: expected one of"),
        ({"quantization_config": {"bits": 4}}, "quantization_config: expected none"),
        ({"hidden_size": None}, "hidden_size is missing"),
        ({"hidden_size": "64"}, "hidden_size: expected a whole number from 1, not '64'"),
        ({"hidden_size": True}, "hidden_size: expected a whole number"),
        ({"hidden_size": 65}, "hidden_size: expected a multiple of 4 heads"),
        ({"num_hidden_layers": 0}, "num_hidden_layers: expected a whole number from 1, not 0"),
        ({"num_hidden_layers": 10**30}, "num_hidden_layers: expected a whole number"),
        ({"num_hidden_layers": 2**31 - 1}, "no tensor model.layers.2.input_layernorm.weight"),
        ({"num_key_value_heads": 3}, "num_key_value_heads: expected a divisor of 4 heads"),
        ({"head_dim": 15}, "head_dim: expected an even number"),
        ({"vocab_size": 2**30}, "vocab_size: expected at most 4194304"),
        ({"rms_norm_eps": "small"}, "rms_norm_eps: expected a number"),
        ({"rms_norm_eps": 1e300}, "rms_norm_eps: expected a number"),
        ({"rope_theta": 0}, "rope_theta: expected a number above 0"),
        ({"rope_parameters": {"rope_theta": -1.5}}, "rope_theta: expected a number above 0"),
        ({"hidden_act": "relu"}, "hidden_act: expected 'silu', as the engine knows no other"),
        ({"tie_word_embeddings": "yes"}, "tie_word_embeddings: expected true or false"),
        ({"rope_scaling": [1]}, "rope_parameters: expected an object"),
        ({"rope_scaling": {"type": "dynamic"}}, "rope_type: expected default, linear, yarn"),
        ({"rope_scaling": {"type": "linear"}}, "factor is missing"),
    ],
)
def test_configurations_that_can_not_be(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    (folder / "config.json").write_text(json.dumps(CASES["llama"].config | changes))
    assert message in refused(folder)


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("gemma2", {"query_pre_attn_scalar": 64}, "query_pre_attn_scalar: expected 32"),
        ("gemma3", {"layer_types": ["full_attention"] * 6}, "layer_types: expected full_attention"),
        ("gemma3", {"sliding_window_pattern": 3}, "sliding_window_pattern: expected 6"),
        ("qwen2", {"use_sliding_window": True}, "use_sliding_window: expected False"),
        ("phi3-long", {"rope_scaling": {"type": "longrope"}}, "long_factor is missing"),
        ("bert", {"position_embedding_type": "relative_key"}, "position_embedding_type: expected"),
        ("roberta", {"max_position_embeddings": 3}, "max_position_embeddings: expected more than"),
        ("nomic-bert", {"prenorm": True}, "prenorm: expected False"),
    ],
)
def test_what_the_engine_has_otherwise_is_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    case = CASES[name]
    write_checkpoint(tmp_path, Case(case.config | changes, case.shapes, is_causal=case.is_causal))
    write_tokenizer(tmp_path, wordpiece=not case.is_causal)
    assert message in refused(tmp_path)


@pytest.mark.parametrize("content", [b"", b"[]", b"{", b"\xff\xfe", b'{"architectures": NaN}'])
def test_a_configuration_that_is_no_json(folder: Path, content: bytes) -> None:
    (folder / "config.json").write_bytes(content)
    assert refused(folder).startswith("config.json: ")


def test_files_that_are_needed(folder: Path) -> None:
    (folder / "tokenizer.json").rename(folder / "other")
    assert refused(folder) == "tokenizer.json and tokenizer.model are missing, expected one"
    (folder / MODEL).unlink()
    assert refused(folder) == "model.safetensors is missing"
    (folder / "config.json").unlink()
    assert refused(folder) == "config.json is missing"
