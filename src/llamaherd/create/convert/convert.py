"""A folder of safetensors as a GGUF file, or as two if the model sees."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Final

from llamaherd.create.convert.architectures import architecture_of
from llamaherd.create.convert.config import CONFIG_FILE, Config
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.plan import plan
from llamaherd.create.convert.tokenizers import tokenizer_metadata
from llamaherd.create.convert.writer import Contents, ElementType, Tensor, Value
from llamaherd.errors import BadRequest

#: ``llama_ftype`` of llama.h, by the type of most of the weights.
_FILE_TYPES: Final = {ElementType.F32: 0, ElementType.F16: 1, ElementType.BF16: 32}
_QUANTIZATION_VERSION: Final = 2

#: ``llama_pooling_type`` of llama.h.
_POOLING: Final = {"mean": 1, "cls": 2, "lasttoken": 3}
_MODULES: Final = "modules.json"


class Conversion:
    """What will be written: a ``model``, and a ``projector`` if it sees. Making one reads all but
    the tensors' data and raises ``BadRequest`` for whatever can't be converted."""

    def __init__(self, folder: ModelFolder) -> None:
        config = Config(folder.json(CONFIG_FILE, dict))
        architecture = architecture_of(config)
        planned = plan(architecture, config, folder)
        metadata = _general(architecture.name, "model", planned.model)
        text = architecture.text(config)
        metadata |= architecture.metadata(text)
        if metadata.get(f"{architecture.name}.attention.causal") is False:
            metadata[f"{architecture.name}.pooling_type"] = _pooling_type(folder)
        metadata |= tokenizer_metadata(folder, text.count("vocab_size"))
        self.model = Contents(metadata, planned.model)
        self.projector: Contents | None = None
        if architecture.projector is not None:
            metadata = _general("clip", "mmproj", planned.projector)
            metadata |= architecture.projector.metadata(config, folder)
            self.projector = Contents(metadata, planned.projector)


def _general(architecture: str, kind: str, tensors: Sequence[Tensor]) -> dict[str, Value]:
    return {
        "general.architecture": architecture,
        "general.type": kind,
        "general.file_type": _file_type(tensors),
        "general.quantization_version": _QUANTIZATION_VERSION,
    }


def _file_type(tensors: Sequence[Tensor]) -> int:
    sizes: Counter[ElementType] = Counter()
    for tensor in tensors:
        sizes[tensor.type] += tensor.nbytes
    return _FILE_TYPES[sizes.most_common(1)[0][0]]


def _pooling_type(folder: ModelFolder) -> int:
    """How the vectors of a text become one; the mean is what sentence-transformers takes too, for
    models that don't say."""
    if _MODULES not in folder:
        return _POOLING["mean"]
    for module in folder.json(_MODULES, list[dict[str, str | int]]):
        kind, path = str(module.get("type")), str(module.get("path"))
        if kind.endswith(".Dense"):
            raise BadRequest(f"{_MODULES}: a Dense layer, which the engine doesn't have")
        if kind.endswith(".Pooling"):
            return _pooling_of(folder, f"{path}/{CONFIG_FILE}")
    return _POOLING["mean"]


def _pooling_of(folder: ModelFolder, file: str) -> int:
    config = Config(folder.json(file, dict), file)
    for mode in _POOLING:
        name = "mean_tokens" if mode == "mean" else f"{mode}_token" if mode == "cls" else mode
        if config.get(f"pooling_mode_{name}") is True or config.get("pooling_mode") == mode:
            return _POOLING[mode]
    raise BadRequest(f"{file}: pooling_mode: expected {', '.join(_POOLING)}")
