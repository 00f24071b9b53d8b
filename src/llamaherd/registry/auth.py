"""Who we are to a registry: the key in ``~/.ollama``, challenges, and the tokens that answer them.

A registry that wants to know who asks answers 401 and names a realm where tokens are given. The
request to the realm is signed with our Ed25519 key: its ``Authorization`` is the public key in
OpenSSH's encoding, a colon, and the signature of "GET,URL,BODY", where BODY is the base64 of the
hex SHA-256 of the (empty) body. The signed URL has the time and a nonce in it.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import re
import secrets
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self
from urllib.parse import parse_qsl, urlencode, urlsplit

import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_ssh_private_key,
)
from msgspec import Struct

from llamaherd.errors import RegistryError
from llamaherd.store.files import store_errors

_PARAMETER: Final = re.compile(r'([A-Za-z]+)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
_EMPTY_BODY: Final = base64.b64encode(hashlib.sha256(b"").hexdigest().encode()).decode()


@dataclass(frozen=True, slots=True)
class Challenge:
    """What ``WWW-Authenticate: Bearer …`` asks for."""

    realm: str
    service: str
    scope: str

    @classmethod
    def parse(cls, header: str) -> Self:
        """Raises ``RegistryError`` for another way to authenticate, or none."""
        scheme, _, rest = header.strip().partition(" ")
        found = {name.lower(): quoted or bare for name, quoted, bare in _PARAMETER.findall(rest)}
        if scheme.lower() != "bearer" or not found.get("realm"):
            raise RegistryError("unauthorized: access denied")
        return cls(found["realm"], found.get("service", ""), found.get("scope", ""))

    def token_url(self) -> str:
        """The URL to sign and to ask, good for this moment only; parameters in Go's order."""
        parts = urlsplit(self.realm)
        values = [*parse_qsl(parts.query), ("service", self.service)]
        values += [("scope", scope) for scope in self.scope.split(" ")]
        values += [("ts", str(int(time.time()))), ("nonce", secrets.token_urlsafe(16))]
        values.sort(key=lambda pair: pair[0])
        return parts._replace(query=urlencode(values), fragment="").geturl()


class Key:
    """Our Ed25519 key."""

    def __init__(self, private: Ed25519PrivateKey) -> None:
        self._private = private

    @classmethod
    def load(cls, path: Path) -> Self:
        """The key in ``path``, which is made if it isn't there.

        Raises ``RegistryError`` for a file that holds no such key, ``StoreError`` when it can't be
        read or written.
        """
        with store_errors("read", path):
            if not path.exists():
                _make(path)
            content = path.read_bytes()
        try:
            private = load_ssh_private_key(content, password=None)
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise RegistryError(f"{path} is not a private key without passphrase") from error
        if not isinstance(private, Ed25519PrivateKey):
            raise RegistryError(f"{path} is not an Ed25519 key")
        return cls(private)

    def authorization(self, url: str) -> str:
        """The header that says who asks for ``url`` with GET."""
        public = self._private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        signature = self._private.sign(f"GET,{url},{_EMPTY_BODY}".encode())
        return f"{public.split()[1].decode()}:{base64.b64encode(signature).decode()}"


def _make(path: Path) -> None:
    """A new key; of several processes that make one at once, the first wins."""
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    path.parent.mkdir(parents=True, exist_ok=True)
    # mkstemp's files are readable for their owner alone.
    descriptor, temporary = tempfile.mkstemp(prefix=".tmp-", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        with contextlib.suppress(FileExistsError):
            os.link(temporary, path)
            path.with_suffix(".pub").write_bytes(public + b"\n")
    finally:
        Path(temporary).unlink()


class _TokenReply(Struct):
    token: str = ""
    access_token: str = ""


def read_token(body: bytes) -> str:
    """The token in a realm's answer; raises ``RegistryError`` when there is none."""
    try:
        reply = msgspec.json.decode(body, type=_TokenReply)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise RegistryError(f"the realm's answer is no token: {error}") from error
    token = reply.token or reply.access_token
    if not _TOKEN.fullmatch(token):
        raise RegistryError("the realm's answer has no token in it")
    return token
