"""What the process that quantises is asked for."""

from __future__ import annotations

import msgspec


class Job(msgspec.Struct, frozen=True):
    """``source`` is the path of the model, ``folder`` where the result will be; ``type`` a name
    and ``file_type`` the number of the type that its weights shall have."""

    source: str
    folder: str
    type: str
    file_type: int
