"""Requests to one registry: tokens, redirects, errors, and limits to what is read.

Nothing that a registry says is believed: bodies end at their limit, lengths and ranges must be
those that were asked for, and credentials go to the registry's own host and nowhere else.
"""

from __future__ import annotations

import asyncio
import os
import platform
import re
import socket
import ssl
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx2

from llamaherd.errors import (
    NotInRegistry,
    RegistryBusy,
    RegistryError,
    RegistryUnavailable,
    StoreError,
)
from llamaherd.registry.network import ADDRESS, Place, Transport, follow, origin, parse_url
from llamaherd.registry.remote import Registry, Remote
from llamaherd.store.manifests import MANIFEST_TYPE, MAX_SIZE, Manifest, decode_manifest
from llamaherd.version import OLLAMA_VERSION, __version__

#: Some registries answer as Ollama needs it only to those who say that they are Ollama.
USER_AGENT: Final = (
    f"ollama/{OLLAMA_VERSION} ({platform.machine()} {platform.system().lower()})"
    f" llamaherd/{__version__}"
)
MAX_REDIRECTS: Final = 10
#: The largest answer of a realm and the largest error text that is read, in bytes.
MAX_TOKEN: Final = 64 << 10
MAX_ERROR: Final = 2 << 10
#: Seconds until a connection must stand.
CONNECT_TIMEOUT: Final = 30.0

_REDIRECTS: Final = frozenset((301, 302, 303, 307, 308))
#: Statuses after which the same request may succeed.
_PASSING: Final = frozenset((408, 425, 429, 500, 502, 503, 504))
#: No more digits than 64 bits have.
_RANGE: Final = re.compile(r"bytes (\d{1,20})-(\d{1,20})/(\d{1,20}|\*)")

#: Hosts that a registry shares its users with: there its realm may be, and its tokens may go.
_PARTNERS: Final = {"registry.ollama.ai": "ollama.com", "hf.co": "huggingface.co"}

#: Makes a request's body anew for each try.
Content = Callable[[], AsyncIterator[bytes]]


@dataclass(frozen=True)
class BlobRange:
    """A part of a blob as it comes in; ``start`` is the offset of its first byte."""

    start: int
    chunks: AsyncIterator[bytes]


class RegistryClient:
    """Requests to ``registry``; ``patience`` is how long an answer may stand still, in seconds.

    All methods raise ``RegistryUnavailable`` for what may go better later, ``NotInRegistry`` for
    404 and ``RegistryError`` for everything else that went wrong, making one included.
    """

    def __init__(self, registry: Registry, key_path: Path, patience: float) -> None:
        self.registry = registry
        self._base = _base_url(registry)
        self._key_path = key_path
        self._tokens: dict[str, str] = {}
        self._token_lock = asyncio.Lock()
        self._http = httpx2.AsyncClient(
            transport=Transport(),
            trust_env=False,
            timeout=httpx2.Timeout(patience, connect=CONNECT_TIMEOUT, pool=None),
            headers={"User-Agent": USER_AGENT, "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        await self._http.aclose()

    def place(self, path: str) -> Place:
        """A path of the registry itself."""
        return Place(self._base.join(path))

    async def manifest(self, remote: Remote) -> Manifest:
        """Checked for what relies on it: digests, sizes, the presence of a config."""
        headers = {"Accept": MANIFEST_TYPE}
        place = self.place(remote.manifest_path)
        async with self.request("GET", place, remote.repository, headers=headers) as response:
            body = await read_body(response, MAX_SIZE)
        try:
            return decode_manifest(body)
        except StoreError as error:
            raise RegistryError(f"the registry's manifest is unsound: {error}") from error

    @asynccontextmanager
    async def blob(
        self, remote: Remote, digest: str, start: int, stop: int, total: int
    ) -> AsyncIterator[BlobRange]:
        """The bytes of a blob from ``start`` to before ``stop``; more of it may follow.

        A registry that knows no ranges sends it from its beginning.
        """
        headers = {"Range": f"bytes={start}-{stop - 1}"}
        place = self.place(remote.blob_path(digest))
        async with self.request("GET", place, remote.repository, headers=headers) as response:
            _refuse_encoding(response)
            yield BlobRange(_start_of(response, start, stop, total), response.aiter_raw())

    async def has_blob(self, remote: Remote, digest: str) -> bool:
        try:
            async with self.request(
                "HEAD", self.place(remote.blob_path(digest)), remote.repository
            ):
                return True
        except NotInRegistry:
            return False

    async def put_manifest(self, remote: Remote, manifest: bytes) -> None:
        async def content() -> AsyncIterator[bytes]:
            yield manifest

        headers = {"Content-Type": MANIFEST_TYPE, "Content-Length": str(len(manifest))}
        place = self.place(remote.manifest_path)
        async with self.request("PUT", place, remote.repository, headers=headers, content=content):
            return

    @asynccontextmanager
    async def request(
        self,
        method: str,
        place: Place,
        repository: str,
        *,
        headers: Mapping[str, str] | None = None,
        content: Content | None = None,
    ) -> AsyncIterator[httpx2.Response]:
        """An answer that is no error. Redirects are followed for GET and HEAD, else returned."""
        with _transport_errors(method, place.url):
            response = await self._follow(method, place, repository, headers or {}, content)
            try:
                await _check_status(response)
                yield response
            finally:
                await response.aclose()

    async def _follow(
        self,
        method: str,
        place: Place,
        repository: str,
        headers: Mapping[str, str],
        content: Content | None,
    ) -> httpx2.Response:
        for _ in range(MAX_REDIRECTS + 1):
            response = await self._authorized(method, place, repository, headers, content)
            if response.status_code not in _REDIRECTS or method not in ("GET", "HEAD"):
                return response
            try:
                place = await follow(place, response)
            finally:
                await response.aclose()
        raise RegistryError(f"maximum redirects exceeded ({MAX_REDIRECTS})")

    async def _authorized(
        self,
        method: str,
        place: Place,
        repository: str,
        headers: Mapping[str, str],
        content: Content | None,
    ) -> httpx2.Response:
        """Sends the request, after a 401 once more with a new token."""
        used = self._tokens.get(repository, "")
        response = await self._send(method, place, used, headers, content)
        if response.status_code != 401 or not self.is_trusted(place.url):
            return response
        await response.aclose()
        async with self._token_lock:
            if self._tokens.get(repository, "") == used:
                header = response.headers.get("www-authenticate", "")
                self._tokens[repository] = await self._new_token(header)
        return await self._send(method, place, self._tokens[repository], headers, content)

    async def _send(
        self,
        method: str,
        place: Place,
        token: str,
        headers: Mapping[str, str],
        content: Content | None,
    ) -> httpx2.Response:
        request = self._http.build_request(
            method, place.url, headers=dict(headers), content=content() if content else None
        )
        if token and self.is_trusted(place.url):
            request.headers["Authorization"] = f"Bearer {token}"
        if place.address:
            request.extensions = {**request.extensions, ADDRESS: place.address}
        return await self._http.send(request, stream=True)

    async def _new_token(self, challenge: str) -> str:
        # The library for signatures takes its time to load, and most pulls need none.
        from llamaherd.registry import auth

        asked = auth.Challenge.parse(challenge)
        self._check_realm(asked.realm)
        url = httpx2.URL(asked.token_url())
        key = await asyncio.to_thread(auth.Key.load, self._key_path)
        headers = {"Authorization": key.authorization(str(url))}
        response = await self._send("GET", Place(url), "", headers, None)
        try:
            await _check_status(response)
            return auth.read_token(await read_body(response, MAX_TOKEN))
        finally:
            await response.aclose()

    def _check_realm(self, realm: str) -> None:
        """Raises ``RegistryError`` unless we may ask for a token there."""
        try:
            url = httpx2.URL(realm)
        except httpx2.InvalidURL as error:
            raise RegistryError(f"the registry's realm {realm!r} is no URL") from error
        if url.scheme == "http" and self._base.scheme == "https":
            raise RegistryError("insecure protocol http")
        if not self.is_trusted(url):
            ours, theirs = self._base.netloc.decode(), url.netloc.decode()
            raise RegistryError(f'realm host "{theirs}" does not match original host "{ours}"')

    def is_trusted(self, url: httpx2.URL) -> bool:
        """Whether our credentials may go there: to the registry itself, or to its partner."""
        if url.userinfo:
            return False
        if origin(url) == origin(self._base):
            return True
        return origin(url) == ("https", _PARTNERS.get(self._base.host), None)


def _base_url(registry: Registry) -> httpx2.URL:
    """Raises ``RegistryError`` for a host that a model's name may have, but no URL."""
    try:
        return parse_url(registry.url)
    except httpx2.InvalidURL as error:
        raise RegistryError(f'"{registry.host}" is no host of a registry: {error}') from error


async def read_body(response: httpx2.Response, limit: int) -> bytes:
    """The whole body; raises ``RegistryError`` as soon as it exceeds ``limit`` bytes."""
    _refuse_encoding(response)
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) > limit:
            raise RegistryError(f"the registry's answer is larger than {limit} bytes")
    return bytes(body)


def _refuse_encoding(response: httpx2.Response) -> None:
    """We ask for bodies as they are; a compressed one could be anything once unpacked."""
    encoding = response.headers.get("content-encoding", "identity")
    if encoding != "identity":
        raise RegistryError(
            f"the registry's answer is encoded as {encoding}, which nobody asked for"
        )


async def _check_status(response: httpx2.Response) -> None:
    status = response.status_code
    if status < 400:
        return
    if status == 401:
        raise RegistryError("unauthorized: access denied")
    if status == 404:
        raise NotInRegistry
    text = await _error_text(response)
    kind = RegistryBusy if status in _PASSING else RegistryError
    raise kind(f"{status}: {text}" if text else f"{status}: {response.reason_phrase}")


async def _error_text(response: httpx2.Response) -> str:
    """The beginning of an error's body, without characters that could mislead a terminal."""
    body = bytearray()
    async for chunk in response.aiter_raw():
        body += chunk
        if len(body) >= MAX_ERROR:
            break
    text = bytes(body[:MAX_ERROR]).decode("utf-8", "replace")
    return "".join(char if char.isprintable() else " " for char in text).strip()


def _start_of(response: httpx2.Response, start: int, stop: int, total: int) -> int:
    """Where the body begins; raises ``RegistryError`` if it isn't of a blob of ``total`` bytes."""
    if response.status_code == 206:
        found = _RANGE.fullmatch(response.headers.get("content-range", ""))
        if found is None or int(found[1]) != start or int(found[2]) >= max(stop, 1):
            raise RegistryError(
                f"asked for bytes {start}-{stop - 1}, the registry sends"
                f" {response.headers.get('content-range', 'a range that it does not name')!r}"
            )
        size = total if found[3] == "*" else int(found[3])
    else:
        start = 0
        size = int(response.headers.get("content-length", total))
    if size != total:
        raise RegistryError(f"the registry has {size} bytes where the manifest says {total}")
    return start


@contextmanager
def _transport_errors(method: str, url: httpx2.URL) -> Iterator[None]:
    """Words failures of the connection as Go does: ``Get "URL": dial tcp …: no such host``."""
    try:
        yield
    except httpx2.InvalidURL as error:
        raise RegistryError(f'{method.capitalize()} "{url}": {error}') from error
    except httpx2.TransportError as error:
        message = f'{method.capitalize()} "{url}": {_reason(error, url)}'
        raise RegistryUnavailable(message) from error


def _reason(error: Exception, url: httpx2.URL) -> str:
    if isinstance(error, httpx2.TimeoutException):
        return "timed out"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, BaseExceptionGroup):
            cause = cause.exceptions[0]
        if isinstance(cause, socket.gaierror):
            return f"dial tcp: lookup {url.host}: no such host"
        if isinstance(cause, ssl.SSLError):
            return f"tls: {getattr(cause, 'verify_message', '') or cause.reason}"
        if isinstance(cause, OSError) and cause.errno:
            reason = os.strerror(cause.errno).lower()
            dialling = isinstance(error, httpx2.ConnectError)
            return f"dial tcp {_address(url)}: connect: {reason}" if dialling else reason
        cause = cause.__cause__ or cause.__context__
    return str(error) or "the connection was closed"


def _address(url: httpx2.URL) -> str:
    return f"{url.host}:{url.port or {'http': 80}.get(url.scheme, 443)}"
