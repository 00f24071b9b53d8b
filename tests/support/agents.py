"""Models that answer as agents need it, whatever they are asked: with tool calls or thoughts."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Final

from tests.support.models import write_model, write_parrot
from tests.support.server import RunningServer
from tests.support.templates import TOOL_TEMPLATE

CALLS: Final = (
    '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Zürich", "days": 2}}\n'
    '</tool_call>\n<tool_call>\n{"name": "get_time", "arguments": {}}\n</tool_call>'
)

#: The context of "tiny", large enough that a reply without an end takes minutes.
CONTEXT: Final = 8192
#: The context of "small".
SMALL_CONTEXT: Final = 64


def add_agents(server: RunningServer, folder: Path) -> None:
    """Add "tiny", which writes on and on; "small", the same in a small context; "willing", the same
    with tools that it calls if it must; "caller", which says something and calls two tools;
    "thinker", which thinks and answers."""
    server.add("tiny", write_model(folder / "tiny.gguf", n_ctx=CONTEXT))
    server.create("small", "tiny", parameters={"num_ctx": SMALL_CONTEXT})
    server.create("willing", "tiny", template=TOOL_TEMPLATE)
    caller = write_parrot(folder / "caller.gguf", f"Let me see.\n{CALLS}")
    server.add("caller", caller, template=TOOL_TEMPLATE)
    thinker = write_parrot(folder / "thinker.gguf", "<think>\nHm, hm.\n</think>\n\nForty-two.")
    server.add("thinker", thinker, template=TOOL_TEMPLATE)


def kill_reader(server: RunningServer) -> None:
    """Kill the runner that began to read a prompt last, once the log tells of one that lives."""

    def reader() -> int:
        reading = [line for line in server.log if "reads a prompt" in line][-1]
        return int(reading.partition("runner ")[2].split()[0])

    with server.logged:
        assert server.logged.wait_for(lambda: reader() in server.children(), 60)
    os.kill(reader(), signal.SIGKILL)
