"""A file comes into a store without a copy only where nobody can change the blob afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from llamaherd.store.files import publish_shared
from llamaherd.store.share import share
from tests.support.cli import ollama
from tests.support.models import write_model
from tests.support.server import RunningServer, digest_of, running_server

#: The seed of the one model whose file can't be written.
READ_ONLY = 2

CONTENT = bytes(range(256)) * 64


@pytest.fixture
def store(tmp_path: Path) -> Path:
    store = tmp_path / "blobs"
    store.mkdir()
    return store


def file_with(path: Path, mode: int) -> Path:
    path.write_bytes(CONTENT)
    path.chmod(mode)
    return path


def shared(path: Path, store: Path) -> Path | None:
    with path.open("rb") as file:
        return share(file, path, store)


def can_clone(tmp_path: Path, store: Path) -> bool:
    """Whether this file system can, seen by a file that is never linked."""
    probe = shared(file_with(tmp_path / "probe", 0o644), store)
    if probe is not None:
        probe.unlink()
    return probe is not None


class TestShare:
    def test_what_can_be_written_is_cloned_or_not_shared(self, tmp_path: Path, store: Path) -> None:
        path = file_with(tmp_path / "model", 0o644)
        found = shared(path, store)
        path.write_bytes(b"changed")
        if found is not None:
            assert found.read_bytes() == CONTENT
        assert path.stat().st_nlink == 1

    def test_what_nobody_can_write_is_shared(self, tmp_path: Path, store: Path) -> None:
        path = file_with(tmp_path / "model", 0o444)
        found = shared(path, store)
        assert found is not None
        assert found.parent == store
        assert found.read_bytes() == CONTENT
        assert path.stat().st_nlink == (1 if can_clone(tmp_path, store) else 2)

    @pytest.mark.parametrize("mode", [0o464, 0o446, 0o644, 0o400, 0o440])
    def test_no_one_but_all_may_read_a_link(self, mode: int, tmp_path: Path, store: Path) -> None:
        path = file_with(tmp_path / "model", mode)
        shared(path, store)
        assert path.stat().st_nlink == 1

    def test_a_link_to_a_file_is_not_linked_itself(self, tmp_path: Path, store: Path) -> None:
        path = file_with(tmp_path / "model", 0o444)
        (tmp_path / "link").symlink_to(path)
        found = shared(tmp_path / "link", store)
        assert found is not None
        assert not found.is_symlink()
        assert found.read_bytes() == CONTENT

    def test_a_store_elsewhere_gets_nothing(self, tmp_path: Path) -> None:
        """Between file systems there is nothing to share."""
        other = Path("/dev/shm")
        if not other.is_dir() or other.stat().st_dev == tmp_path.stat().st_dev:
            pytest.skip("there is only one file system")
        path = file_with(tmp_path / "model", 0o444)
        before = set(other.iterdir())
        assert shared(path, other) is None
        assert set(other.iterdir()) == before

    def test_publishing_leaves_one_name(self, tmp_path: Path, store: Path) -> None:
        path = file_with(tmp_path / "model", 0o444)
        blob = store / "blob"
        for _ in range(2):
            found = shared(path, store)
            assert found is not None
            publish_shared(found, blob)
            assert list(store.iterdir()) == [blob]
            assert blob.read_bytes() == CONTENT


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[RunningServer]:
    with running_server(home) as server:
        yield server


class TestCommandLine:
    @pytest.fixture(autouse=True)
    def fresh_log(self, server: RunningServer) -> None:
        server.log.clear()

    @pytest.fixture
    def models(self, home: Path) -> Path:
        return home / ".ollama" / "models"

    @staticmethod
    def create(server: RunningServer, folder: Path, models: Path, seed: int) -> tuple[Path, str]:
        """A new model's file, and what is printed on creating it with the store at ``models``."""
        path = folder / "tiny.gguf"
        if not path.exists():
            write_model(path, seed=seed, n_layer=1)
            path.chmod(0o444 if seed == READ_ONLY else 0o644)
        (folder / "Modelfile").write_text("FROM ./tiny.gguf\n")
        environment = {"OLLAMA_MODELS": str(models)}
        done = ollama("create", "new", host=server.host, folder=folder, environment=environment)
        assert done.code == 0, done
        return path, done.stderr

    def test_a_file_goes_straight_to_the_store(
        self, server: RunningServer, models: Path, tmp_path: Path
    ) -> None:
        path, printed = self.create(server, tmp_path, models, seed=1)
        assert "copying file tiny.gguf 100% " in printed.splitlines()
        blob = blob_of(path, models)
        assert blob.stat().st_mode & 0o777 == 0o644
        assert not uploads(server)
        assert not list(blob.parent.glob(".tmp-*"))
        with path.open("r+b") as file:
            file.write(b"changed in place")
        assert f"sha256:{blob.name[7:]}" == digest_of(blob.read_bytes())

    def test_a_file_that_nobody_can_write_takes_no_space(
        self, server: RunningServer, models: Path, tmp_path: Path
    ) -> None:
        path, printed = self.create(server, tmp_path, models, seed=READ_ONLY)
        assert "copying file tiny.gguf 100% " in printed.splitlines()
        blob = blob_of(path, models)
        assert not uploads(server)
        if not can_clone(tmp_path, blob.parent):
            assert blob.samefile(path)
        server.request("DELETE", "/api/delete", {"model": "new"})
        assert not blob.exists()
        assert path.exists()

    def test_another_store_than_the_server_s_is_left_alone(
        self, server: RunningServer, models: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "blobs").mkdir()
        path, _ = self.create(server, tmp_path, tmp_path, seed=3)
        assert blob_of(path, models).exists()
        assert uploads(server)
        assert not list((tmp_path / "blobs").iterdir())

    def test_what_the_server_has_is_not_brought_again(
        self, server: RunningServer, models: Path, tmp_path: Path
    ) -> None:
        path, _ = self.create(server, tmp_path, models, seed=4)
        blob = blob_of(path, models)
        before = blob.stat()
        _, printed = self.create(server, tmp_path, models, seed=4)
        assert "copying" not in printed
        assert (blob.stat().st_ino, blob.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
        assert not list(blob.parent.glob(".tmp-*"))


def blob_of(path: Path, models: Path) -> Path:
    return models / "blobs" / digest_of(path.read_bytes()).replace(":", "-")


def uploads(server: RunningServer) -> bool:
    """Whether any file came over HTTP."""
    return any("POST" in line and "/api/blobs/" in line for line in server.log)
