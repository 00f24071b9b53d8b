"""Files of Ollama's families with impossible numbers: refused by name, whatever they are."""

from __future__ import annotations

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
