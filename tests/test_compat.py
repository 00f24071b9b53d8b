"""Ollama's model files become what llama.cpp reads, tensor by tensor and number by number."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator
from contextlib import closing
from copy import deepcopy
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.compat import Parts, parts_in, projector_of, text_of
from llamaherd.errors import InvalidGGUF, LoadError
from llamaherd.gguf import GGUF
from llamaherd.llama import streams
from llamaherd.llama.derived import DerivedReader
from llamaherd.llama.loader import LoadedModel, ModelSpec, load
from llamaherd.llama.streams import CookieStream, projector_file, text_stream
from tests.support.models import write_model
from tests.support.mtmd_oracle import MARKER, Question, ask_oracle
from tests.support.ollama_encoders import FAMILIES as ENCODERS
from tests.support.ollama_encoders import Family, make_encoder
from tests.support.ollama_files import Contents, Raw, read, write, write_projector
from tests.support.ollama_models import FAMILIES, Pair, make_model, with_break_embedding
from tests.support.pictures import picture
from tests.support.vision import VisionModel

TOKENS = list(range(300, 340))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


def logits(path: Path) -> npt.NDArray[np.float32]:
    """After more tokens than the sliding windows are wide."""
    loaded = load_model(path)
    backend = loaded.backend
    row = backend.batch.extend(TOKENS, 0, 0, want=1)
    backend.decode()
    backend.wait()
    result = backend.logits(row).copy()
    backend.close()
    return result


def load_model(path: Path, progress: list[float] | None = None) -> LoadedModel:
    told = [] if progress is None else progress
    spec = ModelSpec(model=path, n_ctx=128, n_slots=1, n_batch=64, threads=1)
    return load(spec, told.append)


# --- what comes out ------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES)
def test_the_language_model_computes_the_same(family: str, tmp_path: Path) -> None:
    ours, theirs = make_model(family, tmp_path).write(tmp_path)
    assert np.array_equal(logits(ours), logits(theirs))


@pytest.mark.parametrize("family", ENCODERS)
def test_the_projector_is_the_same(family: Family, tmp_path: Path) -> None:
    pair = make_model(family, tmp_path)
    ours, _ = pair.write(tmp_path)
    extra = with_break_embedding(family, pair.llama_cpp)
    expected = read(write_projector(tmp_path / "expected.gguf", make_encoder(family), extra))
    with projector_file(ours) as path:
        made = read(path)
    assert made.tensors.keys() == expected.tensors.keys()
    for name, tensor in expected.tensors.items():
        assert made.tensors[name].kind == tensor.kind, name
        assert np.array_equal(made.tensors[name].data, tensor.data), name
    assert {key: made.keys.get(key) for key in expected.keys} == expected.keys


@pytest.mark.parametrize("family", FAMILIES)
def test_llama_cpps_own_files_are_left_alone(family: str, tmp_path: Path) -> None:
    _, theirs = make_model(family, tmp_path).write(tmp_path)
    with GGUF.open(theirs) as file:
        assert text_of(file) is None
        assert projector_of(file) is None
    with text_stream(theirs) as stream:
        assert stream is None
    with projector_file(theirs) as path:
        assert path == theirs


def test_biases_of_experts_become_floats(tmp_path: Path) -> None:
    """Of gpt-oss, where Ollama's converter once kept BF16: llama.cpp would end the process."""
    pair = make_model("gptoss", tmp_path)
    ours, theirs = (deepcopy(each) for each in (pair.ollama, pair.llama_cpp))
    for name, tensor in ours.tensors.items():
        if name.endswith("_exps.bias"):
            kind = gguf.GGMLQuantizationType.BF16
            short = Raw(gguf.quants.quantize(tensor.data, kind), kind)
            ours.tensors[name] = short
            floats = Raw(numbers(short), gguf.GGMLQuantizationType.F32)
            theirs.tensors[name] = floats
    made = write(tmp_path / "short.gguf", "gptoss", ours)
    expected = write(tmp_path / "floats.gguf", "gpt-oss", theirs)
    assert np.array_equal(logits(made), logits(expected))


def test_tokens_that_are_bytes_are_typed_so(tmp_path: Path) -> None:
    """Gemma 3n of a tokenizer that calls them normal."""
    pair = make_model("gemma3n", tmp_path)
    contents = ollamas(pair, tmp_path)
    kind, types, items = contents.keys["tokenizer.ggml.token_type"]
    assert 6 in types
    contents.keys["tokenizer.ggml.token_type"] = (kind, [min(each, 4) for each in types], items)
    path = write(tmp_path / "normal.gguf", "gemma3n", contents)
    made, expected = (
        file.keys["tokenizer.ggml.token_type"]
        for file in (translated(path, tmp_path), pair.llama_cpp)
    )
    assert [each == 6 for each in made[1]] == [each == 6 for each in expected[1]]


def test_attention_of_different_types_becomes_floats(tmp_path: Path) -> None:
    """As in Ollama's Qwen 3 VL in Q4_K_M, where ``attn_v`` is smaller than the two others."""
    contents = ollamas(make_model("qwen3vl", tmp_path), tmp_path)
    parts = [f"v.blk.0.attn_{part}.weight" for part in "qkv"]
    contents.tensors[parts[2]] = smaller(contents.tensors[parts[2]])
    with projector_file(write(tmp_path / "mixed.gguf", "qwen3vl", contents)) as path:
        joined = read(path).tensors["v.blk.0.attn_qkv.weight"]
    assert joined.kind == gguf.GGMLQuantizationType.F32
    assert np.array_equal(
        joined.data, np.vstack([numbers(contents.tensors[name]) for name in parts])
    )


def test_the_end_of_a_row_is_taken_from_small_embeddings_too(tmp_path: Path) -> None:
    contents = ollamas(make_model("mistral3", tmp_path), tmp_path)
    embeddings = smaller(contents.tensors["token_embd.weight"])
    contents.tensors["token_embd.weight"] = embeddings
    with projector_file(write(tmp_path / "small.gguf", "mistral3", contents)) as path:
        row = read(path).tensors["v.token_embd.img_break"].data
    token = contents.keys["tokenizer.ggml.tokens"][1].index("[IMG_BREAK]")
    assert np.array_equal(row, numbers(embeddings)[token])


def test_rows_are_put_in_order_whatever_their_type(tmp_path: Path) -> None:
    """A row is whole blocks; those of Mistral's heads are exchanged."""
    contents = ollamas(make_model("mistral3", tmp_path), tmp_path)
    name = "v.blk.0.attn_q.weight"
    with projector_file(write(tmp_path / "half.gguf", "mistral3", contents)) as path:
        ordered = numbers(read(path).tensors[name])
    before = numbers(contents.tensors[name])
    order = [next(i for i, row in enumerate(before) if (row == each).all()) for each in ordered]
    assert order != list(range(len(before)))
    contents.tensors[name] = small = smaller(contents.tensors[name])
    with projector_file(write(tmp_path / "small.gguf", "mistral3", contents)) as path:
        made = read(path).tensors[name]
    assert made.kind == small.kind
    assert np.array_equal(made.data, small.data[order])


@pytest.mark.parametrize(("family", "more"), [("gemma3n", 1), ("mllama", 8)])
def test_small_embeddings_are_cut_between_rows(family: str, more: int, tmp_path: Path) -> None:
    contents = ollamas(make_model(family, tmp_path), tmp_path)
    name = "token_embd.weight"
    contents.tensors[name] = small = smaller(contents.tensors[name])
    path = write(tmp_path / "small.gguf", family, contents)
    made = translated(path, tmp_path).tensors[name]
    assert made.kind == small.kind
    assert np.array_equal(made.data, small.data[:-more])


def test_numbers_that_no_floats_can_be_made_of_are_refused(tmp_path: Path) -> None:
    contents = ollamas(make_model("qwen3vl", tmp_path), tmp_path)
    name = "v.blk.0.attn_v.weight"
    shape = contents.tensors[name].data.shape
    whole = np.zeros(shape, np.int32)
    contents.tensors[name] = Raw(whole, gguf.GGMLQuantizationType.I32)
    path = write(tmp_path / "whole.gguf", "qwen3vl", contents)
    with (
        pytest.raises(InvalidGGUF, match=r"attn_qkv\.weight' are of type I32"),
        projector_file(path),
    ):
        pass


def translated(path: Path, folder: Path) -> Contents:
    """The language model that is in the file."""
    with GGUF.open(path) as file:
        derived = text_of(file)
    assert derived is not None
    target = folder / "translated.gguf"
    with closing(DerivedReader(path, derived)) as reader:
        reader.write(target)
    return read(target)


def smaller(tensor: Raw) -> Raw:
    kind = gguf.GGMLQuantizationType.Q8_0
    return Raw(gguf.quants.quantize(numbers(tensor), kind), kind)


def numbers(tensor: Raw) -> npt.NDArray[np.float32]:
    return np.asarray(gguf.quants.dequantize(tensor.data, tensor.kind), np.float32)


def test_a_whole_model_sees_the_same(tmp_path: Path) -> None:
    """Ollama's file of Gemma 3, against llama.cpp's two, in libmtmd."""
    ours, theirs = make_model("gemma3", tmp_path).write(tmp_path)
    projector = write_projector(tmp_path / "mmproj.gguf", make_encoder("gemma3"))
    question = Question(f"Once {MARKER} upon", [picture(1)])
    [expected] = ask_oracle(VisionModel(theirs, projector), question)
    with projector_file(ours) as path:
        # The oracle is another process.
        shared = Path(str(path).replace("self", str(os.getpid())))
        [made] = ask_oracle(VisionModel(theirs, shared), question)
    assert np.array_equal(made.logits, expected.logits)


def parts_of(path: Path) -> Parts:
    with GGUF.open(path) as gguf:
        return parts_in(gguf, path)


def test_parts(tmp_path: Path) -> None:
    ours, theirs = make_model("gemma3", tmp_path).write(tmp_path)
    projector = write_projector(tmp_path / "mmproj.gguf", make_encoder("gemma3"))
    with GGUF.open(theirs) as file:
        text = file.data_size
    with GGUF.open(projector) as file:
        encoder = file.data_size
    assert parts_of(theirs) == Parts(text, mapped=True)
    assert parts_of(ours) == Parts(text, False, ours, encoder)
    blind = make_model("mllama", tmp_path).write(tmp_path)[0]
    assert parts_of(blind).projector is None


@pytest.mark.parametrize("typed", [True, False])
def test_a_projector_that_does_not_say_its_type_is_of_two_layers(
    typed: bool, tmp_path: Path
) -> None:
    encoder = make_encoder("gemma3")
    path = write_projector(tmp_path / "mmproj.gguf", encoder)
    contents = read(path)
    if not typed:
        contents.drop("clip.projector_type")
        path = write(tmp_path / "untyped.gguf", "clip", contents)
    with projector_file(path) as file:
        made = read(file)
        assert (file == path) is typed
    assert made.keys["clip.projector_type"][1] == ("gemma3" if typed else "mlp")
    assert made.tensors.keys() == contents.tensors.keys()


# --- what is missing -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "key",
    [
        "gemma3.vision.block_count",
        "gemma3.vision.feed_forward_length",
        "gemma3.vision.image_size",
        "gemma3.vision.attention.layer_norm_epsilon",
        "gemma3.embedding_length",
    ],
)
def test_a_missing_key_is_named(key: str, tmp_path: Path) -> None:
    contents = ollamas(make_model("gemma3", tmp_path), tmp_path)
    contents.drop(key)
    path = write(tmp_path / "lacking.gguf", "gemma3", contents)
    with pytest.raises(InvalidGGUF, match=rf"lacking\.gguf: key '{key}' is missing"):
        parts_of(path)


@pytest.mark.parametrize(
    ("family", "tensor"),
    [
        ("gemma3", "token_embd.weight"),
        ("mistral3", "v.blk.0.attn_q.weight"),
        ("qwen25vl", "v.blk.0.ffn_up.weight"),
        ("qwen3vl", "v.patch_embed.weight"),
        ("qwen3vl", "v.blk.1.attn_v.bias"),
        ("gptoss", "blk.0.ffn_gate_exps.weight"),
    ],
)
def test_a_missing_tensor_is_named(family: str, tensor: str, tmp_path: Path) -> None:
    contents = ollamas(make_model(family, tmp_path), tmp_path)
    del contents.tensors[tensor]
    path = write(tmp_path / "lacking.gguf", family, contents)
    with pytest.raises(InvalidGGUF, match=rf"lacking\.gguf: tensor '{tensor}' is missing"):
        parts_of(path)


def test_a_model_that_lacks_something_is_not_loaded(tmp_path: Path) -> None:
    contents = ollamas(make_model("gptoss", tmp_path), tmp_path)
    del contents.tensors["blk.0.ffn_gate_exps.weight"]
    with pytest.raises(LoadError, match=r"'blk\.0\.ffn_gate_exps\.weight' is missing"):
        load_model(write(tmp_path / "lacking.gguf", "gptoss", contents))


def test_what_llama_cpp_misses_it_says_itself(tmp_path: Path) -> None:
    contents = ollamas(make_model("gptoss", tmp_path), tmp_path)
    del contents.tensors["blk.1.attn_sinks"]
    with pytest.raises(LoadError, match=r"blk\.1\.attn_sinks\.weight' not found"):
        load_model(write(tmp_path / "lacking.gguf", "gptoss", contents))


def ollamas(pair: Pair, folder: Path) -> Contents:
    return read(pair.write(folder)[0])


# --- reading -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def mistral(folder: Path) -> Path:
    return make_model("mistral3", folder).write(folder)[0]


@pytest.fixture(scope="module")
def projector(mistral: Path) -> Iterator[DerivedReader]:
    """With tensors whole, of other numbers, and of many pieces."""
    with GGUF.open(mistral) as file:
        derived = projector_of(file)
    assert derived is not None
    with closing(DerivedReader(mistral, derived)) as reader:
        yield reader


@pytest.fixture(scope="module")
def content(projector: DerivedReader, folder: Path) -> bytes:
    path = folder / "content.gguf"
    projector.write(path)
    return path.read_bytes()


def test_a_derived_file_is_as_long_as_it_says(projector: DerivedReader, content: bytes) -> None:
    assert len(content) == projector.size


@settings(deadline=None)
@given(place=st.floats(0, 1.01), size=st.integers(1, 5000))
def test_any_part_of_a_derived_file(
    projector: DerivedReader, content: bytes, place: float, size: int
) -> None:
    offset = int(place * len(content))
    target = bytearray(size)
    count = projector.read_into(offset, memoryview(target))
    assert target[:count] == content[offset : offset + count]
    assert (count == 0) == (offset >= len(content))


def test_c_reads_a_stream_from_end_to_end(projector: DerivedReader, content: bytes) -> None:
    libc = ctypes.CDLL(None)
    libc.fread.restype = ctypes.c_size_t
    libc.fread.argtypes = (ctypes.c_char_p, ctypes.c_size_t, ctypes.c_size_t, ctypes.c_void_p)
    buffer = ctypes.create_string_buffer(len(content) + 1)
    with closing(CookieStream(projector)) as stream:
        assert libc.fread(buffer, 1, len(buffer), stream.file) == len(content)
    assert buffer.raw[:-1] == content


@pytest.mark.parametrize("missing", [(streams, "HAS_COOKIES"), (os, "memfd_create")])
def test_systems_that_can_do_less(
    missing: tuple[object, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, theirs = make_model("gemma3", tmp_path).write(tmp_path)
    with projector_file(ours) as path:
        expected = path.read_bytes()
    if missing[0] is streams:
        monkeypatch.setattr(streams, "HAS_COOKIES", False)
    else:
        monkeypatch.delattr(os, "memfd_create")
    with projector_file(ours) as path:
        assert path.read_bytes() == expected
    assert np.array_equal(logits(ours), logits(theirs))


def test_loading_tells_progress_and_memory(tmp_path: Path) -> None:
    ours, theirs = make_model("gemma3", tmp_path).write(tmp_path)
    progress: list[float] = []
    loaded = load_model(ours, progress)
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    expected = load_model(theirs)
    assert loaded.memory == expected.memory
    loaded.backend.close()
    expected.backend.close()


def test_a_file_that_becomes_shorter_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ours, _ = make_model("gemma3", tmp_path).write(tmp_path)

    def open_and_cut(reader: DerivedReader) -> CookieStream:
        os.truncate(ours, 4096)
        return CookieStream(reader)

    monkeypatch.setattr(streams, "CookieStream", open_and_cut)
    with pytest.raises(LoadError, match=r"gemma3\.gguf: the file ends within tensor '.+'"):
        load_model(ours)


def test_other_models_are_read_as_before(tmp_path: Path) -> None:
    path = write_model(tmp_path / "tiny.gguf")
    with text_stream(path) as stream:
        assert stream is None
    load_model(path).backend.close()
