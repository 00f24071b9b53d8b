"""Who we are to a registry: our key, challenges and tokens, and who never gets to see them."""

from __future__ import annotations

import base64
import hashlib
import stat
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx2
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from llamaherd.errors import RegistryError
from llamaherd.registry.auth import Challenge, Key, read_token
from llamaherd.registry.client import RegistryClient
from llamaherd.registry.hub import Hub
from llamaherd.registry.remote import Registry
from llamaherd.store.library import Library
from tests.support.registry import PACE, Call, FakeRegistry, fake_registry, pull, push

EMPTY = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


def public_key(encoded: str) -> Ed25519PublicKey:
    key = load_ssh_public_key(f"ssh-ed25519 {encoded}".encode())
    assert isinstance(key, Ed25519PublicKey)
    return key


def verify(authorization: str, url: str) -> None:
    """Raises ``InvalidSignature`` unless the header was made for a GET of this URL."""
    key, signature = authorization.split(":")
    public_key(key).verify(base64.b64decode(signature), f"GET,{url},{EMPTY}".encode())


class TestKey:
    def test_it_is_made_on_first_need_for_its_owner_alone(self, tmp_path: Path) -> None:
        path = tmp_path / ".ollama" / "id_ed25519"
        Key.load(path)
        assert path.read_bytes().startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert path.with_suffix(".pub").read_text().startswith("ssh-ed25519 AAAA")
        assert sorted(path.parent.iterdir()) == [path, path.with_suffix(".pub")]

    def test_ssh_keygen_reads_it(self, tmp_path: Path) -> None:
        path = tmp_path / "id_ed25519"
        Key.load(path)
        command = ("ssh-keygen", "-y", "-f", str(path))
        try:
            shown = subprocess.run(command, capture_output=True, check=True, text=True)
        except FileNotFoundError:
            pytest.skip("ssh-keygen is not installed")
        assert shown.stdout.split()[:2] == path.with_suffix(".pub").read_text().split()

    def test_it_stays_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "id_ed25519"
        first, second = Key.load(path), Key.load(path)
        assert first.authorization("x") == second.authorization("x")

    def test_of_many_who_make_it_at_once_all_get_the_same(self, tmp_path: Path) -> None:
        path = tmp_path / "id_ed25519"
        start = threading.Barrier(8)
        signed = []

        def load() -> None:
            start.wait()
            signed.append(Key.load(path).authorization("x"))

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(signed) == 8
        assert len(set(signed)) == 1
        verify(f"{path.with_suffix('.pub').read_text().split()[1]}:{signed[0].split(':')[1]}", "x")

    @pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN OPENSSH PRIVATE KEY-----\n"])
    def test_a_file_that_is_no_key_is_named(self, content: bytes, tmp_path: Path) -> None:
        path = tmp_path / "id_ed25519"
        path.write_bytes(content)
        with pytest.raises(RegistryError, match="is not a private key without passphrase"):
            Key.load(path)

    def test_it_signs_one_url(self, tmp_path: Path) -> None:
        authorization = Key.load(tmp_path / "key").authorization("https://ollama.com/token?ts=1")
        verify(authorization, "https://ollama.com/token?ts=1")
        with pytest.raises(InvalidSignature):
            verify(authorization, "https://ollama.com/token?ts=2")


class TestChallenge:
    def test_it_is_read(self) -> None:
        header = 'Bearer realm="https://x/t",service="s",scope="repository:a/b:push,pull"'
        assert Challenge.parse(header) == Challenge("https://x/t", "s", "repository:a/b:push,pull")

    def test_spaces_and_missing_quotes_do_no_harm(self) -> None:
        challenge = Challenge.parse('bearer  Realm = "https://x/t", service=s')
        assert challenge == Challenge("https://x/t", "s", "")

    @pytest.mark.parametrize("header", ["", "Basic realm=x", "Bearer", 'Bearer service="x"', "x"])
    def test_what_we_cannot_answer(self, header: str) -> None:
        with pytest.raises(RegistryError, match="unauthorized: access denied"):
            Challenge.parse(header)

    def test_the_url_for_its_token(self) -> None:
        url = Challenge(
            "https://x/t?a=1", "a b", "repository:a/b:pull repository:c:push"
        ).token_url()
        assert url.startswith("https://x/t?a=1&nonce=")
        query = parse_qs(urlsplit(url).query)
        assert query["scope"] == ["repository:a/b:pull", "repository:c:push"]
        assert query["service"] == ["a b"]
        assert list(query) == ["a", "nonce", "scope", "service", "ts"]
        # What is signed must be what is sent.
        assert str(httpx2.URL(url)) == url


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a b"}', b'{"token": "a\\nb"}', b"\xff"],
)
def test_answers_without_a_token(body: bytes) -> None:
    with pytest.raises(RegistryError, match="the realm's answer"):
        read_token(body)


@dataclass
class Guard:
    """Lets only those into a registry who have a token of its realm's."""

    realm: str
    answer: bytes = b'{"token": "t0ken"}'

    def __call__(self, call: Call) -> bool:
        if call.path.startswith("/token"):
            call.reply(200, self.answer)
        elif call.headers.get("Authorization") != "Bearer t0ken":
            call.receive()
            challenge = f'Bearer realm="{self.realm}",service="us",scope="repository:ns/tiny:pull"'
            call.reply(401, WWW_Authenticate=challenge)
        else:
            return False
        return True


@pytest.mark.anyio
class TestTokens:
    @pytest.fixture
    def registry(self) -> Iterator[FakeRegistry]:
        """One that wants a token."""
        with fake_registry() as registry:
            registry.add_model(b"weights")
            registry.spoil = Guard(f"{registry.url}/token")
            yield registry

    @pytest.fixture
    def hub(self, tmp_path: Path) -> Hub:
        library = Library(tmp_path / "models")
        library.prepare()
        return Hub(library, pace=PACE, key_path=tmp_path / "key")

    async def test_a_signed_request_gets_one_which_is_used_from_then_on(
        self, hub: Hub, registry: FakeRegistry
    ) -> None:
        await pull(hub, registry)
        [asked] = registry.requests("GET", "/token")
        verify(asked.headers["Authorization"], registry.url + asked.path)
        assert parse_qs(urlsplit(asked.path).query)["scope"] == ["repository:ns/tiny:pull"]
        used = [seen.headers.get("Authorization") for seen in registry.requests("GET", "/v2/")]
        assert used == [None, "Bearer t0ken", "Bearer t0ken", "Bearer t0ken"]

    async def test_uploads_are_sent_again_with_it(self, hub: Hub, registry: FakeRegistry) -> None:
        await pull(hub, registry)
        blobs = dict(registry.blobs)
        registry.blobs.clear()
        await push(hub, registry)
        assert registry.blobs == blobs

    async def test_a_registry_without_challenge_costs_no_key(
        self, hub: Hub, registry: FakeRegistry, tmp_path: Path
    ) -> None:
        registry.spoil = lambda call: False
        await pull(hub, registry)
        assert not (tmp_path / "key").exists()

    async def test_a_token_that_is_not_accepted(self, hub: Hub, registry: FakeRegistry) -> None:
        registry.spoil = Guard(f"{registry.url}/token", b'{"token": "other"}')
        with pytest.raises(RegistryError, match="manifest: unauthorized: access denied"):
            await pull(hub, registry)
        assert len(registry.requests("GET", "/token")) == 1

    async def test_a_realm_on_another_host_learns_nothing(
        self, hub: Hub, registry: FakeRegistry
    ) -> None:
        with fake_registry() as other:
            registry.spoil = Guard(f"{other.url}/token")
            with pytest.raises(RegistryError) as error:
                await pull(hub, registry)
            assert other.seen == []
        assert str(error.value).endswith(
            f'realm host "{other.host}" does not match original host "{registry.host}"'
        )

    @pytest.mark.parametrize(
        "realm",
        [
            "http://ollama.com/token",
            "https://ollama.com/token",
            "http://169.254.169.254/latest",
            "file:///etc/passwd",
            "http://[::1/token",
            "token",
        ],
    )
    async def test_realms_that_are_not_the_registry(
        self, realm: str, hub: Hub, registry: FakeRegistry
    ) -> None:
        registry.spoil = Guard(realm)
        with pytest.raises(RegistryError, match=r"(realm host|is no URL)"):
            await pull(hub, registry)

    async def test_an_endless_token(self, hub: Hub, registry: FakeRegistry) -> None:
        registry.spoil = Guard(f"{registry.url}/token", b" " * (1 << 17))
        with pytest.raises(RegistryError, match="larger than 65536 bytes"):
            await pull(hub, registry)

    async def test_a_challenge_after_a_redirect_is_not_answered(
        self, hub: Hub, registry: FakeRegistry
    ) -> None:
        with fake_registry() as other:
            other.spoil = Guard(f"{other.url}/token")
            location = f"{other.url}/v2/ns/tiny/manifests/latest"

            def send_there(call: Call) -> bool:
                call.reply(302, Location=location)
                return True

            registry.spoil = send_there
            with pytest.raises(RegistryError, match="unauthorized: access denied"):
                await pull(hub, registry)
            assert len(other.seen) == 1


@pytest.mark.parametrize(
    ("host", "realm", "is_trusted"),
    [
        ("registry.ollama.ai", "https://registry.ollama.ai/token", True),
        ("registry.ollama.ai", "https://registry.ollama.ai:443/token", True),
        ("registry.ollama.ai", "https://ollama.com/token", True),
        ("registry.ollama.ai", "http://registry.ollama.ai/token", False),
        ("registry.ollama.ai", "http://ollama.com/token", False),
        ("registry.ollama.ai", "https://ollama.com:8443/token", False),
        ("registry.ollama.ai", "https://ollama.com.example/token", False),
        ("registry.ollama.ai", "https://registry.ollama.ai@example.com/token", False),
        ("registry.ollama.ai", "https://user@registry.ollama.ai/token", False),
        ("hf.co", "https://huggingface.co/v2/token", True),
        ("example.com", "https://ollama.com/token", False),
        ("example.com:5000", "https://example.com/token", False),
        ("example.com:5000", "https://example.com:5000/token", True),
    ],
)
def test_who_may_see_our_credentials(host: str, realm: str, is_trusted: bool) -> None:
    client = RegistryClient(Registry(host), Path("key"), 1)
    assert client.is_trusted(httpx2.URL(realm)) is is_trusted
