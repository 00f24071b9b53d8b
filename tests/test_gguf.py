"""The GGUF reader: what it reads, what it tells, and what it leaves in the file."""

from __future__ import annotations

import ctypes
import math
import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import pytest
from llama_cpp._ggml import libggml

from llamaherd.errors import InvalidGGUF
from llamaherd.gguf import (
    GGUF,
    TENSOR_TYPES,
    Array,
    ValueType,
    file_type_name,
    human_number,
    metadata_info,
    model_info,
    tensor_list,
)
from llamaherd.gguf.header import encode_header, rename_entry
from llamaherd.gguf.tensors import REMOVED_TYPES
from tests.support.gguf_files import Pairs, array, file, pair, saved, string, tensor, write_gguf

STORIES: Pairs = {
    "general.name": (ValueType.STRING, "stories260K"),
    "general.license": (ValueType.STRING, "mit"),
    "llama.context_length": (ValueType.UINT32, 512),
    "llama.embedding_length": (ValueType.UINT32, 64),
    "llama.block_count": (ValueType.UINT32, 5),
    "llama.attention.layer_norm_rms_epsilon": (ValueType.FLOAT32, 1e-5),
    "llama.rope.freq_base": (ValueType.FLOAT32, 10000.0),
    "general.file_type": (ValueType.UINT32, 0),
    "tokenizer.ggml.model": (ValueType.STRING, "llama"),
    "tokenizer.ggml.tokens": (ValueType.ARRAY, ValueType.STRING, ["<unk>", "<s>", "</s>", "é"]),
    "tokenizer.ggml.scores": (ValueType.ARRAY, ValueType.FLOAT32, [0.0, 0.1, -math.inf, 2.5]),
    "tokenizer.ggml.bos_token_id": (ValueType.UINT32, 1),
    "tokenizer.ggml.add_bos_token": (ValueType.BOOL, True),
    "tokenizer.chat_template": (ValueType.STRING, "{{ messages }}"),
}
STORIES_TENSORS = {"token_embd.weight": ("F32", (64, 512)), "output_norm.weight": ("F32", (64,))}


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    path = tmp_path / "stories.gguf"
    write_gguf(path, STORIES, STORIES_TENSORS)
    return path


def test_the_model_is_described_as_ollama_describes_it(stories: Path) -> None:
    with GGUF.open(stories) as gguf:
        info, tensors = model_info(gguf), tensor_list(gguf)
    assert msgspec.json.encode(info) == (
        b'{"general.architecture":"llama","general.file_type":0,"general.license":"mit",'
        b'"general.parameter_count":32832,"llama.attention.layer_norm_rms_epsilon":0.00001,'
        b'"llama.block_count":5,"llama.context_length":512,"llama.embedding_length":64,'
        b'"llama.rope.freq_base":10000,"tokenizer.ggml.add_bos_token":true,'
        b'"tokenizer.ggml.bos_token_id":1,"tokenizer.ggml.model":"llama",'
        b'"tokenizer.ggml.scores":null,"tokenizer.ggml.tokens":null}'
    )
    assert tensors == [
        {"name": "token_embd.weight", "type": "F32", "shape": [64, 512]},
        {"name": "output_norm.weight", "type": "F32", "shape": [64]},
    ]


def test_the_verbose_description_has_the_arrays_and_json_has_no_infinity(stories: Path) -> None:
    with GGUF.open(stories) as gguf:
        info = model_info(gguf, verbose=True)
    assert info["tokenizer.ggml.tokens"] == ["<unk>", "<s>", "</s>", "é"]
    assert info["tokenizer.ggml.scores"] == [0, 0.1, None, 2.5]


def test_a_projector_is_described_with_its_name(stories: Path) -> None:
    with GGUF.open(stories) as gguf:
        assert metadata_info(gguf)["general.name"] == "stories260K"


def test_an_empty_array_is_shown_as_such(tmp_path: Path) -> None:
    path = saved(tmp_path, file([pair(b"general.tags", 9, array(8, 0))]))
    with GGUF.open(path) as gguf:
        assert model_info(gguf) == {"general.parameter_count": 0, "general.tags": []}


def test_facts_of_the_model(stories: Path) -> None:
    with GGUF.open(stories) as gguf:
        assert gguf.version == 3
        assert gguf.architecture == "llama"
        assert gguf.file_type == 0
        assert gguf.alignment == 32
        assert gguf.parameter_count == 64 * 512 + 64
        assert gguf.data_size == 4 * gguf.parameter_count
        assert gguf.data_offset + gguf.data_size == stories.stat().st_size
        assert gguf.arch_value("context_length", int) == 512
        assert gguf.arch_value("expert_count", int, 0) == 0
        assert gguf.arch_value("expert_count") is None


def test_values_are_had_as_the_type_that_is_asked_for(stories: Path) -> None:
    with GGUF.open(stories) as gguf:
        assert gguf.get("llama.context_length", float) == 512.0
        assert gguf.get("tokenizer.ggml.add_bos_token", bool) is True
        assert gguf.get("general.name", str, "") == "stories260K"
        assert gguf.get("general.nothing", str, None) is None
        with pytest.raises(InvalidGGUF, match=r"'general.name' is of type string, expected int"):
            gguf.get("general.name", int)
        with pytest.raises(InvalidGGUF, match=r"add_bos_token' is of type bool, expected int"):
            gguf.get("tokenizer.ggml.add_bos_token", int, 0)
        with pytest.raises(InvalidGGUF, match=r"tokens' is of type array, expected str"):
            gguf.get("tokenizer.ggml.tokens", str, None)
        with pytest.raises(InvalidGGUF, match=r"'general.nothing' is missing"):
            gguf.get("general.nothing", str)


def test_items_of_an_array_are_found_singly(stories: Path) -> None:
    with GGUF.open(stories) as gguf:
        tokens = gguf.get("tokenizer.ggml.tokens", Array)
        assert (len(tokens), tokens.item_type) == (4, ValueType.STRING)
        assert (tokens[0], tokens[3], tokens[-2]) == ("<unk>", "é", "</s>")
        assert gguf.get("tokenizer.ggml.scores", Array)[3] == 2.5
        with pytest.raises(IndexError):
            tokens[4]


def test_values_are_copied_as_they_stand(stories: Path, tmp_path: Path) -> None:
    with GGUF.open(stories) as gguf:
        whole = {key: gguf.metadata.encoded_value(key) for key in gguf.metadata}
        tokens, scores = (f"tokenizer.ggml.{name}" for name in ("tokens", "scores"))
        shorter = {key: gguf.metadata.encoded_value(key, 2) for key in (tokens, scores)}
        entries = [rename_entry(value, f"my.{key}") for key, value in (whole | shorter).items()]
        copy = saved(tmp_path, encode_header(entries, []))
        with GGUF.open(copy) as made:
            assert list(made.metadata) == [f"my.{key}" for key in gguf.metadata]
            assert list(made.get(f"my.{tokens}", Array)) == ["<unk>", "<s>"]
            assert list(made.get(f"my.{scores}", Array)) == list(gguf.get(scores, Array))[:2]
            assert made.get("my.general.name", str) == "stories260K"
        with pytest.raises(IndexError):
            gguf.metadata.encoded_value(tokens, 5)


def test_strings_longer_than_a_block_and_arrays_of_arrays(tmp_path: Path) -> None:
    texts = ["", "x" * 300_000, "é" * 100_000, "end"]
    nested = [["a", "bb"], ["c"]]
    path = tmp_path / "m.gguf"
    write_gguf(
        path,
        {
            "texts": (ValueType.ARRAY, ValueType.STRING, texts),
            "nested": (ValueType.ARRAY, ValueType.ARRAY, nested),
            "last": (ValueType.UINT8, 7),
        },
        {},
    )
    with GGUF.open(path) as gguf:
        assert gguf.metadata["last"] == 7
        found = gguf.get("texts", Array)
        assert list(found) == texts
        assert [found[index] for index in range(4)] == texts
        assert metadata_info(gguf, verbose=True)["nested"] == nested
        assert list(gguf.get("nested", Array)[1]) == ["c"]  # type: ignore[arg-type]


def test_version_2_is_read(tmp_path: Path) -> None:
    path = saved(tmp_path, file([pair(b"a.b", 0, b"\x05")], version=2))
    with GGUF.open(path) as gguf:
        assert (gguf.version, dict(gguf.metadata)) == (2, {"a.b": 5})


def test_text_that_is_not_utf8_is_mended(tmp_path: Path) -> None:
    path = saved(tmp_path, file([pair(b"a", 8, string(b"\xffx"))]))
    with GGUF.open(path) as gguf:
        assert gguf.get("a", str) == "\ufffdx"


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (999, "999"),
        (1_000, "1K"),
        (260_032, "260K"),
        (656_000, "656K"),
        (1_000_000, "1M"),
        (22_565_376, "22.57M"),
        (500_500_000, "500.50M"),
        (1_000_000_000, "1B"),
        (3_212_749_888, "3.2B"),
        (7_241_732_096, "7.2B"),
        (8_030_261_248, "8.0B"),
        (1_000_000_000_000, "1000B"),
    ],
)
def test_parameter_counts_read_as_ollama_prints_them(number: int, text: str) -> None:
    assert human_number(number) == text


@pytest.mark.parametrize(
    ("file_type", "name"),
    [(None, "unknown"), (0, "unknown"), (1, "F16"), (7, "Q8_0"), (15, "Q4_K_M"), (999, "unknown")],
)
def test_file_types_read_as_ollama_prints_them(file_type: int | None, name: str) -> None:
    assert file_type_name(file_type) == name


def test_tensor_types_are_those_of_the_engine() -> None:
    libggml.ggml_type_name.restype = ctypes.c_char_p
    libggml.ggml_type_size.restype = ctypes.c_size_t
    libggml.ggml_blck_size.restype = ctypes.c_int64
    for code, (name, block, size) in TENSOR_TYPES.items():
        assert libggml.ggml_type_name(code).decode().upper() == name
        assert (libggml.ggml_blck_size(code), libggml.ggml_type_size(code)) == (block, size)
    assert all(libggml.ggml_blck_size(code) == 0 for code in REMOVED_TYPES)
    assert sorted({*TENSOR_TYPES, *REMOVED_TYPES}) == list(range(43))


# What it leaves in the file


def test_what_comes_before_damage_can_be_read_and_the_damage_shows_every_time(
    tmp_path: Path,
) -> None:
    path = saved(
        tmp_path, file([pair(b"a", 0, b"\x01"), pair(b"b", 99, b"")], [tensor()], data=128)
    )
    with GGUF.open(path) as gguf:
        assert gguf.metadata["a"] == 1
        for _ in range(2):
            with pytest.raises(InvalidGGUF, match="unknown value type 99"):
                gguf.get("b")
            with pytest.raises(InvalidGGUF, match="unknown value type 99"):
                gguf.tensors  # noqa: B018


def test_a_large_vocabulary_stays_in_the_file(tmp_path: Path) -> None:
    tokens = string(b"some token") * 100_000
    path = saved(tmp_path, file([pair(b"t", 9, array(8, 100_000, tokens)), pair(b"z", 0, b"\x01")]))
    tracemalloc.start()
    try:
        with GGUF.open(path) as gguf:
            assert gguf.metadata["z"] == 1
            assert gguf.tensors == ()
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_the_reader_does_not_load_numpy() -> None:
    code = "import sys, llamaherd.gguf; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
