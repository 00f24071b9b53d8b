"""Where a model lies in its registry."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

from llamaherd.errors import RegistryError
from llamaherd.store.names import Name


@dataclass(frozen=True, slots=True)
class Registry:
    """A host, ``name[:port]``, and how to speak to it; ``insecure`` allows and uses plain HTTP."""

    host: str
    insecure: bool = False

    @property
    def url(self) -> str:
        return f"{'http' if self.insecure else 'https'}://{self.host}"


@dataclass(frozen=True, slots=True)
class Remote:
    """A model as its registry knows it."""

    registry: Registry
    repository: str
    tag: str

    @classmethod
    def of(cls, name: Name, *, insecure: bool) -> Self:
        """Raises ``RegistryError`` for a name with ``http://`` where that isn't allowed.

        As in Ollama, ``insecure`` means plain HTTP, whatever scheme the name has.
        """
        if name.given.startswith("http://") and not insecure:
            raise RegistryError("insecure protocol http")
        registry = Registry(name.host, insecure)
        return cls(registry, f"{name.namespace}/{name.model}", name.tag)

    @property
    def manifest_path(self) -> str:
        return f"/v2/{self.repository}/manifests/{self.tag}"

    @property
    def uploads_path(self) -> str:
        return f"/v2/{self.repository}/blobs/uploads/"

    def blob_path(self, digest: str) -> str:
        return f"/v2/{self.repository}/blobs/{digest}"
