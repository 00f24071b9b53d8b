"""Blobs: whole or absent, named by their content, whatever happens while they are written."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import threading
from pathlib import Path

import pytest

from llamaherd.errors import BadRequest, InvalidDigest, StoreError
from llamaherd.store.blobs import STALE_AFTER, BlobStore, digest_of, parse_digest

HELLO = b"hello"
DIGEST = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    return BlobStore(tmp_path / "models" / "blobs")


def names(blobs: BlobStore) -> list[str]:
    return sorted(path.name for path in blobs.folder.iterdir())


def age(path: Path, seconds: float) -> None:
    then = path.stat().st_mtime - seconds
    os.utime(path, (then, then))


def test_a_blob_is_named_by_its_digest(blobs: BlobStore) -> None:
    assert blobs.put(HELLO) == DIGEST == digest_of(HELLO)
    assert blobs.path(DIGEST) == blobs.folder / DIGEST.replace(":", "-")
    assert blobs.path(DIGEST).read_bytes() == HELLO
    assert blobs.exists(DIGEST)
    assert blobs.size(DIGEST) == 5
    with blobs.open(DIGEST) as file:
        assert file.read() == HELLO


def test_others_of_the_group_can_read_it(blobs: BlobStore) -> None:
    assert stat.S_IMODE(blobs.path(blobs.put(HELLO)).stat().st_mode) == 0o644


def test_a_digest_is_also_known_by_its_file_name() -> None:
    assert parse_digest(DIGEST.replace(":", "-")) == DIGEST


@pytest.mark.parametrize(
    "text",
    [
        *("", "sha256:", "sha256:xyz", "../../x", "sha256:../../../etc/passwd", DIGEST[7:]),
        *(DIGEST + "0", DIGEST[:-1], DIGEST.upper(), DIGEST + "\n", "md5:" + DIGEST[7:]),
        *("sha256:" + "٠" * 64, DIGEST[:-1] + "\0"),
    ],
)
def test_nothing_else_becomes_a_path(blobs: BlobStore, text: str) -> None:
    for use in (parse_digest, blobs.path, blobs.exists, blobs.open, blobs.size, blobs.remove):
        with pytest.raises(InvalidDigest, match=r"^invalid digest format$"):
            use(text)


def test_a_link_does_not_lead_out_of_the_store(blobs: BlobStore, tmp_path: Path) -> None:
    outside = tmp_path / "secret"
    outside.write_bytes(HELLO)
    blobs.prepare()
    link = blobs.folder / DIGEST.replace(":", "-")
    link.symlink_to(outside)
    for use in (blobs.path, blobs.exists, blobs.open, blobs.size):
        with pytest.raises(StoreError, match="leads out of the model store"):
            use(DIGEST)
    with pytest.raises(StoreError, match="leads out of the model store"):
        blobs.put(HELLO)
    blobs.remove(DIGEST)
    assert (names(blobs), outside.read_bytes()) == ([], HELLO)


def test_links_inside_and_to_the_whole_store_are_followed(blobs: BlobStore, tmp_path: Path) -> None:
    blobs.put(HELLO)
    path = blobs.path(DIGEST).rename(blobs.folder.parent / "elsewhere")
    blobs.path(DIGEST).symlink_to(path)
    assert blobs.read(DIGEST, 5) == HELLO
    (tmp_path / "link").symlink_to(blobs.folder.parent)
    assert BlobStore(tmp_path / "link" / "blobs").read(DIGEST, 5) == HELLO


def test_content_may_come_in_pieces(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(b"he")
        writer.write(memoryview(b"llo"))
        assert not blobs.exists(DIGEST)
        assert writer.commit(DIGEST) == DIGEST
    assert writer.size == 5
    assert names(blobs) == [DIGEST.replace(":", "-")]


def test_the_wrong_content_is_refused_and_leaves_nothing(blobs: BlobStore) -> None:
    with blobs.writer() as writer:
        writer.write(b"hullo")
        with pytest.raises(BadRequest, match=f'digest mismatch, expected "{DIGEST}", got "sha256:'):
            writer.commit(DIGEST)
    assert names(blobs) == []


def test_an_interrupted_upload_leaves_nothing(blobs: BlobStore) -> None:
    def upload() -> None:
        with blobs.writer() as writer:
            writer.write(HELLO)
            raise ConnectionError

    with pytest.raises(ConnectionError):
        upload()
    assert names(blobs) == []


def test_many_writers_of_one_blob_do_no_harm(blobs: BlobStore) -> None:
    content = os.urandom(1 << 16)
    digest = digest_of(content)
    start = threading.Barrier(8)
    failures: list[BaseException] = []

    def write() -> None:
        try:
            with blobs.writer() as writer:
                start.wait()
                for at in range(0, len(content), 4096):
                    writer.write(content[at : at + 4096])
                writer.commit(digest)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=write) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures
    assert names(blobs) == [digest.replace(":", "-")]
    assert hashlib.sha256(blobs.path(digest).read_bytes()).hexdigest() == digest[7:]


def test_a_full_disk_is_reported_with_the_path(
    blobs: BlobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoreError, match=rf"{blobs.path(DIGEST)}: No space left on device"):
        blobs.put(HELLO)
    assert names(blobs) == []


def test_a_store_that_cannot_be_written_is_reported_with_the_path(tmp_path: Path) -> None:
    (tmp_path / "models").write_text("in the way")
    blobs = BlobStore(tmp_path / "models" / "blobs")
    with pytest.raises(StoreError, match=f"can't create {blobs.folder}: Not a directory"):
        blobs.put(HELLO)


def test_a_missing_blob_is_reported_with_the_path(blobs: BlobStore) -> None:
    assert not blobs.exists(DIGEST)
    for use in (blobs.open, blobs.size, lambda digest: blobs.read(digest, 10)):
        with pytest.raises(StoreError, match=f"{blobs.path(DIGEST)}: No such file or directory"):
            use(DIGEST)
    blobs.remove(DIGEST)


def test_no_more_is_read_than_allowed(blobs: BlobStore) -> None:
    blobs.put(HELLO)
    assert blobs.read(DIGEST, 5) == HELLO
    with pytest.raises(StoreError, match="larger than the 4 bytes"):
        blobs.read(DIGEST, 4)


def test_start_clears_away_what_has_been_forgotten_and_nothing_else(blobs: BlobStore) -> None:
    blobs.put(HELLO)
    forgotten, in_progress = blobs.writer(), blobs.writer()
    for path in blobs.folder.iterdir():
        age(path, STALE_AFTER + 10)
    in_progress.write(bytes(1 << 16))
    blobs.prepare()
    assert len(names(blobs)) == 2
    assert blobs.exists(in_progress.commit())
    assert blobs.exists(DIGEST)
    forgotten.abort()
    in_progress.abort()
