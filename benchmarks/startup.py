"""How fast the command line and the server are up, and how small the idle server is.

``python -m benchmarks.startup`` prints medians: wall time of ``ollama list`` with a server, from
starting ``ollama serve`` to the first answer, resident memory of the idle server.
"""

from __future__ import annotations

import argparse
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.stack import serving, without_settings

OLLAMA = Path(sys.executable).with_name("ollama")


def list_seconds(host: str) -> float:
    started = time.perf_counter()
    environ = without_settings() | {"OLLAMA_HOST": host}
    subprocess.run([str(OLLAMA), "list"], env=environ, check=True, capture_output=True)
    return time.perf_counter() - started


def ready_seconds() -> float:
    """Until a connection is answered, as a script would wait for it."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        environ = without_settings() | {"HOME": folder, "OLLAMA_HOST": f"127.0.0.1:{port}"}
        started = time.perf_counter()
        process = subprocess.Popen([str(OLLAMA), "serve"], env=environ, stderr=subprocess.DEVNULL)
        try:
            while True:
                try:
                    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
                        connection.sendall(b"HEAD / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                        if connection.recv(15).startswith(b"HTTP/1.1 200"):
                            return time.perf_counter() - started
                except ConnectionRefusedError:
                    time.sleep(0.002)
        finally:
            process.terminate()
            process.wait()


def resident_mb(pid: int) -> float:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    raise RuntimeError("no VmRSS")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=9)
    turns = range(parser.parse_args().turns)
    with serving() as server:
        listing = [list_seconds(server.host) for _ in turns]
        resident = resident_mb(server.process.pid)
    ready = [ready_seconds() for _ in turns]
    print(f"ollama list: {statistics.median(listing):.3f} s (max {max(listing):.3f})")
    print(f"ollama serve, first answer: {statistics.median(ready):.3f} s (max {max(ready):.3f})")
    print(f"idle server: {resident:.0f} MB resident")


if __name__ == "__main__":
    main()
