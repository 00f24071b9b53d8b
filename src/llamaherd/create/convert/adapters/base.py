"""The model that an adapter is for: a GGUF, its matrices by the names that Hugging Face has."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from llamaherd.create.adapters import EMBEDDING, OUTPUT, TIED, Base
from llamaherd.create.convert.architectures import architecture_named
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Architecture, Wanted
from llamaherd.errors import BadRequest
from llamaherd.gguf import GGUF
from llamaherd.store.files import store_errors

#: ``config.json``'s names for what GGUF keeps under the architecture's name.
_KEYS: Final = {
    "hidden_size": "embedding_length",
    "intermediate_size": "feed_forward_length",
    "num_hidden_layers": "block_count",
    "num_attention_heads": "attention.head_count",
    "num_key_value_heads": "attention.head_count_kv",
    "head_dim": "attention.key_length",
    "max_position_embeddings": "context_length",
    "num_local_experts": "expert_count",
}

#: More than any model has; a bound for what a hostile number can make us list.
_MOST_EXPERTS: Final = 4096

_WEIGHT: Final = ".weight"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a module's change goes: to the matrix ``wanted``, or to one of those stacked in it.

    ``shape`` is the module's own, rows first.
    """

    wanted: Wanted
    index: int
    shape: tuple[int, int]


class BaseModel:
    """Raises ``BadRequest`` for a model of an architecture that isn't converted."""

    def __init__(self, path: Path) -> None:
        with store_errors("open", path):
            gguf = GGUF.open(path)
        with gguf:
            base = Base.of(gguf)
            self.architecture = base.architecture
            self._shapes = {name: shape[::-1] for name, shape in base.shapes.items()}
            table = architecture_named(base.architecture, gguf.arch_value("expert_count", int, 0))
            if table is None:
                raise BadRequest(
                    f"the base model is of architecture {gguf.architecture}, for which safetensors "
                    "adapters can't be converted"
                )
            config = Config(_configuration(gguf, self._shapes), "the base model")
        _check_counts(config, self._shapes)
        self._table: Architecture = table
        self._places = dict(self._find(config))

    def ignores(self, module: str) -> bool:
        """Whether it is a head for a task that the model isn't used for."""
        return self._table.ignored.search(f"{module}{_WEIGHT}") is not None

    def place(self, module: str) -> Place:
        """Raises ``BadRequest`` for a module that the model doesn't have."""
        names = (module, f"model.{module}")
        place = next((self._places[name] for name in names if name in self._places), None)
        is_end = module == "lm_head" or (place is not None and place.wanted.name == EMBEDDING)
        if is_end and OUTPUT not in self._shapes:
            raise BadRequest(f"{module}: {TIED}")
        if place is not None:
            return place
        raise BadRequest(f"{module}: the base model, {self.architecture}, has no such matrix")

    def _find(self, config: Config) -> Iterator[tuple[str, Place]]:
        for wanted in self._table.tensors(config):
            if isinstance(wanted, Wanted) and len(wanted.shape) > 1 and self._has(wanted):
                shape = (wanted.shape[-2], wanted.shape[-1])
                for index, source in enumerate(wanted.sources):
                    for prefix in self._table.prefixes:
                        name = (prefix + source).removesuffix(_WEIGHT)
                        yield name, Place(wanted, index, shape)

    def _has(self, wanted: Wanted) -> bool:
        """Matrices that only look up positions and the like are out of the engine's reach."""
        return self._shapes.get(wanted.name) == wanted.shape and wanted.name.startswith(
            ("blk.", EMBEDDING, OUTPUT)
        )


def _check_counts(config: Config, names: Collection[str]) -> None:
    """Models of which blocks are left out when they are loaded have others by their numbers."""
    layers, experts = config.count("num_hidden_layers"), config.get("num_local_experts")
    if layers > len(names):
        raise config.wrong("num_hidden_layers", f"at most its {len(names)} tensors", layers)
    if not any(name.startswith(f"blk.{layers - 1}.") for name in names):
        raise config.wrong("num_hidden_layers", "the number of its blocks", layers)
    if isinstance(experts, int) and experts > _MOST_EXPERTS:
        raise config.wrong("num_local_experts", f"at most {_MOST_EXPERTS}", experts)


def _configuration(gguf: GGUF, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Any]:
    values = {name: gguf.arch_value(key) for name, key in _KEYS.items()}
    vocabulary = shapes.get(EMBEDDING, (0,))[0]
    kinds = shapes.get("token_types.weight", (2,))[0]
    return values | {
        "vocab_size": vocabulary,
        "type_vocab_size": kinds,
        "tie_word_embeddings": OUTPUT not in shapes,
    }
