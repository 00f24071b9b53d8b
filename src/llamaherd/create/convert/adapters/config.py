"""``adapter_config.json``: how strongly an adapter's modules act, in PEFT's words or in MLX's.

A module's matrix changes by ``scale * B @ A``. A GGUF adapter has a single number for that,
``alpha``, from which llama.cpp reckons ``scale = alpha / rank``; a module that differs has the rest
as a factor in its B.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from llamaherd.create.convert.config import Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.errors import BadRequest

ADAPTER_CONFIG: Final = "adapter_config.json"

#: What PEFT takes if the file doesn't say.
_DEFAULT_RANK: Final = 8
_DEFAULT_ALPHA: Final = 8

#: Ways of training that leave the base as it is. Others (PiSSA, OLoRA, LoftQ) begin by changing
#: it, so their A and B mean nothing without the changed base.
_INITIALISATIONS: Final = (True, False, "gaussian", "eva", "orthogonal")

#: What changes the result beyond A, B and scale; PEFT's name and the values that mean "not so".
_UNSUPPORTED: Final[tuple[tuple[str, tuple[object, ...]], ...]] = (
    ("bias", ("none",)),
    ("lora_bias", (False,)),
    ("use_dora", (False,)),
    ("use_qalora", (False,)),
    ("use_bdlora", (False,)),
    ("modules_to_save", ([],)),
    ("target_parameters", ([],)),
    ("trainable_token_indices", ([], {})),
    ("alora_invocation_tokens", ([],)),
    ("layer_replication", ([],)),
    ("arrow_config", ()),
    ("init_lora_weights", _INITIALISATIONS),
)

#: Patterns of ``alpha_pattern`` that can't take long to match: few repetitions, none of a group.
_REPETITION: Final = re.compile(r"(?<!\\)[*+?{]")
_REPEATED_GROUP: Final = re.compile(r"\)[*+?{]")
_MOST_REPETITIONS: Final = 2
_LONGEST_PATTERN: Final = 256

#: Factors this close to 1 differ from it by rounding only.
_SAME: Final = 1e-9

Scale = Callable[[str, int], float]


@dataclass(frozen=True, slots=True)
class Strength:
    """``alpha`` is what the GGUF adapter says; ``scale`` is that of a module with some rank."""

    alpha: float
    scale: Scale

    def factor(self, module: str, rank: int) -> float:
        """What the module's B must be multiplied by, given how llama.cpp reckons."""
        factor = self.scale(module, rank) * rank / self.alpha
        return 1.0 if abs(factor - 1) < _SAME else factor


def read_strength(folder: ModelFolder) -> Strength:
    """Raises ``BadRequest`` for adapters of a kind that the engine doesn't have."""
    config = Config(folder.json(ADAPTER_CONFIG, dict), ADAPTER_CONFIG)
    if config.get("peft_type") is None and config.get("lora_parameters") is not None:
        return _of_mlx(config)
    return _of_peft(config)


def _of_peft(config: Config) -> Strength:
    if config.text("peft_type") != "LORA":
        raise config.wrong(
            "peft_type", "'LORA', the only kind that the engine has", config.get("peft_type")
        )
    for name, allowed in _UNSUPPORTED:
        config.require(name, *allowed)
    alpha = _positive(config, "lora_alpha", _DEFAULT_ALPHA)
    patterns = _patterns(config)
    root = config.flag("use_rslora", default=False)

    def scale(module: str, rank: int) -> float:
        own = next((each for pattern, each in patterns if pattern.fullmatch(module)), alpha)
        return own / (math.sqrt(rank) if root else rank)

    rank = config.count("r", default=_DEFAULT_RANK)
    return Strength(alpha * math.sqrt(rank) if root else alpha, scale)


def _patterns(config: Config) -> list[tuple[re.Pattern[str], float]]:
    """``alpha_pattern``: numbers by what the end of a module's name must look like."""
    section = config.section("alpha_pattern")
    found = []
    for key in section:
        if (
            len(key) > _LONGEST_PATTERN
            or len(_REPETITION.findall(key)) > _MOST_REPETITIONS
            or _REPEATED_GROUP.search(key)
        ):
            raise config.wrong("alpha_pattern", "names or simple patterns of them", key)
        try:
            pattern = re.compile(rf"(?:.*\.)?(?:{key})")
        except (re.error, OverflowError) as error:
            raise BadRequest(f"{ADAPTER_CONFIG}: alpha_pattern: {key!r}: {error}") from None
        found.append((pattern, section.number(key)))
    return found


def _of_mlx(config: Config) -> Strength:
    """Old versions of MLX multiply ``scale`` by ``alpha / rank``, later ones have no alpha."""
    config.require("fine_tune_type", "lora")
    config.require("use_dora", False)
    parameters = config.section("lora_parameters")
    rank = parameters.count("rank", default=_DEFAULT_RANK)
    has_alpha = parameters.get("alpha") is not None
    strength = _positive(parameters, "scale", 1.0 if has_alpha else None)
    if has_alpha:
        strength *= _positive(parameters, "alpha") / rank
    return Strength(strength * rank, lambda module, rank: strength)


def _positive(config: Config, name: str, default: float | None = None) -> float:
    """llama.cpp takes an alpha of 0 for none given."""
    value = config.number(name, default=default)
    if value <= 0:
        raise config.wrong(name, "a number above 0", value)
    return value
