"""Pulling: what it leaves in the store, who shares it, and what happens when it is interrupted."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import threading
from collections.abc import Iterator
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest

from llamaherd.errors import RegistryError, ShuttingDown
from llamaherd.registry.download import PIECE
from llamaherd.registry.hub import Hub
from llamaherd.registry.remote import Remote
from llamaherd.registry.transfer import Reports, finished
from llamaherd.store.blobs import digest_of
from llamaherd.store.library import Library
from llamaherd.store.names import Name
from llamaherd.store.progress import Progress
from tests.support.models import write_model
from tests.support.registry import (
    PACE,
    Call,
    FakeRegistry,
    blobs_of,
    fake_registry,
    make_certificate,
    pull,
)
from tests.support.server import RunningServer, running_server

WEIGHTS = random.Random(9).randbytes(400_000)
DIGEST = digest_of(WEIGHTS)


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, certificate: Path) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("server")
    with running_server(folder, SSL_CERT_FILE=str(certificate)) as server:
        yield server


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        registry.add_model(WEIGHTS)
        yield registry


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "models")
    library.prepare()
    return library


@pytest.fixture
def hub(library: Library, tmp_path: Path) -> Hub:
    return Hub(library, pace=PACE, key_path=tmp_path / "key")


class Gate:
    """Lets a registry send so much of a blob, and the rest once it is opened."""

    def __init__(
        self, registry: FakeRegistry, free: int, piece: int = 10_000, digest: str = DIGEST
    ) -> None:
        self._registry = registry
        self._free = free
        self._piece = piece
        self._digest = digest
        self._open = threading.Event()

    def open(self) -> None:
        self._open.set()

    def __call__(self, call: Call) -> bool:
        if not call.path.endswith(self._digest) or call.blob is None:
            return False
        start, stop = call.begin_range(len(call.blob))
        for position in range(start, stop, self._piece):
            if self._registry.served >= self._free:
                self._open.wait(30)
            call.send_blob(call.blob[position : min(position + self._piece, stop)])
        return True


@pytest.fixture
def gate(registry: FakeRegistry) -> Iterator[Gate]:
    """At half of the blob, which comes over one connection."""
    registry.spoil = gate = Gate(registry, len(WEIGHTS) // 2)
    yield gate
    gate.open()


@pytest.mark.anyio
class TestPulling:
    def begin(self, hub: Hub, registry: FakeRegistry) -> Reports:
        name = Name.parse(f"{registry.host}/ns/tiny")
        return hub.pull(name, Remote.of(name, insecure=True))

    async def reach(self, steps: Reports, completed: int) -> None:
        """Until so much of the weights has been reported."""
        async for step in steps:
            if step.digest == DIGEST and step.completed >= completed:
                return
        raise AssertionError("it ended before")

    async def test_the_steps_are_those_of_ollama(self, hub: Hub, registry: FakeRegistry) -> None:
        steps = await pull(hub, registry)
        assert steps[0] == Progress("pulling manifest")
        transfers = [step for step in steps if step.digest == DIGEST]
        assert {step.status for step in transfers} == {f"pulling {DIGEST[7:19]}"}
        assert {step.total for step in transfers} == {len(WEIGHTS)}
        completed = [step.completed for step in transfers]
        assert completed == sorted(completed)
        assert completed[-1] == len(WEIGHTS)
        assert [step.status for step in steps[-3:]] == [
            "verifying sha256 digest",
            "writing manifest",
            "success",
        ]

    async def test_large_blobs_come_in_parts(self, hub: Hub, registry: FakeRegistry) -> None:
        await pull(hub, registry)
        ranges = {seen.headers["Range"] for seen in registry.requests("GET", DIGEST)}
        assert ranges == {
            *("bytes=0-99999", "bytes=100000-199999"),
            *("bytes=200000-299999", "bytes=300000-399999"),
        }

    async def test_the_manifest_is_as_ollama_writes_it(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        path = "/v2/ns/tiny/manifests/latest"
        plain = registry.manifests[path]
        registry.manifests[path] = json.dumps(json.loads(plain), indent=3).encode() + b"\n"
        await pull(hub, registry)
        stored = library.manifests.read_bytes(Name.parse(f"{registry.host}/ns/tiny"))
        assert stored == json.dumps(json.loads(plain), separators=(",", ":")).encode()

    async def test_what_is_there_is_not_fetched(self, hub: Hub, registry: FakeRegistry) -> None:
        await pull(hub, registry)
        served = registry.served
        steps = await pull(hub, registry)
        assert registry.served == served
        assert Progress(f"pulling {DIGEST[7:19]}", DIGEST, len(WEIGHTS), len(WEIGHTS)) in steps

    async def test_what_the_model_no_longer_needs_is_removed(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        await pull(hub, registry)
        registry.add_model(b"newer")
        steps = await pull(hub, registry)
        assert steps[-2:] == [Progress("removing any unused layers"), Progress("success")]
        assert not library.blobs.exists(DIGEST)

    async def test_unless_it_is_to_be_kept(self, library: Library, registry: FakeRegistry) -> None:
        hub = Hub(library, pace=PACE, keep_replaced=True)
        await pull(hub, registry)
        registry.add_model(b"newer")
        steps = await pull(hub, registry)
        assert Progress("removing any unused layers") not in steps
        assert library.blobs.exists(DIGEST)

    async def test_all_who_want_a_blob_share_one_download(
        self, hub: Hub, registry: FakeRegistry, gate: Gate
    ) -> None:
        first, second = self.begin(hub, registry), self.begin(hub, registry)
        await self.reach(first, len(WEIGHTS) // 4)
        # The second sees what the first has had fetched.
        await self.reach(second, len(WEIGHTS) // 4)
        gate.open()
        for steps in (first, second):
            assert [step async for step in steps][-1] == Progress("success")
        assert registry.served == sum(map(len, registry.blobs.values()))

    async def test_who_leaves_leaves_it_to_the_others(
        self, hub: Hub, registry: FakeRegistry, gate: Gate
    ) -> None:
        first, second = self.begin(hub, registry), self.begin(hub, registry)
        await self.reach(first, 1)
        await self.reach(second, 1)
        await first.aclose()
        gate.open()
        assert [step async for step in second][-1] == Progress("success")
        assert registry.served == sum(map(len, registry.blobs.values()))

    async def test_the_last_to_leave_stops_it_and_it_goes_on_from_there(
        self, library: Library, registry: FakeRegistry, gate: Gate
    ) -> None:
        hub = Hub(library, pace=replace(PACE, connections=1, download_parts=1))
        async with aclosing(self.begin(hub, registry)) as steps:
            await self.reach(steps, len(WEIGHTS) // 2)
        assert sorted(blobs_of(library)) == [
            f"{DIGEST.replace(':', '-')}-partial",
            f"{DIGEST.replace(':', '-')}-partial-0",
        ]
        gate.open()
        steps = self.begin(hub, registry)
        completed = [step.completed async for step in steps if step.digest == DIGEST]
        assert min(completed) >= len(WEIGHTS) // 2
        again = registry.requests("GET", DIGEST)[-1].headers["Range"]
        assert again == f"bytes={len(WEIGHTS) // 2}-{len(WEIGHTS) - 1}"

    async def test_who_comes_while_it_stops_begins_anew(
        self, hub: Hub, registry: FakeRegistry, gate: Gate
    ) -> None:
        first = self.begin(hub, registry)
        await self.reach(first, 1)
        leaving = asyncio.create_task(first.aclose())
        gate.open()
        assert (await pull(hub, registry))[-1] == Progress("success")
        await leaving

    async def test_who_joined_a_download_that_fails_tries_it_from_their_own_registry(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        joined = threading.Event()

        def forbid_late(call: Call) -> bool:
            if not call.path.endswith(DIGEST):
                return False
            joined.wait(30)
            call.reply(403)
            return True

        registry.spoil = forbid_late
        with fake_registry() as other:
            other.add_model(WEIGHTS)
            first, second = self.begin(hub, registry), self.begin(hub, other)
            await self.reach(first, 0)
            await self.reach(second, 0)
            assert not other.requests("GET", DIGEST)
            joined.set()
            with pytest.raises(RegistryError, match="403: Forbidden"):
                await self.last(first)
            assert await self.last(second) == Progress("success")
        assert library.blobs.read(DIGEST, len(WEIGHTS)) == WEIGHTS

    async def last(self, steps: Reports) -> Progress:
        return [step async for step in steps][-1]

    async def test_the_end_of_the_server_ends_it(
        self, hub: Hub, registry: FakeRegistry, gate: Gate
    ) -> None:
        steps = self.begin(hub, registry)
        await self.reach(steps, 1)
        await hub.close()
        with pytest.raises(ShuttingDown):
            await self.last(steps)
        with pytest.raises(ShuttingDown):
            await pull(hub, registry)


class TestServer:
    def test_pull_and_push(self, server: RunningServer, registry: FakeRegistry) -> None:
        model = f"{registry.host}/ns/tiny"
        answer = server.post("/api/pull", model=model, insecure=True)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/x-ndjson")
        assert answer.lines()[0] == {"status": "pulling manifest"}
        assert answer.lines()[-1] == {"status": "success"}
        registry.manifests.clear()
        answer = server.post("/api/push", name=model, insecure=True, stream=False)
        assert (answer.status, answer.json()) == (200, {"status": "success"})
        assert list(registry.manifests) == ["/v2/ns/tiny/manifests/latest"]

    def test_a_model_that_is_not_in_the_registry(
        self, server: RunningServer, registry: FakeRegistry
    ) -> None:
        model = f"{registry.host}/ns/none"
        answer = server.post("/api/pull", model=model, insecure=True)
        error = {"error": "pull model manifest: file does not exist"}
        assert (answer.status, answer.lines()) == (200, [{"status": "pulling manifest"}, error])
        answer = server.post("/api/pull", model=model, insecure=True, stream=False)
        assert (answer.status, answer.json()) == (500, error)

    def test_a_pull_ends_with_its_client(
        self, server: RunningServer, registry: FakeRegistry, gate: Gate
    ) -> None:
        request = {"model": f"{registry.host}/ns/tiny:gone", "insecure": True}
        registry.add_model(WEIGHTS, tag="gone")
        with server.stream("/api/pull", **request) as lines:
            next(line for line in lines if line.get("completed", 0) >= len(WEIGHTS) // 2)
        gate.open()
        again = server.post("/api/pull", **request).lines()
        first = next(line for line in again if line.get("digest") == DIGEST)
        assert first["completed"] >= len(WEIGHTS) // 2
        assert again[-1] == {"status": "success"}


@pytest.mark.anyio
async def test_no_cancellation_leaves_a_thread_at_work_on_what_is_then_closed() -> None:
    """The second comes when the server ends while a transfer is being given up."""
    begun, release = threading.Event(), threading.Event()
    order = []

    def work() -> None:
        begun.set()
        release.wait()
        order.append("work")

    async def transfer() -> None:
        try:
            await finished(work)
        finally:
            order.append("close")

    task = asyncio.create_task(transfer())
    await asyncio.to_thread(begun.wait)
    for _ in range(2):
        task.cancel()
        await asyncio.wait((task,), timeout=0)
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert order == ["work", "close"]


class TestKilledServer:
    def test_a_pull_goes_on_where_the_server_was_killed(self, tmp_path: Path) -> None:
        weights = random.Random(10).randbytes(8 << 20)
        half = len(weights) // 2
        with fake_registry() as registry:
            digest = registry.add_model(weights)
            gate = registry.spoil = Gate(registry, half, digest=digest)
            request = {"model": f"{registry.host}/ns/tiny", "insecure": True}
            with (
                running_server(tmp_path) as server,
                server.stream("/api/pull", **request) as lines,
            ):
                next(line for line in lines if line.get("completed", 0) >= half)
                server.process.send_signal(signal.SIGKILL)
                server.process.wait()
            gate.open()
            with running_server(tmp_path) as server:
                assert server.post("/api/pull", **request).lines()[-1] == {"status": "success"}
            config = min(map(len, registry.blobs.values()))
            # What was received and not yet written is all that is lost.
            assert registry.served - len(weights) - config <= PIECE
        blob = tmp_path / ".ollama" / "models" / "blobs" / digest.replace(":", "-")
        assert blob.read_bytes() == weights
        assert list(blob.parent.glob("*partial*")) == []


class TestCreating:
    """A model made from one that isn't here, which is pulled first."""

    @pytest.fixture
    def registry(self, certificate: Path) -> Iterator[FakeRegistry]:
        with fake_registry(certificate) as registry:
            yield registry

    def names(self, server: RunningServer) -> set[str]:
        return {model["name"] for model in server.request("GET", "/api/tags").json()["models"]}

    def test_its_base_is_pulled_within_the_stream(
        self, server: RunningServer, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        registry.add_model(write_model(tmp_path / "tiny.gguf").read_bytes())
        base = f"{registry.host}/ns/tiny"
        answer = server.post("/api/create", model="mine", system="S", **{"from": base})
        statuses = [line["status"] for line in answer.lines()]
        assert statuses[0] == "pulling manifest"
        assert statuses.count("success") == 1
        assert statuses[-1] == "success"
        assert self.names(server) >= {"mine:latest", f"{base}:latest"}

    def test_a_base_that_can_not_be_had_leaves_nothing(
        self, server: RunningServer, registry: FakeRegistry
    ) -> None:
        before = self.names(server)
        base = f"{registry.host}/ns/none"
        answer = server.post("/api/create", model="other", **{"from": base})
        assert answer.lines() == [
            {"status": "pulling manifest"},
            {"error": "pull model manifest: file does not exist"},
        ]
        assert self.names(server) == before

    def test_a_certificate_that_nobody_vouches_for(
        self, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        certificate = make_certificate(tmp_path)
        with running_server(tmp_path, SSL_CERT_FILE=str(certificate)) as server:
            answer = server.post("/api/pull", model=f"{registry.host}/ns/tiny", stream=False)
        assert answer.status == 500
        assert "tls: self-signed certificate" in answer.json()["error"]
