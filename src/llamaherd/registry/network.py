"""Which hosts are asked, and how they are reached: redirects, private addresses, proxies.

What a registry answers may name other places: redirects to where its blobs lie, upload locations.
A registry on the internet must not be able to make us send requests into the network that we are
in. So from a public address on, every place must be public too; its name is resolved here, checked,
and the connection goes to the very address that was checked.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from dataclasses import dataclass
from functools import cached_property
from typing import Final
from urllib.request import getproxies, proxy_bypass

import httpx2

from llamaherd.errors import RegistryError, RegistryUnavailable

#: The key of a request's extension that holds the address to connect to.
ADDRESS: Final = "address"

MAX_PORT: Final = (1 << 16) - 1

#: For connections without TLS: trusts nobody.
_NO_CERTIFICATES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@dataclass(frozen=True, slots=True)
class Place:
    """A URL to ask; ``address`` is where its host was found, empty to leave that to the system.

    ``public`` is true once anything on the way here was on a public address.
    """

    url: httpx2.URL
    address: str = ""
    public: bool = False


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the internet rather than to this machine or network."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
        ip = ip.ipv4_mapped
    return ip.is_global and not ip.is_multicast


def is_this_machine(host: str) -> bool:
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def proxy_for(url: httpx2.URL) -> str | None:
    """The proxy that HTTP_PROXY, HTTPS_PROXY, ALL_PROXY and NO_PROXY name for a URL.

    As in Go, none for this machine itself. Raises ``RegistryError`` for a kind that we don't speak.
    """
    if is_this_machine(url.host):
        return None
    proxies = getproxies()
    proxy = proxies.get(url.scheme) or proxies.get("all")
    if not proxy or proxy_bypass(url.netloc.decode()):
        return None
    if "://" not in proxy:
        proxy = f"http://{proxy}"
    if not proxy.startswith(("http://", "https://")):
        scheme = proxy.partition("://")[0]
        raise RegistryError(f"a {scheme} proxy is set, but only http and https ones are supported")
    return proxy


def origin(url: httpx2.URL) -> tuple[str, str, int | None]:
    return url.scheme, url.host, url.port


def parse_url(text: str, base: httpx2.URL | None = None) -> httpx2.URL:
    """``text``, seen from ``base`` if there is one.

    Raises ``InvalidURL``, also for a port to which there can be no connection.
    """
    url = httpx2.URL(text) if base is None else base.join(text)
    if url.port is not None and url.port > MAX_PORT:
        raise httpx2.InvalidURL(f"Invalid port: '{url.port}'")
    return url


async def follow(place: Place, response: httpx2.Response, header: str = "location") -> Place:
    """Where the answer from ``place`` sends us in one of its headers.

    Raises ``RegistryError`` when it doesn't, or may not send us there.
    """
    location = response.headers.get(header, "")
    if not location:
        raise RegistryError(f"the registry's answer has no {header} in it")
    try:
        url = parse_url(location, place.url)
    except httpx2.InvalidURL as error:
        raise RegistryError(f"the registry redirects to {location!r}, which is no URL") from error
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise RegistryError(f"the registry redirects to {location!r}, which is no web address")
    if url.scheme == "http" and place.url.scheme == "https":
        raise RegistryError(f"the registry redirects from https to {url.scheme}://{url.host}")
    if origin(url) == origin(place.url):
        return Place(url, place.address, place.public)
    public = place.public or _came_from_public(place, response)
    if not public:
        return Place(url)
    return Place(url, await _public_address(url), public=True)


def _came_from_public(place: Place, response: httpx2.Response) -> bool:
    """By the address that the answer came from; behind a proxy by what the URL says."""
    if proxy_for(place.url) is not None:
        return _may_be_public(place.url.host)
    stream = response.extensions.get("network_stream")
    peer = stream.get_extra_info("server_addr") if stream is not None else None
    return peer is None or is_public(peer[0])


def _may_be_public(host: str) -> bool:
    try:
        return is_public(host.strip("[]"))
    except ValueError:
        return not is_this_machine(host)


async def _public_address(url: httpx2.URL) -> str:
    """An address of the URL's host, all of which must be public; empty when a proxy resolves it."""
    if proxy_for(url) is not None:
        addresses = [] if _may_be_public(url.host) else [url.host]
    else:
        addresses = await _resolve(url.host)
    for address in addresses:
        if not _may_be_public(address):
            raise RegistryError(
                f"the registry redirects to {url.host}, which is the private address {address}"
            )
    return addresses[0] if addresses else ""


async def _resolve(host: str) -> list[str]:
    loop = asyncio.get_running_loop()
    try:
        found = await loop.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except OSError as error:
        raise RegistryUnavailable(f"lookup {host}: no such host") from error
    return [str(where[0]) for *_, where in found]


class Transport(httpx2.AsyncBaseTransport):
    """Sends each request directly, through its proxy, or to the address that was checked for it.

    Connections are shared only among requests that go the same way to the same place.
    """

    def __init__(self) -> None:
        self._ways: dict[tuple[str, str, str], httpx2.AsyncHTTPTransport] = {}

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        host, scheme = request.url.host, request.url.scheme
        address = request.extensions.get(ADDRESS, "")
        proxy = proxy_for(request.url)
        if not address or proxy is not None:
            return await self._way(scheme, proxy=proxy or "").handle_async_request(request)
        request.extensions = {**request.extensions, "sni_hostname": host}
        request.url = request.url.copy_with(host=address)
        return await self._way(scheme, host=host).handle_async_request(request)

    def _way(self, scheme: str, *, host: str = "", proxy: str = "") -> httpx2.AsyncHTTPTransport:
        key = scheme, host, proxy
        if key not in self._ways:
            certificates = self._certificates if scheme == "https" else _NO_CERTIFICATES
            way = httpx2.AsyncHTTPTransport(verify=certificates, proxy=proxy or None)
            self._ways[key] = way
        return self._ways[key]

    @cached_property
    def _certificates(self) -> ssl.SSLContext:
        """Those that the system trusts; reading them takes a tenth of a second."""
        return httpx2.create_ssl_context()

    async def aclose(self) -> None:
        for way in self._ways.values():
            await way.aclose()
