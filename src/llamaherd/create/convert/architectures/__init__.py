"""The architectures that can be converted, by the names in ``config.json``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from llamaherd.create.convert.architectures.bert import BERT, ROBERTA
from llamaherd.create.convert.architectures.gemma import GEMMA, GEMMA2, GEMMA3
from llamaherd.create.convert.architectures.llama import LLAMA, MIXTRAL
from llamaherd.create.convert.architectures.nomic_bert import NOMIC_BERT
from llamaherd.create.convert.architectures.phi3 import PHI3
from llamaherd.create.convert.architectures.qwen import QWEN2, QWEN3
from llamaherd.create.convert.architectures.vision.gemma3 import GEMMA3_VISION
from llamaherd.create.convert.architectures.vision.idefics3 import idefics3
from llamaherd.create.convert.architectures.vision.llava import llava
from llamaherd.create.convert.architectures.vision.pixtral import mistral3
from llamaherd.create.convert.architectures.vision.qwen2_vl import QWEN2_VL, QWEN25_VL
from llamaherd.create.convert.architectures.vision.qwen3_vl import QWEN3_VL
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Architecture

ARCHITECTURES: Final = {
    "LlamaForCausalLM": LLAMA,
    "MistralForCausalLM": LLAMA,
    "MixtralForCausalLM": MIXTRAL,
    "GemmaForCausalLM": GEMMA,
    "Gemma2ForCausalLM": GEMMA2,
    "Gemma3ForCausalLM": GEMMA3,
    "Phi3ForCausalLM": PHI3,
    "Qwen2ForCausalLM": QWEN2,
    "Qwen3ForCausalLM": QWEN3,
    "BertModel": BERT,
    "BertForMaskedLM": BERT,
    "RobertaModel": ROBERTA,
    "XLMRobertaModel": ROBERTA,
    "NomicBertModel": NOMIC_BERT,
    "Gemma3ForConditionalGeneration": GEMMA3_VISION,
    "Qwen2VLForConditionalGeneration": QWEN2_VL,
    "Qwen2_5_VLForConditionalGeneration": QWEN25_VL,
    "Qwen3VLForConditionalGeneration": QWEN3_VL,
}

#: Those that are made of parts which the configuration names.
COMPOSED: Final[dict[str, Callable[[Config], Architecture]]] = {
    "LlavaForConditionalGeneration": llava,
    "Mistral3ForConditionalGeneration": mistral3,
    "Idefics3ForConditionalGeneration": idefics3,
    "SmolVLMForConditionalGeneration": idefics3,
}

#: By llama.cpp's names, for models that were converted already.
_CONVERTED: Final = {
    architecture.name: architecture
    for architecture in (
        LLAMA,
        GEMMA,
        GEMMA2,
        GEMMA3,
        PHI3,
        QWEN2,
        QWEN2_VL,
        QWEN3,
        QWEN3_VL,
        NOMIC_BERT,
    )
} | {"bert": replace(BERT, prefixes=(*BERT.prefixes, *ROBERTA.prefixes))}


def architecture_named(name: str, experts: int = 0) -> Architecture | None:
    """The architecture that llama.cpp calls ``name``; None if it is one that isn't converted."""
    return MIXTRAL if name == MIXTRAL.name and experts else _CONVERTED.get(name)


def architecture_of(config: Config) -> Architecture:
    """Raises ``BadRequest`` for a model that can't be converted."""
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        raise config.wrong("architectures", "a list with a name", names)
    name = names[0]
    if not isinstance(name, str) or name not in (*ARCHITECTURES, *COMPOSED):
        known = ", ".join((*ARCHITECTURES, *COMPOSED))
        raise config.wrong("architectures", f"one of {known}", name)
    if config.get("quantization_config") is not None:
        raise config.wrong("quantization_config", "none: unquantised weights", "one")
    return ARCHITECTURES[name] if name in ARCHITECTURES else COMPOSED[name](config)
