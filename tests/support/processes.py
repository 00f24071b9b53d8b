"""The processes that a process has started."""

from __future__ import annotations

from pathlib import Path


def children(pid: int | str = "self", module: str = "") -> set[int]:
    """Those that still run, of all threads; only those that run ``module`` if one is given."""
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    found = {int(child) for task in tasks for child in task.read_text().split()}
    return {child for child in found if module.encode() in command_line(child)}


def command_line(pid: int) -> bytes:
    """Empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except FileNotFoundError:
        return b""
