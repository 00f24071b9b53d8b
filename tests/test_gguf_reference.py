"""The GGUF reader against the reference implementation, the ``gguf`` package."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import gguf as reference
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.gguf import GGUF, TENSOR_TYPES, Array, ValueType, model_info
from tests.support.gguf_files import Pairs, file, pair, saved, write_gguf

SCALARS: dict[ValueType, st.SearchStrategy[Any]] = {
    ValueType.UINT8: st.integers(0, 2**8 - 1),
    ValueType.INT8: st.integers(-(2**7), 2**7 - 1),
    ValueType.UINT16: st.integers(0, 2**16 - 1),
    ValueType.INT16: st.integers(-(2**15), 2**15 - 1),
    ValueType.UINT32: st.integers(0, 2**32 - 1),
    ValueType.INT32: st.integers(-(2**31), 2**31 - 1),
    ValueType.UINT64: st.integers(0, 2**64 - 1),
    ValueType.INT64: st.integers(-(2**63), 2**63 - 1),
    ValueType.FLOAT32: st.floats(width=32, allow_nan=False),
    ValueType.FLOAT64: st.floats(allow_nan=False),
    ValueType.BOOL: st.booleans(),
    ValueType.STRING: st.text(max_size=30),
}
SCALAR_TYPES = st.sampled_from(sorted(SCALARS))


def arrays_of(type_: ValueType) -> st.SearchStrategy[Any]:
    items = st.lists(SCALARS[type_], min_size=1, max_size=20)
    return st.tuples(st.just(ValueType.ARRAY), st.just(type_), items)


PAIRS = st.dictionaries(
    st.text(min_size=1, max_size=30).filter(lambda key: not key.startswith("general.")),
    SCALAR_TYPES.flatmap(lambda type_: st.tuples(st.just(type_), SCALARS[type_]))
    | SCALAR_TYPES.flatmap(arrays_of)
    | st.tuples(
        st.just(ValueType.ARRAY),
        st.just(ValueType.ARRAY),
        st.lists(st.lists(st.text(max_size=5), min_size=1, max_size=3), min_size=1, max_size=4),
    ),
    max_size=8,
)


@st.composite
def tensor_sets(draw: Callable[..., Any]) -> dict[str, tuple[str, tuple[int, ...]]]:
    # The package gives Q8_1, which no file holds, four bytes more than ggml does.
    known = {kind.name for kind in reference.GGMLQuantizationType} - {"Q8_1"}
    types = [type_ for type_ in TENSOR_TYPES.values() if type_.name in known]
    tensors = {}
    for name in draw(
        st.lists(st.text("abc._0123", min_size=1, max_size=63), max_size=5, unique=True)
    ):
        name_of_type, block, _ = draw(st.sampled_from(types))
        row = block * draw(st.integers(1, 3))
        rest = draw(st.lists(st.integers(1, 3), max_size=3))
        tensors[name] = (name_of_type, (row, *rest))
    return tensors


@settings(max_examples=60, deadline=None)
@given(PAIRS, tensor_sets())
def test_what_the_gguf_package_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: Pairs,
    tensors: dict[str, tuple[str, tuple[int, ...]]],
) -> None:
    path = tmp_path_factory.getbasetemp() / "written.gguf"
    write_gguf(path, pairs, tensors)
    with GGUF.open(path) as gguf:
        assert list(gguf.metadata) == ["general.architecture", *pairs]
        for key, (type_, *rest) in pairs.items():
            assert gguf.metadata.type_of(key) == type_
            assert plain(gguf.metadata[key]) == rest[-1]
        read = reference.GGUFReader(path)
        assert [
            (tensor.name, tensor.type, list(tensor.shape), tensor.nbytes, tensor.element_count)
            for tensor in gguf.tensors
        ] == [
            (
                tensor.name,
                tensor.tensor_type.name,
                tensor.shape.tolist(),
                tensor.n_bytes,
                tensor.n_elements,
            )
            for tensor in read.tensors
        ]
        assert [gguf.data_offset + tensor.offset for tensor in gguf.tensors] == [
            tensor.data_offset for tensor in read.tensors
        ]


def plain(value: object) -> object:
    return [plain(item) for item in value] if isinstance(value, Array) else value


@settings(max_examples=200, deadline=None)
@given(st.floats(width=32, allow_nan=False, allow_infinity=False))
def test_single_precision_numbers_are_shown_short_and_exact(
    tmp_path_factory: pytest.TempPathFactory, number: float
) -> None:
    path = saved(tmp_path_factory.getbasetemp(), file([pair(b"f", 6, struct.pack("<f", number))]))
    with GGUF.open(path) as gguf:
        shown = model_info(gguf)["f"]
    assert isinstance(shown, int | float)
    assert np.float32(shown) == np.float32(number)
    assert len(repr(shown)) <= max(len(repr(number)), len(str(np.float32(number))))
