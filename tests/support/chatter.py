"""A server for other people's clients, with models that write, that think and that call tools."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.support.models import write_model, write_parrot
from tests.support.server import RunningServer, running_server
from tests.support.templates import TOOL_TEMPLATE

#: Says "Let me see." and calls ``get_weather`` for Zürich and 2 days.
CALLER: Final = "caller"

#: Thinks "Hm." and says "Forty-two."
THINKER: Final = "thinker"

_CALL: Final = (
    'Let me see.\n<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}'
    "\n</tool_call>"
)


@contextmanager
def chatting_server(folder: Path, **env: str) -> Iterator[RunningServer]:
    """It has the model ``tiny`` too, which writes at random."""
    with running_server(folder, **env) as server:
        server.add("tiny", write_model(folder / "tiny.gguf", n_ctx=2048))
        caller = write_parrot(folder / "caller.gguf", _CALL, n_ctx=2048)
        server.add(CALLER, caller, template=TOOL_TEMPLATE)
        thinker = write_parrot(
            folder / "thinker.gguf", "<think>\nHm.\n</think>\n\nForty-two.", n_ctx=2048
        )
        server.add(THINKER, thinker, template=TOOL_TEMPLATE)
        yield server
