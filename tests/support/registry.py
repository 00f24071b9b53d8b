"""Registries for tests: Docker's own, and one whose every answer a test may spoil."""

from __future__ import annotations

import json
import re
import shutil
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from llamaherd.registry.hub import Hub
from llamaherd.registry.remote import Remote
from llamaherd.registry.transfer import Pace
from llamaherd.store.blobs import digest_of
from llamaherd.store.library import Library
from llamaherd.store.manifests import CONFIG_TYPE, MANIFEST_TYPE, MediaType
from llamaherd.store.names import Name
from llamaherd.store.progress import Progress

_PIECE = 64 << 10
_LISTENING = re.compile(r"listening on ([0-9.]+:\d+)")


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """Docker's registry on a free port, as ``host:port``; Debian's package docker-registry."""
    program = shutil.which("docker-registry")
    if program is None:
        pytest.skip("docker-registry is not installed: apt-get install docker-registry")
    config = folder / "registry.yml"
    config.write_text(
        "version: 0.1\n"
        "log: {accesslog: {disabled: true}}\n"
        f"storage: {{filesystem: {{rootdirectory: {json.dumps(str(folder / 'registry'))}}}}}\n"
        "http: {addr: '127.0.0.1:0', secret: x}\n"
    )
    process = subprocess.Popen(
        [program, "serve", str(config)], stderr=subprocess.PIPE, text=True, cwd=folder
    )
    assert process.stderr is not None
    try:
        found = next(filter(None, map(_LISTENING.search, process.stderr)))
        # What it goes on to log must not fill the pipe.
        drain = threading.Thread(target=process.stderr.read, daemon=True)
        drain.start()
        yield found[1]
    finally:
        process.terminate()
        process.wait()
        drain.join()
        process.stderr.close()


@dataclass(frozen=True)
class Seen:
    """One request that came in."""

    method: str
    path: str
    headers: dict[str, str]


@dataclass
class FakeRegistry:
    """A registry that does what it should, except where ``spoil`` answers in its stead.

    ``spoil`` gets each call first, and returns whether it has answered it.
    """

    host: str = ""
    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytearray] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    spoil: Callable[[Call], bool] = lambda call: False
    served: int = 0
    """Bytes of blobs that were sent."""
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def url(self) -> str:
        return f"http://{self.host}"

    def add(self, content: bytes) -> dict[str, Any]:
        """A blob; what a manifest says of it."""
        digest = digest_of(content)
        self.blobs[digest] = content
        return {"mediaType": str(MediaType.MODEL), "digest": digest, "size": len(content)}

    def add_model(self, weights: bytes, name: str = "ns/tiny", tag: str = "latest") -> str:
        """A model with these weights; the digest of its weights."""
        layer = self.add(weights)
        config = self.add(b'{"model_format":"gguf","rootfs":{"type":"layers","diff_ids":[]}}')
        self.add_manifest(layer, config, name, tag)
        return str(layer["digest"])

    def add_manifest(
        self,
        layer: dict[str, Any],
        config: dict[str, Any],
        name: str = "ns/tiny",
        tag: str = "latest",
    ) -> None:
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST_TYPE,
            "config": config | {"mediaType": CONFIG_TYPE},
            "layers": [layer],
        }
        self.manifests[f"/v2/{name}/manifests/{tag}"] = json.dumps(manifest).encode()

    def requests(self, method: str, part: str = "") -> list[Seen]:
        """Those that came in so far, in order, whose path has ``part`` in it."""
        return [seen for seen in self.seen if seen.method == method and part in seen.path]


class Call(BaseHTTPRequestHandler):
    """A request, and the ways to answer it."""

    protocol_version = "HTTP/1.1"
    registry: FakeRegistry
    body: bytes

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def handle(self) -> None:
        with suppress(ConnectionError):
            super().handle()

    def do_GET(self) -> None:
        self._take()

    do_HEAD = do_POST = do_PATCH = do_PUT = do_GET  # noqa: N815

    def _take(self) -> None:
        self.registry.seen.append(Seen(self.command, self.path, {**self.headers}))
        if not self.registry.spoil(self):
            self._answer()

    def receive(self, size: int | None = None) -> bytes:
        """The request's body, or its first ``size`` bytes."""
        length = int(self.headers.get("Content-Length", 0))
        return self.rfile.read(length if size is None else min(size, length))

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        """An answer with its length; underscores in the names of headers stand for hyphens."""
        self.begin(status, Content_Length=str(len(body)), **headers)
        if self.command != "HEAD":
            self.wfile.write(body)

    def begin(self, status: int, **headers: str) -> None:
        """Only the head of an answer."""
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()

    def send_blob(self, content: bytes) -> None:
        """A part of an answer's body, counted."""
        self.wfile.write(content)
        with self.registry.lock:
            self.registry.served += len(content)

    def break_off(self) -> None:
        """Closes the connection after what was sent."""
        self.close_connection = True

    def range(self, total: int) -> tuple[int, int]:
        """The bytes that are asked for: from, up to before."""
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        return (int(found[1]), int(found[2]) + 1) if found else (0, total)

    def begin_range(self, total: int, **headers: str) -> tuple[int, int]:
        """The head of an answer with the bytes that are asked for; which these are."""
        start, stop = self.range(total)
        self.begin(
            206,
            Content_Length=str(stop - start),
            Content_Range=f"bytes {start}-{stop - 1}/{total}",
            **headers,
        )
        return start, stop

    @property
    def blob(self) -> bytes | None:
        return self.registry.blobs.get(self.path.rpartition("/")[2])

    def _answer(self) -> None:
        path = urlsplit(self.path).path
        if "/uploads/" in path:
            self._take_upload(path)
        elif "/manifests/" in path and self.command == "PUT":
            self.registry.manifests[path] = self.receive()
            self.reply(201)
        elif "/manifests/" in path and path in self.registry.manifests:
            self.reply(200, self.registry.manifests[path])
        elif (blob := self.blob) is None:
            self.reply(404)
        elif self.command == "HEAD":
            self.begin(200, Content_Length=str(len(blob)))
        else:
            start, stop = self.begin_range(len(blob))
            for position in range(start, stop, _PIECE):
                self.send_blob(blob[position : min(position + _PIECE, stop)])

    def _take_upload(self, path: str) -> None:
        uploads = self.registry.uploads
        if self.command == "POST":
            path = f"{path}{len(uploads)}"
            uploads[path] = bytearray()
        elif path not in uploads:
            self.reply(404)
            return
        elif self.command == "PATCH":
            uploads[path] += self.receive()
        elif self.command == "PUT":
            [digest] = parse_qs(urlsplit(self.path).query)["digest"]
            content = bytes(uploads.pop(path))
            assert digest_of(content) == digest
            self.registry.blobs[digest] = content
            self.reply(201)
            return
        received = max(len(uploads[path]) - 1, 0)
        status = 204 if self.command == "GET" else 202
        self.begin(status, Location=path, Range=f"0-{received}", Content_Length="0")


@contextmanager
def fake_registry(certificate: Path | None = None) -> Iterator[FakeRegistry]:
    """With a certificate it speaks HTTPS."""
    registry = FakeRegistry()
    handler = type("BoundCall", (Call,), {"registry": registry})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        registry.host = f"127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield registry
        finally:
            server.shutdown()
            thread.join()


def make_certificate(folder: Path) -> Path:
    """A certificate for 127.0.0.1 and registry.example, with its key, as one file."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName(
                [x509.IPAddress(ip_address("127.0.0.1")), x509.DNSName("registry.example")]
            ),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    path = folder / "certificate.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(private + certificate.public_bytes(Encoding.PEM))
    return path


PACE = Pace(connections=4, download_parts=4, least_part=1000, stall=0.3, tries=3, pause=0.001)
"""Small parts and little patience."""


async def pull(hub: Hub, registry: FakeRegistry, model: str = "ns/tiny") -> list[Progress]:
    """All that is reported while ``model`` is pulled from ``registry``."""
    name = Name.parse(f"{registry.host}/{model}")
    return [step async for step in hub.pull(name, Remote.of(name, insecure=True))]


async def push(hub: Hub, registry: FakeRegistry, model: str = "ns/tiny") -> list[Progress]:
    name = Name.parse(f"{registry.host}/{model}")
    return [step async for step in hub.push(name, Remote.of(name, insecure=True))]


def blobs_of(library: Library) -> dict[str, int]:
    """The files in the store's ``blobs`` folder and their sizes."""
    return {path.name: path.stat().st_size for path in library.blobs.folder.iterdir()}
