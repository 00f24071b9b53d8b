"""Downloads on disk: what is kept of an interrupted one, for whom, and for how long."""

from __future__ import annotations

import json
import os
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.errors import StoreError
from llamaherd.store.blobs import BlobStore, digest_of
from llamaherd.store.library import Library
from llamaherd.store.partial import RESUMABLE_FOR, PartialBlob, completed_bytes

CONTENT = random.Random(11).randbytes(1000)
DIGEST = digest_of(CONTENT)
NAME = DIGEST.replace(":", "-")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "models")
    library.prepare()
    return library


@pytest.fixture
def blobs(library: Library) -> BlobStore:
    return library.blobs


def begin(blobs: BlobStore, total: int = len(CONTENT), part_size: int = 300) -> PartialBlob:
    return PartialBlob.open(blobs, DIGEST, total, part_size)


def fill(partial: PartialBlob, number: int, size: int) -> None:
    part = partial.parts[number]
    partial.write(part, [CONTENT[part.position : part.position + size]])


def state(blobs: BlobStore, number: int) -> Path:
    return blobs.folder / f"{NAME}-partial-{number}"


def age(blobs: BlobStore, seconds: float) -> None:
    for path in blobs.folder.iterdir():
        then = path.stat().st_mtime - seconds
        os.utime(path, (then, then))


def test_the_files_are_those_of_ollama(blobs: BlobStore) -> None:
    partial = begin(blobs)
    fill(partial, 1, 7)
    partial.close()
    assert json.loads(state(blobs, 1).read_text()) == {
        "N": 1,
        "Offset": 300,
        "Size": 300,
        "Completed": 7,
    }
    assert (blobs.folder / f"{NAME}-partial").stat().st_size == len(CONTENT)
    assert len(list(blobs.folder.iterdir())) == 5


def test_it_goes_on_where_it_was(blobs: BlobStore) -> None:
    partial = begin(blobs)
    fill(partial, 0, 300)
    fill(partial, 2, 10)
    partial.close()
    assert completed_bytes(blobs, DIGEST, len(CONTENT)) == 310
    partial = begin(blobs, part_size=500)
    assert [part.completed for part in partial.parts] == [300, 0, 10, 0]
    assert (partial.completed, partial.contiguous) == (310, 300)
    for part in partial.parts:
        fill(partial, part.number, part.size - part.completed)
    partial.commit(blobs.path(DIGEST))
    partial.close()
    assert [path.name for path in blobs.folder.iterdir()] == [NAME]
    assert blobs.read(DIGEST, len(CONTENT)) == CONTENT


def test_what_ollama_left_is_gone_on_with(blobs: BlobStore) -> None:
    data = blobs.folder / f"{NAME}-partial"
    data.write_bytes(CONTENT[:400] + bytes(600))
    state(blobs, 0).write_text('{"N":0,"Offset":0,"Size":600,"Completed":400}\n')
    state(blobs, 1).write_text('{"N":1,"Offset":600,"Size":400,"Completed":0}\n')
    partial = begin(blobs)
    assert partial.contiguous == 400
    partial.close()


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "{",
        "[]",
        '{"N":0,"Offset":0,"Size":300,"Completed":301}',
        '{"N":0,"Offset":0,"Size":300,"Completed":-1}',
        '{"N":0,"Offset":0,"Size":299,"Completed":0}',
        '{"N":0,"Offset":5,"Size":300,"Completed":0}',
        '{"N":7,"Offset":0,"Size":300,"Completed":0}',
        '{"N":0,"Offset":0,"Size":-300,"Completed":-300}',
        None,
    ],
)
def test_what_makes_no_sense_is_begun_anew(damage: str | None, blobs: BlobStore) -> None:
    partial = begin(blobs)
    fill(partial, 1, 300)
    partial.close()
    if damage is None:
        state(blobs, 0).unlink()
    else:
        state(blobs, 0).write_text(damage)
    assert completed_bytes(blobs, DIGEST, len(CONTENT)) == 0
    partial = begin(blobs)
    assert partial.completed == 0
    partial.close()


def test_another_size_begins_anew(blobs: BlobStore) -> None:
    partial = begin(blobs)
    fill(partial, 0, 300)
    partial.close()
    partial = begin(blobs, total=999)
    assert partial.completed == 0
    partial.close()


def test_it_has_one_owner(blobs: BlobStore) -> None:
    partial = begin(blobs)
    with pytest.raises(StoreError, match="another process is downloading"):
        begin(blobs)
    partial.close()
    begin(blobs).close()


def test_links_are_not_followed(blobs: BlobStore, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("precious")
    (blobs.folder / f"{NAME}-partial").symlink_to(outside)
    with pytest.raises(StoreError, match="can't write"):
        begin(blobs)
    (blobs.folder / f"{NAME}-partial").unlink()
    state(blobs, 0).symlink_to(outside)
    begin(blobs).close()
    assert outside.read_text() == "precious"


@given(writes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 300)), max_size=8))
@settings(max_examples=30, deadline=None)
def test_no_part_ever_claims_what_is_not_there(
    writes: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    blobs = BlobStore(tmp_path_factory.mktemp("blobs"))
    for number, size in writes:
        partial = begin(blobs)
        part = partial.parts[number]
        fill(partial, number, min(size, part.size - part.completed))
        partial.close()
    partial = begin(blobs)
    for part in partial.parts:
        there = partial.read(part.offset, part.completed)
        assert there == CONTENT[part.offset : part.position]
    partial.close()


class TestPruning:
    def test_a_running_download_stays_however_old(self, library: Library) -> None:
        partial = begin(library.blobs)
        age(library.blobs, 2 * RESUMABLE_FOR)
        assert library.prune() == 0
        fill(partial, 0, 300)
        partial.close()
        assert completed_bytes(library.blobs, DIGEST, len(CONTENT)) == 300

    def test_an_interrupted_one_can_be_resumed_for_a_while(self, library: Library) -> None:
        partial = begin(library.blobs)
        partial.close()
        age(library.blobs, RESUMABLE_FOR - 3600)
        assert library.prune() == 0
        age(library.blobs, 7200)
        assert library.prune() == 5
        assert list(library.blobs.folder.iterdir()) == []
