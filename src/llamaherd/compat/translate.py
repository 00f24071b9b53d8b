"""Which file needs which translation."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NamedTuple

from llamaherd.compat.derived import DerivedFile
from llamaherd.compat.draft import Draft
from llamaherd.compat.families import (
    clip,
    deepseekocr,
    gemma3,
    gemma3n,
    gemma4,
    glmocr,
    gptoss,
    llama3,
    llama4,
    mistral3,
    mllama,
    others,
    qwen3vl,
    qwen25vl,
    qwen35,
)
from llamaherd.gguf import GGUF

Translation = Callable[[Draft], None]


class _Family(NamedTuple):
    """What makes of Ollama's file a language model, and a projector if it has an encoder.

    The tensors of its encoders are those whose names begin with ``encoders``. ``concerns`` says of
    which files it has to be asked, where that can be said sooner than by making a draft.
    """

    text: Translation
    projector: Translation | None = None
    encoders: tuple[str, ...] = ("v.", "mm.")
    concerns: Callable[[GGUF], bool] | None = None


#: By ``general.architecture``.
_FAMILIES: Final[Mapping[str, _Family]] = {
    "bert": _Family(others.bert, encoders=()),
    "deepseekocr": _Family(deepseekocr.text, deepseekocr.projector, deepseekocr.ENCODERS),
    "gemma3": _Family(gemma3.text, gemma3.projector),
    "gemma3n": _Family(gemma3n.text),
    "gemma4": _Family(gemma4.text, gemma4.projector, gemma4.ENCODERS),
    "glm4moelite": _Family(others.glm4_moe_lite),
    "glmocr": _Family(glmocr.text, glmocr.projector),
    "gptoss": _Family(gptoss.text),
    "laguna": _Family(others.laguna, encoders=()),
    "lfm2": _Family(others.lfm2),
    "llama": _Family(llama3.text, encoders=(), concerns=llama3.concerns),
    "llama4": _Family(llama4.text, llama4.projector),
    "mistral3": _Family(mistral3.text, mistral3.projector),
    "mllama": _Family(mllama.text),
    "nemotron_h_moe": _Family(others.nemotron_h_moe),
    "nemotron_h_omni": _Family(others.nemotron_h_omni, encoders=("v.", "mm.", "a.")),
    "olmo3": _Family(others.olmo3),
    "qwen25vl": _Family(qwen25vl.text, qwen25vl.projector),
    "qwen35": _Family(qwen35.text, qwen3vl.projector),
    "qwen35moe": _Family(qwen35.text, qwen3vl.projector),
    "qwen3next": _Family(qwen35.next_text),
    "qwen3vl": _Family(qwen3vl.text, qwen3vl.projector),
    "qwen3vlmoe": _Family(qwen3vl.text, qwen3vl.projector),
}

_PROJECTOR: Final = "clip"


@dataclass(frozen=True, slots=True)
class Parts:
    """What is loaded of a model: how many bytes of the language model, and what projector.

    The language model can be ``mapped`` into memory unless it is translated. ``projector`` is the
    model's own file where that has the encoder; it takes ``projector_bytes``. There is none if
    llama.cpp can't compute what it is: that of Llama 3.2 Vision.
    """

    text_bytes: int
    mapped: bool
    projector: Path | None = None
    projector_bytes: int = 0

    def with_projector(self, path: Path, nbytes: int) -> Parts:
        return replace(self, projector=path, projector_bytes=nbytes)


def parts_in(gguf: GGUF, path: Path) -> Parts:
    """Of the open file ``path``; raises InvalidGGUF if it lacks what its family needs."""
    translated = text_of(gguf)
    nbytes = gguf.data_size if translated is None else translated.nbytes
    text = Parts(nbytes, mapped=translated is None)
    inner = projector_of(gguf)
    return text if inner is None else text.with_projector(path, inner.nbytes)


def text_of(gguf: GGUF) -> DerivedFile | None:
    """The language model as llama.cpp wants it; None if the file is that already.

    Raises InvalidGGUF that names what the family needs and the file lacks.
    """
    family = _FAMILIES.get(gguf.architecture)
    if family is None or (family.concerns is not None and not family.concerns(gguf)):
        return None
    draft = Draft(gguf)
    family.text(draft)
    draft.drop(*family.encoders)
    return draft.finish() if draft.changed else None


def projector_of(gguf: GGUF) -> DerivedFile | None:
    """What sees images as llama.cpp wants it; None if the file has none, or is that already.

    Raises as ``text_of``.
    """
    if gguf.architecture == _PROJECTOR:
        draft = Draft(gguf)
        clip.projector(draft)
        return draft.finish() if draft.changed else None
    family = _FAMILIES.get(gguf.architecture)
    if family is None or family.projector is None:
        return None
    draft = Draft.without_keys(gguf, family.encoders)
    if not draft.any_tensor("v."):
        return None
    family.projector(draft)
    return draft.finish()
