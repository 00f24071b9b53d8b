"""Fireworks' Firefunction.

::

    functools[{"name": "get_weather", "arguments": {"city": "Paris"}}]
"""

from __future__ import annotations

from typing import Final

from llamaherd.prompt.parsers.stream import CallFormat
from llamaherd.prompt.parsers.tagged import tagged

_TAG: Final = "functools"

FORMAT: Final = CallFormat("firefunction", {_TAG: tagged(_TAG)}, marks=(f"{_TAG}[",))
