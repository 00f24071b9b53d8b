"""Names of models: ``[host/][namespace/]model[:tag]``, and where their manifests lie.

A name never holds anything that could lead elsewhere in the file system: each part begins with a
letter, digit or underscore and has no separators, so it can be used as a path component as it is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Final

from llamaherd.errors import InvalidName

DEFAULT_HOST: Final = "registry.ollama.ai"
DEFAULT_NAMESPACE: Final = "library"
DEFAULT_TAG: Final = "latest"

_SCHEMES: Final = ("https://", "http://")

#: The same parts are valid as in Ollama: hosts up to 350 characters, all others up to 80.
_HOST: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]{0,349}")
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_MODEL: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_TAG: Final = _MODEL


@dataclass(frozen=True, slots=True)
class Name:
    """A complete, valid name. Two names are equal when all parts are, case included.

    ``given`` is what the user wrote, for messages; it takes no part in comparisons.
    """

    host: str
    namespace: str
    model: str
    tag: str
    given: str = field(default="", compare=False, repr=False)

    def __post_init__(self) -> None:
        patterns = (_HOST, _NAMESPACE, _MODEL, _TAG)
        for pattern, part in zip(patterns, self.parts, strict=True):
            if not pattern.fullmatch(part):
                raise InvalidName

    @classmethod
    def parse(cls, text: str) -> Name:
        """The name with defaults filled in; raises ``InvalidName``.

        A leading ``http://`` or ``https://`` is allowed before a host, as Ollama allows it.
        """
        scheme = next((scheme for scheme in _SCHEMES if text.startswith(scheme)), "")
        rest = text.removeprefix(scheme)
        if "@" in rest:
            raise InvalidName("invalid model name: a digest ('@') can't be part of it")
        *places, last = rest.split("/")
        if len(places) > 2 or (scheme and len(places) < 2):
            raise InvalidName
        model, colon, tag = last.rpartition(":")
        if not colon:
            model, tag = last, DEFAULT_TAG
        namespace = places.pop() if places else DEFAULT_NAMESPACE
        host = places.pop() if places else DEFAULT_HOST
        return cls(host, namespace, model, tag, given=text)

    @property
    def parts(self) -> tuple[str, str, str, str]:
        return self.host, self.namespace, self.model, self.tag

    @property
    def key(self) -> tuple[str, ...]:
        """Equal for names that differ only in case."""
        return tuple(part.lower() for part in self.parts)

    @property
    def full(self) -> str:
        return f"{self.host}/{self.namespace}/{self.model}:{self.tag}"

    @property
    def short(self) -> str:
        """For people: without the default host and namespace, always with the tag."""
        if self.host.lower() != DEFAULT_HOST:
            return self.full
        if self.namespace.lower() != DEFAULT_NAMESPACE:
            return f"{self.namespace}/{self.model}:{self.tag}"
        return f"{self.model}:{self.tag}"

    @property
    def path(self) -> PurePath:
        """Of the manifest, relative to the store's ``manifests`` folder."""
        return PurePath(*self.parts)

    def __str__(self) -> str:
        return self.short
