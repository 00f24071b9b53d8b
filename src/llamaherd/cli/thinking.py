"""Whether a model is to think before it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llamaherd.cli.parsing import CommandError

#: What a request says: yes or no, how much, or nothing.
Think = bool | str | None

_FLAG: Final[dict[str, bool | str]] = {
    "": True,
    "true": True,
    "false": False,
    "high": "high",
    "medium": "medium",
    "low": "low",
    "max": "max",
}


def think_flag(text: str) -> bool | str:
    """The value of ``--think``; raises ``CommandError`` for one that it can't have."""
    if text not in _FLAG:
        choices = "true, false, high, medium, low, or max"
        raise CommandError(f'invalid value for --think: "{text}" (must be {choices})')
    return _FLAG[text]


def think_by_default(information: Mapping[str, Any]) -> Think:
    """Where the user said nothing: models think if they can, as ``/api/show`` tells of them."""
    return True if "thinking" in (information.get("capabilities") or ()) else None
