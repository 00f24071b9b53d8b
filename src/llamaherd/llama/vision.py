"""A projector in llama.cpp's libmtmd: from an image to what the language model is shown.

The functions follow ``mtmd.h`` of the revision that llama-cpp-python 0.3.36 carries.
"""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import numpy as np

from llamaherd.errors import InvalidGGUF, LoadError
from llamaherd.llama.backend import (
    Embeddings,
    EncodeFailed,
    Outline,
    Pixels,
    Positions,
    UnusableImage,
)
from llamaherd.llama.library import C, LoadLog, import_functions, log_callback
from llamaherd.llama.memory import MemoryUse, memory_use
from llamaherd.llama.streams import projector_file

_M: Final[Any] = import_functions("mtmd_cpp")
_BYTES: Final = ctypes.POINTER(ctypes.c_uint8)

#: Axes of a position with M-RoPE, in the order in which ``llama_batch`` has them.
_AXES: Final = ("t", "y", "x", "z")


class _Chunk:
    """Owns a copy of a ``mtmd_input_chunk``, an image made ready for the encoder."""

    def __init__(self, chunk: Any) -> None:
        self.pointer = _M.mtmd_input_chunk_copy(chunk)

    def __del__(self) -> None:
        _M.mtmd_input_chunk_free(self.pointer)


class Projector:
    """The vision encoder of a loaded model; ``close`` frees it. Belongs to one thread."""

    def __init__(
        self, path: Path, model: Any, *, threads: int, flash_attention: int, gpu: bool
    ) -> None:
        """Raises ``LoadError`` if the file can't be loaded, or isn't for this model or images."""
        if not path.is_file():
            raise LoadError(f"unable to load projector {path}: there is no such file")
        _M.mtmd_helper_log_set(log_callback, ctypes.c_void_p(0))
        params = _M.mtmd_context_params_default()
        params.use_gpu = gpu
        params.print_timings = False
        params.n_threads = threads
        params.flash_attn_type = flash_attention
        try:
            with LoadLog() as log, projector_file(path) as file:
                self._context = _M.mtmd_init_from_file(bytes(file), model, params)
                weights = file.stat().st_size
        except (InvalidGGUF, OSError) as error:
            raise LoadError(f"unable to load projector {path}: {error}") from error
        if not self._context:
            raise LoadError(f"unable to load projector {path}: {log.reason}")
        if not _M.mtmd_support_vision(self._context):
            self.close()
            raise LoadError(f"unable to load projector {path}: it isn't for images")
        self.width = int(C.llama_model_n_embd_inp(model))
        self.mutual = bool(_M.mtmd_decode_use_non_causal(self._context, None))
        self.memory = _with_weights(memory_use(log.lines), weights)
        self._axes = _AXES if _M.mtmd_decode_use_mrope(self._context) else _AXES[:1]

    def outline(self, pixels: Pixels) -> list[list[int] | Outline]:
        height, width, _ = pixels.shape
        data = np.ascontiguousarray(pixels)
        bitmap = _M.mtmd_bitmap_init(width, height, data.ctypes.data_as(_BYTES))
        chunks = _M.mtmd_input_chunks_init()
        try:
            marker = _M.mtmd_default_marker()
            text = _M.mtmd_input_text(marker, len(marker), False, True)
            bitmaps = (_M.mtmd_bitmap_p_ctypes * 1)(bitmap)
            with LoadLog() as log:
                result = _M.mtmd_tokenize(self._context, chunks, ctypes.byref(text), bitmaps, 1)
            if result != 0:
                raise UnusableImage(f"an image of {width} x {height} can't be used: {log.reason}")
            return list(self._parts(chunks))
        finally:
            _M.mtmd_input_chunks_free(chunks)
            _M.mtmd_bitmap_free(bitmap)

    def encode(self, outline: Outline) -> Embeddings:
        assert isinstance(outline.source, _Chunk)
        with LoadLog() as log:
            result = _M.mtmd_encode_chunk(self._context, outline.source.pointer)
        if result != 0:
            raise EncodeFailed(f"llama.cpp could not encode an image: {log.reason}")
        found = _M.mtmd_get_output_embd(self._context)
        return np.ctypeslib.as_array(found, (outline.length, self.width)).copy()

    def close(self) -> None:
        if self._context:
            _M.mtmd_free(self._context)
            self._context = None

    def _parts(self, chunks: Any) -> Iterator[list[int] | Outline]:
        for index in range(_M.mtmd_input_chunks_size(chunks)):
            chunk = _M.mtmd_input_chunks_get(chunks, index)
            if _M.mtmd_input_chunk_get_type(chunk) == _M.MTMD_INPUT_CHUNK_TYPE_TEXT:
                count = ctypes.c_size_t()
                tokens = _M.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
                yield _known(tokens[: count.value])
            else:
                yield self._outline(chunk)

    def _outline(self, chunk: Any) -> Outline:
        length = int(_M.mtmd_input_chunk_get_n_tokens(chunk))
        image = _M.mtmd_input_chunk_get_tokens_image(chunk)

        def places(position: int) -> Positions:
            found = [
                _M.mtmd_image_tokens_get_decoder_pos(image, position, index)
                for index in range(length)
            ]
            axes = [[getattr(each, axis) for each in found] for axis in self._axes]
            return np.array(axes, np.int32)

        if len(self._axes) == 1:
            # Without M-RoPE every embedding takes the next position, as a token does.
            at_zero = np.arange(length, dtype=np.int32)[np.newaxis]
            moves = np.ones_like(at_zero)
        else:
            # Each axis either moves with the beginning or doesn't depend on it.
            at_zero = places(0)
            moves = places(1) - at_zero
        span = int(_M.mtmd_input_chunk_get_n_pos(chunk))
        return Outline(_Chunk(chunk), length, span, at_zero, moves)


def _known(tokens: list[int]) -> list[int]:
    """Those around an image are looked up by their text, which a vocabulary may lack."""
    if min(tokens, default=0) < 0:
        raise UnusableImage("the model's vocabulary has no token for what stands around an image")
    return tokens


def _with_weights(buffers: MemoryUse, weights: int) -> MemoryUse:
    """libmtmd tells of its buffers, but not in the same way of its weights beside them."""
    vram = buffers.vram + weights if buffers.vram else 0
    return MemoryUse(model=weights, compute=buffers.compute, vram=vram)
