"""Rotary position embeddings: their base, and how a longer context is made of a shorter one."""

from __future__ import annotations

import math
from typing import Final

from llamaherd.create.convert.config import Config
from llamaherd.create.convert.writer import Value

_PLAIN: Final = ("", "default")


def rope_parameters(config: Config, layers: str = "full_attention") -> Config:
    """What transformers 5 calls so, also where 4 spread it over two places.

    Models with two kinds of layers have one set for each kind.
    """
    parameters = config.section("rope_parameters", "rope_scaling")
    nested = parameters.section(layers)
    return nested if nested.get("rope_theta") is not None else parameters


def rope_theta(config: Config, parameters: Config, default: float = 10_000.0) -> float:
    """The base of the frequencies; raises ``BadRequest`` unless it is above 0."""
    said = parameters if parameters.get("rope_theta") is not None else config
    theta = said.number("rope_theta", default=default)
    if theta <= 0:
        raise said.wrong("rope_theta", "a number above 0", theta)
    return theta


def rope_kind(parameters: Config) -> str:
    return parameters.text("rope_type", "type").lower()


def rope_metadata(
    config: Config, parameters: Config, architecture: str, default_theta: float = 10_000.0
) -> dict[str, Value]:
    """Raises ``BadRequest`` for a kind of scaling that llama.cpp doesn't have."""
    prefix = f"{architecture}.rope."
    theta = rope_theta(config, parameters, default_theta)
    metadata: dict[str, Value] = {f"{prefix}freq_base": theta}
    kind = rope_kind(parameters)
    if kind in _PLAIN or kind == "llama3":
        return metadata
    if kind not in ("linear", "yarn"):
        raise parameters.wrong("rope_type", "default, linear, yarn or llama3", kind)
    factor = parameters.number("factor")
    metadata |= {f"{prefix}scaling.type": kind, f"{prefix}scaling.factor": factor}
    if kind == "yarn":
        metadata |= _yarn(config, parameters, factor, f"{prefix}scaling.")
    return metadata


def _yarn(config: Config, parameters: Config, factor: float, prefix: str) -> dict[str, Value]:
    original = parameters.get("original_max_position_embeddings")
    trained = (parameters if original is not None else config).count(
        "original_max_position_embeddings", "max_position_embeddings"
    )
    metadata: dict[str, Value] = {f"{prefix}original_context_length": trained}
    for key, default in (("beta_fast", 32.0), ("beta_slow", 1.0)):
        metadata[f"{prefix}yarn_{key}"] = parameters.number(key, default=default)
    if parameters.get("attention_factor") is not None and factor > 1:
        # llama.cpp multiplies the usual factor by this one, transformers puts this in its place.
        usual = 0.1 * math.log(factor) + 1
        metadata[f"{prefix}attn_factor"] = parameters.number("attention_factor") / usual
    return metadata


def llama3_factors(parameters: Config, theta: float, head: int) -> list[float]:
    """By what Llama 3.1 and later divide each frequency: high ones by 1, low ones by ``factor``.

    The formula is that of transformers' ``_compute_llama3_parameters``.
    """
    factor = parameters.number("factor", default=8.0)
    low = parameters.number("low_freq_factor", default=1.0)
    high = parameters.number("high_freq_factor", default=4.0)
    trained = parameters.number("original_max_position_embeddings", default=8192)
    if min(factor, low, trained) <= 0 or high <= low:
        raise parameters.wrong("high_freq_factor", "more than low_freq_factor, all above 0", high)
    factors = []
    for index in range(0, head, 2):
        wavelength = 2 * math.pi * theta ** (index / head)
        smooth = min(max((trained / wavelength - low) / (high - low), 0.0), 1.0)
        factors.append(1 / ((1 - smooth) / factor + smooth))
    return factors
