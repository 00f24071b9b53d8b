"""Runs the tests in this folder against a server of their own; arguments go to ``node --test``."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.support.chatter import chatting_server

FOLDER = Path(__file__).parent


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, chatting_server(Path(folder)) as server:
        environ = os.environ | {"SERVER": f"http://{server.host}"}
        command = ("node", "--test", *sys.argv[1:])
        return subprocess.run(command, cwd=FOLDER, env=environ, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
