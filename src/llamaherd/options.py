"""The model options of the documentation: one table with type, default and range.

Options come from three places, later ones winning: these defaults, the model's parameters layer,
the request. Values are checked where they enter, so nothing behind this module sees a wrong one.
"""

from __future__ import annotations

import sys
from typing import Any, Final, Literal

from msgspec import Struct

from llamaherd.errors import OptionError, OptionOutOfRange

Kind = Literal["int", "float32", "bool", "[]string"]


class OptionSpec(Struct, frozen=True):
    """One option: its Go type, default and inclusive range, of a list that of its length; ``load``
    options shape the runner."""

    name: str
    kind: Kind
    default: Any
    low: float | None = None
    high: float | None = None
    load: bool = False


_INT32: Final = float(2**31 - 1)

#: The largest number in single precision, in which llama.cpp computes.
_FLOAT32: Final = (2 - 2**-23) * 2.0**127

#: Every one is looked for after every token: 1,000 take 0.1 ms.
_MOST_STRINGS: Final = 1024

OPTIONS: Final[dict[str, OptionSpec]] = {
    spec.name: spec
    for spec in (
        OptionSpec("num_ctx", "int", 0, 0, _INT32, load=True),
        OptionSpec("num_batch", "int", 512, 1, _INT32, load=True),
        OptionSpec("num_gpu", "int", -1, -1, _INT32, load=True),
        OptionSpec("main_gpu", "int", 0, 0, _INT32, load=True),
        OptionSpec("use_mmap", "bool", None, load=True),
        OptionSpec("use_mlock", "bool", False, load=True),
        OptionSpec("num_thread", "int", 0, 0, 4096, load=True),
        OptionSpec("numa", "bool", False, load=True),
        OptionSpec("low_vram", "bool", False, load=True),
        OptionSpec("num_keep", "int", 4, -1, _INT32),
        OptionSpec("seed", "int", -1, -(2**63), 2**63 - 1),
        OptionSpec("num_predict", "int", -1, -2, _INT32),
        OptionSpec("top_k", "int", 40, -1, _INT32),
        OptionSpec("top_p", "float32", 0.9, 0, None),
        OptionSpec("min_p", "float32", 0.0, 0, None),
        OptionSpec("typical_p", "float32", 1.0, 0, None),
        OptionSpec("repeat_last_n", "int", 64, -1, _INT32),
        OptionSpec("temperature", "float32", 0.8, 0, None),
        OptionSpec("repeat_penalty", "float32", 1.1, 0, None),
        OptionSpec("presence_penalty", "float32", 0.0),
        OptionSpec("frequency_penalty", "float32", 0.0),
        OptionSpec("penalize_newline", "bool", True),
        OptionSpec("mirostat", "int", 0, 0, 2),
        OptionSpec("mirostat_tau", "float32", 5.0, 0, None),
        OptionSpec("mirostat_eta", "float32", 0.1, 0, None),
        OptionSpec("stop", "[]string", (), high=_MOST_STRINGS),
    )
}


def check_option(name: str, value: Any) -> Any:
    """The value in its proper type; raises ``OptionError`` for a wrong kind or range.

    A whole float is accepted for an int, as JSON numbers come; ``null`` leaves the default.
    """
    spec = OPTIONS[name]
    if value is None:
        return spec.default
    if spec.kind == "bool":
        if not isinstance(value, bool):
            raise OptionError(f'option "{name}" must be of type boolean')
        return value
    if spec.kind == "[]string":
        if isinstance(value, str):
            return (value,)
        if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
            raise OptionError(f'option "{name}" must be of an array of strings')
        if spec.high is not None and len(value) > spec.high:
            raise OptionOutOfRange(
                f'option "{name}" must be at most {spec.high:g} strings, not {len(value)}'
            )
        return tuple(value)
    return _number(spec, value)


def _number(spec: OptionSpec, value: Any) -> int | float:
    kind = "integer" if spec.kind == "int" else spec.kind
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise OptionError(f'option "{spec.name}" must be of type {kind}')
    if not abs(value) <= (_FLOAT32 if spec.kind == "float32" else sys.float_info.max):
        raise OptionOutOfRange(f'option "{spec.name}" must be a finite number')
    number = int(value) if spec.kind == "int" else float(value)
    low, high = spec.low, spec.high
    if (low is not None and number < low) or (high is not None and number > high):
        if high is None or high >= _INT32:
            bounds = f"at least {low:g}" if low is not None and number < low else "smaller"
        else:
            bounds = f"between {low:g} and {high:g}"
        raise OptionOutOfRange(f'option "{spec.name}" must be {bounds}, not {value!r}')
    return number


def check_options(given: dict[str, Any]) -> dict[str, Any]:
    """Checked values of the options that are known; unknown names are left out, as Ollama does."""
    return {name: check_option(name, value) for name, value in given.items() if name in OPTIONS}


def resolve_options(*layers: dict[str, Any]) -> dict[str, Any]:
    """All options with their values: defaults overlaid by each layer in turn."""
    merged = {name: spec.default for name, spec in OPTIONS.items()}
    for layer in layers:
        merged.update(check_options(layer))
    return merged
