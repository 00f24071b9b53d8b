"""The language model within a model that sees: its configuration and the names of its tensors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final

from llamaherd.create.convert.architectures.llama import LLAMA
from llamaherd.create.convert.architectures.qwen import QWEN2
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Architecture, Projector

_TIED: Final = "tie_word_embeddings"

#: What stands before the names of a language model of its own, in the orders of transformers'
#: generations: ``model`` within the language model, or the language model within ``model``.
_DECODERS: Final = ("language_model.model.", "model.language_model.", "model.text_model.", "model.")
_ENCODERS: Final = ("vision_tower.vision_model.", "vision_tower.")

#: Of transformers' classes, for what published configurations leave out.
_LLAMA: Final = {
    "hidden_size": 4096,
    "intermediate_size": 11_008,
    "max_position_embeddings": 2048,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "vocab_size": 32_000,
}
_MISTRAL: Final = {
    **_LLAMA,
    "intermediate_size": 14_336,
    "max_position_embeddings": 131_072,
    "num_key_value_heads": 8,
}
_KINDS: Final[dict[str, tuple[Architecture, dict[str, int]]]] = {
    "llama": (LLAMA, _LLAMA),
    "mistral": (LLAMA, _MISTRAL),
    "qwen2": (QWEN2, {}),
}


def seeing(config: Config, projector: Projector) -> Architecture:
    """The language model that ``text_config`` names, with ``projector``.

    Raises ``BadRequest`` for a kind that isn't known.
    """
    architecture, _ = _KINDS[_kind(config)]
    return replace(architecture, text=named_language, respell=spellings, projector=projector)


def named_language(config: Config) -> Config:
    """The configuration of the language model that ``text_config`` names."""
    _, defaults = _KINDS[_kind(config)]
    return language_config(config, defaults)


def _kind(config: Config) -> str:
    text = config.section("text_config")
    kind = text.text("model_type", default="llama")
    if kind not in _KINDS:
        raise text.wrong("model_type", f"one of {', '.join(_KINDS)}", kind)
    return kind


def language_config(config: Config, defaults: Mapping[str, Any] | None = None) -> Config:
    """``text_config``, over the defaults of its class; all of ``config`` if it isn't apart.

    Whether both ends are tied may be said beside it, for the whole.
    """
    if config.get("text_config") is None:
        return config.over(defaults or {})
    text = config.section("text_config", defaults=defaults)
    tied = config.get(_TIED)
    return text if tied is None else text.over({_TIED: tied})


def spellings(name: str) -> Iterator[str]:
    """Every name that a tensor has had in checkpoints.

    ``name`` is what it would be called in a language model of its own, or begins with the name of
    another part, such as ``vision_tower``.
    """
    if name.startswith("model."):
        bare = name.removeprefix("model.")
        yield from (prefix + bare for prefix in _DECODERS)
    elif name.startswith("vision_tower."):
        bare = name.removeprefix("vision_tower.")
        for outer in ("", "model."):
            yield from (outer + prefix + bare for prefix in _ENCODERS)
    else:
        yield from (name, f"model.{name}", f"language_model.{name}")
