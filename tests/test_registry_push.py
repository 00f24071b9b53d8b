"""Pushing: to Docker's registry, and to one that loses what it gets."""

from __future__ import annotations

import hashlib
import json
import random
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llamaherd.errors import NotInRegistry, RegistryError
from llamaherd.registry.hub import Hub
from llamaherd.store.blobs import digest_of
from llamaherd.store.library import Library
from llamaherd.store.manifests import CONFIG_TYPE, Layer, Manifest, MediaType
from llamaherd.store.names import Name
from llamaherd.store.progress import Progress
from tests.support.registry import (
    PACE,
    Call,
    FakeRegistry,
    docker_registry,
    fake_registry,
    pull,
    push,
)

pytestmark = pytest.mark.anyio

WEIGHTS = random.Random(8).randbytes(300_000)
DIGEST = digest_of(WEIGHTS)
CONFIG = b'{"model_format":"gguf","rootfs":{"type":"layers","diff_ids":[]}}'


@pytest.fixture
def registry() -> Iterator[FakeRegistry]:
    with fake_registry() as registry:
        yield registry


@pytest.fixture(scope="module")
def docker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeRegistry]:
    """Docker's registry, of which only the address is used."""
    with docker_registry(tmp_path_factory.mktemp("docker")) as host:
        yield FakeRegistry(host)


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "models")
    library.prepare()
    return library


@pytest.fixture
def hub(library: Library, tmp_path: Path) -> Hub:
    return Hub(library, pace=replace(PACE, upload_parts=3), key_path=tmp_path / "key")


def add_model(
    library: Library, registry: FakeRegistry, model: str = "ns/tiny", **origin: str
) -> Name:
    """A model in the store, named as it will be in the registry."""
    weights = Layer(MediaType.MODEL, library.blobs.put(WEIGHTS), len(WEIGHTS), **origin)
    config = Layer(CONFIG_TYPE, library.blobs.put(CONFIG), len(CONFIG))
    name = Name.parse(f"{registry.host}/{model}")
    library.commit(name, Manifest(config=config, layers=[weights]))
    return name


class TestDockerRegistry:
    async def test_what_was_pushed_can_be_pulled(
        self, hub: Hub, docker: FakeRegistry, library: Library
    ) -> None:
        name = add_model(library, docker)
        steps = await push(hub, docker)
        short = DIGEST[7:19]
        assert steps[0] == Progress("retrieving manifest")
        assert Progress(f"pushing {short}", DIGEST, len(WEIGHTS), len(WEIGHTS)) in steps
        assert steps[-2:] == [Progress("pushing manifest"), Progress("success")]
        library.delete(name)
        assert not library.blobs.exists(DIGEST)
        steps = await pull(hub, docker)
        assert steps[0] == Progress("pulling manifest")
        assert Progress(f"pulling {short}", DIGEST, len(WEIGHTS), len(WEIGHTS)) in steps
        assert steps[-3:] == [
            Progress("verifying sha256 digest"),
            Progress("writing manifest"),
            Progress("success"),
        ]
        assert library.blobs.read(DIGEST, len(WEIGHTS)) == WEIGHTS
        assert library.get(name).model_path == library.blobs.path(DIGEST)

    async def test_what_is_there_is_not_sent_again(
        self, hub: Hub, docker: FakeRegistry, library: Library
    ) -> None:
        add_model(library, docker, "ns/twice")
        await push(hub, docker, "ns/twice")
        assert [step.status for step in await push(hub, docker, "ns/twice")] == [
            "retrieving manifest",
            f"pushing {DIGEST[7:19]}",
            f"pushing {digest_of(CONFIG)[7:19]}",
            "pushing manifest",
            "success",
        ]

    async def test_layers_are_mounted_from_the_model_that_they_come_from(
        self, hub: Hub, docker: FakeRegistry, library: Library
    ) -> None:
        base = add_model(library, docker, "ns/base")
        await push(hub, docker, "ns/base")
        add_model(library, docker, "other/derived", from_=base.short)
        await push(hub, docker, "other/derived")
        await pull(hub, docker, "other/derived")

    async def test_an_empty_blob(self, hub: Hub, docker: FakeRegistry, library: Library) -> None:
        name = add_model(library, docker, "ns/empty")
        empty = Layer(MediaType.LICENSE, library.blobs.put(b""), 0)
        manifest = library.manifest(name).manifest
        layers = [*(manifest.layers or []), empty]
        library.commit(name, Manifest(config=manifest.config, layers=layers))
        await push(hub, docker, "ns/empty")
        library.delete(name)
        await pull(hub, docker, "ns/empty")
        assert library.get(name).licenses == [""]


class TestRequests:
    """Those that Ollama makes."""

    async def test_a_blob_is_sent_in_parts_the_manifest_last(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry)
        await push(hub, registry)
        assert [seen.method for seen in registry.seen] == [
            *("HEAD", "POST", "PATCH", "PATCH", "PATCH", "PUT"),
            *("HEAD", "POST", "PATCH", "PUT"),
            "PUT",
        ]
        ranges = [seen.headers["Content-Range"] for seen in registry.requests("PATCH")]
        assert ranges == ["0-99999", "100000-199999", "200000-299999", "0-63"]
        parts = (WEIGHTS[at : at + 100_000] for at in (0, 100_000, 200_000))
        sums = b"".join(hashlib.md5(part).digest() for part in parts)
        assert f"etag={hashlib.md5(sums).hexdigest()}-3" in registry.requests("PUT")[0].path
        assert registry.blobs[DIGEST] == WEIGHTS

    async def test_a_mount_is_tried_where_the_layer_may_be(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        def mount(call: Call) -> bool:
            if "mount=" not in call.path:
                return False
            registry.blobs[DIGEST] = WEIGHTS
            call.reply(201)
            return True

        registry.spoil = mount
        add_model(library, registry, from_=f"{registry.host}/ns/base:latest")
        await push(hub, registry)
        assert registry.requests("POST")[0].path.endswith(
            f"?from=ns%2Fbase&mount={DIGEST.replace(':', '%3A')}"
        )

    @pytest.mark.parametrize("origin", ["/home/me/models/blobs/sha256-0", "llama3.2:latest"])
    async def test_other_origins_are_nothing_to_the_registry(
        self, origin: str, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry, from_=origin)
        await push(hub, registry)
        assert not registry.requests("POST", "mount")

    async def test_paths_on_this_machine_stay_here(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry, from_="/home/me/secret.gguf")
        await push(hub, registry)
        [manifest] = registry.manifests.values()
        assert "from" not in json.loads(manifest)["layers"][0]
        assert b"secret" not in manifest

    async def test_a_part_may_be_wanted_elsewhere(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry)
        with fake_registry() as elsewhere:
            parts: list[bytes] = []

            def take_part(call: Call) -> bool:
                parts.append(call.receive())
                call.reply(200)
                return True

            def send_elsewhere(call: Call) -> bool:
                if call.command == "PATCH":
                    call.receive()
                    target = f"{elsewhere.url}/part"
                    call.reply(307, Location=target, Docker_Upload_Location=call.path)
                elif call.command == "PUT" and "/uploads/" in call.path:
                    call.reply(201)
                else:
                    return False
                return True

            elsewhere.spoil, registry.spoil = take_part, send_elsewhere
            await push(hub, registry)
            assert b"".join(parts) == WEIGHTS + CONFIG
            assert {seen.method for seen in elsewhere.seen} == {"PUT"}


class TestFailures:
    async def test_a_part_that_breaks_off_is_resumed_where_the_registry_has_it(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry)
        broken: set[str] = set()

        def lose(call: Call) -> bool:
            sent = call.headers.get("Content-Range", "")
            if call.command != "PATCH" or broken or not sent.startswith("100000-"):
                return False
            broken.add(sent)
            registry.uploads[call.path] += call.receive(40_000)
            call.break_off()
            return True

        registry.spoil = lose
        await push(hub, registry)
        assert broken
        ranges = [seen.headers["Content-Range"] for seen in registry.requests("PATCH")]
        assert ranges[1:3] == ["100000-199999", "140000-199999"]
        assert registry.blobs[DIGEST] == WEIGHTS
        parts = (WEIGHTS[at : at + 100_000] for at in (0, 100_000, 200_000))
        sums = b"".join(hashlib.md5(part).digest() for part in parts)
        assert hashlib.md5(sums).hexdigest() in registry.requests("PUT")[0].path

    async def test_an_upload_that_the_registry_forgot_begins_anew(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry)
        forgotten: list[str] = []

        def forget(call: Call) -> bool:
            if call.command != "PATCH" or forgotten:
                return False
            forgotten.append(call.path)
            call.receive()
            del registry.uploads[call.path]
            call.reply(500)
            return True

        registry.spoil = forget
        await push(hub, registry)
        assert registry.blobs[DIGEST] == WEIGHTS

    async def test_an_upload_whose_last_answer_was_lost_is_complete(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry)

        def swallow(call: Call) -> bool:
            if call.command != "PUT" or "/uploads/" not in call.path:
                return False
            upload = call.path.partition("?")[0]
            if upload not in registry.uploads:
                return False
            content = bytes(registry.uploads.pop(upload))
            registry.blobs[digest_of(content)] = content
            call.break_off()
            return True

        registry.spoil = swallow
        await push(hub, registry)
        assert registry.blobs == {DIGEST: WEIGHTS, digest_of(CONFIG): CONFIG}
        assert len(registry.requests("POST")) == 2

    @pytest.mark.parametrize("status", [429, 503])
    @pytest.mark.parametrize("method", ["HEAD", "POST", "PATCH", "GET", "PUT"])
    async def test_a_registry_that_is_busy_once(
        self, method: str, status: int, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        """``GET`` asks what is there of a part that broke off."""
        add_model(library, registry)
        busy = {"GET", "PATCH"} if method == "GET" else {method}

        def refuse(call: Call) -> bool:
            if call.command not in busy:
                return False
            busy.remove(call.command)
            call.receive()
            call.reply(status)
            return True

        registry.spoil = refuse
        await push(hub, registry)
        assert not busy
        assert registry.blobs[DIGEST] == WEIGHTS
        assert len(registry.manifests) == 1

    async def test_a_registry_that_never_takes_it(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry)

        def refuse(call: Call) -> bool:
            if call.command != "PATCH":
                return False
            call.receive()
            call.reply(503, b"full")
            return True

        registry.spoil = refuse
        with pytest.raises(RegistryError, match="max retries exceeded: 503: full"):
            await push(hub, registry)
        assert registry.manifests == {}

    async def test_a_registry_that_forbids_it(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry)

        def forbid(call: Call) -> bool:
            call.receive()
            call.reply(405 if call.command == "POST" else 404)
            return True

        registry.spoil = forbid
        with pytest.raises(RegistryError, match="405: Method Not Allowed"):
            await push(hub, registry)

    async def test_upload_places_follow_the_rules_for_redirects(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        add_model(library, registry)

        def mislead(call: Call) -> bool:
            if call.command != "POST":
                return False
            call.reply(202, Location="file:///etc/passwd")
            return True

        registry.spoil = mislead
        with pytest.raises(RegistryError, match="which is no web address"):
            await push(hub, registry)

    async def test_a_model_that_is_not_there(self, hub: Hub, registry: FakeRegistry) -> None:
        with pytest.raises(NotInRegistry, match=re.escape("file does not exist")):
            await push(hub, registry, "ns/none")
        assert registry.seen == []
