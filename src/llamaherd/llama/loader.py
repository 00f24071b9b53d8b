"""Loading a model into a ``LlamaBackend``."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from llamaherd.errors import InvalidGGUF, LoadError
from llamaherd.llama.binding import LlamaBackend
from llamaherd.llama.embedding import LastTokenBackend, PooledBackend
from llamaherd.llama.library import C, LoadLog, count_devices, expect_errors, initialise
from llamaherd.llama.memory import MemoryUse, memory_use
from llamaherd.llama.streams import text_stream

if TYPE_CHECKING:
    from llamaherd.llama.vision import Projector

FlashAttention = Literal["auto", "on", "off"]

#: ``ggml_type`` by the names of ``OLLAMA_KV_CACHE_TYPE``.
_CACHE_TYPES: Final = {
    "f32": 0,
    "f16": 1,
    "q4_0": 2,
    "q4_1": 3,
    "q5_0": 6,
    "q5_1": 7,
    "q8_0": 8,
    "iq4_nl": 20,
    "bf16": 30,
}
_UNQUANTISED: Final = ("f32", "f16", "bf16")

#: Finished sequences that may stay in the memory as prefixes for later requests, beside the slots.
SPARE_SEQUENCES: Final = 4

#: Tokens of an image that see each other, and so have to fit into a batch: 256 with Gemma 3.
_MUTUAL: Final = 512

#: A list without an entry before the null pointer that ends it.
_NO_DEVICES: Final = (ctypes.c_void_p * 1)()

Progress = Callable[[float], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelSpec:
    """What to load and how; the meanings are those of ``runner.protocol.Load``."""

    model: Path
    adapters: Sequence[Path] = ()
    n_ctx: int
    n_slots: int
    n_batch: int
    threads: int
    gpu_layers: int = -1
    main_gpu: int = 0
    use_mmap: bool = True
    use_mlock: bool = False
    numa: bool = False
    flash_attention: FlashAttention = "auto"
    kv_cache_type: str = "f16"
    extra_buffers: bool = True
    n_embed: int = 0
    n_outputs: int = 0
    projector: Path | None = None


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A backend ready to work, the context it was trained for, and its memory.

    ``vectors`` computes embeddings in the same context, if that has sequences for them.
    ``projector`` is there if the model sees.
    """

    backend: LlamaBackend
    vectors: LastTokenBackend | None
    projector: Projector | None
    n_ctx_train: int
    memory: MemoryUse

    def close(self) -> None:
        if self.projector is not None:
            self.projector.close()
        self.backend.close()


@dataclass(frozen=True, slots=True)
class LoadedEncoder:
    """A model that does nothing but embed; otherwise as ``LoadedModel``."""

    backend: PooledBackend
    n_ctx_train: int
    memory: MemoryUse


def load(spec: ModelSpec, progress: Progress) -> LoadedModel:
    """Load model, adapters and context, calling ``progress`` with 0 to 1.

    The context of one sequence is at most what the model was trained for. Raises ``LoadError``
    with the reason that llama.cpp's log gives; files other than the model are named.
    """
    with _model(spec, progress) as (model, log), _projector(spec, model) as projector:
        n_ctx, n_ctx_train = _context_length(spec, model)
        n_embed = _embedding_sequences(spec, model)
        params = _for_text(spec, model, n_ctx, n_embed)
        if projector is not None and projector.mutual:
            # An image is evaluated in one piece.
            params.n_batch = params.n_ubatch = max(params.n_batch, min(_MUTUAL, params.n_ctx))
        context = _make_context(spec, model, params, log)
        with _freed_on_error(context):
            _apply_adapters(spec, model, context, log)
            on_gpu = spec.gpu_layers != 0 and bool(C.llama_supports_gpu_offload())
            backend = LlamaBackend(
                model,
                context,
                n_ctx=n_ctx,
                n_embed=n_embed,
                n_outputs=int(params.n_outputs_max),
                asynchronous=on_gpu,
            )
            # Without a memory a last token would know nothing of those before it.
            can_embed = n_embed > 0 and bool(C.llama_get_memory(context))
            vectors = LastTokenBackend(backend) if can_embed else None
    memory = memory_use(log.lines)
    if projector is not None:
        memory += projector.memory
    return LoadedModel(backend, vectors, projector, n_ctx_train, memory)


def load_encoder(spec: ModelSpec, progress: Progress) -> LoadedEncoder:
    """Load a model that pools (``runner.protocol.Load.pools``); otherwise as ``load``."""
    with _model(spec, progress) as (model, log):
        n_ctx, n_ctx_train = _context_length(spec, model)
        params = _for_pooling(spec, n_ctx)
        context = _make_context(spec, model, params, log)
        if C.llama_pooling_type(context) == C.LLAMA_POOLING_TYPE_NONE:
            C.llama_free(context)
            params.pooling_type = C.LLAMA_POOLING_TYPE_MEAN
            context = _make_context(spec, model, params, log)
        with _freed_on_error(context):
            _apply_adapters(spec, model, context, log)
            backend = PooledBackend(model, context, n_ctx=n_ctx)
    return LoadedEncoder(backend, n_ctx_train, memory_use(log.lines))


@contextmanager
def _model(spec: ModelSpec, progress: Progress) -> Iterator[tuple[Any, LoadLog]]:
    """The model, freed if what is made of it fails, and the log for as long."""
    if spec.kv_cache_type not in _CACHE_TYPES:
        raise LoadError(f"unknown type of K/V cache {spec.kv_cache_type!r}")
    if spec.n_ctx < 1 or spec.n_slots < 1:
        raise LoadError(f"no room for a token: n_ctx {spec.n_ctx}, n_slots {spec.n_slots}")
    _start(spec)
    with LoadLog() as log:
        model = _load_model(spec, progress, log)
        try:
            _require_vocabulary(model)
            yield model, log
        except BaseException:
            C.llama_model_free(model)
            raise


@contextmanager
def _freed_on_error(context: Any) -> Iterator[None]:
    try:
        yield
    except BaseException:
        C.llama_free(context)
        raise


def _start(spec: ModelSpec) -> None:
    """Start the library and have its backends look for devices.

    What a driver complains of is no reason why a load fails; the server has told it already.
    """
    expect_errors(True)
    initialise(numa=spec.numa)
    count_devices()
    expect_errors(False)


def _context_length(spec: ModelSpec, model: Any) -> tuple[int, int]:
    """Of one sequence, and as the model was trained."""
    trained = int(C.llama_model_n_ctx_train(model))
    return min(spec.n_ctx, trained) if trained > 0 else spec.n_ctx, trained


def _load_model(spec: ModelSpec, progress: Progress, log: LoadLog) -> Any:
    if not spec.model.is_file():
        raise LoadError("there is no such file")

    def report(fraction: float, _: object) -> bool:
        progress(fraction)
        return True

    callback = C.llama_progress_callback(report)
    params = C.llama_model_default_params()
    params.n_gpu_layers = spec.gpu_layers
    params.main_gpu = spec.main_gpu
    if spec.gpu_layers == 0:
        # Otherwise llama.cpp computes long prompts there, with buffers that nobody counted on.
        params.devices = ctypes.addressof(_NO_DEVICES)
    params.load_mode = _load_mode(spec.use_mmap, spec.use_mlock)
    params.use_extra_bufts = spec.extra_buffers
    params.progress_callback = callback
    try:
        with text_stream(spec.model) as stream:
            if stream is None:
                model = C.llama_model_load_from_file(bytes(spec.model), params)
            else:
                params.load_mode = _load_mode(False, spec.use_mlock)
                params.lazy_mode = C.LLAMA_LAZY_MODE_OFF
                model = C.llama_model_load_from_file_ptr(stream.file, params)
                if stream.failure is not None:
                    raise stream.failure
    except (InvalidGGUF, OSError) as error:
        raise LoadError(str(error)) from error
    if not model:
        raise LoadError(log.reason)
    return model


@contextmanager
def _projector(spec: ModelSpec, model: Any) -> Iterator[Projector | None]:
    """What sees for the model, closed if what follows fails.

    Few models have one, so its library is loaded only then.
    """
    if spec.projector is None:
        yield None
        return
    from llamaherd.llama.vision import Projector

    projector = Projector(
        spec.projector,
        model,
        threads=spec.threads,
        flash_attention=int(C.LLAMA_FLASH_ATTN_TYPE_AUTO),
        gpu=spec.gpu_layers != 0 and bool(C.llama_supports_gpu_offload()),
    )
    try:
        yield projector
    except BaseException:
        projector.close()
        raise


def _require_vocabulary(model: Any) -> None:
    """llama.cpp would load the model and end the process with the first text."""
    if C.llama_vocab_type(C.llama_model_get_vocab(model)) == C.LLAMA_VOCAB_TYPE_NONE:
        raise LoadError("the model has no vocabulary")


def _load_mode(use_mmap: bool, use_mlock: bool) -> int:
    if use_mmap:
        return int(C.LLAMA_LOAD_MODE_MMAP_MLOCK if use_mlock else C.LLAMA_LOAD_MODE_MMAP)
    return int(C.LLAMA_LOAD_MODE_MLOCK if use_mlock else C.LLAMA_LOAD_MODE_NONE)


def _for_text(spec: ModelSpec, model: Any, n_ctx: int, n_embed: int) -> Any:
    """Parameters of a context that writes text, with ``n_embed`` sequences for embeddings."""
    params = C.llama_context_default_params()
    n_seq = spec.n_slots + n_embed
    if not _costs_per_sequence(model):
        n_seq += SPARE_SEQUENCES
    params.n_seq_max = min(n_seq, int(C.llama_max_parallel_sequences()))
    # llama.cpp aborts when a batch, or the whole context, can't take a token of every sequence.
    params.n_ctx = max(n_ctx * spec.n_slots, params.n_seq_max)
    params.n_batch = params.n_ubatch = max(min(spec.n_batch, params.n_ctx), params.n_seq_max)
    # Room for logits is set aside for so many rows of a batch. The engine wants one for each reply,
    # and more where it scores a prompt; llama.cpp aborts below the number of sequences.
    params.n_outputs_max = max(min(spec.n_outputs, params.n_batch), params.n_seq_max)
    params.pooling_type = C.LLAMA_POOLING_TYPE_NONE
    return params


def _for_pooling(spec: ModelSpec, n_ctx: int) -> Any:
    """Parameters of a context that only embeds, several sequences in a batch."""
    params = C.llama_context_default_params()
    params.embeddings = True
    params.n_ctx = n_ctx
    params.n_batch = params.n_ubatch = max(spec.n_batch, n_ctx)
    params.n_seq_max = min(
        max(spec.n_embed, 1), params.n_batch, int(C.llama_max_parallel_sequences())
    )
    return params


def _make_context(spec: ModelSpec, model: Any, params: Any, log: LoadLog) -> Any:
    params.n_threads = params.n_threads_batch = spec.threads
    params.flash_attn_type = _flash_attention(spec)
    params.type_k = params.type_v = _CACHE_TYPES[spec.kv_cache_type]
    params.kv_unified = True
    params.swa_full = False
    params.no_perf = True
    context = C.llama_init_from_model(model, params)
    if not context:
        raise LoadError(f"unable to create a context: {log.reason}")
    return context


def _costs_per_sequence(model: Any) -> bool:
    """Whether the model keeps a state or a window for each sequence."""
    return bool(
        C.llama_model_is_recurrent(model)
        or C.llama_model_is_hybrid(model)
        or C.llama_model_n_swa(model) > 0
    )


def _embedding_sequences(spec: ModelSpec, model: Any) -> int:
    most = 1 if _costs_per_sequence(model) else int(C.llama_max_parallel_sequences()) - spec.n_slots
    return max(0, min(spec.n_embed, most))


def _flash_attention(spec: ModelSpec) -> int:
    """On a CPU attention is faster without it, but a quantised V cache needs it."""
    if spec.flash_attention == "auto":
        if spec.kv_cache_type not in _UNQUANTISED:
            return int(C.LLAMA_FLASH_ATTN_TYPE_ENABLED)
        if spec.gpu_layers == 0 or not C.llama_supports_gpu_offload():
            return int(C.LLAMA_FLASH_ATTN_TYPE_DISABLED)
        return int(C.LLAMA_FLASH_ATTN_TYPE_AUTO)
    if spec.flash_attention == "on":
        return int(C.LLAMA_FLASH_ATTN_TYPE_ENABLED)
    return int(C.LLAMA_FLASH_ATTN_TYPE_DISABLED)


def _apply_adapters(spec: ModelSpec, model: Any, context: Any, log: LoadLog) -> None:
    if not spec.adapters:
        return
    adapters = (C.llama_adapter_lora_p_ctypes * len(spec.adapters))()
    for index, path in enumerate(spec.adapters):
        adapter = C.llama_adapter_lora_init(model, bytes(path))
        if not adapter:
            raise LoadError(f"unable to load adapter {path}: {log.reason}")
        adapters[index] = adapter
    scales = (ctypes.c_float * len(adapters))(*[1.0] * len(adapters))
    if C.llama_set_adapters_lora(context, adapters, len(adapters), scales) != 0:
        raise LoadError(f"the adapters do not fit the model: {log.reason}")
