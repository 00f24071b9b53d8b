"""From a name to a model that is ready to be placed and prompted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from llamaherd.compat import Parts, parts_in
from llamaherd.cria.bundle import install_if_missing, is_bundled
from llamaherd.errors import InvalidGGUF, InvalidName, ModelNotFound, StoreError, Unsupported
from llamaherd.gguf import GGUF
from llamaherd.options import resolve_options
from llamaherd.prompt.choose import choose_template
from llamaherd.prompt.known import recognise
from llamaherd.prompt.special import TOOL_TEMPLATE, special_tokens
from llamaherd.prompt.template import PromptTemplate
from llamaherd.scheduler.loop import LoadSpec
from llamaherd.scheduler.shape import ModelShape
from llamaherd.store.files import store_errors
from llamaherd.store.library import Library
from llamaherd.store.manifests import MediaType, StoredManifest
from llamaherd.store.model import StoredModel
from llamaherd.store.names import Name

#: How many models' descriptions are kept; one takes a few kilobytes.
_KEPT: Final = 256


@dataclass(frozen=True)
class CatalogModel:
    """A stored model with what its GGUF file says about running and prompting it.

    ``defaults`` are the parameters that come with a recognised template; the model's own win.
    ``projector`` is the path of the file that has what sees images, "" if nothing does: one of its
    own, or the model's.
    """

    stored: StoredModel
    template: PromptTemplate
    defaults: dict[str, Any]
    shape: ModelShape
    projector: str
    capabilities: tuple[str, ...]

    @property
    def name(self) -> Name:
        return self.stored.name

    def require(self, capability: str, message: str | None = None) -> None:
        """Raises ``Unsupported`` if the model lacks the capability."""
        if capability not in self.capabilities:
            raise Unsupported(message or f"{self.name.full} does not support {capability}")

    def options(self, given: dict[str, Any]) -> dict[str, Any]:
        """All options: defaults, then the model's own, then the request's."""
        return resolve_options(self.defaults, self.stored.parameters, given)

    def load_spec(self, options: dict[str, Any]) -> LoadSpec:
        path = self.stored.model_path
        assert path is not None
        return LoadSpec(
            key=self.key,
            name=self.name.short,
            info=self.stored,
            model=str(path),
            adapters=tuple(map(str, self.stored.adapter_paths)),
            projector=self.projector,
            options=options,
            shape=self.shape,
        )

    @cached_property
    def key(self) -> str:
        """The same for models that one runner can serve: same weights, adapters and projector."""
        stored = self.stored
        return "|".join(map(str, (stored.model_path, *stored.adapter_paths, self.projector)))


class Catalog:
    """A library's models as ``CatalogModel``. Everything blocks; async callers use a thread.

    The model of the package is in every catalogue, and in the library once it was asked for.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._known: dict[str, CatalogModel] = {}

    def known(self, text: str) -> CatalogModel | None:
        """The model of this name if it was described before: that takes only its manifest.

        Quick enough to do without a thread. Raises ``ModelNotFound`` also for what can't be a name.
        """
        try:
            manifest = self._manifest(text)
        except ModelNotFound:
            if is_bundled(_name(text)):
                return None
            raise
        known = self._known.get(manifest.digest)
        if known is None:
            return None
        stored = known.stored
        if (stored.name, stored.modified_at) == (manifest.name, manifest.modified_at):
            return known
        stored = replace(stored, name=manifest.name, modified_at=manifest.modified_at)
        return replace(known, stored=stored)

    def find(self, text: str) -> CatalogModel:
        """The model of this name; raises as ``known``, or ``StoreError`` when it is damaged."""
        known = self.known(text)
        if known is None:
            install_if_missing(self._library, _name(text))
            manifest = self._manifest(text)
            known = self._describe(self._library.get(manifest.name))
            while len(self._known) >= _KEPT:
                self._known.pop(next(iter(self._known)))
            self._known[manifest.digest] = known
        return known

    def _manifest(self, text: str) -> StoredManifest:
        try:
            return self._library.manifest(_name(text))
        except ModelNotFound:
            raise ModelNotFound(text) from None

    @staticmethod
    def _describe(stored: StoredModel) -> CatalogModel:
        with open_weights(stored) as gguf:
            special = special_tokens(gguf)
            chat_template = gguf.get("tokenizer.chat_template", str, None)
            tool_template = gguf.get(TOOL_TEMPLATE, str, None)
            template = choose_template(stored.template, chat_template, special, tool_template)
            known = None
            if chat_template and not stored.template:
                known = recognise(chat_template, special)
            parts = _parts(gguf, stored)
            return CatalogModel(
                stored=stored,
                template=template,
                defaults=known.parameters if known else {},
                shape=_shape(gguf, stored, parts),
                projector=str(parts.projector or ""),
                capabilities=_capabilities(gguf, template, parts),
            )


def _name(text: str) -> Name:
    """Raises ``ModelNotFound`` for what can't be a name."""
    try:
        return Name.parse(text)
    except InvalidName:
        raise ModelNotFound(text) from None


@contextmanager
def open_weights(stored: StoredModel) -> Iterator[GGUF]:
    """The model's GGUF file; raises as ``open_part``, and where there is none."""
    path = stored.model_path
    if path is None:
        raise StoreError(f"{stored.name.short} has no model layer")
    with open_part(path, stored) as gguf:
        yield gguf


@contextmanager
def open_part(path: Path, stored: StoredModel) -> Iterator[GGUF]:
    """One of a model's GGUF files; raises ``StoreError`` where the store has a damaged one or none.

    That isn't ``InvalidGGUF``: who asks for a model is not to blame for the state of its files.
    """
    try:
        with store_errors("read", path), GGUF.open(path) as gguf:
            yield gguf
    except InvalidGGUF as error:
        raise StoreError(f"{stored.name.short} is damaged: {error}") from error


def _parts(gguf: GGUF, stored: StoredModel) -> Parts:
    """What is loaded of the model's files, but for adapters.

    Of several projectors the first one counts, as in Ollama, and only if it is for images. A model
    that can't be translated for llama.cpp can be shown, copied and pushed all the same; its runner
    says what is wrong when it is to be loaded.
    """
    assert stored.model_path is not None
    try:
        parts = parts_in(gguf, stored.model_path)
    except InvalidGGUF:
        parts = Parts(gguf.data_size, mapped=True)
    for path in stored.projector_paths[:1]:
        with open_part(path, stored) as projector:
            if projector.get("clip.has_vision_encoder", bool, False):
                return parts.with_projector(path, projector.data_size)
    return parts


def _shape(gguf: GGUF, stored: StoredModel, parts: Parts) -> ModelShape:
    """Adapters and a projector are loaded beside the weights."""
    adapters = (layer.size for layer in stored.layers if layer.media_type == MediaType.ADAPTER)
    weights = parts.text_bytes + parts.projector_bytes + sum(adapters)
    return replace(
        ModelShape.of(gguf),
        weights=weights,
        mapped=parts.mapped,
        projector=parts.projector_bytes,
    )


def _capabilities(gguf: GGUF, template: PromptTemplate, parts: Parts) -> tuple[str, ...]:
    """In the order in which Ollama lists them."""
    embeds = gguf.arch_value("pooling_type") is not None
    found = [
        "embedding" if embeds else "completion",
        *(["vision"] if parts.projector else []),
        *(name for name in ("tools", "insert", "thinking") if name in template.capabilities),
    ]
    return tuple(found)
