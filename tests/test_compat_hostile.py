"""Files of Ollama's families with impossible numbers: refused by name, whatever they are."""

from __future__ import annotations

import tracemalloc
from contextlib import suppress
from functools import cache
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.compat import parts_in
from llamaherd.errors import InvalidGGUF
from llamaherd.gguf import GGUF
from tests.support.ollama_files import Contents, Raw, read, write
from tests.support.ollama_models import FAMILIES, make_model

NUMBERS = [0, 1, -1, 3, 2**31 - 1, 2**31, 2**32 - 1]
SHAPES: list[tuple[int, ...]] = [(), (0,), (1,), (3, 0), (5, 1), (2, 2, 2), (1, 1, 1, 1)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("hostile")


@cache
def sound(family: str, folder: Path) -> Contents:
    return read(make_model(family, folder).write(folder)[0])


@pytest.mark.parametrize("family", FAMILIES)
@settings(max_examples=60, deadline=None)
@given(
    numbers=st.lists(st.tuples(st.integers(0, 99), st.sampled_from(NUMBERS)), max_size=2),
    shapes=st.lists(st.tuples(st.integers(0, 999), st.sampled_from(SHAPES)), max_size=2),
)
def test_whatever_stands_in_a_file(
    family: str,
    folder: Path,
    numbers: list[tuple[int, int]],
    shapes: list[tuple[int, tuple[int, ...]]],
) -> None:
    contents = sound(family, folder)
    keys, tensors = dict(contents.keys), dict(contents.tensors)
    own = [key for key in keys if key.startswith(f"{family}.")]
    for index, number in numbers:
        key = own[index % len(own)]
        kind = gguf.GGUFValueType.INT64
        if contents.keys[key][2] is None:
            keys[key] = (kind, number, None)
        else:
            keys[key] = (gguf.GGUFValueType.ARRAY, [number], kind)
    for index, shape in shapes:
        name = list(tensors)[index % len(tensors)]
        tensors[name] = Raw(np.zeros(shape, np.float32), gguf.GGMLQuantizationType.F32)
    path = write(folder / "hostile.gguf", family, Contents(keys, tensors))
    with suppress(InvalidGGUF), GGUF.open(path) as file:
        assert parts_in(file, path).text_bytes >= 0


@pytest.mark.parametrize(
    ("family", "name", "shape"),
    [
        ("mistral3", "v.blk.0.attn_q.weight", (1 << 21, 1)),
        ("qwen3vl", "v.patch_embed.weight", (3 << 19, 2, 1, 1)),
    ],
)
def test_a_tensor_of_more_pieces_than_memory_holds(
    family: str, name: str, shape: tuple[int, ...], folder: Path
) -> None:
    """Rows of a byte would take a hundred times their size to list, and in the server."""
    contents = sound(family, folder)
    bytes_ = Raw(np.zeros(shape, np.int8), gguf.GGMLQuantizationType.I8)
    hostile = Contents(contents.keys, contents.tensors | {name: bytes_})
    path = write(folder / "pieces.gguf", family, hostile)
    with (
        GGUF.open(path) as file,
        pytest.raises(InvalidGGUF, match=rf"tensor '{name}' is of \d+ pieces"),
    ):
        parts_in(file, path)


def test_a_row_of_a_large_matrix_is_found_without_a_list_of_all(folder: Path) -> None:
    contents = sound("mistral3", folder)
    embeddings = Raw(np.zeros((1 << 22, 1), np.int8), gguf.GGMLQuantizationType.I8)
    hostile = Contents(contents.keys, contents.tensors | {"token_embd.weight": embeddings})
    path = write(folder / "rows.gguf", "mistral3", hostile)
    with GGUF.open(path) as file:
        tracemalloc.start()
        parts_in(file, path)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert most < 16 << 20


@pytest.mark.parametrize("number", [2**62, -(2**40), 2**31])
def test_types_of_tokens_that_no_file_has(number: int, folder: Path) -> None:
    contents = sound("gemma3n", folder)
    name = "tokenizer.ggml.token_type"
    types = [number, *(min(each, 4) for each in contents.keys[name][1][1:])]
    keys = contents.keys | {name: (gguf.GGUFValueType.ARRAY, types, gguf.GGUFValueType.INT64)}
    path = write(folder / "types.gguf", "gemma3n", Contents(keys, contents.tensors))
    with GGUF.open(path) as file:
        assert parts_in(file, path).text_bytes > 0
