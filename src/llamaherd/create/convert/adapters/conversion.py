"""An adapter in safetensors as one GGUF file, from front to back."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from llamaherd.create.adapters import EMBEDDING
from llamaherd.create.convert.adapters.base import BaseModel, Place
from llamaherd.create.convert.adapters.config import Strength, read_strength
from llamaherd.create.convert.adapters.pairs import Matrix, Pair, read_pairs
from llamaherd.create.convert.checkpoint import Checkpoint
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.numbers import converted
from llamaherd.create.convert.plan import Wanted
from llamaherd.create.convert.writer import Bytes, Contents, ElementType, Tensor, Value
from llamaherd.errors import BadRequest


class AdapterConversion:
    """What will be written, in F32: adapters are small, and that is exact.

    Making one reads all but the tensors' data and raises ``BadRequest`` for whatever can't be
    converted or doesn't fit the model.
    """

    def __init__(self, folder: ModelFolder, base: Path) -> None:
        strength = read_strength(folder)
        pairs = read_pairs(Checkpoint.open(folder))
        model = BaseModel(base)
        metadata: dict[str, Value] = {
            "general.architecture": model.architecture,
            "general.type": "adapter",
            "general.file_type": 0,
            "adapter.type": "lora",
            "adapter.lora.alpha": strength.alpha,
        }
        self.adapter = Contents(metadata, list(_planned(pairs, model, strength)))


def _planned(pairs: Sequence[Pair], model: BaseModel, strength: Strength) -> Iterator[Tensor]:
    """A and B of each matrix; those of stacked matrices are stacked too."""
    stacks: dict[str, dict[int, Pair]] = {}
    places: dict[str, Wanted] = {}
    for pair in pairs:
        if model.ignores(pair.name):
            continue
        place = model.place(pair.name)
        _check(pair, place)
        stack = stacks.setdefault(place.wanted.name, {})
        if (other := stack.get(place.index)) is not None:
            raise BadRequest(f"{pair.module}: the adapter has it as {other.module} too")
        stack[place.index] = pair
        places[place.wanted.name] = place.wanted
    for name, wanted in places.items():
        yield from _tensors(wanted, _complete(wanted, stacks[name]), strength)


def _check(pair: Pair, place: Place) -> None:
    rows, columns = place.shape
    shape = (pair.b.shape[0], pair.a.shape[1])
    if place.wanted.name == EMBEDDING:
        # Of embeddings, A stands on the side of the vocabulary.
        shape = shape[::-1]
    if shape != (rows, columns):
        raise BadRequest(
            f"{pair.module}: the adapter is for a matrix of shape {list(shape)}, the base model's "
            f"is {[rows, columns]}"
        )


def _complete(wanted: Wanted, found: Mapping[int, Pair]) -> list[Pair]:
    """The pairs of all matrices that are stacked, which must have one rank."""
    for index, source in enumerate(wanted.sources):
        module = source.removesuffix(".weight")
        if index not in found:
            raise BadRequest(
                f"{module}: not adapted, but others that the engine stacks with it are"
            )
        if found[index].rank != found[0].rank:
            raise BadRequest(
                f"{module}: rank {found[index].rank}, but {found[0].rank} in others that the "
                "engine stacks with it"
            )
    return [found[index] for index in range(len(wanted.sources))]


def _tensors(wanted: Wanted, pairs: list[Pair], strength: Strength) -> Iterator[Tensor]:
    """Queries and keys that the engine has in another order are reordered by B, whose rows they
    are."""
    is_embedding = wanted.name == EMBEDDING
    halves = [pair.a.flipped() if is_embedding else pair.a for pair in pairs]
    yield _tensor(f"{wanted.name}.lora_a", halves, [1.0] * len(pairs))
    halves = [pair.b for pair in pairs]
    factors = [strength.factor(pair.module, pair.rank) for pair in pairs]
    head_rows = wanted.shape[-2] // wanted.heads if wanted.heads else 0
    yield _tensor(f"{wanted.name}.lora_b", halves, factors, head_rows)


def _tensor(name: str, matrices: list[Matrix], factors: list[float], head_rows: int = 0) -> Tensor:
    def pieces() -> Iterator[Bytes]:
        for matrix, factor in zip(matrices, factors, strict=True):
            yield from converted(
                matrix.stored,
                ElementType.F32,
                head_rows=head_rows,
                times=factor,
                transposed=matrix.transposed,
            )

    shape = matrices[0].shape
    stacked = (len(matrices), *shape) if len(matrices) > 1 else shape
    return Tensor(name, stacked, ElementType.F32, pieces)
