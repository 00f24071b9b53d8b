"""The runner process: one model, behind ``runner.protocol`` on standard input and output.

The main thread runs the engines, one that writes and one that embeds, a step of each in turn; a
reader thread takes in messages, answers what needs no engine, and ends the process when the server
has gone, even during a long evaluation; another waits for SIGTERM for the same reason. Long texts
are tokenized in threads of their own.
"""

from __future__ import annotations

import ctypes
import importlib
import logging
import os
import signal
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Final, NoReturn

from llamaherd.config import Settings
from llamaherd.engine.embedding import Embedder
from llamaherd.engine.engine import Engine
from llamaherd.engine.failures import failure_of
from llamaherd.engine.passages import PassageReader, Passages
from llamaherd.errors import BadRequest, LoadError
from llamaherd.llama.environment import choose_threads, prepare
from llamaherd.llama.stack import make_threads_roomy
from llamaherd.observe import PLAIN, configure_logging
from llamaherd.runner.frames import FrameWriter, read_frame
from llamaherd.runner.intake import Intake, Viewed, Work
from llamaherd.runner.protocol import (
    VERSION,
    Cancel,
    Conclude,
    Detokenize,
    Detokenized,
    Embed,
    Failed,
    Generate,
    Load,
    LoadFailed,
    Loading,
    Look,
    ProtocolError,
    Ready,
    RunnerMessage,
    ServerMessage,
    Shutdown,
    Tokenize,
    Tokens,
    decode_server_message,
)
from llamaherd.runner.viewing import Viewing

if TYPE_CHECKING:
    from llamaherd.llama.loader import LoadedEncoder, LoadedModel
    from llamaherd.llama.vocabulary import Vocabulary

logger = logging.getLogger(__name__)

#: Progress of loading is told in steps of this.
_PROGRESS_STEP: Final = 0.01

#: Texts of more characters, and more tokens, are translated in threads of their own: llama.cpp
#: takes quadratic time for some, and cancellations must get through meanwhile.
_LONG_TEXT: Final = 1 << 16
_TRANSLATORS: Final = 2

_PR_SET_PDEATHSIG: Final = 1


class Runner:
    """Takes messages from ``source`` until it ends, and answers through ``writer``."""

    def __init__(self, source: BinaryIO, writer: FrameWriter) -> None:
        self._source = source
        self._writer = writer
        self._intake = Intake()
        self._vocabulary: Vocabulary | None = None
        self._engine: Engine | None = None
        self._embedder: Embedder | None = None
        self._passages: PassageReader | None = None
        self._translators = ThreadPoolExecutor(_TRANSLATORS, "translator")
        self._viewing = Viewing(self._intake, writer)

    def run(self) -> NoReturn:
        threading.Thread(target=self._read, name="reader", daemon=True).start()
        load_library()
        first = self._intake.get()
        if not isinstance(first, Load):
            raise ProtocolError(f"the first message is {type(first).__name__}, not Load")
        model = self._load(first)
        self._set_up(first, model)
        self._writer.send([_ready(first, model)])
        self._serve()

    # --- main thread ------------------------------------------------------------------------

    def _set_up(self, request: Load, model: LoadedModel | LoadedEncoder) -> None:
        from llamaherd.llama.loader import LoadedModel

        send = self._writer.send
        vocabulary = model.backend.vocabulary
        if isinstance(model, LoadedModel):
            self._engine = engine = Engine(model.backend, request.n_slots, send)
            if (vectors := model.vectors) is not None:
                self._embedder = Embedder(vectors, send, engine.make_room)
                self._passages = PassageReader(vocabulary, vectors)
            if model.projector is not None:
                from llamaherd.engine.vision import Viewer, most_cells

                backend = model.backend
                most = most_cells(model.projector, backend.n_ctx, backend.batch.capacity)
                self._viewing.viewer = Viewer(model.projector, most)
        else:
            self._embedder = Embedder(model.backend, send)
            self._passages = PassageReader(vocabulary, model.backend)
        self._vocabulary = vocabulary

    def _load(self, request: Load) -> LoadedModel | LoadedEncoder:
        from llamaherd.llama.loader import ModelSpec, load, load_encoder

        path = Path(request.model)
        told = 0.0

        def progress(fraction: float) -> None:
            nonlocal told
            if fraction - told >= _PROGRESS_STEP or fraction >= 1:
                told = fraction
                self._writer.send([Loading(fraction)])

        self._writer.send([Loading(0.0)])
        try:
            if request.version != VERSION:
                raise LoadError(f"protocol version {request.version}, this runner has {VERSION}")
            spec = ModelSpec(
                model=path,
                adapters=[Path(adapter) for adapter in request.adapters],
                n_ctx=request.n_ctx,
                n_slots=request.n_slots,
                n_batch=request.n_batch,
                threads=choose_threads(request.threads, path),
                gpu_layers=request.gpu_layers,
                main_gpu=request.main_gpu,
                use_mmap=request.use_mmap,
                use_mlock=request.use_mlock,
                numa=request.numa,
                flash_attention=request.flash_attention,
                kv_cache_type=request.kv_cache_type,
                extra_buffers=request.extra_buffers,
                n_embed=request.n_embed,
                n_outputs=request.n_outputs,
                projector=Path(request.projector) if request.projector else None,
            )
            return load_encoder(spec, progress) if request.pools else load(spec, progress)
        except LoadError as error:
            self._writer.send([LoadFailed(error.message)])
            self._writer.flush()
            os._exit(1)

    def _serve(self) -> NoReturn:
        engine, embedder = self._engine, self._embedder
        while True:
            writes = engine is not None and engine.busy
            embeds = embedder is not None and embedder.busy
            if not (writes or embeds):
                self._handle(self._intake.get())
            while not self._intake.empty():
                self._handle(self._intake.get())
            if engine is not None and engine.busy:
                engine.step()
            if embedder is not None and embedder.busy:
                embedder.step(writing=engine.writing if engine is not None else 0)

    def _handle(self, message: Work) -> None:
        if isinstance(message, Generate):
            self._handle(Viewed(message))
        elif isinstance(message, Viewed):
            request = message.request
            if self._engine is None:
                self._refuse(request.id, "this model only embeds, it does not write text")
            else:
                self._engine.submit(request, message.images, message.duration)
        elif isinstance(message, Passages):
            assert self._embedder is not None
            self._embedder.submit(message)
        elif isinstance(message, Cancel):
            for engine in (self._engine, self._embedder):
                if engine is not None:
                    engine.cancel(message.id)
        elif isinstance(message, Conclude):
            if self._engine is not None:
                self._engine.conclude(message.id)
        else:
            raise ProtocolError(f"unexpected {type(message).__name__} after loading")

    def _refuse(self, request: int, why: str) -> None:
        self._writer.send([Failed(request, why, BadRequest.status)])

    # --- reader thread ----------------------------------------------------------------------

    def _read(self) -> None:
        """Until the server has gone, which ends the process at once."""
        status = 1
        try:
            while (body := read_frame(self._source)) is not None:
                self._receive(decode_server_message(body))
            status = 0
        except ProtocolError:
            logger.exception("the server broke the protocol")
        finally:
            os._exit(status)

    def _receive(self, message: ServerMessage) -> None:
        if isinstance(message, Shutdown):
            os._exit(0)
        if isinstance(message, (Tokenize, Detokenize)) and _size(message) > _LONG_TEXT:
            self._translators.submit(self._answer, message)
        elif isinstance(message, (Tokenize, Detokenize)):
            self._answer(message)
        elif isinstance(message, Look):
            self._viewing.look(message)
        elif isinstance(message, Generate) and message.images:
            self._viewing.view(message)
        elif isinstance(message, Embed):
            self._intake.begin(message.id)
            if sum(map(len, message.inputs)) > _LONG_TEXT:
                self._translators.submit(self._read_inputs, message)
            else:
                self._read_inputs(message)
        else:
            self._pass_on(message)

    def _pass_on(self, message: ServerMessage) -> None:
        self._intake.put(message)
        if isinstance(message, Cancel):
            for engine in (self._engine, self._embedder):
                if engine is not None:
                    engine.interrupt(message.id)

    def _read_inputs(self, message: Embed) -> None:
        """Queue what there is to embed."""
        try:
            if self._passages is None:
                raise LoadError("the model is not loaded yet, or not for embeddings")
            passages = self._passages.read(message)
        except Exception as error:
            self._intake.end(message.id)
            self._writer.send([failure_of(message.id, error)])
        else:
            self._intake.end(message.id, passages)

    # --- translators' threads, or the reader's ----------------------------------------------

    def _answer(self, message: Tokenize | Detokenize) -> None:
        try:
            answer = self._translate(message)
        except Exception as error:
            answer = failure_of(message.id, error)
        self._writer.send([answer])

    def _translate(self, message: Tokenize | Detokenize) -> RunnerMessage:
        vocabulary = self._vocabulary
        if vocabulary is None:
            return Failed(message.id, "the model is not loaded yet")
        if isinstance(message, Detokenize):
            return Detokenized(message.id, vocabulary.detokenize(message.tokens))
        tokens = vocabulary.tokenize(
            message.text, add_special=message.add_special, parse_special=message.parse_special
        )
        pieces = [vocabulary.piece(token) for token in tokens] if message.with_pieces else []
        return Tokens(message.id, tokens, pieces)


def _size(message: Tokenize | Detokenize) -> int:
    return len(message.text if isinstance(message, Tokenize) else message.tokens)


def _ready(request: Load, model: LoadedModel | LoadedEncoder) -> Ready:
    from llamaherd.llama.library import system_info

    memory = model.memory
    return Ready(
        n_ctx=model.backend.n_ctx,
        n_slots=request.n_slots,
        n_ctx_train=model.n_ctx_train,
        n_vocab=model.backend.n_vocab,
        model_bytes=memory.model,
        cache_bytes=memory.cache,
        compute_bytes=memory.compute,
        vram_bytes=memory.vram,
        system_info=system_info(),
    )


def load_library() -> None:
    """Load llama.cpp, which reads its part of the environment then.

    A spare runner does this long before it is told its model.
    """
    prepare()
    importlib.import_module("llamaherd.llama.loader")


def take_over_pipes() -> tuple[BinaryIO, int]:
    """The frames' input and output; what else reads standard input finds nothing, and what is
    printed goes to standard error, where it can't corrupt a frame."""
    source = os.fdopen(os.dup(0), "rb")
    target = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return source, target


def end_with_the_server() -> None:
    """Leave the terminal's Ctrl-C to the server, end at once on SIGTERM, and with our parent."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    woken, waker = os.pipe()
    os.set_blocking(waker, False)
    # Python would run the handler in the main thread only, and not before a long evaluation ends;
    # the byte is written as soon as the signal comes.
    signal.set_wakeup_fd(waker)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    threading.Thread(target=_end_when_woken, args=(woken,), name="sigterm", daemon=True).start()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end_when_woken(descriptor: int) -> None:
    os.read(descriptor, 1)
    os._exit(0)


def main() -> NoReturn:
    source, target = take_over_pipes()
    make_threads_roomy()
    end_with_the_server()
    configure_logging(Settings.from_environ().debug, formatter=PLAIN)
    try:
        Runner(source, FrameWriter(target, lost=lambda: os._exit(0))).run()
    except BaseException:
        # Leaving by the interpreter's door could wait for the reader, who waits for the server.
        logger.exception("the runner failed")
        os._exit(1)


if __name__ == "__main__":
    main()
