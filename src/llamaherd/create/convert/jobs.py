"""What a converting process is asked to do, as a line of JSON; files by their names, with paths.

``most_made`` is how many files can come of it.
"""

from __future__ import annotations

from typing import ClassVar

import msgspec

Files = dict[str, str]


class ConvertModel(msgspec.Struct, tag="model", frozen=True):
    """Safetensors and what belongs to them become a model, and a projector if it sees."""

    most_made: ClassVar[int] = 2

    files: Files

    @property
    def status(self) -> str:
        return "converting model"


class ConvertAdapter(msgspec.Struct, tag="adapter", frozen=True):
    """The safetensors of an adapter become one for the GGUF model at the path ``base``."""

    most_made: ClassVar[int] = 1

    files: Files
    base: str

    @property
    def status(self) -> str:
        return "converting adapter"


class MergeShards(msgspec.Struct, tag="merge", frozen=True):
    """The shards of a GGUF file become whole again."""

    most_made: ClassVar[int] = 1

    files: Files

    @property
    def status(self) -> str:
        return "merging shards"


Job = ConvertModel | ConvertAdapter | MergeShards
