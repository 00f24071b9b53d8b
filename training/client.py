"""A server of our own with a store of its own, and whole replies from it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamaherd.client import Client, Object
from llamaherd.config import Settings

_LISTENING: Final = re.compile(r"Listening on ([^ \"]+)")


@dataclass(frozen=True)
class Reply:
    """All that came back; ``calls`` are names and arguments."""

    content: str
    thinking: str
    calls: list[tuple[str, dict[str, Any]]]
    done_reason: str
    tokens: int


@contextmanager
def server(folder: Path) -> Iterator[Client]:
    """One that listens on a free port, for as long as the context lasts."""
    ours = {"HOME": str(folder), "OLLAMA_HOST": "127.0.0.1:0", "OLLAMA_MODELS": str(folder / "m")}
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OLLAMA_")}
    command = [sys.executable, "-P", "-m", "llamaherd", "serve"]
    with subprocess.Popen(
        command, env=environ | ours, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        try:
            for line in process.stderr:
                if found := _LISTENING.search(line):
                    host = Settings.from_environ({"OLLAMA_HOST": found[1]}).host
                    break
            else:
                raise RuntimeError("the server did not start")
            # What nobody reads would fill the pipe and stop the server.
            threading.Thread(target=deque, args=(process.stderr, 0), daemon=True).start()
            yield Client(host)
        finally:
            process.terminate()
            process.wait()


def ask(client: Client, request: Object) -> Reply:
    """The whole reply to a chat, or to a completion where the request has a prompt."""
    send = client.generate if "prompt" in request else client.chat
    content, thinking, calls = "", "", []
    last: Object = {}
    for last in send(request):
        message = last.get("message") or {"content": last.get("response", "")}
        content += message.get("content") or ""
        thinking += message.get("thinking") or last.get("thinking") or ""
        for call in message.get("tool_calls") or []:
            calls.append((call["function"]["name"], call["function"]["arguments"]))
    return Reply(content, thinking, calls, last.get("done_reason", ""), last.get("eval_count", 0))
