"""What long jobs on the store (create, pull, push) report while they run."""

from __future__ import annotations

from typing import Final

from msgspec import Struct


class Progress(Struct, frozen=True, omit_defaults=True):
    """One line; for a transfer also the blob and how many of its bytes are done."""

    status: str
    digest: str = ""
    total: int = 0
    completed: int = 0


#: The last step of every job.
SUCCESS: Final = Progress("success")
