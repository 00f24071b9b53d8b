"""From the files that were uploaded for a model to its first layers: weights, adapters."""

from __future__ import annotations

from collections.abc import Generator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from llamaherd.create.adapters import check_adapter, grouped
from llamaherd.create.convert.jobs import ConvertAdapter, ConvertModel, Job, MergeShards
from llamaherd.create.convert.process import convert
from llamaherd.create.layers import Part, gguf_part, made_part
from llamaherd.create.quantize.process import quantize
from llamaherd.create.quantize.types import Target
from llamaherd.create.shards import is_shard
from llamaherd.errors import BadRequest, NotFound, StoreError
from llamaherd.store.blobs import parse_digest
from llamaherd.store.files import store_errors
from llamaherd.store.library import Library
from llamaherd.store.manifests import MediaType
from llamaherd.store.progress import Progress

Parts = Generator[Progress, None, list[Part]]

_MAGIC: Final = b"GGUF"


class Sources:
    """The files of one request, and the blobs that were made of them."""

    def __init__(self, library: Library) -> None:
        self._library = library
        self._blobs = library.blobs
        self._made: list[str] = []

    def model(self, files: Mapping[str, str]) -> Parts:
        """The layers of ``files``, the model first."""
        if _are_safetensors(files):
            return (yield from self._converted(ConvertModel(self._paths(files))))
        parts: list[Part] = []
        shards = {}
        for file in sorted(files):
            yield Progress("parsing GGUF")
            digest = self._gguf(file, files[file])
            if is_shard(self._blobs.path(digest)):
                shards[file] = digest
            else:
                parts.append(gguf_part(self._blobs, digest))
        if shards:
            parts += yield from self._converted(MergeShards(self._paths(shards)))
        return sorted(parts, key=lambda part: part.kind != MediaType.MODEL)

    def adapters(self, files: Mapping[str, str], base: Sequence[Part]) -> Parts:
        """One layer for each adapter. They add up, with each other and with those of the base."""
        model = _model_of(base)
        used = {part.layer.digest for part in base if part.kind == MediaType.ADAPTER}
        parts: list[Part] = []
        for name, group in grouped(files):
            part = yield from self._adapter(name, group, model)
            if part.layer.digest in used:
                raise BadRequest(f"adapters: {name}: the model has this adapter already")
            used.add(part.layer.digest)
            parts.append(part)
        return parts

    def quantized(self, parts: Sequence[Part], target: Target) -> Parts:
        """The same layers, but the model's weights as ``target``.

        An encoder that was in the file of the language model becomes a layer of its own, unless
        there is one already, which counts instead of it.
        """
        changed: list[Part] = []
        sees = any(part.kind == MediaType.PROJECTOR for part in parts)
        for part in parts:
            if part.kind != MediaType.MODEL:
                changed.append(part)
                continue
            model, *projectors = yield from self._quantized(part, target)
            changed.append(model)
            for projector in projectors:
                if sees:
                    self._library.forget(projector.layer.digest)
                else:
                    changed.append(projector)
        return changed

    def discard(self) -> None:
        """Removes what was made, for a model that there won't be.

        What can't be removed is left to the next start.
        """
        with suppress(StoreError):
            for digest in self._made:
                self._library.forget(digest)

    def _adapter(
        self, name: str, files: Mapping[str, str], model: Part
    ) -> Generator[Progress, None, Part]:
        base = self._blobs.path(model.layer.digest)
        if _are_safetensors(files):
            (part,) = yield from self._converted(ConvertAdapter(self._paths(files), str(base)))
        else:
            yield Progress("parsing GGUF")
            file = next(iter(files))
            part = gguf_part(self._blobs, self._gguf(file, files[file]))
        if part.kind != MediaType.ADAPTER:
            raise BadRequest(f"adapters: {name} is a model, not an adapter")
        check_adapter(name, self._blobs.path(part.layer.digest), base)
        return part

    def _converted(self, job: Job) -> Parts:
        digests = yield from convert(self._blobs, job)
        self._made += digests
        return [made_part(self._blobs, digest) for digest in digests]

    def _quantized(self, part: Part, target: Target) -> Parts:
        """What was made only to be quantised doesn't stay."""
        source = part.layer.digest
        digests = yield from quantize(self._blobs, source, target)
        if digests == [source]:
            return [part]
        if source in self._made:
            self._library.forget(source)
        self._made += digests
        return [made_part(self._blobs, digest) for digest in digests]

    def _gguf(self, file: str, text: str) -> str:
        """The digest of a file that begins as a GGUF does."""
        digest = parse_digest(text)
        path = self._uploaded(digest)
        with store_errors("read", path), path.open("rb") as content:
            is_gguf = content.read(len(_MAGIC)) == _MAGIC
        if not is_gguf:
            is_named_so = file.endswith(".gguf")
            raise BadRequest(
                "supplied file was not in GGUF format" if is_named_so else "unknown type"
            )
        return digest

    def _paths(self, files: Mapping[str, str]) -> dict[str, str]:
        return {file: str(self._uploaded(parse_digest(files[file]))) for file in files}

    def _uploaded(self, digest: str) -> Path:
        path = self._blobs.path(digest)
        if not self._blobs.exists(digest):
            raise NotFound(f"open {path}: no such file or directory")
        return path


def _are_safetensors(files: Mapping[str, str]) -> bool:
    return any(file.endswith(".safetensors") for file in files)


def _model_of(parts: Sequence[Part]) -> Part:
    model = next((part for part in parts if part.kind == MediaType.MODEL), None)
    if model is None:
        raise BadRequest("adapters: the base has no model that they could change")
    return model
