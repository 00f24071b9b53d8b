"""All settings, from one table of environment variables.

``Settings.from_environ`` is the only reader of the environment; everything else gets the frozen
object. The table also prints the help of ``ollama serve --help``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from llamaherd.duration import FOREVER, InvalidDuration, keep_alive
from llamaherd.errors import ConfigError
from llamaherd.keys import KeySource, parse_keys

DEFAULT_PORT: Final = 11434

#: Origins that are always allowed, in every scheme and with any port where it says ``:*``.
DEFAULT_ORIGINS: Final = (
    *(
        f"{scheme}://{host}{port}"
        for host in ("localhost", "127.0.0.1", "0.0.0.0")
        for scheme in ("http", "https")
        for port in ("", ":*")
    ),
    "app://*",
    "file://*",
    "tauri://*",
    "vscode-webview://*",
    "vscode-file://*",
)

#: As many sequences as llama.cpp keeps apart (``LLAMA_MAX_SEQ`` of llama-cparams.h), but for four
#: that embeddings are computed in.
MOST_PARALLEL: Final = 252

KV_CACHE_TYPES: Final = ("f16", "f32", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")


EVERY_IPV4: Final = "0.0.0.0"


@dataclass(frozen=True, slots=True)
class Address:
    """Where the server listens and clients connect: scheme, host without brackets, port, path.

    Without a host, the server listens on every address of its machine.
    """

    scheme: str
    host: str
    port: int
    path: str = ""

    @property
    def netloc(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @property
    def is_every(self) -> bool:
        """Whether this stands for every address of the machine."""
        return self.host in ("", EVERY_IPV4, "::")

    def __str__(self) -> str:
        return f"{self.scheme}://{self.netloc}{self.path}"


def parse_address(text: str) -> Address:
    """``OLLAMA_HOST`` in all its forms: host, host:port, URL with scheme and path, IPv6, and
    :port, which is every address of this machine.

    ``http`` URLs without a port mean port 80, ``https`` 443, anything else 11434. Raises
    ``ValueError`` for a port, a host or a path that can't be one.
    """
    text = text.strip().strip("\"'").strip()
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    default_port = {"http": 80, "https": 443}.get(scheme, DEFAULT_PORT)
    if not separator:
        default_port = DEFAULT_PORT
    netloc, slash, path = rest.partition("/")
    host, port_text = _split_host_port(netloc)
    if port_text:
        if not port_text.isascii() or not port_text.isdigit() or not 0 <= int(port_text) <= 65535:
            raise ValueError(f"invalid port {port_text!r}, expected 0 to 65535")
        port = int(port_text)
    else:
        port = default_port
    path = (slash + path).rstrip("/")
    if not all("!" <= char <= "~" for char in path):
        raise ValueError(f"invalid path {path!r}")
    if not host and not port_text:
        host = "127.0.0.1"
    return Address(scheme, _possible(host), port, path)


def _possible(host: str) -> str:
    """The host, unless no resolver could even be asked for it."""
    try:
        host.encode("idna")
    except UnicodeError as error:
        raise ValueError(f"invalid host {host!r}") from error
    if not host.isprintable() or " " in host:
        raise ValueError(f"invalid host {host!r}")
    return host


def _split_host_port(netloc: str) -> tuple[str, str]:
    if netloc.startswith("["):
        host, bracket, rest = netloc[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError(f"invalid host {netloc!r}")
        return host, rest[1:]
    if netloc.count(":") > 1:
        return netloc, ""
    host, _, port = netloc.partition(":")
    return host, port


def _boolean(text: str) -> bool:
    """Go's ``strconv.ParseBool``; any other text that is set counts as true, as in Ollama."""
    return text not in ("0", "f", "F", "false", "FALSE", "False")


def _tristate(text: str) -> bool | None:
    return _boolean(text) if text else None


def _keep_alive(text: str) -> int:
    return keep_alive(text)


def _timeout(text: str) -> int:
    nanoseconds = keep_alive(text)
    return nanoseconds if nanoseconds > 0 else FOREVER


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise ValueError("expected a whole number, 0 or more")
    return int(text)


def _parallel(text: str) -> int:
    if (count := _count(text)) > MOST_PARALLEL:
        raise ValueError(f"expected at most {MOST_PARALLEL}")
    return count


def _origins(text: str) -> tuple[str, ...]:
    return tuple(origin.strip() for origin in text.split(",") if origin.strip())


def _cache_type(text: str) -> str:
    if text.lower() not in KV_CACHE_TYPES:
        raise ValueError(f"expected one of {', '.join(KV_CACHE_TYPES)}")
    return text.lower()


def _path(text: str) -> Path:
    try:
        text.encode()
        return Path(text).expanduser()
    except UnicodeEncodeError as error:
        raise ValueError("not UTF-8, so its name can't be told in JSON") from error
    except RuntimeError as error:
        raise ValueError("the home folder is not known") from error


def _bearer(text: str) -> str:
    if not all("!" <= char <= "~" for char in text):
        raise ValueError("a key is made of visible ASCII characters")
    return text


@dataclass(frozen=True, slots=True)
class Variable:
    """One environment variable: which field of ``Settings`` it sets, and how.

    The value of a ``secret`` one stands in no message.
    """

    name: str
    field: str
    parse: Callable[[str], Any]
    default: str
    help: str
    secret: bool = False

    def value(self, environ: Mapping[str, str]) -> Any:
        """Raises ``ConfigError`` naming the variable if its value makes no sense."""
        text = environ.get(self.name, "").strip().strip("\"'").strip()
        try:
            return self.parse(text or self.default)
        except (ValueError, InvalidDuration) as error:
            if self.secret:
                raise ConfigError(f"{self.name}: {error}") from None
            raise ConfigError(f"{self.name}={text!r}: {error}") from error


VARIABLES: Final = (
    Variable("OLLAMA_HOST", "host", parse_address, "127.0.0.1:11434", "address of the server"),
    Variable("OLLAMA_MODELS", "models", _path, "~/.ollama/models", "folder of the model store"),
    Variable(
        "OLLAMA_KEEP_ALIVE",
        "keep_alive",
        _keep_alive,
        "5m",
        "how long a model stays loaded after its last request (negative: for ever)",
    ),
    Variable(
        "OLLAMA_CONTEXT_LENGTH",
        "context_length",
        _count,
        "4096",
        "context of a model that doesn't ask for another, in tokens",
    ),
    Variable(
        "OLLAMA_NUM_PARALLEL",
        "num_parallel",
        _parallel,
        "0",
        "requests that a model serves together (0: as many as memory allows, up to 4)",
    ),
    Variable(
        "OLLAMA_MAX_LOADED_MODELS",
        "max_loaded_models",
        _count,
        "0",
        "models loaded together (0: 3 per GPU, or 3)",
    ),
    Variable("OLLAMA_MAX_QUEUE", "max_queue", _count, "512", "requests that may wait"),
    Variable(
        "OLLAMA_LOAD_TIMEOUT",
        "load_timeout",
        _timeout,
        "5m",
        "how long loading may stand still before it fails",
    ),
    Variable("OLLAMA_ORIGINS", "origins", _origins, "", "further web origins, comma-separated"),
    Variable(
        "OLLAMA_FLASH_ATTENTION",
        "flash_attention",
        _tristate,
        "",
        "flash attention on or off (default: by device)",
    ),
    Variable("OLLAMA_KV_CACHE_TYPE", "kv_cache_type", _cache_type, "f16", "type of the K/V cache"),
    Variable("OLLAMA_GPU_OVERHEAD", "gpu_overhead", _count, "0", "bytes to leave free on each GPU"),
    Variable(
        "OLLAMA_API_KEYS",
        "api_keys",
        parse_keys,
        "",
        "keys that requests must show: [admin:|inference:]KEY or @FILE, comma-separated",
        secret=True,
    ),
    Variable(
        "OLLAMA_API_KEY",
        "api_key",
        _bearer,
        "",
        "key that the other commands show to the server",
        secret=True,
    ),
    Variable("OLLAMA_NOPRUNE", "noprune", _boolean, "0", "keep unreferenced blobs at start"),
    Variable("OLLAMA_NOHISTORY", "nohistory", _boolean, "0", "don't keep a history of prompts"),
    Variable("OLLAMA_DEBUG", "debug", _boolean, "0", "log more"),
    Variable("NO_COLOR", "no_color", bool, "", "any value: no colours in the terminal"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a process; durations in nanoseconds, sizes in bytes."""

    host: Address
    models: Path
    keep_alive: int
    context_length: int
    num_parallel: int
    max_loaded_models: int
    max_queue: int
    load_timeout: int
    origins: tuple[str, ...]
    flash_attention: bool | None
    kv_cache_type: str
    gpu_overhead: int
    noprune: bool
    nohistory: bool
    debug: bool
    no_color: bool = False
    api_keys: tuple[KeySource, ...] = field(default=(), repr=False)
    api_key: str = field(default="", repr=False)

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises ``ConfigError`` naming the variable that makes no sense."""
        return cls(**{variable.field: variable.value(environ) for variable in VARIABLES})

    @classmethod
    def tolerant(
        cls, environ: Mapping[str, str] = os.environ
    ) -> tuple[Settings, tuple[ConfigError, ...]]:
        """For whoever must go on: the default where a value makes no sense, and what was wrong."""
        values: dict[str, Any] = {}
        errors = []
        for variable in VARIABLES:
            try:
                values[variable.field] = variable.value(environ)
            except ConfigError as error:
                errors.append(error)
                values[variable.field] = variable.value({})
        return cls(**values), tuple(errors)


def terminal_is_dumb(environ: Mapping[str, str] = os.environ) -> bool:
    """Whether the terminal, by its name, understands no control sequences."""
    return environ.get("TERM", "").lower() in ("dumb", "unknown")


def unknown_variables(environ: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The names of variables that look like settings and aren't."""
    known = {variable.name for variable in VARIABLES}
    return tuple(
        sorted(name for name in environ if name.startswith("OLLAMA_") and name not in known)
    )
