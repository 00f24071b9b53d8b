"""The tables of ``ollama list`` and ``ollama ps``. Pure: the server's answer in, text out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from llamaherd.cli.formatting import human_bytes, human_time, parse_time, table
from llamaherd.client import Object


def stored_models(models: Iterable[Object], prefix: str, now: datetime) -> str:
    """The models whose name begins with ``prefix``, in any case."""
    rows = [
        (
            _name(model),
            _short_id(model),
            human_bytes(_number(model, "size")),
            human_time(parse_time(str(model.get("modified_at"))), now),
        )
        for model in models
        if _name(model).lower().startswith(prefix.lower())
    ]
    return table(rows, ("NAME", "ID", "SIZE", "MODIFIED"))


def running_models(models: Iterable[Object], prefix: str, now: datetime) -> str:
    """The loaded models whose name begins with ``prefix``, where they are and until when."""
    rows = [
        (
            _name(model),
            _short_id(model),
            human_bytes(_number(model, "size")),
            processor(_number(model, "size"), _number(model, "size_vram")),
            until(parse_time(str(model.get("expires_at"))), now),
        )
        for model in models
        if _name(model).startswith(prefix)
    ]
    return table(rows, ("NAME", "ID", "SIZE", "PROCESSOR", "UNTIL"))


def processor(size: int, size_vram: int) -> str:
    """How a model of ``size`` bytes is divided: ``100% CPU``, ``48%/52% CPU/GPU``, ``100% GPU``."""
    if size_vram == 0:
        return "100% CPU"
    if size_vram == size:
        return "100% GPU"
    if size_vram > size:
        return "Unknown"
    cpu = int((size - size_vram) * 100 / size + 0.5)
    return f"{cpu}%/{100 - cpu}% CPU/GPU"


def until(expires: datetime, now: datetime) -> str:
    return "Stopping..." if expires < now and expires.year > 1 else human_time(expires, now)


def _name(model: Object) -> str:
    return str(model.get("name") or model.get("model") or "")


def _short_id(model: Object) -> str:
    return str(model.get("digest") or "").removeprefix("sha256:")[:12]


def _number(model: Object, key: str) -> int:
    return int(model.get(key) or 0)
