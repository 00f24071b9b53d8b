"""The real server, as its own process, for tests that talk to it over HTTP."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
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
    logged: threading.Condition = field(default_factory=threading.Condition)

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """``body`` a dict as JSON, anything else as it is."""
        if isinstance(body, dict):
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

    @contextmanager
    def sent(self, path: str, **body: Any) -> Iterator[http.client.HTTPConnection]:
        """A request under way; leaving closes the connection, answered or not."""
        connection = http.client.HTTPConnection(self.host, timeout=120)
        try:
            connection.request("POST", path, json.dumps(body))
            yield connection
        finally:
            connection.close()

    def spoken_to(self, said: bytes) -> bytes:
        """All that comes back until the server closes the connection."""
        host, _, port = self.host.rpartition(":")
        with socket.create_connection((host, int(port)), timeout=120) as connection:
            connection.sendall(said)
            return b"".join(iter(lambda: connection.recv(65536), b""))

    @contextmanager
    def stream(self, path: str, **body: Any) -> Iterator[Iterator[Any]]:
        """The lines of an answer as they come, from the first on; leaving breaks it off."""
        with self.sent(path, **body) as connection:
            yield (json.loads(line) for line in connection.getresponse())

    def upload(self, path: Path, digest: str) -> Answer:
        return self.request("POST", f"/api/blobs/{digest}", path.read_bytes())

    def add(self, model: str, weights: Path, **request: Any) -> str:
        """Create ``model`` from a GGUF file; the digest of its blob."""
        digest = digest_of(weights.read_bytes())
        assert self.upload(weights, digest).status in (200, 201)
        self.create(model, files={weights.name: digest}, **request)
        return digest

    def create(self, model: str, base: str | None = None, **request: Any) -> None:
        if base is not None:
            request["from"] = base
        answer = self.post("/api/create", model=model, **request)
        assert answer.lines()[-1] == {"status": "success"}, answer.text

    def loaded(self) -> dict[str, Any]:
        """The models in memory by name, as ``/api/ps`` describes them."""
        models = self.request("GET", "/api/ps").json()["models"]
        return {model["name"]: model for model in models}

    def wait_for_log(self, text: str, count: int = 1) -> None:
        """Until ``text`` stands in so many lines of the log; fails after a minute without."""
        with self.logged:
            found = self.logged.wait_for(
                lambda: sum(text in line for line in self.log) >= count, 60
            )
        assert found, f"{text!r} is not in the log:\n" + "".join(self.log)

    def children(self) -> list[int]:
        """Process ids of the runners."""
        task = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(pid) for pid in task.read_text().split()]


def digest_of(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def server_environment(folder: Path, **env: str) -> dict[str, str]:
    """A free port, a store under ``folder``, and none of the settings of whoever runs the tests."""
    environ = {key: value for key, value in os.environ.items() if not key.startswith("OLLAMA_")}
    return environ | {"HOME": str(folder), "OLLAMA_HOST": "127.0.0.1:0", "OLLAMA_DEBUG": "1", **env}


@contextmanager
def running_server(
    folder: Path, *, within: Sequence[str] = (), **env: str
) -> Iterator[RunningServer]:
    """Run ``ollama serve`` in ``server_environment``.

    ``within`` is a command that becomes the one whose words it is given, such as ``env``.
    """
    environ = server_environment(folder, **env)
    process = subprocess.Popen((*within, *COMMAND), env=environ, stderr=subprocess.PIPE, text=True)
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
            process.wait()
            reader.join()
            assert process.stderr is not None
            process.stderr.close()


def _read_log(server: RunningServer, listening: threading.Event) -> None:
    assert server.process.stderr is not None
    for line in server.process.stderr:
        with server.logged:
            server.log.append(line)
            server.logged.notify_all()
        if match := _LISTENING.search(line):
            server.host = match[1]
            listening.set()
    listening.set()
