"""Pulling from a registry that misbehaves: what it can't do is go on for ever, write or learn what
it shouldn't, or leave a broken model."""

from __future__ import annotations

import gzip
import json
import os
import random
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from llamaherd.errors import RegistryError, StoreError
from llamaherd.registry.hub import Hub
from llamaherd.store.blobs import digest_of
from llamaherd.store.library import Library
from llamaherd.store.names import Name
from tests.support.registry import (
    PACE,
    Call,
    FakeRegistry,
    blobs_of,
    fake_registry,
    pull,
)

pytestmark = pytest.mark.anyio

WEIGHTS = random.Random(7).randbytes(400_000)
DIGEST = digest_of(WEIGHTS)


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


def name_of(registry: FakeRegistry) -> Name:
    return Name.parse(f"{registry.host}/ns/tiny")


def files_in(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


def is_there(library: Library, registry: FakeRegistry) -> bool:
    """Whether the model is there, whole."""
    return library.exists(name_of(registry)) and (
        library.blobs.read(DIGEST, len(WEIGHTS)) == WEIGHTS
    )


def once(answer: Callable[[Call], None], part: str = "/blobs/") -> Callable[[Call], bool]:
    """Spoils the first answer for each part of what has ``part`` in its path."""
    spoilt: set[tuple[str, int]] = set()

    def spoil(call: Call) -> bool:
        key = call.path, call.range(0)[1]
        if part not in call.path or key in spoilt:
            return False
        spoilt.add(key)
        answer(call)
        return True

    return spoil


def always(answer: Callable[[Call], None], part: str = DIGEST) -> Callable[[Call], bool]:
    """Spoils each answer to a URL that has ``part`` in its path."""

    def spoil(call: Call) -> bool:
        if part not in call.path:
            return False
        answer(call)
        return True

    return spoil


class TestWhatPasses:
    """A transfer survives it."""

    async def test_connections_that_are_cut(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        def cut(call: Call) -> None:
            assert call.blob is not None
            start, stop = call.begin_range(len(call.blob))
            call.send_blob(call.blob[start : (start + stop) // 2])
            call.break_off()

        registry.spoil = once(cut)
        await pull(hub, registry)
        assert is_there(library, registry)
        # What had come before the cut was not sent again.
        assert registry.served == sum(map(len, registry.blobs.values()))

    async def test_connections_that_stall(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        going = threading.Event()

        def stall(call: Call) -> None:
            assert call.blob is not None
            start, _ = call.begin_range(len(call.blob))
            call.send_blob(call.blob[start : start + 10])
            call.wfile.flush()
            going.wait(30)
            call.break_off()

        registry.spoil = once(stall, DIGEST)
        await pull(hub, registry)
        going.set()
        assert is_there(library, registry)
        assert registry.served == sum(map(len, registry.blobs.values()))

    @pytest.mark.parametrize("status", [500, 503, 429, 408])
    async def test_errors_that_pass(
        self, status: int, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        registry.spoil = once(lambda call: call.reply(status, b"busy"), "/v2/")
        await pull(hub, registry)
        assert is_there(library, registry)

    async def test_answers_without_ranges(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        def whole(call: Call) -> None:
            assert call.blob is not None
            call.begin(200, Content_Length=str(len(call.blob)))
            call.send_blob(call.blob)

        registry.spoil = always(whole, "/blobs/")
        await pull(hub, registry)
        assert is_there(library, registry)

    async def test_answers_without_ranges_that_are_cut(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        hub = Hub(library, pace=replace(PACE, download_parts=1))
        sent = 0

        def less_and_less_missing(call: Call) -> None:
            nonlocal sent
            sent += len(WEIGHTS) // 3 + 1
            call.begin(200, Content_Length=str(len(WEIGHTS)))
            call.send_blob(WEIGHTS[:sent])
            call.break_off()

        registry.spoil = always(less_and_less_missing)
        await pull(hub, registry)
        assert is_there(library, registry)
        assert len(registry.requests("GET", DIGEST)) == 3

    async def test_a_body_that_never_ends_is_cut_off(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        def endless(call: Call) -> None:
            assert call.blob is not None
            call.begin(200)
            call.send_blob(call.blob)
            while True:
                call.wfile.write(bytes(1 << 16))

        hub = Hub(library, pace=replace(PACE, download_parts=1))
        registry.spoil = always(endless)
        await pull(hub, registry)
        assert is_there(library, registry)


class TestWhatFails:
    """The transfer fails with a clear reason, and no model is there."""

    @pytest.fixture(autouse=True)
    def nothing_is_left(self, registry: FakeRegistry, library: Library) -> Iterator[None]:
        yield
        assert not library.exists(name_of(registry))
        assert not library.blobs.exists(DIGEST)

    async def test_wrong_bytes(self, hub: Hub, registry: FakeRegistry, library: Library) -> None:
        wrong = bytes(len(WEIGHTS))
        registry.blobs[DIGEST] = wrong
        with pytest.raises(RegistryError, match="digest mismatch") as error:
            await pull(hub, registry)
        assert f"want {DIGEST}, got {digest_of(wrong)}" in str(error.value)
        assert blobs_of(library) == {}

    @pytest.mark.parametrize("size", [len(WEIGHTS) - 1, len(WEIGHTS) + 1, 0, 10**9])
    async def test_another_length_than_in_the_manifest(
        self, size: int, hub: Hub, registry: FakeRegistry
    ) -> None:
        def other_length(call: Call) -> None:
            start, stop = call.range(size)
            call.reply(206, b"", Content_Range=f"bytes {start}-{stop - 1}/{size}")

        registry.spoil = always(other_length)
        with pytest.raises(RegistryError, match=f"the registry has {size} bytes where the man"):
            await pull(hub, registry)

    async def test_another_range_than_was_asked_for(self, hub: Hub, registry: FakeRegistry) -> None:
        registry.spoil = always(
            lambda call: call.reply(206, bytes(9), Content_Range=f"bytes 1-9/{len(WEIGHTS)}")
        )
        with pytest.raises(RegistryError, match=r"asked for bytes 0-\d+, the registry sends"):
            await pull(hub, registry)

    @pytest.mark.parametrize(
        "range_", [f"{'9' * 5000}-1/1", f"0-{'9' * 5000}/1", f"0-0/{'9' * 5000}"]
    )
    async def test_a_range_of_no_file(self, range_: str, hub: Hub, registry: FakeRegistry) -> None:
        registry.spoil = always(
            lambda call: call.reply(206, bytes(1), Content_Range=f"bytes {range_}")
        )
        with pytest.raises(RegistryError, match=r"asked for bytes 0-\d+, the registry sends"):
            await pull(hub, registry)

    async def test_a_range_that_is_not_named(self, hub: Hub, registry: FakeRegistry) -> None:
        registry.spoil = always(lambda call: call.reply(206, bytes(9)))
        with pytest.raises(RegistryError, match="a range that it does not name"):
            await pull(hub, registry)

    async def test_errors_that_stay(self, hub: Hub, registry: FakeRegistry) -> None:
        registry.spoil = always(lambda call: call.reply(500, b"out of \x1b[31morder"))
        with pytest.raises(RegistryError) as error:
            await pull(hub, registry)
        assert str(error.value) == "max retries exceeded: 500: out of  [31morder"

    async def test_nothing_but_cuts(self, hub: Hub, registry: FakeRegistry) -> None:
        registry.spoil = always(lambda call: call.break_off())
        with pytest.raises(RegistryError, match="max retries exceeded: Get"):
            await pull(hub, registry)

    async def test_a_blob_that_is_not_there(self, hub: Hub, registry: FakeRegistry) -> None:
        del registry.blobs[DIGEST]
        with pytest.raises(RegistryError, match="file does not exist"):
            await pull(hub, registry)

    async def test_content_that_is_packed(self, hub: Hub, registry: FakeRegistry) -> None:
        registry.spoil = always(
            lambda call: call.reply(200, gzip.compress(WEIGHTS), Content_Encoding="gzip")
        )
        with pytest.raises(RegistryError, match="encoded"):
            await pull(hub, registry)

    async def test_redirects_without_end(self, hub: Hub, registry: FakeRegistry) -> None:
        registry.spoil = always(lambda call: call.reply(302, Location=call.path))
        with pytest.raises(RegistryError, match="maximum redirects exceeded"):
            await pull(hub, registry)

    async def test_a_disk_without_room(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        config = registry.add(b"{}")
        layer = {**registry.add(WEIGHTS), "size": 1 << 60}
        registry.add_manifest(layer, config)
        with pytest.raises(StoreError, match=r"not enough disk space: 1152921504.6 GB are to be"):
            await pull(hub, registry)
        assert blobs_of(library) == {}
        assert registry.served == 0

    async def test_a_config_that_makes_no_model(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        registry.add_manifest(registry.add(b"other"), registry.add(b"no JSON"))
        with pytest.raises(RegistryError, match="the registry's model is unsound"):
            await pull(hub, registry)


class TestManifests:
    """Nothing in them is believed."""

    @pytest.mark.parametrize(
        ("manifest", "error"),
        [
            (b"", "truncated"),
            (b"<html>", "malformed"),
            (b"[]", "Expected `object`"),
            (b'{"layers": []}', "missing required field `config`"),
            (b'{"config": {"mediaType": "x", "digest": "x", "size": 1}}', "not a digest: 'x'"),
            (b'{"x":' * 100_000, "recursion"),
            (b'"' + b"\xff" * 10 + b'"', ""),
        ],
        ids=["empty", "html", "list", "no-config", "digest", "deep", "bytes"],
    )
    async def test_unsound_ones(
        self, manifest: bytes, error: str, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        registry.manifests["/v2/ns/tiny/manifests/latest"] = manifest
        with pytest.raises(RegistryError, match=r"^pull model manifest: ") as raised:
            await pull(hub, registry)
        assert error in str(raised.value)
        assert library.list() == []

    @pytest.mark.parametrize(
        "digest",
        ["", "sha256:../../../../etc/passwd", f"../{DIGEST}", DIGEST.upper(), f"{DIGEST}/.."],
    )
    @pytest.mark.parametrize("place", ["layer", "config"])
    async def test_digests_that_are_none(
        self, place: str, digest: str, hub: Hub, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        layer, config = registry.add(WEIGHTS), registry.add(b"{}")
        (layer if place == "layer" else config)["digest"] = digest
        registry.add_manifest(layer, config)
        before = files_in(tmp_path)
        with pytest.raises(RegistryError, match="not a digest"):
            await pull(hub, registry)
        assert files_in(tmp_path) == before
        assert registry.requests("GET", "/blobs/") == []

    async def test_sizes_below_zero(self, hub: Hub, registry: FakeRegistry) -> None:
        registry.add_manifest({**registry.add(WEIGHTS), "size": -1}, registry.add(b"{}"))
        with pytest.raises(RegistryError, match="has the size -1"):
            await pull(hub, registry)

    async def test_another_size_than_the_blob_in_the_store(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        library.blobs.put(WEIGHTS)
        registry.add_manifest({**registry.add(WEIGHTS), "size": 5}, registry.add(b"{}"))
        with pytest.raises(RegistryError, match="has 400000 bytes, but 5 in the registry's mani"):
            await pull(hub, registry)

    async def test_endless_ones(self, hub: Hub, registry: FakeRegistry) -> None:
        def endless(call: Call) -> bool:
            call.begin(200)
            while True:
                call.wfile.write(b" " * (1 << 16))

        registry.spoil = endless
        with pytest.raises(RegistryError, match="larger than 4194304 bytes"):
            await pull(hub, registry)

    async def test_endless_errors(self, hub: Hub, registry: FakeRegistry) -> None:
        def endless(call: Call) -> bool:
            call.begin(403)
            while True:
                call.wfile.write(b"no " * (1 << 14))

        registry.spoil = endless
        with pytest.raises(RegistryError, match="pull model manifest: 403: no no") as error:
            await pull(hub, registry)
        assert len(str(error.value)) < 3000

    async def test_packed_ones(self, hub: Hub, registry: FakeRegistry) -> None:
        bomb = gzip.compress(bytes(100 << 20), 9)
        registry.spoil = always(
            lambda call: call.reply(200, bomb, Content_Encoding="gzip"), "/manifests/"
        )
        with pytest.raises(RegistryError, match="encoded as gzip, which nobody asked for"):
            await pull(hub, registry)

    async def test_one_digest_for_two_layers_is_verified(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        layer, config = registry.add(WEIGHTS), registry.add(b"{}")
        registry.add_manifest(layer, config)
        path = "/v2/ns/tiny/manifests/latest"
        manifest = json.loads(registry.manifests[path])
        registry.manifests[path] = json.dumps(manifest | {"layers": [layer, layer]}).encode()
        registry.blobs[DIGEST] = bytes(len(WEIGHTS))
        with pytest.raises(RegistryError, match="digest mismatch"):
            await pull(hub, registry)
        assert blobs_of(library) == {}


class TestRedirects:
    async def test_blobs_may_lie_elsewhere_and_no_credentials_go_there(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        with fake_registry() as elsewhere:
            elsewhere.blobs = registry.blobs

            def send_there(call: Call) -> bool:
                if call.path.startswith("/token"):
                    call.reply(200, b'{"token": "secret"}')
                elif "Authorization" not in call.headers:
                    realm = f'Bearer realm="{registry.url}/token",service="x",scope="y"'
                    call.reply(401, WWW_Authenticate=realm)
                elif "/blobs/" in call.path:
                    call.reply(307, Location=f"{elsewhere.url}/data{call.path}")
                else:
                    return False
                return True

            registry.spoil = send_there
            await pull(hub, registry)
        assert is_there(library, registry)
        assert elsewhere.requests("GET", DIGEST)
        assert not any("Authorization" in seen.headers for seen in elsewhere.seen)
        assert registry.requests("GET", DIGEST)[0].headers["Authorization"] == "Bearer secret"

    @pytest.mark.parametrize(
        ("location", "error"),
        [
            ("file:///etc/passwd", "which is no web address"),
            ("gopher://x/", "which is no web address"),
            ("http://user:pass@localhost/", "which is no web address"),
            ("http://[::1", "which is no URL"),
            ("http://127.0.0.1:65536/", "which is no URL"),
            ("", "has no location in it"),
        ],
    )
    async def test_places_that_are_none(
        self, location: str, error: str, hub: Hub, registry: FakeRegistry
    ) -> None:
        registry.spoil = always(lambda call: call.reply(302, Location=location), "/v2/")
        with pytest.raises(RegistryError) as raised:
            await pull(hub, registry)
        assert error in str(raised.value)


class TestWhatIsLeft:
    async def test_a_failed_pull_leaves_the_model_of_that_name_as_it_was(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        await pull(hub, registry)
        digest = library.get(name_of(registry)).digest
        registry.add_manifest(registry.add(b"changed"), registry.add(b"{}"))
        registry.blobs[digest_of(b"changed")] = b"CHANGED"
        with pytest.raises(RegistryError, match="digest mismatch"):
            await pull(hub, registry)
        assert library.get(name_of(registry)).digest == digest
        assert is_there(library, registry)

    async def test_what_has_come_before_a_failure_is_not_fetched_again(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        def forbid_the_end(call: Call) -> bool:
            if not call.path.endswith(DIGEST) or call.range(0)[1] < len(WEIGHTS):
                return False
            call.reply(403)
            return True

        hub = Hub(library, pace=replace(PACE, connections=1))
        registry.spoil = forbid_the_end
        with pytest.raises(RegistryError, match="403: Forbidden"):
            await pull(hub, registry)
        assert registry.served == len(WEIGHTS) * 3 // 4
        registry.spoil = lambda call: False
        await pull(hub, registry)
        assert registry.served == sum(map(len, registry.blobs.values()))
        assert is_there(library, registry)

    async def test_what_was_damaged_meanwhile_is_fetched_again(
        self, hub: Hub, registry: FakeRegistry, library: Library
    ) -> None:
        await self.test_what_has_come_before_a_failure_is_not_fetched_again(hub, registry, library)
        path = library.blobs.path(DIGEST)
        library.delete(name_of(registry))
        partial = path.with_name(f"{path.name}-partial")
        partial.write_bytes(os.urandom(len(WEIGHTS)))
        state = {"N": 0, "Offset": 0, "Size": len(WEIGHTS), "Completed": 1000}
        partial.with_name(f"{partial.name}-0").write_text(json.dumps(state))
        await pull(hub, registry)
        assert is_there(library, registry)
