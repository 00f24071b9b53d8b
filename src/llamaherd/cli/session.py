"""What every command is given: the settings and a client, each made when first asked for."""

from __future__ import annotations

from functools import cached_property

from llamaherd.client import Client
from llamaherd.config import Settings


class Session:
    """One run of the program. A bad environment variable fails only commands that need it."""

    @cached_property
    def settings(self) -> Settings:
        return Settings.from_environ()

    @cached_property
    def client(self) -> Client:
        return Client(self.settings.host, self.settings.api_key)
