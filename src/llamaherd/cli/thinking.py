"""Whether a model is to think before it answers. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llamaherd.cli.parsing import CommandError
from llamaherd.messages import THINKING_LEVELS, Think

_FLAG: Final[dict[str, bool | str]] = {
    "": True,
    "true": True,
    "false": False,
    **{level: level for level in THINKING_LEVELS},
}


def think_flag(text: str) -> bool | str:
    """The value of ``--think``; raises ``CommandError`` for one that it can't have."""
    if text not in _FLAG:
        choices = f"true, false, {', '.join(THINKING_LEVELS[:-1])}, or {THINKING_LEVELS[-1]}"
        raise CommandError(f'invalid value for --think: "{text}" (must be {choices})')
    return _FLAG[text]


def think_by_default(information: Mapping[str, Any]) -> Think:
    """Where the user said nothing: models think if they can, as ``/api/show`` tells of them."""
    return True if "thinking" in (information.get("capabilities") or ()) else None
