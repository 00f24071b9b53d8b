"""Shards of a GGUF become the file that they were cut from, or are refused by name.

The ``gguf`` package cuts them, as llama.cpp's own tool does.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import pytest

from llamaherd.create.convert.merge import Merge
from llamaherd.create.modelfile import Command
from llamaherd.create.request import local_files
from llamaherd.create.shards import ShardName
from llamaherd.errors import BadRequest
from tests.support.cli import ollama
from tests.support.models import write_model
from tests.support.server import RunningServer, digest_of, running_server


@pytest.fixture(scope="module")
def cut(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model in three shards."""
    folder = tmp_path_factory.mktemp("shards")
    write_model(folder / "tiny.gguf", shard_tensors=8)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("whole") / "tiny.gguf")


@pytest.fixture
def shards(cut: Path, tmp_path: Path) -> Path:
    """A copy that a test may spoil."""
    return Path(shutil.copytree(cut, tmp_path / "shards"))


def shard(number: int, of: int = 3, model: str = "tiny") -> str:
    return str(ShardName(model, number, of))


def merge(folder: Path) -> bytes:
    merged = bytearray()
    Merge({path.name: path for path in folder.iterdir()}).write(merged.extend)
    return bytes(merged)


def write_shard(path: Path, number: int, count: int, tensors: int, *names: str) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_key_value("split.no", number, gguf.GGUFValueType.UINT16)
    writer.add_key_value("split.count", count, gguf.GGUFValueType.UINT16)
    writer.add_key_value("split.tensors.count", tensors, gguf.GGUFValueType.INT32)
    for name in names:
        writer.add_tensor(name, np.zeros((2, 32), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class TestMerge:
    def test_gives_the_file_that_was_cut(self, cut: Path, whole: Path) -> None:
        assert sorted(path.name for path in cut.iterdir()) == [shard(n) for n in (1, 2, 3)]
        assert merge(cut) == whole.read_bytes()

    def test_goes_by_what_shards_say_not_by_their_names(self, shards: Path, whole: Path) -> None:
        for number, name in ((1, "z.gguf"), (2, "a.gguf"), (3, "m")):
            (shards / shard(number)).rename(shards / name)
        assert merge(shards) == whole.read_bytes()

    def test_one_that_is_missing(self, shards: Path) -> None:
        (shards / shard(2)).unlink()
        with pytest.raises(BadRequest, match=f"^{shard(2)} is missing$"):
            merge(shards)

    def test_one_that_is_there_twice(self, shards: Path) -> None:
        shutil.copy(shards / shard(2), shards / "copy.gguf")
        with pytest.raises(BadRequest, match=rf"{shard(2)}: shard 2 is copy\.gguf already"):
            merge(shards)

    def test_one_under_the_name_of_another(self, shards: Path) -> None:
        shutil.copy(shards / shard(3), shards / shard(2))
        with pytest.raises(BadRequest, match=f"{shard(2)}: by its content it is shard 3 of 3"):
            merge(shards)

    @pytest.mark.parametrize(
        ("model", "number", "count", "tensors"),
        [("other", 2, 3, 21), ("tiny", 2, 4, 21), ("tiny", 2, 3, 22)],
    )
    def test_one_of_another_model(
        self, model: str, number: int, count: int, tensors: int, shards: Path
    ) -> None:
        (shards / shard(number)).unlink()
        foreign = shard(number, count, model)
        write_shard(shards / foreign, number - 1, count, tensors, "t")
        with pytest.raises(BadRequest, match=r"a shard of another model than "):
            merge(shards)

    def test_one_beyond_the_last(self, shards: Path) -> None:
        write_shard(shards / "more.gguf", 3, 3, 21, "t")
        with pytest.raises(BadRequest, match=r"more\.gguf: shard 4 of only 3"):
            merge(shards)

    def test_tensors_that_do_not_add_up(self, tmp_path: Path) -> None:
        write_shard(tmp_path / "1.gguf", 0, 2, 3, "a", "b")
        write_shard(tmp_path / "2.gguf", 1, 2, 3, "b")
        with pytest.raises(BadRequest, match=r"2\.gguf: tensor b is in 1\.gguf too"):
            merge(tmp_path)
        write_shard(tmp_path / "2.gguf", 1, 2, 3)
        with pytest.raises(BadRequest, match=r"split\.tensors\.count is 3, but the shards have 2"):
            merge(tmp_path)

    def test_a_file_that_is_none(self, shards: Path, whole: Path) -> None:
        shutil.copy(whole, shards / "whole.gguf")
        with pytest.raises(BadRequest, match=r"whole\.gguf: not a shard of a GGUF: .*split\.no"):
            merge(shards)

    def test_a_file_that_was_cut_short(self, shards: Path) -> None:
        content = (shards / shard(3)).read_bytes()
        (shards / shard(3)).write_bytes(content[:-32])
        with pytest.raises(BadRequest, match="truncated"):
            merge(shards)


class TestLocalFiles:
    @pytest.mark.parametrize("number", [1, 3])
    def test_a_shard_means_all(self, number: int, cut: Path) -> None:
        found = local_files(Command("from", shard(number)), cut)
        assert found == {shard(n): cut / shard(n) for n in (1, 2, 3)}

    def test_a_missing_one_is_named(self, shards: Path) -> None:
        (shards / shard(2)).unlink()
        with pytest.raises(BadRequest, match=f"{shard(2)} is missing beside {shard(1)}"):
            local_files(Command("from", shard(1)), shards)

    def test_links_do_not_smuggle_files_in(self, shards: Path, whole: Path) -> None:
        (shards / shard(2)).unlink()
        (shards / shard(2)).symlink_to(whole)
        with pytest.raises(BadRequest, match=f"insecure path: .*{shard(2)} is a link"):
            local_files(Command("from", shard(1)), shards)

    def test_links_of_a_cache_are_followed(self, cut: Path, tmp_path: Path) -> None:
        """Where every name links into one folder of content."""
        for number in (1, 2, 3):
            (tmp_path / shard(number)).symlink_to(cut / shard(number))
        assert local_files(Command("from", shard(1)), tmp_path) is not None

    @pytest.mark.parametrize("name", ["x-00001-of-00000.gguf", "x-00004-of-00003.gguf"])
    def test_names_that_only_look_like_shards(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).touch()
        assert local_files(Command("from", name), tmp_path) == {name: tmp_path / name}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    with running_server(tmp_path_factory.mktemp("home")) as server:
        yield server


class TestServer:
    def upload(self, server: RunningServer, folder: Path) -> dict[str, str]:
        files = {path.name: digest_of(path.read_bytes()) for path in folder.iterdir()}
        for path in folder.iterdir():
            assert server.upload(path, files[path.name]).status in (200, 201)
        return files

    def test_files_become_one_layer(self, server: RunningServer, cut: Path, whole: Path) -> None:
        files = self.upload(server, cut)
        statuses = [
            line["status"] for line in server.post("/api/create", model="api", files=files).lines()
        ]
        assert statuses[:3] == ["parsing GGUF"] * 3
        assert "merging shards" in statuses
        assert f"creating new layer {digest_of(whole.read_bytes())}" in statuses
        answer = server.post("/api/generate", model="api", prompt="Once", stream=False)
        assert answer.json()["response"]

    def test_too_few_leave_nothing(self, server: RunningServer, cut: Path) -> None:
        files = self.upload(server, cut)
        del files[shard(2)]
        answer = server.post("/api/create", model="part", files=files, stream=False)
        assert (answer.status, answer.json()) == (400, {"error": f"{shard(2)} is missing"})
        assert server.post("/api/show", model="part").status == 404

    @pytest.mark.parametrize("line", ["FROM .", f"FROM {shard(1)}"])
    def test_from_the_command_line(self, line: str, server: RunningServer, shards: Path) -> None:
        (shards / "Modelfile").write_text(line)
        done = ollama("create", "cli", host=server.host, folder=shards)
        assert done.code == 0, done
        assert "merging shards" in done.stderr
