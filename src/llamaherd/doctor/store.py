"""The model store: is it there, whole and writable, with room for more?"""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from llamaherd.doctor.findings import Fact, Problem, Section, Size
from llamaherd.errors import LlamaherdError
from llamaherd.store.library import Library

#: Less free disk than this holds no useful model, in bytes.
LOW_DISK: Final = 2 * 10**9


def examine_store(path: Path) -> Section:
    """Only looks; a store that isn't there yet is not made."""
    facts: dict[str, Fact] = {"path": str(path), "exists": _is_folder(path)}
    problems = list(_folder_problems(path))
    home = _nearest_folder(path)
    free = shutil.disk_usage(home).free
    facts["writable"] = _is_writable(home)
    facts["free disk"] = Size(free)
    if free < LOW_DISK:
        problems.append(
            Problem(
                f"Only {Size(free)} of disk are free for models in {path}.",
                "Remove models with 'ollama rm', or set OLLAMA_MODELS to a folder on another disk.",
            )
        )
    if _is_folder(path):
        try:
            facts |= _contents(path, problems)
        except (LlamaherdError, OSError) as error:
            problems.append(Problem(f"The store can't be read: {error}.", _take_over(path)))
    return Section("Store", facts, problems)


def _folder_problems(path: Path) -> Iterator[Problem]:
    if not path.is_absolute():
        yield Problem(
            f"OLLAMA_MODELS is the relative path {path}: each program sees another store.",
            f"export OLLAMA_MODELS={shlex.quote(str(path.absolute()))}",
        )
    if os.access(path, os.F_OK) and not _is_folder(path):
        yield Problem(
            f"{path} should be the folder of the model store, but is a file.",
            "Move it away, or set OLLAMA_MODELS to another folder.",
        )
        return
    for folder in (path, path / "blobs", path / "manifests"):
        if not _is_writable(_nearest_folder(folder)):
            yield Problem(
                f"No models can be created or pulled: {folder} can't be written.",
                f"Set OLLAMA_MODELS to a folder of yours, or:\n{_take_over(path)}",
            )
            return


def _nearest_folder(path: Path) -> Path:
    return next(folder for folder in (path, *path.absolute().parents) if _is_folder(folder))


def _is_folder(path: Path) -> bool:
    """Also where we may not look, which is no folder for us."""
    try:
        return path.is_dir()
    except OSError:
        return False


def _is_writable(folder: Path) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def _take_over(path: Path) -> str:
    quoted = shlex.quote(str(path))
    return f"sudo mkdir -p {quoted} && sudo chown -R $(id -u) {quoted}"


def _contents(path: Path, problems: list[Problem]) -> dict[str, Fact]:
    library = Library(path)
    names = library.manifests.names()
    for name in names:
        try:
            manifest = library.manifests.read(name).manifest
            missing = [
                blob.digest for blob in manifest.blobs if not library.blobs.exists(blob.digest)
            ]
        except LlamaherdError as error:
            problems.append(_damaged(name.short, error.message))
            continue
        if missing:
            problems.append(_damaged(name.short, f"{len(missing)} of its files are missing"))
    return {"models": len(names), "size": Size(_folder_size(library.blobs.folder))}


def _damaged(model: str, reason: str) -> Problem:
    return Problem(
        f"The model {model} is damaged: {reason}.",
        f"ollama rm {model}\nthen create or pull it again",
    )


def _folder_size(folder: Path) -> int:
    """Of the files in it, in bytes; those that go away meanwhile count nothing."""
    total = 0
    for path in folder.iterdir() if folder.is_dir() else ():
        with suppress(FileNotFoundError):
            total += path.stat().st_size
    return total
