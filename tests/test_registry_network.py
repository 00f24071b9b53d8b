"""Where a registry may send us, and how we get there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from llamaherd.errors import RegistryError
from llamaherd.registry.hub import Hub
from llamaherd.registry.network import ADDRESS, Place, Transport, follow, is_public, proxy_for
from llamaherd.registry.remote import Registry, Remote
from llamaherd.store.library import Library
from llamaherd.store.names import Name
from tests.support.registry import PACE, Call, FakeRegistry, fake_registry, make_certificate

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def no_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


class TestRemote:
    def test_a_model_of_the_usual_registry(self) -> None:
        remote = Remote.of(Name.parse("llama3.2"), insecure=False)
        assert remote.registry.url == "https://registry.ollama.ai"
        assert remote.manifest_path == "/v2/library/llama3.2/manifests/latest"

    def test_a_model_of_another(self) -> None:
        remote = Remote.of(Name.parse("hf.co/user/Some.Repo:Q4_K_M"), insecure=False)
        assert remote.registry.url == "https://hf.co"
        assert remote.manifest_path == "/v2/user/Some.Repo/manifests/Q4_K_M"
        assert remote.blob_path("sha256:0") == "/v2/user/Some.Repo/blobs/sha256:0"

    @pytest.mark.parametrize("scheme", ["", "http://", "https://"])
    def test_insecure_means_plain_http(self, scheme: str) -> None:
        remote = Remote.of(Name.parse(f"{scheme}localhost:5000/a/b"), insecure=True)
        assert remote.registry.url == "http://localhost:5000"

    def test_plain_http_must_be_allowed(self) -> None:
        with pytest.raises(RegistryError, match="insecure protocol http"):
            Remote.of(Name.parse("http://localhost:5000/a/b"), insecure=False)


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["a:b", "a:1:2", "a:65536", "999.1.1.1"])
async def test_hosts_that_a_name_may_have_and_no_url(host: str, tmp_path: Path) -> None:
    hub = Hub(Library(tmp_path), pace=PACE, key_path=tmp_path / "key")
    name = Name.parse(f"{host}/ns/tiny")
    with pytest.raises(RegistryError, match=f'"{host}" is no host of a registry: Invalid'):
        [step async for step in hub.pull(name, Remote.of(name, insecure=True))]


@pytest.mark.parametrize(
    ("address", "public"),
    [
        *((address, True) for address in ("8.8.8.8", "2606:4700::1111", "::ffff:8.8.8.8")),
        *((f"{net}.0.0.1", False) for net in (0, 10, 127, 240)),
        *((address, False) for address in ("172.16.0.1", "192.168.1.1", "169.254.169.254")),
        *((address, False) for address in ("100.64.0.1", "224.0.0.1", "255.255.255.255")),
        *((address, False) for address in ("::", "::1", "fe80::1%eth0", "fc00::1", "ff02::1")),
        *((address, False) for address in ("::ffff:127.0.0.1", "::ffff:10.0.0.1")),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


class TestProxies:
    @pytest.mark.parametrize(
        ("environ", "url", "proxy"),
        [
            ({}, "http://x/", None),
            ({"http_proxy": "http://p:1"}, "http://x/", "http://p:1"),
            ({"http_proxy": "p:1"}, "http://x/", "http://p:1"),
            ({"http_proxy": "http://p:1"}, "https://x/", None),
            ({"HTTPS_PROXY": "http://p:1"}, "https://x/", "http://p:1"),
            ({"all_proxy": "http://p:1"}, "https://x/", "http://p:1"),
            ({"http_proxy": "http://p:1", "no_proxy": "x"}, "http://x/", None),
            ({"http_proxy": "http://p:1", "no_proxy": ".x.org"}, "http://a.x.org/", None),
            ({"http_proxy": "http://p:1", "no_proxy": "x:5000"}, "http://x:5000/", None),
            ({"http_proxy": "http://p:1", "no_proxy": "*"}, "http://x/", None),
            ({"http_proxy": "http://p:1"}, "http://localhost:5000/", None),
            ({"http_proxy": "http://p:1"}, "http://127.0.0.1/", None),
            ({"http_proxy": "http://p:1"}, "http://[::1]/", None),
        ],
    )
    def test_which_one_is_used(
        self,
        environ: dict[str, str],
        url: str,
        proxy: str | None,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
        assert proxy_for(httpx2.URL(url)) == proxy

    def test_one_that_we_do_not_speak(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("all_proxy", "socks5://user:secret@p:1")
        with pytest.raises(RegistryError, match="a socks5 proxy is set, but only http") as error:
            proxy_for(httpx2.URL("https://x/"))
        assert "secret" not in str(error.value)


@pytest.mark.anyio
class TestPublicRegistries:
    """They are reached through a proxy here, which plays them."""

    @pytest.fixture
    def proxy(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeRegistry]:
        with fake_registry() as proxy:
            monkeypatch.setenv("http_proxy", proxy.url)
            yield proxy

    @pytest.fixture
    def hub(self, tmp_path: Path) -> Hub:
        library = Library(tmp_path / "models")
        library.prepare()
        return Hub(library, pace=PACE, key_path=tmp_path / "key")

    async def pull(self, hub: Hub) -> None:
        name = Name.parse("registry.example/ns/tiny")
        async for _ in hub.pull(name, Remote.of(name, insecure=True)):
            pass

    async def test_the_proxy_is_asked_for_them(self, hub: Hub, proxy: FakeRegistry) -> None:
        proxy.spoil = through
        proxy.add_model(b"weights")
        await self.pull(hub)
        assert {seen.headers["Host"] for seen in proxy.seen} == {"registry.example"}

    @pytest.mark.parametrize(
        "host",
        ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "169.254.169.254", "[::ffff:10.0.0.1]"],
    )
    async def test_they_may_not_send_us_into_our_own_network(
        self, host: str, hub: Hub, proxy: FakeRegistry
    ) -> None:
        with fake_registry() as inside:
            port = inside.host.partition(":")[2]

            def send_inside(call: Call) -> bool:
                call.reply(307, Location=f"http://{host}:{port}/secret")
                return True

            proxy.spoil = send_inside
            with pytest.raises(RegistryError, match="which is the private address"):
                await self.pull(hub)
            assert inside.seen == []
        assert len(proxy.seen) == 1

    async def test_not_even_by_way_of_another_public_place(
        self, hub: Hub, proxy: FakeRegistry
    ) -> None:
        def send_round(call: Call) -> bool:
            there = "http://127.0.0.1:9/" if "cdn.example" in call.path else "http://cdn.example/"
            call.reply(302, Location=there)
            return True

        proxy.spoil = send_round
        with pytest.raises(RegistryError, match=r"the private address 127\.0\.0\.1"):
            await self.pull(hub)


def through(call: Call) -> bool:
    """What a proxy gets has the host in its path."""
    call.path = call.path.removeprefix("http://registry.example")
    return False


@pytest.mark.anyio
class TestPlaces:
    @staticmethod
    def answer(location: str) -> httpx2.Response:
        return httpx2.Response(307, headers={"location": location})

    async def test_the_registry_itself_may_be_named_in_any_way(self) -> None:
        place = Place(httpx2.URL("https://a.example/v2/x"), "8.8.8.8", public=True)
        for location in ("/y", "y/../../y", "https://a.example/y", "https://a.example:443/y"):
            there = await follow(place, self.answer(location))
            assert (there.url, there.address) == (httpx2.URL("https://a.example/y"), "8.8.8.8")

    async def test_https_is_not_left(self) -> None:
        with pytest.raises(RegistryError, match=r"redirects from https to http://a\.example"):
            await follow(Place(httpx2.URL("https://a.example/")), self.answer("http://a.example/"))

    async def test_an_address_that_was_checked_is_the_one_connected_to(self) -> None:
        place = Place(httpx2.URL("https://a.example/"), public=True)
        there = await follow(place, self.answer("https://8.8.8.8/x"))
        assert there == Place(httpx2.URL("https://8.8.8.8/x"), "8.8.8.8", public=True)


@pytest.mark.anyio
class TestCheckedAddresses:
    """A connection goes where the name was found when it was checked, whatever it says now."""

    async def get(self, url: str, address: str) -> httpx2.Response:
        async with httpx2.AsyncClient(transport=Transport(), trust_env=False) as client:
            return await client.get(url, extensions={ADDRESS: address})

    async def test_the_host_is_told_by_its_name(self) -> None:
        with fake_registry() as registry:
            port = registry.host.partition(":")[2]
            await self.get(f"http://registry.example:{port}/x", "127.0.0.1")
            assert registry.seen[0].headers["Host"] == f"registry.example:{port}"

    async def test_its_certificate_must_be_for_its_name(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        certificate = make_certificate(tmp_path)
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        with fake_registry(certificate) as registry:
            port = registry.host.partition(":")[2]
            await self.get(f"https://registry.example:{port}/x", "127.0.0.1")
            with pytest.raises(httpx2.ConnectError, match="Hostname mismatch"):
                await self.get(f"https://other.example:{port}/x", "127.0.0.1")
            assert len(registry.seen) == 1


def test_a_registry_has_one_url() -> None:
    assert Registry("localhost:5000", insecure=True).url == "http://localhost:5000"
