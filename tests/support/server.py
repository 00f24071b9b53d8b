"""The real server, as its own process, for tests that talk to it over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

COMMAND = (sys.executable, "-P", "-m", "llamaherd", "serve")
_LISTENING = re.compile(r"Listening on ([^ \"]+)")


@dataclass(frozen=True)
class Answer:
    """One HTTP answer, read to its end."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        return self.body.decode()

    def json(self) -> Any:
        return json.loads(self.body)

    def lines(self) -> list[Any]:
        return [json.loads(line) for line in self.body.splitlines()]


@dataclass
class RunningServer:
    """A server that listens; ``host`` is ``address:port`` as OLLAMA_HOST takes it."""

    process: subprocess.Popen[str]
    host: str = ""
    log: list[str] = field(default_factory=list)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """``body`` as it is if it is text or bytes, else as JSON."""
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        connection = http.client.HTTPConnection(self.host, timeout=120)
        try:
            connection.request(method, path, body, dict(headers or {}))
            response = connection.getresponse()
            found = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, found, response.read())
        finally:
            connection.close()

    def post(self, path: str, **body: Any) -> Answer:
        return self.request("POST", path, body)

    def upload(self, path: Path, digest: str) -> Answer:
        return self.request("POST", f"/api/blobs/{digest}", path.read_bytes())

    def children(self) -> list[int]:
        """Process ids of the runners."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]


@contextmanager
def running_server(folder: Path, **env: str) -> Iterator[RunningServer]:
    """Run ``ollama serve`` on a free port with a store of its own under ``folder``."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OLLAMA_")}
    environ |= {"HOME": str(folder), "OLLAMA_HOST": "127.0.0.1:0", "OLLAMA_DEBUG": "1", **env}
    process = subprocess.Popen(COMMAND, env=environ, stderr=subprocess.PIPE, text=True)
    server = RunningServer(process)
    listening = threading.Event()
    reader = threading.Thread(target=_read_log, args=(server, listening), daemon=True)
    reader.start()
    try:
        listening.wait(60)
        if not server.host:
            raise RuntimeError("the server did not start:\n" + "".join(server.log))
        yield server
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        try:
            process.wait(30)
        finally:
            process.kill()
            reader.join()
            assert process.stderr is not None
            process.stderr.close()


def _read_log(server: RunningServer, listening: threading.Event) -> None:
    assert server.process.stderr is not None
    for line in server.process.stderr:
        server.log.append(line)
        if match := _LISTENING.search(line):
            server.host = match[1]
            listening.set()
    listening.set()
