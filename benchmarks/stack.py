"""The whole stack for measurements: a server of our own, and a client that keeps the times."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class StreamedRun:
    """Nanoseconds by the client's clock: to the first text, and from there to the last line."""

    first_token: int
    decode: int
    stats: dict[str, Any]

    @property
    def tokens(self) -> int:
        """Written after the first one."""
        return int(self.stats["eval_count"]) - 1


class Server:
    """A running ``ollama serve``."""

    def __init__(self, process: subprocess.Popen[str], host: str) -> None:
        self.process = process
        self.host = host

    def request(self, method: str, path: str, body: Any = None) -> bytes:
        connection = http.client.HTTPConnection(self.host, timeout=600)
        try:
            data = body if body is None or hasattr(body, "read") else json.dumps(body)
            connection.request(method, path, data)
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status >= 400:
            raise RuntimeError(f"{method} {path}: {answer.status} {content.decode()}")
        return content

    def create(self, name: str, path: Path) -> None:
        with path.open("rb") as file:
            digest = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        with path.open("rb") as file:
            self.request("POST", f"/api/blobs/{digest}", file)
        self.request(
            "POST", "/api/create", {"model": name, "files": {path.name: digest}, "stream": False}
        )

    def stream(
        self, model: str, prompt: str, options: dict[str, Any], form: Any = None, **fields: Any
    ) -> StreamedRun:
        """``form`` is the request's ``format``; ``fields`` are further ones."""
        connection = http.client.HTTPConnection(self.host, timeout=600)
        request = {"model": model, "prompt": prompt, "raw": True, "options": options}
        body = json.dumps(request | {"format": form} | fields)
        started = time.perf_counter_ns()
        connection.request("POST", "/api/generate", body)
        answer = connection.getresponse()
        first = 0
        line = b""
        while more := answer.readline():
            line = more
            first = first or time.perf_counter_ns()
        ended = time.perf_counter_ns()
        connection.close()
        stats = json.loads(line)
        if "error" in stats:
            raise RuntimeError(stats["error"])
        return StreamedRun(first - started, ended - first, stats)

    def unload(self, model: str) -> None:
        self.request("POST", "/api/generate", {"model": model, "keep_alive": 0})


def without_settings() -> dict[str, str]:
    """The environment without any that is the user's own business, above all their store."""
    return {key: value for key, value in os.environ.items() if "OLLAMA" not in key}


@contextmanager
def serving(**env: str) -> Iterator[Server]:
    """A server on a free port with a store of its own."""
    with tempfile.TemporaryDirectory() as folder:
        environ = without_settings() | {"HOME": folder, "OLLAMA_HOST": "127.0.0.1:0", **env}
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", "llamaherd", "serve"],
            env=environ,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            yield Server(process, _wait_for_host(process))
        finally:
            process.terminate()
            process.wait(timeout=30)


def _wait_for_host(process: subprocess.Popen[str]) -> str:
    assert process.stderr is not None
    for line in process.stderr:
        if "Listening on " in line:
            # A log that nobody reads would hold the server up as soon as the pipe is full.
            threading.Thread(target=process.stderr.read, daemon=True).start()
            return line.partition("Listening on ")[2].split()[0]
    raise RuntimeError("the server did not start")
