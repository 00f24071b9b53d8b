"""Making, listing, copying and deleting models over HTTP, and stores that are damaged or full.

Whatever goes wrong, the store is as it was before: ``unchanged`` compares all of its files.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support.models import write_adapter, write_model
from tests.support.server import (
    COMMAND,
    Answer,
    RunningServer,
    digest_of,
    running_server,
    server_environment,
)

#: A shell that limits files to 512 KiB, and then becomes the command that it is given.
SMALL_FILES = ("sh", "-c", 'ulimit -f 1024 && exec "$@"', "sh")
#: A mount namespace of its own, in which the shell mounts something over its first argument.
NAMESPACE = ("unshare", "--map-root-user", "--mount", "sh", "-c")
SMALL_DISK = 'mount -t tmpfs -o size=512k tmpfs "$0" && exec "$@"'
READ_ONLY = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && exec "$@"'


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("library")
    write_model(folder / "tiny.gguf")
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with running_server(folder) as server:
        server.add("tiny", folder / "tiny.gguf")
        yield server


@pytest.fixture
def store(folder: Path) -> Path:
    return folder / ".ollama" / "models"


def contents(store: Path) -> dict[Path, int]:
    """All files with the times of their last change."""
    return {path: path.lstat().st_mtime_ns for path in store.rglob("*") if not path.is_dir()}


@contextmanager
def unchanged(store: Path) -> Iterator[None]:
    before = contents(store)
    yield
    assert contents(store) == before


def names(server: RunningServer) -> list[str]:
    return [model["name"] for model in server.request("GET", "/api/tags").json()["models"]]


def error_of(answer: Answer) -> str:
    """The error of an answer, be it all of it or its last line."""
    return str(answer.lines()[-1]["error"])


def writes(server: RunningServer, model: str) -> str:
    request = {"model": model, "prompt": "Once", "options": {"temperature": 0, "num_predict": 8}}
    answer = server.post("/api/generate", stream=False, **request)
    assert answer.status == 200, answer.text
    return str(answer.json()["response"])


class TestBlobs:
    def test_a_blob_is_written_once(self, server: RunningServer) -> None:
        path = f"/api/blobs/{digest_of(b'hello')}"
        statuses = [
            server.request(method, path, body).status
            for method, body in (("HEAD", None), ("POST", "hello"), ("HEAD", None), ("POST", "?"))
        ]
        assert statuses == [404, 201, 200, 200]

    def test_the_length_need_not_be_known(self, server: RunningServer, store: Path) -> None:
        content = os.urandom(3 << 20)
        pieces = (content[at : at + 99_999] for at in range(0, len(content), 99_999))
        path = f"/api/blobs/{digest_of(content)}"
        assert server.request("POST", path, pieces).status == 201
        assert (store / "blobs" / path.rpartition("/")[2].replace(":", "-")).read_bytes() == content

    def test_several_may_bring_the_same(self, server: RunningServer, store: Path) -> None:
        content = os.urandom(1 << 20)
        path = f"/api/blobs/{digest_of(content)}"
        with ThreadPoolExecutor(4) as pool:
            uploads = [pool.submit(server.request, "POST", path, content) for _ in range(4)]
            assert {upload.result().status for upload in uploads} <= {200, 201}
        assert not list((store / "blobs").glob(".tmp-*"))

    def test_content_of_another_digest_is_refused(self, server: RunningServer, store: Path) -> None:
        expected, found = digest_of(b"expected"), digest_of(b"something else")
        with unchanged(store):
            answer = server.request("POST", f"/api/blobs/{expected}", "something else")
        assert answer.status == 400
        assert error_of(answer) == f'digest mismatch, expected "{expected}", got "{found}"'

    @pytest.mark.parametrize(
        "digest",
        [
            "sha256:00",
            "sha256:" + "A" * 64,
            "md5:" + "0" * 64,
            "..%2f..%2f..%2fetc%2fpasswd",
            "../../../etc/passwd",
            "sha256:%00",
        ],
    )
    def test_what_is_no_digest_becomes_no_path(
        self, digest: str, server: RunningServer, store: Path
    ) -> None:
        with unchanged(store):
            for method, body in (("HEAD", None), ("POST", "hello")):
                assert server.request(method, f"/api/blobs/{digest}", body).status in (400, 404)

    def test_an_upload_that_breaks_off_leaves_nothing(
        self, server: RunningServer, store: Path
    ) -> None:
        digest = digest_of(b"never all of it")
        with unchanged(store):
            with server.sent(f"/api/blobs/{digest}") as connection:
                connection.close()
                connection.putrequest("POST", f"/api/blobs/{digest}")
                connection.putheader("Content-Length", str(8 << 20))
                connection.endheaders(bytes(4 << 20))
            server.wait_for_log(f"POST '/api/blobs/{digest}'", count=2)


class TestModels:
    def test_a_model_lives_from_its_creation_to_its_end(
        self, server: RunningServer, store: Path
    ) -> None:
        before = contents(store)
        server.create("luigi", "tiny", system="You are Luigi.")
        assert names(server)[0] == "luigi:latest"
        copied = server.post("/api/copy", source="luigi", destination="brothers/green:1")
        assert (copied.status, copied.text) == (200, "")
        shown = [
            server.post("/api/show", model=name).json() for name in ("LUIGI", "brothers/green:1")
        ]
        assert [model["system"] for model in shown] == ["You are Luigi."] * 2
        assert writes(server, "brothers/green:1") == writes(server, "tiny")
        for name in ("luigi", "brothers/green:1"):
            assert server.request("DELETE", "/api/delete", {"model": name}).status == 200
        assert server.post("/api/show", model="luigi").status == 404
        assert contents(store) == before

    def test_a_copy_is_shown_with_its_own_age(self, server: RunningServer) -> None:
        server.create("old", "tiny", system="Old.")
        shown = [server.post("/api/show", model="old").json()["modified_at"]]
        server.post("/api/copy", source="old", destination="new")
        shown.append(server.post("/api/show", model="new").json()["modified_at"])
        listed = {
            model["name"]: model["modified_at"]
            for model in server.request("GET", "/api/tags").json()["models"]
        }
        assert shown == [listed["old:latest"], listed["new:latest"]]
        for name in ("old", "new"):
            server.request("DELETE", "/api/delete", {"model": name})

    def test_creation_tells_its_progress(self, server: RunningServer, folder: Path) -> None:
        digest = digest_of((folder / "tiny.gguf").read_bytes())
        request = {"model": "told", "files": {"tiny.gguf": digest}, "system": "Be brief."}
        statuses = [line["status"] for line in server.post("/api/create", **request).lines()]
        assert statuses[0] == "parsing GGUF"
        assert statuses[1] == f"using existing layer {digest}"
        assert statuses[2].startswith("creating new layer sha256:")
        assert statuses[3:] == ["writing manifest", "success"]
        whole = server.post("/api/create", **request, stream=False)
        assert whole.json() == {"status": "success"}

    def test_a_model_with_an_adapter_writes_something_else(
        self, server: RunningServer, folder: Path
    ) -> None:
        adapter = write_adapter(folder / "adapter.gguf", gain=3.0)
        digest = digest_of(adapter.read_bytes())
        server.upload(adapter, digest)
        server.create("adapted", "tiny", adapters={adapter.name: digest})
        assert writes(server, "adapted") != writes(server, "tiny")

    @pytest.mark.parametrize(
        "name",
        ["", "..", "../evil", "/evil", "a/../../evil", "evil:..", "a//b", "a\\b", "x" * 500, "a b"],
    )
    def test_names_that_play_tricks_with_paths_are_refused(
        self, name: str, server: RunningServer, store: Path
    ) -> None:
        with unchanged(store.parent.parent):
            created = server.post("/api/create", model=name, **{"from": "tiny"})
            copied = server.post("/api/copy", source="tiny", destination=name)
        assert (created.status, error_of(created)) == (400, "invalid model name")
        assert (copied.status, error_of(copied)) == (400, f'destination "{name}" is invalid')


class TestRefusedCreations:
    """A model that can't be made leaves nothing behind; nor does it change one of its name."""

    @pytest.fixture(params=[True, False], ids=["streaming", "whole"])
    def refused(
        self, request: pytest.FixtureRequest, server: RunningServer, store: Path
    ) -> Callable[..., tuple[int, str]]:
        """The status and error of a creation that must fail."""

        def create(**fields: Any) -> tuple[int, str]:
            with unchanged(store):
                answers = [
                    server.post("/api/create", model=model, stream=request.param, **fields)
                    for model in ("new", "tiny")
                ]
            assert len({error_of(answer) for answer in answers}) == 1
            # Once a stream has begun, its status is out.
            status = 200 if request.param else answers[0].status
            assert {answer.status for answer in answers} == {status}
            return (answers[0].status, error_of(answers[0]))

        return create

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            (lambda content: content[: len(content) // 2], "is truncated: tensor"),
            (lambda content: content[:-10], "is truncated: tensor"),
            (lambda content: content[:20], "the file ends at byte 20"),
            (lambda content: b"", "supplied file was not in GGUF format"),
            (lambda content: os.urandom(5000), "supplied file was not in GGUF format"),
            (lambda content: b"GGUF\x03\0\0\0" + b"\xff" * 5000, ""),
        ],
        ids=["half", "without-end", "header", "empty", "noise", "noise-after-magic"],
    )
    def test_a_file_that_is_no_sound_gguf(
        self,
        change: Callable[[bytes], bytes],
        error: str,
        refused: Callable[..., tuple[int, str]],
        server: RunningServer,
        folder: Path,
    ) -> None:
        content = change((folder / "tiny.gguf").read_bytes())
        digest = digest_of(content)
        assert server.request("POST", f"/api/blobs/{digest}", content).status in (200, 201)
        status, text = refused(files={"model.gguf": digest})
        assert status in (200, 400)
        assert error in text

    @pytest.mark.parametrize(
        ("fields", "status", "error"),
        [
            (
                {"from": "127.0.0.1:1/ns/nothing"},
                500,
                "dial tcp 127.0.0.1:1: connect: connection refused",
            ),
            ({"from": "../tiny"}, 400, "invalid model name"),
            ({}, 400, "neither 'from' or 'files' was specified"),
            (
                {"from": "tiny", "parameters": {"temperature": "hot"}},
                400,
                'parameters: option "temperature" must be of type float32',
            ),
            (
                {"from": "tiny", "parameters": {"num_ctx": -1}},
                400,
                'parameters: option "num_ctx" must be at least 0, not -1',
            ),
            (
                {"from": "tiny", "messages": [{"role": "wizard", "content": "x"}]},
                400,
                'message role must be one of "system", "user", "assistant", "tool", not "wizard"',
            ),
            (
                {"from": "tiny", "template": "{{ if }}"},
                400,
                "template error: template: :1: missing value for if",
            ),
            ({"files": {"a.gguf": "sha256:" + "0" * 64}}, 404, "no such file or directory"),
            ({"files": {"a.gguf": "../../../etc/passwd"}}, 400, "invalid digest format"),
        ],
        ids=lambda value: str(value) if isinstance(value, dict) else "",
    )
    def test_a_request_that_makes_no_model(
        self,
        fields: dict[str, Any],
        status: int,
        error: str,
        refused: Callable[..., tuple[int, str]],
    ) -> None:
        found, text = refused(**fields)
        assert found in (200, status)
        assert text.endswith(error)

    @pytest.mark.parametrize("name", ["../a.gguf", "/a.gguf", "a/../b.gguf", ""])
    def test_files_outside_the_model(
        self, name: str, server: RunningServer, store: Path, folder: Path
    ) -> None:
        digest = digest_of((folder / "tiny.gguf").read_bytes())
        with unchanged(store):
            answer = server.post("/api/create", model="new", files={name: digest})
        assert (answer.status, error_of(answer)) == (400, "file path must be relative")


class TestDamagedStores:
    @pytest.fixture
    def weights(
        self, request: pytest.FixtureRequest, server: RunningServer, folder: Path, store: Path
    ) -> Iterator[Path]:
        """The blob of ``broken``, which nobody else has had; a new upload must heal the model."""
        unique = {"general.description": request.node.name}
        weights = write_model(folder / "broken.gguf", metadata=unique)
        digest = server.add("broken", weights)
        yield store / "blobs" / digest.replace(":", "-")
        assert server.request("DELETE", "/api/delete", {"model": "broken"}).status == 200
        server.add("broken", weights)
        assert writes(server, "broken")
        assert server.request("DELETE", "/api/delete", {"model": "broken"}).status == 200

    @pytest.mark.parametrize(
        ("content", "used"),
        [
            (None, False),
            (b"", False),
            (b"GGUF\x03\0\0\0", False),
            (os.urandom(4096), False),
            (None, True),
            (os.urandom(4096), True),
        ],
        ids=["missing", "empty", "cut", "noise", "missing-after-use", "noise-after-use"],
    )
    def test_a_model_without_sound_weights_is_an_error_that_names_the_file(
        self, content: bytes | None, used: bool, server: RunningServer, weights: Path
    ) -> None:
        if used:
            writes(server, "broken")
            server.post("/api/generate", model="broken", keep_alive=0)
        weights.unlink()
        if content is not None:
            weights.write_bytes(content)
        for path in ("/api/generate", "/api/chat", "/api/show"):
            answer = server.post(path, model="broken", prompt="x")
            assert answer.status == 500
            assert weights.name in error_of(answer)
        assert "broken:latest" in names(server)
        assert writes(server, "tiny")

    def test_a_damaged_manifest_hides_only_its_model(
        self, server: RunningServer, store: Path
    ) -> None:
        server.create("odd", "tiny")
        manifest = store / "manifests" / "registry.ollama.ai" / "library" / "odd" / "latest"
        manifest.write_text("{")
        answer = server.post("/api/generate", model="odd")
        assert answer.status == 500
        assert str(manifest) in error_of(answer)
        assert "odd:latest" not in names(server)
        assert writes(server, "tiny")
        assert server.request("DELETE", "/api/delete", {"model": "odd"}).status == 200


@contextmanager
def mounted(script: str, store: Path, root: Path) -> Iterator[RunningServer]:
    """A server that sees something else mounted over its store; skips where that is forbidden."""
    within = (*NAMESPACE, script, str(store))
    if subprocess.run([*within, "true"], capture_output=True, check=False).returncode:
        pytest.skip("mount namespaces are not allowed here")
    with running_server(root, within=within) as server:
        yield server


class TestFullDisks:
    @pytest.fixture(params=["limited", "full"])
    def limited(
        self, request: pytest.FixtureRequest, tmp_path: Path
    ) -> Iterator[tuple[RunningServer, Path]]:
        """A server whose store takes no files, or nothing at all, beyond 512 KiB; and the store."""
        store = tmp_path / ".ollama" / "models"
        store.mkdir(parents=True)
        if request.param == "limited":
            with running_server(tmp_path, within=SMALL_FILES) as server:
                yield server, store
        else:
            with mounted(SMALL_DISK, store, tmp_path) as server:
                yield server, Path(f"/proc/{server.process.pid}/root{store}")

    def test_what_does_not_fit_is_refused_and_leaves_nothing(
        self, limited: tuple[RunningServer, Path], tmp_path: Path
    ) -> None:
        server, store = limited
        small = write_model(tmp_path / "small.gguf", n_layer=1, n_embd=32, n_ff=32)
        server.add("small", small)
        text = writes(server, "small")
        with unchanged(store):
            large = os.urandom(2 << 20)
            answer = server.request("POST", f"/api/blobs/{digest_of(large)}", large)
            assert answer.status == 500
            assert error_of(answer).startswith(f"can't write to {tmp_path}")
            for model in ("small", "other"):
                answer = server.post(
                    "/api/create", model=model, **{"from": "small"}, system="x" * (1 << 20)
                )
                assert error_of(answer).startswith("can't write")
        assert names(server) == ["small:latest"]
        assert writes(server, "small") == text
        server.create("other", "small", system="short")


def test_a_store_that_can_only_be_read_still_serves(folder: Path, tmp_path: Path) -> None:
    store = tmp_path / ".ollama" / "models"
    with running_server(tmp_path) as server:
        server.add("tiny", folder / "tiny.gguf")
        text = writes(server, "tiny")
    with mounted(READ_ONLY, store, tmp_path) as server, unchanged(store):
        assert names(server) == ["tiny:latest"]
        for answer in (
            server.request("POST", f"/api/blobs/{digest_of(b'x')}", "x"),
            server.post("/api/create", model="new", stream=False, **{"from": "tiny"}),
            server.post("/api/copy", source="tiny", destination="new"),
            server.request("DELETE", "/api/delete", {"model": "tiny"}),
        ):
            assert answer.status == 500
            assert error_of(answer).startswith("can't")
            assert error_of(answer).endswith("Read-only file system")
        assert writes(server, "tiny") == text


def test_a_store_that_can_not_be_made_ends_the_server(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    environ = server_environment(tmp_path, OLLAMA_MODELS=str(tmp_path / "file" / "models"))
    ended = subprocess.run(COMMAND, env=environ, capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    assert ended.stderr.startswith(f"Error: can't create {tmp_path}/file/models")
    assert "Traceback" not in ended.stderr
