"""Conversion as part of creating a model: in a process of its own, harmless however it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import msgspec
import pytest

from llamaherd.create import process
from llamaherd.create.convert.jobs import ConvertModel
from llamaherd.create.convert.process import convert
from llamaherd.errors import BadRequest, ConversionFailed, StoreError
from llamaherd.gguf import GGUF, file_type_name
from llamaherd.store.blobs import BlobStore, digest_of
from llamaherd.store.files import TEMPORARY_PREFIX
from llamaherd.store.manifests import MediaType
from llamaherd.store.progress import Progress
from tests.support.checkpoints import (
    CASES,
    N_FF,
    write_checkpoint,
    write_tokenizer,
)
from tests.support.cli import ollama
from tests.support.processes import children
from tests.support.server import RunningServer, running_server
from tests.support.vision_cases import VISION_CASES
from tests.support.vision_checkpoints import write_vision_checkpoint

LLAMA = CASES["llama"]


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    store = BlobStore(tmp_path / "blobs")
    store.prepare()
    return store


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = write_checkpoint(tmp_path / "model", LLAMA)
    write_tokenizer(folder)
    return folder


def files_of(folder: Path) -> dict[str, Path]:
    return {path.name: path for path in folder.iterdir()}


def job_of(folder: Path) -> ConvertModel:
    return ConvertModel({name: str(path) for name, path in files_of(folder).items()})


def run(blobs: BlobStore, folder: Path) -> tuple[list[Progress], list[str]]:
    steps = convert(blobs, job_of(folder))
    progress = []
    while True:
        try:
            progress.append(next(steps))
        except StopIteration as done:
            return progress, done.value


@contextmanager
def stuck(blobs: BlobStore, folder: Path) -> Iterator[tuple[Any, int]]:
    """A conversion that waits for its configuration for ever, and its process."""
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    before = children()
    steps = convert(blobs, job_of(folder))
    assert next(steps) == Progress("converting model")
    assert next(steps).status == "converting model"
    (pid,) = children() - before
    yield steps, pid
    assert pid not in children()
    assert list(blobs.folder.iterdir()) == []


def test_the_blob_is_what_its_digest_says(blobs: BlobStore, folder: Path) -> None:
    progress, (digest,) = run(blobs, folder)
    assert {each.status for each in progress} == {"converting model"}
    assert digest == digest_of(blobs.path(digest).read_bytes())
    assert [path.name for path in blobs.folder.iterdir()] == [digest.replace(":", "-")]
    with GGUF.open(blobs.path(digest)) as gguf:
        assert gguf.architecture == "llama"


def test_a_process_may_take_its_time_to_end(
    blobs: BlobStore, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Steps that are told again for want of news don't hide that it was done."""
    monkeypatch.setattr(process, "_PATIENCE", 0.001)
    progress, (digest,) = run(blobs, folder)
    assert len(progress) > 2
    assert blobs.exists(digest)


def test_the_same_files_give_the_same_blob(blobs: BlobStore, folder: Path) -> None:
    assert run(blobs, folder)[1] == run(blobs, folder)[1]


def test_what_can_not_be_converted_leaves_nothing(blobs: BlobStore, folder: Path) -> None:
    (folder / "config.json").write_text("{}")
    with pytest.raises(BadRequest, match=r"config\.json: architectures"):
        run(blobs, folder)
    assert list(blobs.folder.iterdir()) == []


def test_who_stops_it_ends_the_process(blobs: BlobStore, folder: Path) -> None:
    with stuck(blobs, folder) as (steps, _):
        steps.close()


def test_a_crash_is_told_and_leaves_nothing(blobs: BlobStore, folder: Path) -> None:
    with stuck(blobs, folder) as (steps, pid):
        os.kill(pid, signal.SIGSEGV)
        with pytest.raises(ConversionFailed, match="the conversion failed, killed by SIGSEGV"):
            list(steps)


def test_a_full_disk_is_the_store_s_fault(folder: Path) -> None:
    """The process by itself, with a file that takes no more bytes."""
    request = msgspec.json.encode(job_of(folder))
    with Path("/dev/full").open("wb") as full:
        descriptor = full.fileno()
        command = [sys.executable, "-m", "llamaherd.create.convert.child", str(descriptor)]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[descriptor]
        ) as process:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(request + b"\n")
            process.stdin.flush()
            report = json.loads(process.stdout.read())
    assert (report["type"], report["is_request"]) == ("failed", False)
    assert "No space left on device" in report["message"]


def test_it_ends_with_the_server(blobs: BlobStore, folder: Path) -> None:
    """Which holds the other end of its standard input."""
    (folder / "config.json").unlink()
    os.mkfifo(folder / "config.json")
    request = msgspec.json.encode(job_of(folder))
    command = [sys.executable, "-m", "llamaherd.create.convert.child", "1"]
    done = subprocess.run(command, input=request + b"\n", timeout=60, check=False)
    assert done.returncode == 1


def test_a_store_that_can_not_be_written(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError):
        run(BlobStore(tmp_path / "file" / "blobs"), folder)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[RunningServer]:
    with running_server(home) as server:
        yield server


class TestServer:
    def test_a_folder_becomes_a_model(self, server: RunningServer, folder: Path) -> None:
        files = {}
        for name, path in files_of(folder).items():
            files[name] = digest_of(path.read_bytes())
            assert server.upload(path, files[name]).status in (200, 201)
        statuses = [
            line["status"] for line in server.post("/api/create", model="hf", files=files).lines()
        ]
        assert statuses[0] == "converting model"
        layer = next(each for each in statuses if each != "converting model")
        assert layer.startswith("creating new layer sha256:")
        assert statuses[statuses.index(layer) + 1 :] == ["writing manifest", "success"]
        shown = server.post("/api/show", model="hf").json()
        assert shown["details"]["family"] == "llama"
        assert shown["details"]["quantization_level"] == "F16"
        answer = server.post("/api/generate", model="hf", prompt="a b", stream=False).json()
        assert answer["done"] is True

    def test_a_folder_of_a_model_that_sees(
        self, server: RunningServer, home: Path, tmp_path: Path
    ) -> None:
        """Gives two layers, of which the projector is never quantized."""
        folder = write_vision_checkpoint(tmp_path / "model", VISION_CASES["gemma3"])
        (folder / "Modelfile").write_text("FROM .\n")
        for name, arguments in (("eyes", ()), ("small", ("--quantize", "q8_0"))):
            done = ollama("create", name, *arguments, host=server.host, folder=folder)
            assert done.code == 0, done
        plain, quantized = (layers_of(home, name) for name in ("eyes", "small"))
        assert quantized[1:] == plain[1:]
        assert [kind for kind, _ in plain] == [MediaType.MODEL, MediaType.PROJECTOR]
        types = [file_type(home, digest) for _, digest in (*plain, quantized[0])]
        assert types == [("gemma3", "F16"), ("clip", "F16"), ("gemma3", "Q8_0")]
        assert not list((home / ".ollama/models/blobs").glob(f"{TEMPORARY_PREFIX}*"))
        families = server.post("/api/show", model="eyes").json()["details"]["families"]
        assert families == ["gemma3", "clip"]

    def test_from_the_command_line(self, server: RunningServer, folder: Path) -> None:
        (folder / "chat_template.jinja").write_text("{{ messages[0].content }}")
        (folder / "Modelfile").write_text("FROM .\nPARAMETER num_predict 3\n")
        done = ollama("create", "mine", host=server.host, folder=folder)
        assert done.code == 0, done
        assert "converting model" in done.stderr
        info = server.post("/api/show", model="mine").json()["model_info"]
        assert info["general.architecture"] == "llama"

    def test_what_is_wrong_is_told(self, server: RunningServer, folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        done = ollama("create", "bad", host=server.host, folder=folder)
        assert done.code == 1
        assert "tokenizer.json and tokenizer.model are missing" in done.stderr

    def test_a_client_that_leaves_ends_it(
        self, server: RunningServer, home: Path, folder: Path
    ) -> None:
        """The model is a gigabyte and a half of zeros, which take no space on the disk."""
        store = home / ".ollama" / "models" / "blobs"
        wide = 1 << 20
        shapes = {
            name: tuple(wide if "mlp" in name and size == N_FF else size for size in shape)
            for name, shape in LLAMA.shapes.items()
        }
        (folder / "config.json").write_text(json.dumps(LLAMA.config | {"intermediate_size": wide}))
        write_zeros(folder / "model.safetensors", shapes)
        files = {}
        for index, (name, path) in enumerate(files_of(folder).items()):
            blob = store / f"sha256-{index:064}"
            path.rename(blob)
            files[name] = blob.name
        before = set(store.iterdir())
        with server.stream("/api/create", model="big", files=files) as lines:
            assert any("completed" in line for line in lines)
            (child,) = children(server.process.pid, "create.convert.child")
        descriptor = os.pidfd_open(child)
        assert select.select([descriptor], [], [], 60)[0], "the process still runs"
        os.close(descriptor)
        deadline = time.monotonic() + 60
        while set(store.iterdir()) != before and time.monotonic() < deadline:
            server.request("GET", "/")
        assert set(store.iterdir()) == before
        assert server.post("/api/show", model="big").status == 404


def layers_of(home: Path, model: str) -> list[tuple[str, str]]:
    """Kinds and digests."""
    manifests = home / ".ollama/models/manifests/registry.ollama.ai/library"
    layers = json.loads((manifests / model / "latest").read_text())["layers"]
    return [(layer["mediaType"], layer["digest"]) for layer in layers]


def file_type(home: Path, digest: str) -> tuple[str, str]:
    """The architecture, and the type of most weights."""
    blob = home / ".ollama/models/blobs" / digest.replace(":", "-")
    with GGUF.open(blob) as gguf:
        return gguf.architecture, file_type_name(gguf.file_type)


def write_zeros(path: Path, shapes: dict[str, tuple[int, ...]]) -> None:
    """A file of safetensors with nothing in it but holes."""
    header, end = {}, 0
    for name, shape in shapes.items():
        offsets = [end, end + 4 * prod(shape)]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": offsets}
        end = offsets[1]
    text = json.dumps(header).encode()
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + end)
