"""Settings that differ from the defaults, and those that make no sense here."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final

from llamaherd.config import KV_CACHE_TYPES, VARIABLES, Settings
from llamaherd.doctor.findings import Fact, Problem, Section, Size
from llamaherd.duration import format_duration
from llamaherd.errors import ConfigError
from llamaherd.hardware import Hardware
from llamaherd.keys import SHORT, ApiKey, KeyFile, KeySource, read_keys

#: Types of the cache that are stored in blocks and need flash attention.
_QUANTISED: Final = frozenset(KV_CACHE_TYPES) - {"f16", "f32", "bf16"}

#: More tokens than any model was trained on.
_ABSURD_CONTEXT: Final = 16 << 20


def examine_settings(
    settings: Settings,
    machine: Hardware,
    complaints: Iterable[ConfigError] = (),
    unknown: Iterable[str] = (),
) -> Section:
    """``unknown`` are names of variables that look like settings."""
    facts: dict[str, Fact] = {}
    defaults = Settings.from_environ({})
    for variable in VARIABLES:
        value = getattr(settings, variable.field)
        if value != getattr(defaults, variable.field):
            facts[variable.name] = _text(variable.field, value)
    problems = [
        Problem(
            f"{error.message}. The default counts instead.", "Correct the variable or unset it."
        )
        for error in complaints
    ]
    names = [variable.name for variable in VARIABLES]
    unused = []
    for name in unknown:
        if close := difflib.get_close_matches(name, names, n=1, cutoff=0.85):
            problems.append(
                Problem(f"{name} is set, but is no setting.", f"Did you mean {close[0]}?")
            )
        else:
            unused.append(name)
    if unused:
        facts["set, not used"] = unused
    problems += _senseless(settings, machine)
    return Section("Settings", facts or {"all": "as by default"}, problems)


def _text(field: str, value: Any) -> Fact:
    formats: dict[str, Callable[[Any], str]] = {
        "keep_alive": format_duration,
        "load_timeout": format_duration,
        "gpu_overhead": lambda size: str(Size(size)),
        "origins": ", ".join,
        "api_keys": _keys,
        "api_key": lambda _: "set",
    }
    if isinstance(value, bool):
        return value
    return formats.get(field, str)(value)


def _keys(sources: Iterable[KeySource]) -> str:
    """What may be told of keys."""
    files = [str(source.path) for source in sources if isinstance(source, KeyFile)]
    roles = Counter(source.role for source in sources if isinstance(source, ApiKey))
    return ", ".join([*(f"{count} {role}" for role, count in roles.items()), *files])


def _senseless(settings: Settings, machine: Hardware) -> Iterator[Problem]:
    if settings.kv_cache_type in _QUANTISED and settings.flash_attention is False:
        yield Problem(
            f"A K/V cache of type {settings.kv_cache_type} needs flash attention, which is off.",
            "unset OLLAMA_FLASH_ATTENTION, or set OLLAMA_KV_CACHE_TYPE=f16",
        )
    if not 0 < settings.context_length <= _ABSURD_CONTEXT:
        yield Problem(
            f"A context of {settings.context_length} tokens fits no model.",
            "unset OLLAMA_CONTEXT_LENGTH, or set it to 2048 or more",
        )
    if settings.max_queue == 0:
        yield Problem(
            "No request may wait, so all but the first are refused while a model loads.",
            "unset OLLAMA_MAX_QUEUE",
        )
    yield from _weak_keys(settings)
    smallest = min((gpu.memory_total for gpu in machine.gpus), default=0)
    if machine.gpus and settings.gpu_overhead >= smallest:
        yield Problem(
            f"{Size(settings.gpu_overhead)} are to stay free on each GPU, which has "
            f"{Size(smallest)}: it will not be used.",
            "set OLLAMA_GPU_OVERHEAD to a small part of that",
        )


def _weak_keys(settings: Settings) -> Iterator[Problem]:
    try:
        keys = read_keys(settings.api_keys)
    except ConfigError as error:
        yield Problem(f"{error.message}. The server does not start.", "Correct the file.")
        return
    if any(key.short for key in keys):
        yield Problem(
            f"A key in OLLAMA_API_KEYS has fewer than {SHORT} characters and could be guessed.",
            "Take a random one: openssl rand -hex 16",
        )
