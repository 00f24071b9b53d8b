"""API keys: how they are written in OLLAMA_API_KEYS.

Only hashes of the keys are kept, so that no log, traceback or report can tell one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal, cast

from llamaherd.errors import ConfigError

#: "inference" runs models and sees what there is; "admin" also changes it.
Role = Literal["inference", "admin"]

#: From the least to the most.
ROLES: Final[tuple[Role, ...]] = ("inference", "admin")

#: RFC 6750's ``b64token``: what a bearer token is made of.
_KEY: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*", re.ASCII)

#: A key with fewer characters could be guessed.
SHORT: Final = 16


@dataclass(frozen=True, slots=True)
class ApiKey:
    """``digest`` is the SHA-256 of the key, ``short`` tells that it had few characters."""

    role: Role
    digest: bytes
    short: bool = False


@dataclass(frozen=True, slots=True)
class KeyFile:
    """A file with a key in each line."""

    path: Path


KeySource = ApiKey | KeyFile


def parse_keys(text: str) -> tuple[KeySource, ...]:
    """``OLLAMA_API_KEYS``: ``KEY``, ``admin:KEY``, ``inference:KEY`` or ``@FILE``, with commas.

    A key without a role is an administrator's. Raises ``ValueError`` that tells the place of what
    can't be a key, and never the key.
    """
    return tuple(
        KeyFile(Path(part[1:]).expanduser()) if part.startswith("@") else _parse_key(part, place)
        for place, part in _numbered(text.split(","), "entry")
    )


def read_keys(sources: Iterable[KeySource]) -> tuple[ApiKey, ...]:
    """All keys, those in files too. Raises ``ConfigError`` that names the file and the line."""
    keys: list[ApiKey] = []
    for source in sources:
        keys += [source] if isinstance(source, ApiKey) else _read_file(source.path)
    return tuple(keys)


def digest_of(key: str) -> bytes:
    """SHA-256, in 32 bytes."""
    # Every command reads the settings, few have keys, and OpenSSL takes its time to load.
    from hashlib import sha256

    return sha256(key.encode()).digest()


def _read_file(path: Path) -> Iterator[ApiKey]:
    """A key in each line; empty lines and those that begin with ``#`` don't count."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise ConfigError(f"OLLAMA_API_KEYS: can't read {path}: {error.strerror}") from error
    except UnicodeError as error:
        raise ConfigError(f"OLLAMA_API_KEYS: can't read {path}: it is not UTF-8") from error
    found = [(place, line) for place, line in _numbered(lines, "line") if not line.startswith("#")]
    if not found:
        raise ConfigError(f"OLLAMA_API_KEYS: there is no key in {path}")
    for place, line in found:
        try:
            yield _parse_key(line, place)
        except ValueError as error:
            raise ConfigError(f"OLLAMA_API_KEYS: {path}, {error}") from error


def _numbered(parts: Iterable[str], what: str) -> Iterator[tuple[str, str]]:
    for number, part in enumerate(parts, start=1):
        if part := part.strip():
            yield f"{what} {number}", part


def _parse_key(text: str, place: str) -> ApiKey:
    role, colon, key = text.rpartition(":")
    if colon and role not in ROLES:
        raise ValueError(f"{place}: expected admin: or inference: before the key")
    if not _KEY.fullmatch(key):
        raise ValueError(f"{place}: a key is made of letters, digits and -._~+/ with = at the end")
    return ApiKey(cast(Role, role or "admin"), digest_of(key), len(key) < SHORT)
