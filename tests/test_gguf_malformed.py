"""Every malformed GGUF is refused with the reason: no crash, no large allocation, no waiting."""

from __future__ import annotations

import os
import struct
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.errors import InvalidGGUF
from llamaherd.gguf import GGUF, Array, ValueType
from tests.support.gguf_files import (
    array,
    file,
    pair,
    read_everything,
    saved,
    string,
    tensor,
    write_gguf,
)

HUGE = 1 << 60

REFUSED: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "needs 8 bytes, but the file ends at byte 0"),
    "other magic": (file(magic=b"GGML"), "not a GGUF file: it begins with b'GGML'"),
    "version 1": (file(version=1), "version 1; only 2 and 3"),
    "version 4": (file(version=4), "version 4; only 2 and 3"),
    "big endian": (file(version=3 << 24), "big-endian"),
    "keys without end": (file(key_count=HUGE), f"{HUGE} keys, more than can be"),
    "tensors without end": (file(tensor_count=HUGE), f"{HUGE} tensors, more than can be"),
    "more keys than fit": (file(data=1400, key_count=200), "200 keys, more than can be"),
    "fewer keys than said": (file(data=100, key_count=1), "0 bytes long, expected 1 to"),
    "long key": (file([pair(b"k" * 65536, 0, b"\x01")]), "65536 bytes long, expected 1 to 65535"),
    "key not UTF-8": (file([pair(b"\xff", 0, b"\x01")]), "key 0 of 1 at byte 32: not UTF-8"),
    "same key twice": (file([pair(b"k", 0, b"\x01")] * 2), "a second 'k'"),
    "unknown type": (file([pair(b"k", 13, b"\x01")]), "unknown value type 13, expected 0 to 12"),
    "huge string": (file([pair(b"k", 8, struct.pack("<Q", HUGE))]), f"needs {HUGE} bytes"),
    "huge numbers": (file([pair(b"k", 9, array(5, HUGE))]), f"needs {4 * HUGE} bytes"),
    "huge strings": (file([pair(b"k", 9, array(8, HUGE))]), f"needs {8 * HUGE} bytes"),
    "huge arrays": (file([pair(b"k", 9, array(9, HUGE))]), f"needs {12 * HUGE} bytes"),
    "items of no type": (file([pair(b"k", 9, array(77, 0))]), "unknown value type 77"),
    "item beyond the file": (
        file([pair(b"k", 9, array(8, 2, string(b"a") + struct.pack("<Q", HUGE)))]),
        "key 'k' at byte",
    ),
    "item beyond all bounds": (
        file([pair(b"k", 9, array(8, 2, struct.pack("<QQ", (1 << 64) - 1, 0)))]),
        "key 'k' at byte",
    ),
    "nested too deep": (
        file([pair(b"k", 9, array(9, 1) * 1000 + array(0, 0))]),
        "arrays nested deeper than 8",
    ),
    "too many items": (
        file([pair(b"k%d" % n, 9, array(0, 1 << 22, bytes(1 << 22))) for n in range(3)]),
        "more than 8388608 items",
    ),
    "too many arrays": (
        file([pair(b"k", 9, array(9, 1 << 17, array(0, 0) * (1 << 17)))]),
        "more than 8388608 items",
    ),
    "alignment of 3": (
        file([pair(b"general.alignment", 4, struct.pack("<I", 3))]),
        "general.alignment is 3, expected a power of two",
    ),
    "alignment of 0": (
        file([pair(b"general.alignment", 4, bytes(4))]),
        "general.alignment is 0, expected a power of two",
    ),
    "alignment a text": (
        file([pair(b"general.alignment", 8, string(b"32"))]),
        "'general.alignment' is of type string, expected int",
    ),
    "long tensor name": (file([], [tensor(b"n" * 64)]), "a name of 64 bytes, expected at most 63"),
    "tensor name not UTF-8": (file([], [tensor(b"\xff")]), "its name is not UTF-8"),
    "same tensor twice": (file([], [tensor()] * 2, data=128), "a second 't'"),
    "five dimensions": (file([], [tensor(shape=[1] * 5)]), "5 dimensions, expected at most 4"),
    "overflow": (file([], [tensor(shape=[1 << 32] * 3)]), "larger than any memory"),
    "overflow hidden by 0": (file([], [tensor(shape=[0, HUGE, HUGE])]), "larger than any memory"),
    "half a block": (file([], [tensor(shape=[33], type_=2)]), "not whole Q4_0 blocks"),
    "first type of gpt-oss": (file([], [tensor(type_=4)]), "gpt-oss: pull the model again"),
    "removed type": (file([], [tensor(type_=31)]), r"type 31, Q4_0_4_4 \(Q4_0 took its place\)"),
    "tensor of no type": (file([], [tensor(type_=43)]), "unknown tensor type 43, expected 0 to 42"),
    "unaligned data": (file([], [tensor(offset=8)], data=256), "not a multiple of the alignment"),
    "data cut off": (
        file([], [tensor()], data=127),
        "is truncated: tensor 't' ends at byte 192, but the file has only 191 bytes",
    ),
    "data far away": (file([], [tensor(offset=HUGE)], data=128), "is truncated: tensor 't'"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_a_malformed_file_is_refused_with_the_reason(tmp_path: Path, case: str) -> None:
    content, reason = REFUSED[case]
    path = saved(tmp_path, content)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidGGUF, match=reason) as caught:
            read_everything(path)
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()
    assert caught.value.message.startswith("model.gguf")


def test_metadata_beyond_all_measure_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    with path.open("wb") as sparse:
        sparse.write(file([pair(b"k", 8, struct.pack("<Q", 1 << 30))])[:-16])
        sparse.truncate((1 << 30) + 4096)
    with GGUF.open(path) as gguf, pytest.raises(InvalidGGUF, match="metadata beyond 268435456"):
        gguf.tensors  # noqa: B018


def test_a_file_that_shrinks_while_it_is_read_is_refused(tmp_path: Path) -> None:
    items = string(b"token") * 100_000
    path = saved(tmp_path, file([pair(b"k", 9, array(8, 100_000, items))]))
    with GGUF.open(path) as gguf:
        tokens = gguf.get("k", Array)
        with path.open("r+b") as shrinking:
            shrinking.truncate(1000)
        for reading in (lambda: list(tokens), lambda: tokens[99_999]):
            with pytest.raises(InvalidGGUF, match="became shorter"):
                reading()


def test_a_missing_file_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        GGUF.open(tmp_path / "none.gguf")


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.getbasetemp() / "sound.gguf"
    write_gguf(
        path,
        {
            "general.name": (ValueType.STRING, "sound"),
            "general.alignment": (ValueType.UINT32, 32),
            "llama.context_length": (ValueType.UINT32, 512),
            "tokens": (ValueType.ARRAY, ValueType.STRING, ["a", "bc", "é"]),
            "scores": (ValueType.ARRAY, ValueType.FLOAT32, [0.5, 1.5]),
            "nested": (ValueType.ARRAY, ValueType.ARRAY, [["a"], ["b", "c"]]),
        },
        {"a": ("Q4_K", (256, 2)), "b": ("F16", (4, 4))},
    )
    return path.read_bytes()


def test_a_file_cut_off_anywhere_is_refused(tmp_path: Path, sound: bytes) -> None:
    read_everything(saved(tmp_path, sound))
    for length in range(len(sound)):
        path = saved(tmp_path, sound[:length])
        with pytest.raises(InvalidGGUF):
            read_everything(path)


@settings(max_examples=300, deadline=None)
@given(
    flips=st.lists(st.tuples(st.integers(0, 500), st.integers(0, 255)), min_size=1, max_size=3),
    cut=st.integers(0, 20),
)
def test_a_damaged_file_is_read_or_refused_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory,
    sound: bytes,
    flips: list[tuple[int, int]],
    cut: int,
) -> None:
    damaged = bytearray(sound)
    for position, byte in flips:
        damaged[position] = byte
    path = saved(tmp_path_factory.getbasetemp(), bytes(damaged[: len(damaged) - cut]))
    with suppress(InvalidGGUF):
        read_everything(path)


def test_a_named_pipe_is_refused_and_not_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "model.gguf"
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is a named pipe"):
        GGUF.open(path)
