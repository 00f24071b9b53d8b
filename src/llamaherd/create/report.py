"""What a process that makes blobs tells the server, each as a line of JSON."""

from __future__ import annotations

import msgspec


class Underway(msgspec.Struct, tag="underway", frozen=True):
    """So many of ``total`` bytes are written."""

    completed: int
    total: int


class Verifying(msgspec.Struct, tag="verifying", frozen=True):
    """All is written and being looked at."""


class Made(msgspec.Struct, tag="made", frozen=True):
    """All is written; ``digests`` are those of the files."""

    digests: list[str]


class Failed(msgspec.Struct, tag="failed", frozen=True):
    """``is_request`` says whether the user's files are to blame, not the store."""

    message: str
    is_request: bool


Step = Underway | Verifying
Report = Step | Made | Failed
