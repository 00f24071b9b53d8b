"""How to load a model on this machine: context, slots, threads, layers on accelerators, memory.

Pure arithmetic over what the GGUF file says, the options, the settings and the room there is.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from llamaherd.config import Settings
from llamaherd.runner.protocol import Load
from llamaherd.scheduler.memory import Memory
from llamaherd.scheduler.shape import ModelShape

#: The context of a model when neither the request nor the settings name one, in tokens.
DEFAULT_CONTEXT: Final = 4096

#: Less than this makes no sense to llama.cpp; Ollama raises smaller ones silently too.
LEAST_CONTEXT: Final = 4

#: Slots of a model whose cache for that many is small beside the memory that is free.
MOST_SLOTS: Final = 4
_CACHE_SHARE: Final = 4

#: Requests that a model which only embeds takes at a time, and inputs that go into one batch.
POOLED_REQUESTS: Final = 64

#: Sequences that a runner has for embeddings beside its slots: with a model that is made for them,
#: and with any other.
_EMBEDDING_SEQUENCES: Final = 16
_FEW_EMBEDDING_SEQUENCES: Final = 4

#: What a driver takes of an accelerator for each process, in bytes: CUDA 13 on an H100 590 MiB.
_DRIVER_SHARE: Final = 600 << 20

#: Sequences that a runner has beside its slots, for cached prefixes (``llama.loader``).
_SPARE_SEQUENCES: Final = 4

#: A prompt that is scored wants the logits of all its tokens: so many bytes of them at a time. This
#: much finds room in buffers that a batch of 512 tokens needs anyway (64 tokens of a vocabulary of
#: 128,000 with a model of 1B parameters; the room for 128 is 9 MB larger, that for 512 200 MB).
_SCORES: Final = 32 << 20

#: llama.cpp rounds the cache up to this many tokens.
_CACHE_STEP: Final = 256

#: Bytes and values in a block, by K/V cache type (ggml-common.h).
_BLOCKS: Final = {
    "f32": (4, 1),
    "f16": (2, 1),
    "bf16": (2, 1),
    "q8_0": (34, 32),
    "q5_0": (22, 32),
    "q5_1": (24, 32),
    "q4_0": (18, 32),
    "q4_1": (20, 32),
    "iq4_nl": (18, 32),
}


class Machine(Protocol):
    """What placement needs of ``hardware.Hardware``."""

    @property
    def cores(self) -> int: ...
    @property
    def threads(self) -> int: ...
    @property
    def gpus(self) -> Sequence[object]: ...


@dataclass(frozen=True, slots=True)
class Configuration:
    """What requests must agree on to share a runner, derived from options and settings."""

    n_ctx: int
    n_batch: int
    num_gpu: int
    main_gpu: int
    threads: int
    use_mmap: bool
    use_mlock: bool
    numa: bool


@dataclass(frozen=True, slots=True)
class Estimate:
    """Bytes by purpose; ``vram`` is the part of the whole that lies on accelerators.

    ``pinned`` can't be left in the file, so it must be there at once.
    """

    weights: int
    cache: int
    compute: int
    vram: int
    pinned: int

    @property
    def memory(self) -> Memory:
        return Memory(self.weights + self.cache + self.compute - self.vram, self.vram)


@dataclass(frozen=True, slots=True)
class Plan:
    load: Load
    estimate: Estimate


def free_memory(host: int, gpus: Iterable[int], settings: Settings) -> Memory:
    """What may be taken of free bytes: all, but for OLLAMA_GPU_OVERHEAD of each accelerator."""
    return Memory(host, sum(max(0, free - settings.gpu_overhead) for free in gpus))


def configure(
    shape: ModelShape, options: Mapping[str, Any], settings: Settings, machine: Machine
) -> Configuration:
    """The load options of a request, as they will be.

    ``num_ctx``, else OLLAMA_CONTEXT_LENGTH, but never more than the model was trained for. A model
    that pools reads a text in one go, so its batch is its context. More threads than the processor
    has would only wait for each other: with thousands a token takes seconds.
    """
    n_ctx = options["num_ctx"] or settings.context_length or DEFAULT_CONTEXT
    if shape.context_train:
        n_ctx = min(n_ctx, shape.context_train)
    n_ctx = max(n_ctx, LEAST_CONTEXT)
    return Configuration(
        n_ctx=n_ctx,
        n_batch=n_ctx if shape.pools else min(options["num_batch"], n_ctx),
        num_gpu=options["num_gpu"] if machine.gpus else 0,
        main_gpu=options["main_gpu"] if options["main_gpu"] < len(machine.gpus) else 0,
        threads=min(options["num_thread"], machine.threads) or machine.cores,
        use_mmap=options["use_mmap"] is not False,
        use_mlock=options["use_mlock"],
        numa=options["numa"],
    )


class Placement:
    """One model on one machine, as a request wants it; ``wanted`` is what requests must share."""

    def __init__(
        self,
        shape: ModelShape,
        options: Mapping[str, Any],
        settings: Settings,
        machine: Machine,
    ) -> None:
        self.wanted = configure(shape, options, settings, machine)
        self._shape = shape
        self._settings = settings
        self._machine = machine
        self._cache_type = cache_type(shape, settings)

    def smallest(self) -> Estimate:
        """The least that must be free to load the model beside others.

        That is one slot unless OLLAMA_NUM_PARALLEL says more, and on accelerators the whole model.
        """
        n_slots = 1 if self._shape.pools else self._settings.num_parallel or 1
        return self._estimate(n_slots, self._layers_wanted(), self._settings.flash_attention)

    def plan(self, model: str, adapters: Sequence[str], projector: str, room: Memory) -> Plan:
        """How to load ``model`` into ``room``, the memory that nothing else uses or will use."""
        n_slots = self._slots(room)
        gpu_layers = self._gpu_layers(n_slots, room.vram)
        flash = self._flash_attention(n_slots, gpu_layers, room)
        wanted = self.wanted
        load = Load(
            model=model,
            adapters=list(adapters),
            projector=projector,
            n_ctx=wanted.n_ctx,
            n_slots=n_slots,
            n_batch=wanted.n_batch,
            threads=wanted.threads,
            gpu_layers=gpu_layers,
            main_gpu=wanted.main_gpu,
            use_mmap=wanted.use_mmap,
            use_mlock=wanted.use_mlock,
            numa=wanted.numa,
            flash_attention=flash,
            kv_cache_type=self._cache_type,
            n_embed=_embedding_sequences(self._shape),
            pools=self._shape.pools,
            n_outputs=_outputs(self._shape, n_slots, wanted.n_batch),
        )
        return Plan(load, self._estimate(n_slots, gpu_layers, flash != "off"))

    def _slots(self, room: Memory) -> int:
        if self._shape.pools:
            return POOLED_REQUESTS
        if self._settings.num_parallel:
            return self._settings.num_parallel
        free = (room.vram if self.wanted.num_gpu else room.host) - self._shape.weights
        for n_slots in range(MOST_SLOTS, 1, -1):
            if self._cache(n_slots) * _CACHE_SHARE <= free:
                return n_slots
        return 1

    def _layers_wanted(self) -> int:
        """The output counts as one more layer; -1 asks for all."""
        everything = self._shape.layers + 1
        return everything if self.wanted.num_gpu < 0 else min(self.wanted.num_gpu, everything)

    def _gpu_layers(self, n_slots: int, vram: int) -> int:
        """Whole layers that the accelerators' memory holds, unless ``num_gpu`` says how many."""
        if self.wanted.num_gpu >= 0:
            return self._layers_wanted()
        for layers in range(self._shape.layers + 1, 0, -1):
            if self._estimate(n_slots, layers, self._settings.flash_attention).vram <= vram:
                return layers
        return 0

    def _flash_attention(
        self, n_slots: int, gpu_layers: int, room: Memory
    ) -> Literal["auto", "on", "off"]:
        """OLLAMA_FLASH_ATTENTION, else as suits the device.

        On a CPU it halves the speed of long contexts, but a quantised V cache needs it, and where
        memory is short its smaller buffers are worth that. Where a text is evaluated as a whole it
        is up to three times as fast, as it passes over what the inputs of a batch don't see of
        each other.
        """
        if self._settings.flash_attention is not None:
            return "on" if self._settings.flash_attention else "off"
        if _BLOCKS[self._cache_type][1] > 1:
            return "on"
        if gpu_layers:
            return "auto"
        if self._shape.pools:
            return "on"
        fits = self._estimate(n_slots, 0, flash=False).memory.fits(room)
        return "off" if fits else "on"

    def _cache(self, n_slots: int) -> int:
        return cache_bytes(self._shape, self.wanted.n_ctx, n_slots, self._cache_type)

    def _estimate(self, n_slots: int, gpu_layers: int, flash: bool | None) -> Estimate:
        """``flash`` None is not decided yet, and taken for what needs the least."""
        shape, wanted = self._shape, self.wanted
        cache = self._cache(n_slots)
        compute = compute_bytes(
            shape, wanted.n_ctx, n_slots, wanted.n_batch, flash=flash is not False
        )
        vram = 0
        if gpu_layers:
            compute += len(self._machine.gpus) * _DRIVER_SHARE
            layered = shape.weights - shape.projector + cache
            vram = compute + shape.projector + layered * gpu_layers // (shape.layers + 1)
        mapped = wanted.use_mmap and shape.mapped
        pinned = cache + compute + (shape.projector if mapped else shape.weights)
        return Estimate(shape.weights, cache, compute, vram, pinned)


def cache_type(shape: ModelShape, settings: Settings) -> str:
    """OLLAMA_KV_CACHE_TYPE where it is possible, else f16.

    A quantised type needs flash attention and heads that are whole blocks (llama-context.cpp).
    """
    _, block = _BLOCKS[settings.kv_cache_type]
    if block > 1 and (
        settings.flash_attention is False or any(n % block for n in shape.head_sizes)
    ):
        return "f16"
    return settings.kv_cache_type


def cache_bytes(shape: ModelShape, n_ctx: int, n_slots: int, kind: str) -> int:
    """The K/V cache of ``n_slots`` sequences of ``n_ctx`` tokens, and their recurrent states.

    A key and a value for each token, layer and K/V head. Layers with a sliding window need less,
    so this is an upper bound for models that have them. Requests to a model that pools share the
    cache of one sequence, if there is one.
    """
    if not shape.causal:
        return 0
    n_slots = 1 if shape.pools else n_slots
    size, block = _BLOCKS[kind]
    values = _cells(n_ctx, n_slots) * (shape.key_width + shape.value_width)
    # One more state is for embeddings.
    return values * size // block + (n_slots + 1) * shape.state_width * 4


def compute_bytes(shape: ModelShape, n_ctx: int, n_slots: int, n_batch: int, *, flash: bool) -> int:
    """The buffers of llama.cpp for one batch.

    For each token of the batch the feed-forward layer, some vectors of the embedding's size beside
    the attention's mask, or the attention over the whole cache: a 32-bit value for each head and
    one for the mask. With flash attention there is only a 16-bit mask. Plus the logits, computed
    and handed out, of each sequence. Fitted to what llama.cpp reports for a model of 1B parameters
    with 512 to 16,384 tokens of cache. The first prompt that is scored has the buffer grow in which
    logits are handed out.

    For a model that pools, llama.cpp sets room for the logits of every token of the batch aside,
    though it computes none if the model isn't causal.
    """
    if shape.pools:
        n_slots = 1
    cells = _cells(n_ctx, n_slots)
    attention = 0 if flash else cells * (shape.heads + 1) + 6 * shape.embedding
    feed_forward = cells // 2 + 15 * shape.embedding
    rows = _sequences(shape, n_slots) + _outputs(shape, n_slots, n_batch)
    if shape.pools:
        rows = 2 * n_batch if shape.causal else n_batch
    logits = rows * shape.vocabulary
    return 4 * (n_batch * max(attention, feed_forward) + logits)


def _outputs(shape: ModelShape, n_slots: int, n_batch: int) -> int:
    """Of how many tokens of a batch the logits can be had: of each sequence at least one."""
    scored = min(n_batch, _SCORES // (4 * max(shape.vocabulary, 1)))
    return max(_sequences(shape, n_slots), scored)


def _sequences(shape: ModelShape, n_slots: int) -> int:
    return n_slots + _SPARE_SEQUENCES + _embedding_sequences(shape)


def _embedding_sequences(shape: ModelShape) -> int:
    if shape.pools:
        return POOLED_REQUESTS
    return _EMBEDDING_SEQUENCES if shape.embeds else _FEW_EMBEDDING_SEQUENCES


def _cells(n_ctx: int, n_slots: int) -> int:
    return -(-n_ctx * n_slots // _CACHE_STEP) * _CACHE_STEP
