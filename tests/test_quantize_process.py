"""Quantising as part of creating a model: in a process of its own, harmless however it ends."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from llamaherd.api.requests import read_create
from llamaherd.create.create import create_model
from llamaherd.create.quantize.process import quantize
from llamaherd.create.quantize.types import parse_target
from llamaherd.errors import BadRequest, ConversionFailed, InvalidGGUF
from llamaherd.gguf import GGUF
from llamaherd.store.blobs import digest_of
from llamaherd.store.library import Library
from llamaherd.store.manifests import Layer
from llamaherd.store.names import Name
from llamaherd.store.progress import Progress
from tests.support.checkpoints import CASES, write_checkpoint, write_tokenizer
from tests.support.cli import ollama
from tests.support.models import write_adapter, write_model, write_parrot
from tests.support.ollama_encoders import make_encoder
from tests.support.ollama_files import read, write_projector
from tests.support.ollama_models import make_model
from tests.support.processes import children
from tests.support.server import RunningServer, running_server

CHILD = "create.quantize.child"

#: A type and a model that are seconds of work together.
SLOW = "iq3_s"
LARGE: dict[str, Any] = {"n_embd": 256, "n_ff": 1024, "n_layer": 8, "ftype": "f16"}


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("large") / "large.gguf", **LARGE)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "models")
    library.prepare()
    return library


def add(library: Library, path: Path) -> str:
    return library.blobs.put(path.read_bytes())


def create(library: Library, **fields: Any) -> list[Progress]:
    return list(create_model(library, read_create(json.dumps(fields).encode())))


def layers(library: Library, name: str) -> list[Layer]:
    return library.manifest(Name.parse(name)).manifest.layers or []


def blobs_of(library: Library) -> set[str]:
    return {path.name.replace("-", ":", 1) for path in library.blobs.folder.iterdir()}


class TestCreate:
    def test_the_steps_are_told_as_ollama_tells_them(self, library: Library, large: Path) -> None:
        source = add(library, large)
        steps = create(library, model="q", files={"m.gguf": source}, quantize="q4_K_M")
        (weights,) = layers(library, "q")
        working = [step for step in steps if step.digest]
        assert {step.status for step in working} == {"quantizing F16 model to Q4_K_M"}
        assert {(step.digest, step.total) for step in working} == {
            ("0000000000000000000", library.blobs.size(source))
        }
        done = [step.completed for step in working]
        assert done == sorted(done)
        assert (done[0], done[-1]) == (0, library.blobs.size(source))
        assert [step.status for step in steps if not step.digest] == [
            "parsing GGUF",
            "verifying conversion",
            f"creating new layer {weights.digest}",
            "writing manifest",
            "success",
        ]

    def test_the_model_says_what_it_is(self, library: Library, large: Path) -> None:
        source = add(library, large)
        create(library, model="base", files={"m.gguf": source})
        create(library, model="q", quantize="q4_K_M", **{"from": "base"})
        base, quantised = (library.get(Name.parse(name)) for name in ("base", "q"))
        assert (base.config.file_type, quantised.config.file_type) == ("F16", "Q4_K_M")
        assert quantised.config.model_type == base.config.model_type
        (weights,) = layers(library, "q")
        path = library.blobs.path(weights.digest)
        assert digest_of(path.read_bytes()) == weights.digest
        assert path.stat().st_size == weights.size
        with GGUF.open(path) as gguf:
            assert gguf.file_type == 15
        assert [layer.digest for layer in layers(library, "base")] == [source]

    @pytest.mark.parametrize(
        ("stored", "wanted"), [("f16", "F16"), ("f32", "f32"), ("q8_0", "q8_0")]
    )
    def test_what_has_the_type_is_taken_as_it_is(
        self, library: Library, tmp_path: Path, stored: Any, wanted: str
    ) -> None:
        source = add(library, write_model(tmp_path / "model.gguf", ftype=stored))
        steps = create(library, model="q", files={"m.gguf": source}, quantize=wanted)
        assert f"using existing layer {source}" in [step.status for step in steps]
        assert [layer.digest for layer in layers(library, "q")] == [source]

    def test_what_is_quantised_is_refused(self, library: Library, tmp_path: Path) -> None:
        source = add(library, write_model(tmp_path / "model.gguf", ftype="q8_0"))
        create(library, model="base", files={"m.gguf": source})
        before = blobs_of(library)
        with pytest.raises(
            BadRequest, match=r"^quantization is only supported for F16 and F32 models$"
        ):
            create(library, model="q", quantize="q4_K_M", **{"from": "base"})
        assert blobs_of(library) == before

    def test_adapters_stay_as_they_are(self, library: Library, tmp_path: Path) -> None:
        model = add(library, write_model(tmp_path / "model.gguf"))
        adapter = add(library, write_adapter(tmp_path / "adapter.gguf"))
        files = {"files": {"m.gguf": model}, "adapters": {"a.gguf": adapter}}
        create(library, model="q", quantize="q8_0", **files)
        weights, kept = layers(library, "q")
        assert weights.digest != model
        assert kept.digest == adapter

    def test_what_was_converted_on_the_way_is_not_kept(
        self, library: Library, tmp_path: Path
    ) -> None:
        folder = write_checkpoint(tmp_path / "checkpoint", CASES["llama"])
        write_tokenizer(folder)
        files = {path.name: add(library, path) for path in folder.iterdir()}
        steps = create(library, model="q", files=files, quantize="q8_0")
        statuses = list(dict.fromkeys(step.status for step in steps))
        assert statuses[:3] == [
            "converting model",
            "quantizing F16 model to Q8_0",
            "verifying conversion",
        ]
        manifest = library.manifest(Name.parse("q")).manifest
        known = {layer.digest for layer in manifest.blobs} | set(files.values())
        assert blobs_of(library) == known

    def test_a_file_that_is_cut_off(self, library: Library, tmp_path: Path) -> None:
        whole = write_model(tmp_path / "model.gguf").read_bytes()
        source = library.blobs.put(whole[:-1000])
        with pytest.raises(InvalidGGUF, match="is truncated"):
            create(library, model="q", files={"m.gguf": source}, quantize="q8_0")
        assert blobs_of(library) == {source}

    def test_a_file_that_crashes_llama_cpp(self, library: Library, tmp_path: Path) -> None:
        hostile = write_model(tmp_path / "m.gguf", metadata={"llama.block_count": 1 << 20})
        source = add(library, hostile)
        with pytest.raises(ConversionFailed, match=r"the quantization failed, .*GGML_ASSERT"):
            create(library, model="q", files={"m.gguf": source}, quantize="q8_0")
        assert blobs_of(library) == {source}


class TestOllamasFiles:
    """What is translated for llama.cpp is so before it is quantised."""

    def test_an_encoder_becomes_a_layer_that_is_not_quantised(
        self, library: Library, tmp_path: Path
    ) -> None:
        ours, theirs = make_model("gemma3", tmp_path).write(tmp_path)
        projector = write_projector(tmp_path / "mmproj.gguf", make_encoder("gemma3"))
        source = add(library, ours)
        both = {path.name: add(library, path) for path in (theirs, projector)}
        create(library, model="ollama", files={"m.gguf": source}, quantize="q8_0")
        create(library, model="llama", files=both, quantize="q8_0")
        for made, expected in zip(layers(library, "ollama"), layers(library, "llama"), strict=True):
            assert made.media_type == expected.media_type
            assert tensors(library, made) == tensors(library, expected)
        config = library.get(Name.parse("ollama")).config
        assert config.model_families == ["gemma3", "clip"]
        assert not list(library.blobs.folder.glob(".tmp-*"))

    def test_a_layer_that_sees_already_stays_the_only_one(
        self, library: Library, tmp_path: Path
    ) -> None:
        ours, _ = make_model("gemma3", tmp_path).write(tmp_path)
        own = add(library, write_projector(tmp_path / "own.gguf", make_encoder("gemma3")))
        files = {"m.gguf": add(library, ours), "own.gguf": own}
        create(library, model="q", files=files, quantize="q8_0")
        weights, projector = layers(library, "q")
        assert projector.digest == own
        config = library.manifest(Name.parse("q")).manifest.config
        assert blobs_of(library) == {*files.values(), weights.digest, config.digest}

    def test_other_names_become_llama_cpps(self, library: Library, tmp_path: Path) -> None:
        ours, theirs = make_model("gemma3n", tmp_path).write(tmp_path)
        for name, path in (("ollama", ours), ("llama", theirs)):
            create(library, model=name, files={"m.gguf": add(library, path)}, quantize="q8_0")
        (made,), (expected,) = (layers(library, name) for name in ("ollama", "llama"))
        assert tensors(library, made) == tensors(library, expected)


def tensors(library: Library, layer: Layer) -> dict[str, tuple[int, bytes]]:
    contents = read(library.blobs.path(layer.digest))
    return {name: (tensor.kind, tensor.data.tobytes()) for name, tensor in contents.tensors.items()}


@contextmanager
def halted(
    library: Library, large: Path
) -> Iterator[tuple[Generator[Progress, None, list[str]], int]]:
    """A quantisation that has begun and was stopped, and its process; it must leave nothing."""
    source = add(library, large)
    before = children()
    steps = quantize(library.blobs, source, parse_target(SLOW))
    while not temporaries(library.blobs.folder):
        next(steps)
    (pid,) = children(module=CHILD) - before
    os.kill(pid, signal.SIGSTOP)
    yield steps, pid
    assert pid not in children()
    assert blobs_of(library) == {source}


def temporaries(folder: Path) -> list[Path]:
    """Files in ``folder`` without a name yet, and with something in them."""
    return [path for path in folder.glob(".tmp-*") if path.stat().st_size]


class TestProcess:
    def test_who_stops_it_ends_the_process(self, library: Library, large: Path) -> None:
        with halted(library, large) as (steps, _):
            steps.close()

    def test_a_crash_is_told_and_leaves_nothing(self, library: Library, large: Path) -> None:
        with halted(library, large) as (steps, pid):
            os.kill(pid, signal.SIGKILL)
            with pytest.raises(ConversionFailed, match="the quantization failed, killed by SIGK"):
                list(steps)

    def test_models_that_run_come_first(self, library: Library, large: Path) -> None:
        with halted(library, large) as (steps, pid):
            assert os.getpriority(os.PRIO_PROCESS, pid) == 10
            steps.close()

    def test_a_full_disk_is_the_store_s_fault(self, large: Path) -> None:
        """The process by itself, with a file that takes no more bytes."""
        with Path("/dev/full").open("wb") as full:
            done = self.run(large, full.fileno())
        report = json.loads(done.stdout.splitlines()[-1])
        assert (report["type"], report["is_request"]) == ("failed", False)
        assert "can't write the quantized model" in report["message"]

    def test_it_ends_with_the_server(self, large: Path, tmp_path: Path) -> None:
        """Which holds the other end of its standard input."""
        with (tmp_path / "result").open("wb") as file:
            done = self.run(large, file.fileno(), stay=False)
        assert (done.returncode, done.stdout) == (1, b"")

    def run(
        self, source: Path, descriptor: int, *, stay: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it; unless we ``stay``, standard input ends after the request."""
        job = {"source": str(source), "folder": "/", "type": "Q8_0", "file_type": 7}
        command = [sys.executable, "-m", f"llamaherd.{CHILD}", str(descriptor)]
        reading, writing = os.pipe()
        os.write(writing, json.dumps(job).encode() + b"\n")
        if not stay:
            os.close(writing)
        done = subprocess.run(
            command, stdin=reading, capture_output=True, pass_fds=[descriptor], check=False
        )
        os.close(reading)
        if stay:
            os.close(writing)
        return done


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[RunningServer]:
    with running_server(home) as server:
        yield server


class TestServer:
    @pytest.mark.parametrize("target", ["q4_K_M", "q8_0", "q2_K", "iq4_nl"])
    def test_a_quantised_model_answers(
        self, server: RunningServer, tmp_path: Path, target: str
    ) -> None:
        text = "Once upon a time there was a parrot that could say one thing."
        digest = server.add("parrot", write_parrot(tmp_path / "parrot.gguf", text))
        server.create("small", files={"parrot.gguf": digest}, quantization=target)
        shown = server.post("/api/show", model="small").json()
        assert shown["details"]["quantization_level"] == target.upper()
        answer = server.post("/api/generate", model="small", prompt="?", stream=False).json()
        assert answer["response"] == text

    def test_the_server_goes_on_and_who_leaves_ends_it(
        self, server: RunningServer, home: Path, large: Path, tmp_path: Path
    ) -> None:
        """The process is stopped meanwhile, so that it can't be done too soon."""
        server.add("other", write_parrot(tmp_path / "parrot.gguf", "Still here."))
        store = home / ".ollama" / "models" / "blobs"
        before = set(store.iterdir())
        with self.quantising(server, store, large) as (_, child):
            other = server.post("/api/generate", model="other", prompt="?", stream=False)
            assert other.json()["response"] == "Still here."
            descriptor = os.pidfd_open(child)
        assert select.select([descriptor], [], [], 60)[0], "the process still runs"
        os.close(descriptor)
        deadline = time.monotonic() + 60
        while set(store.iterdir()) > before | self.uploaded(store, large):
            assert time.monotonic() < deadline
            server.request("GET", "/")
        assert server.post("/api/show", model="big").status == 404

    def test_killing_it_fails_the_request_and_nothing_else(
        self, server: RunningServer, home: Path, large: Path
    ) -> None:
        store = home / ".ollama" / "models" / "blobs"
        with self.quantising(server, store, large) as (lines, child):
            os.kill(child, signal.SIGKILL)
            assert list(lines)[-1]["error"].startswith("the quantization failed, killed by SIGKILL")
        assert not list(store.glob(".tmp-*"))
        assert server.post("/api/show", model="big").status == 404

    def test_it_ends_in_order_with_the_server(self, tmp_path: Path, large: Path) -> None:
        store = tmp_path / ".ollama" / "models" / "blobs"
        with (
            running_server(tmp_path) as doomed,
            self.quantising(doomed, store, large) as (lines, child),
        ):
            doomed.process.send_signal(signal.SIGTERM)
            *_, last = lines
            assert last == {"error": "server is shutting down"}
            assert doomed.process.wait(30) == 0
            assert child not in children()
        assert set(store.iterdir()) == self.uploaded(store, large)
        assert not [line for line in doomed.log if "ERROR" in line or "Traceback" in line]

    @contextmanager
    def quantising(
        self, server: RunningServer, store: Path, large: Path
    ) -> Iterator[tuple[Iterator[Any], int]]:
        """The lines of a creation under way, and its process, stopped."""
        digest = digest_of(large.read_bytes())
        assert server.upload(large, digest).status in (200, 201)
        request = {"model": "big", "files": {"big.gguf": digest}, "quantize": SLOW}
        with server.stream("/api/create", **request) as lines:
            assert any("completed" in line or temporaries(store) for line in lines)
            (child,) = children(server.process.pid, CHILD)
            os.kill(child, signal.SIGSTOP)
            yield lines, child

    def uploaded(self, store: Path, large: Path) -> set[Path]:
        return {store / digest_of(large.read_bytes()).replace(":", "-")}

    @pytest.mark.parametrize("stream", [True, False])
    def test_errors_have_their_status(
        self, server: RunningServer, tmp_path: Path, stream: bool
    ) -> None:
        server.add("quantised", write_model(tmp_path / "model.gguf", ftype="q8_0"))
        for target, message in (
            ("q5_K_S", "quantization is only supported for F16 and F32 models"),
            ("q99", "unsupported quantization type Q99 - supported types are F32, F16"),
            ("iq1_s", "unsupported quantization type IQ1_S - it needs an importance matrix"),
        ):
            request = {"model": "q", "from": "quantised", "quantize": target, "stream": stream}
            answer = server.post("/api/create", **request)
            error = answer.json()
            assert error["error"].startswith(message)
            assert (error.get("status") if stream else answer.status) == 400

    def test_a_type_that_is_none_is_told_before_anything_is_pulled(
        self, server: RunningServer
    ) -> None:
        missing = "127.0.0.1:9/no/such"
        request = {"model": "q", "from": missing, "quantize": "q99", "stream": False}
        answer = server.post("/api/create", **request)
        assert answer.status == 400
        assert "unsupported quantization type" in answer.json()["error"]

    def test_from_the_command_line(self, server: RunningServer, tmp_path: Path) -> None:
        write_model(tmp_path / "model.gguf", ftype="bf16")
        (tmp_path / "Modelfile").write_text("FROM ./model.gguf\n")
        done = ollama("create", "-q", "Q5_k_m", "mine", host=server.host, folder=tmp_path)
        assert done.code == 0, done
        assert "quantizing BF16 model to Q5_K_M 100%" in done.stderr
        assert "Q5_K_M" in ollama("show", "mine", host=server.host).stdout
