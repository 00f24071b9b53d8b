"""What llama.cpp's own multimodal library makes of a prompt with images.

``mtmd_tokenize`` and ``mtmd_helper_eval_chunks`` of libmtmd read the prompt and the most probable
tokens follow, on one thread and, unless it is asked for, without flash attention. Nothing of the
project's engine has part in it. ``ask_oracle`` runs it in a process of its own, as the library
keeps state and may abort.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from tests.support.pictures import Pixels
from tests.support.vision import VisionModel

#: Stands for an image in a prompt.
MARKER: Final = "<__media__>"

_PATIENCE: Final = 60.0

#: In bytes; a token of the tests' models has fewer.
_LONGEST_PIECE: Final = 64


@dataclass(frozen=True)
class Question:
    """A prompt and its images, as pixels or as files in PNG or JPEG, for ``n_predict`` tokens."""

    prompt: str
    images: Sequence[Pixels | bytes] = ()
    n_predict: int = 8


@dataclass(frozen=True)
class Chunk:
    """A part of a prompt: ``tokens`` of text, or an image, which has none."""

    n_tokens: int
    n_pos: int
    tokens: list[int] | None
    non_causal: bool


@dataclass(frozen=True)
class Answer:
    """The reply's tokens, their text, and the logits of the first, one for each token there is."""

    tokens: list[int]
    text: str
    logits: npt.NDArray[np.float32]
    chunks: list[Chunk]

    @property
    def n_tokens(self) -> int:
        """The cells that the prompt takes in the memory."""
        return sum(chunk.n_tokens for chunk in self.chunks)

    @property
    def n_pos(self) -> int:
        """The position of the first token of the reply."""
        return sum(chunk.n_pos for chunk in self.chunks)


class OracleFailed(Exception):
    """The process's exit status (below zero: a signal) and what was logged."""


def ask_oracle(
    model: VisionModel,
    *questions: Question,
    n_ctx: int = 512,
    n_batch: int = 512,
    as_served: bool = False,
) -> list[Answer]:
    """Answer each question on its own; raises ``OracleFailed`` if llama.cpp fails or aborts.

    ``as_served`` gives the cache numbers of 32 bits, and flash attention to the encoder, as a
    server with OLLAMA_KV_CACHE_TYPE=f32 does.
    A prompt must not end with an image, after which libmtmd keeps no logits.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.mtmd_oracle"],
        input=pickle.dumps((model, questions, n_ctx, n_batch, as_served)),
        capture_output=True,
        check=False,
        cwd=Path(__file__).parents[2],
        timeout=_PATIENCE,
    )
    if done.returncode != 0:
        raise OracleFailed(done.returncode, done.stderr.decode(errors="replace"))
    answers: list[Answer] = pickle.loads(done.stdout)
    return answers


def main() -> None:
    """Read questions from standard input and write the answers to standard output."""
    model, questions, n_ctx, n_batch, as_served = pickle.load(sys.stdin.buffer)
    with _Oracle.open(model, n_ctx, n_batch, as_served) as oracle:
        answers = [oracle.answer(question) for question in questions]
    sys.stdout.buffer.write(pickle.dumps(answers))


class _Oracle:
    def __init__(self, model: int, context: int, mtmd: int, n_batch: int) -> None:
        self._model, self._context, self._mtmd, self._n_batch = model, context, mtmd, n_batch

    @classmethod
    @contextmanager
    def open(
        cls, files: VisionModel, n_ctx: int, n_batch: int, as_served: bool
    ) -> Iterator[_Oracle]:
        from llama_cpp import llama_cpp, mtmd_cpp

        llama_cpp.llama_backend_init()
        model_params = llama_cpp.llama_model_default_params()
        model_params.n_gpu_layers = 0
        model = _present(
            llama_cpp.llama_model_load_from_file(os.fsencode(files.model), model_params)
        )
        params = llama_cpp.llama_context_default_params()
        params.n_ctx, params.n_batch, params.n_ubatch = n_ctx, n_batch, n_batch
        params.n_threads = params.n_threads_batch = 1
        params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if as_served:
            params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
        context = _present(llama_cpp.llama_init_from_model(model, params))
        mtmd_params = mtmd_cpp.mtmd_context_params_default()
        mtmd_params.use_gpu = False
        mtmd_params.n_threads = 1
        mtmd_params.print_timings = False
        mtmd_params.warmup = False
        if not as_served:
            mtmd_params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
        mtmd = _present(
            mtmd_cpp.mtmd_init_from_file(os.fsencode(files.projector), model, mtmd_params)
        )
        try:
            yield cls(model, context, mtmd, n_batch)
        finally:
            mtmd_cpp.mtmd_free(mtmd)
            llama_cpp.llama_free(context)
            llama_cpp.llama_model_free(model)

    def answer(self, question: Question) -> Answer:
        from llama_cpp import llama_cpp, mtmd_cpp

        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self._context), True)
        position = llama_cpp.llama_pos(0)
        with self._chunks(question) as chunks:
            parts = [
                self._part(mtmd_cpp.mtmd_input_chunks_get(chunks, index))
                for index in range(mtmd_cpp.mtmd_input_chunks_size(chunks))
            ]
            _check(
                mtmd_cpp.mtmd_helper_eval_chunks(
                    self._mtmd,
                    self._context,
                    chunks,
                    0,
                    0,
                    self._n_batch,
                    True,
                    ctypes.byref(position),
                )
            )
        tokens: list[int] = []
        first = self._logits()
        logits = first
        for step in range(question.n_predict):
            tokens.append(int(logits.argmax()))
            if step + 1 < question.n_predict:
                self._decode(tokens[-1], position.value + step)
                logits = self._logits()
        text = b"".join(map(self._piece, tokens)).decode(errors="replace")
        return Answer(tokens, text, first, parts)

    @contextmanager
    def _chunks(self, question: Question) -> Iterator[int]:
        from llama_cpp import mtmd_cpp

        bitmaps = [self._bitmap(image) for image in question.images]
        chunks = _present(mtmd_cpp.mtmd_input_chunks_init())
        try:
            prompt = question.prompt.encode()
            text = mtmd_cpp.mtmd_input_text(prompt, len(prompt), True, True)
            array = (mtmd_cpp.mtmd_bitmap_p_ctypes * len(bitmaps))(*bitmaps)
            _check(
                mtmd_cpp.mtmd_tokenize(self._mtmd, chunks, ctypes.byref(text), array, len(bitmaps))
            )
            yield chunks
        finally:
            mtmd_cpp.mtmd_input_chunks_free(chunks)
            for bitmap in bitmaps:
                mtmd_cpp.mtmd_bitmap_free(bitmap)

    def _bitmap(self, image: Pixels | bytes) -> Any:
        from llama_cpp import mtmd_cpp

        if isinstance(image, bytes):
            buffer = (ctypes.c_uint8 * len(image)).from_buffer_copy(image)
            return _present(
                mtmd_cpp.mtmd_helper_bitmap_init_from_buf(self._mtmd, buffer, len(image), False)
            )
        height, width, _ = image.shape
        data = np.ascontiguousarray(image, np.uint8).ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        return _present(mtmd_cpp.mtmd_bitmap_init(width, height, data))

    def _part(self, chunk: Any) -> Chunk:
        from llama_cpp import mtmd_cpp

        tokens: list[int] | None = None
        if mtmd_cpp.mtmd_input_chunk_get_type(chunk) == mtmd_cpp.MTMD_INPUT_CHUNK_TYPE_TEXT:
            count = ctypes.c_size_t()
            found = mtmd_cpp.mtmd_input_chunk_get_tokens_text(chunk, ctypes.byref(count))
            tokens = found[: count.value]
        return Chunk(
            mtmd_cpp.mtmd_input_chunk_get_n_tokens(chunk),
            mtmd_cpp.mtmd_input_chunk_get_n_pos(chunk),
            tokens,
            tokens is None and mtmd_cpp.mtmd_decode_use_non_causal(self._mtmd, chunk),
        )

    def _decode(self, token: int, position: int) -> None:
        from llama_cpp import llama_cpp

        batch = llama_cpp.llama_batch_init(1, 0, 1)
        try:
            batch.n_tokens = 1
            batch.token[0], batch.pos[0] = token, position
            batch.n_seq_id[0], batch.seq_id[0][0] = 1, 0
            batch.logits[0] = True
            _check(llama_cpp.llama_decode(self._context, batch))
        finally:
            llama_cpp.llama_batch_free(batch)

    def _piece(self, token: int) -> bytes:
        from llama_cpp import llama_cpp

        vocabulary = llama_cpp.llama_model_get_vocab(self._model)
        buffer = ctypes.create_string_buffer(_LONGEST_PIECE)
        length = llama_cpp.llama_token_to_piece(vocabulary, token, buffer, len(buffer), 0, True)
        return buffer.raw[:length]

    def _logits(self) -> npt.NDArray[np.float32]:
        from llama_cpp import llama_cpp

        count = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self._model))
        found = _present(llama_cpp.llama_get_logits_ith(self._context, -1))
        return np.ctypeslib.as_array(found, (count,)).copy()


def _present(found: Any) -> Any:
    if not found:
        raise RuntimeError("llama.cpp returned no object")
    return found


def _check(status: int) -> None:
    if status != 0:
        raise RuntimeError(f"llama.cpp returned {status}")


if __name__ == "__main__":
    # What is pickled belongs to the module by its name, not to __main__.
    from tests.support import mtmd_oracle

    mtmd_oracle.main()
