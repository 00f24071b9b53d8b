"""Tokens where OpenAI's interface takes them in place of a text."""

from __future__ import annotations

from typing import Any, Final

_INT32_MAX: Final = 2**31 - 1


def are_tokens(value: Any) -> bool:
    """Whether this is a non-empty list of numbers that may be tokens."""
    return (
        isinstance(value, list)
        and bool(value)
        and all(type(token) is int and 0 <= token <= _INT32_MAX for token in value)
    )
