"""A runner as the server sees it: load one model, answer requests, end.

Whatever happens to the process, nobody waits for ever: when it ends all its requests fail with the
reason, and it is always reaped.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Final, TypeVar

from llamaherd.duration import FOREVER, SECOND
from llamaherd.errors import (
    LoadError,
    LoadTimeout,
    RunnerDied,
)
from llamaherd.grammar import Form
from llamaherd.runner.child import Child, Exit
from llamaherd.runner.generation import Generation
from llamaherd.runner.inbox import Inbox, failure
from llamaherd.runner.protocol import (
    VERSION,
    Cancel,
    Conclude,
    Detokenize,
    Detokenized,
    Finished,
    Generate,
    Load,
    LoadFailed,
    Loading,
    Look,
    Placed,
    ProtocolError,
    Ready,
    RunnerMessage,
    Sampling,
    Seen,
    ServerMessage,
    Shutdown,
    Tokenize,
    Tokens,
    Vectors,
)

#: ``-P`` keeps a folder named llamaherd where the server was started from being run instead.
COMMAND: Final = (sys.executable, "-P", "-m", "llamaherd.runner.main")

#: What clients of Ollama match on when a runner goes away.
STOPPED_UNEXPECTEDLY: Final = (
    "model runner has unexpectedly stopped, this may be due to resource limitations "
    "or an internal error, check ollama server logs for details"
)

UNLOADED: Final = "model was unloaded while the request was running"

#: How long ``stop`` waits after each of its steps, in nanoseconds.
GRACE: Final = 3 * SECOND

Answer = TypeVar("Answer", Tokens, Detokenized, Seen)


class Runner:
    """A process that has loaded ``load``; made by ``start``, used by the tasks of one event loop.

    ``info`` is what it said when it was ready. ``exit`` is None until it ended. ``served`` tells
    whether any ``Generate`` came to its end or any ``Embed`` gave vectors, which proves that the
    engine's build can decode.
    """

    load: Load
    info: Ready

    def __init__(self) -> None:
        self.exit: Exit | None = None
        self.served = False
        self._child = Child(self._receive, self._ended)
        self._loading: Inbox | None = None
        self._inboxes: dict[int, Inbox] = {}
        self._next_request = 0
        self._gone = asyncio.Event()
        self._stopping: str | None = None
        self._opening: list[int] | None = None

    @classmethod
    async def start(
        cls,
        load: Load,
        *,
        load_timeout_ns: int = FOREVER,
        command: Sequence[str] | None = None,
        env: Mapping[str, str] | None = None,
    ) -> Runner:
        """``spawn`` a process and have it load ``load``; raises what ``load_model`` raises."""
        try:
            runner = await cls.spawn(command, env)
        except OSError as error:
            raise LoadError(
                f"error loading model {load.model}: can't start its runner: {error}"
            ) from error
        await runner.load_model(load, load_timeout_ns=load_timeout_ns)
        return runner

    @classmethod
    async def spawn(
        cls, command: Sequence[str] | None = None, env: Mapping[str, str] | None = None
    ) -> Runner:
        """Start a process that waits for its model. ``env`` None is our own environment.

        Raises ``OSError``. Cancelling ends the process.
        """
        runner = cls()
        runner._child.spawn(command or COMMAND, env)
        try:
            await runner._child.connect()
        except BaseException:
            await runner._kill()
            raise
        return runner

    async def load_model(self, load: Load, *, load_timeout_ns: int = FOREVER) -> None:
        """Have the process load ``load``, the only model that it ever will.

        Raises ``LoadError`` when it can't load or dies, ``LoadTimeout`` when nothing is heard of
        it for ``load_timeout_ns``; the process is gone then. Cancelling ends it too.
        """
        self.load = load
        self._loading = Inbox()
        try:
            if self.exit is not None:
                raise self._load_error(f"its runner has ended: {self.exit}", self.exit.signal)
            self._child.send(load)
            self.info = await self._until_ready(load_timeout_ns)
        except BaseException:
            await self._kill()
            raise

    async def _kill(self) -> None:
        self._child.kill()
        await self.wait_exit()

    @property
    def pid(self) -> int:
        return self._child.pid

    @property
    def alive(self) -> bool:
        """Whether it takes requests: neither ended nor told to."""
        return self.exit is None and self._stopping is None

    async def tokenize(
        self, text: str, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Tokens of ``text``; ``add_special`` adds BOS and EOS as the vocabulary asks."""
        answer = await self._ask(
            lambda request: Tokenize(request, text, add_special, parse_special), Tokens
        )
        return answer.tokens

    async def pieces(
        self, text: str, add_special: bool = True, parse_special: bool = True
    ) -> list[tuple[int, bytes]]:
        """The tokens that ``tokenize`` finds, each with its bytes."""
        answer = await self._ask(
            lambda request: Tokenize(request, text, add_special, parse_special, True), Tokens
        )
        return list(zip(answer.tokens, answer.pieces, strict=True))

    async def opening(self) -> list[int]:
        """The tokens with which every prompt begins: BOS, where the vocabulary asks for one."""
        if self._opening is None:
            self._opening = await self.tokenize("")
        return self._opening

    async def look(self, image: bytes) -> int:
        """How many cells of the context an image takes, the bytes of whose file these are.

        Raises ``PromptError`` if the model can't be shown it.
        """
        return (await self._ask(lambda request: Look(request, image), Seen)).count

    async def detokenize(self, tokens: list[int]) -> str:
        """Text of ``tokens``, special ones included."""
        return (await self._ask(lambda request: Detokenize(request, tokens), Detokenized)).text

    def generate(
        self,
        prompt: list[int],
        sampling: Sampling | None = None,
        *,
        num_predict: int = -1,
        num_keep: int = 4,
        stop: Sequence[str] = (),
        truncate: bool = True,
        shift: bool = True,
        grammar: Form | None = None,
        top_logprobs: int | None = None,
        score_prompt: bool = False,
        tell_end: bool = False,
        images: Sequence[Placed] = (),
    ) -> Generation:
        """Start writing on from ``prompt``; the arguments are those of ``protocol.Generate``.

        Raises ``RunnerDied`` if it has ended; errors of the request come out of the iteration.
        """
        request, inbox = self._open()
        self._child.send(
            Generate(
                id=request,
                prompt=prompt,
                sampling=sampling or Sampling(),
                num_predict=num_predict,
                num_keep=num_keep,
                stop=list(stop),
                truncate=truncate,
                shift=shift,
                grammar=grammar,
                top_logprobs=top_logprobs,
                score_prompt=score_prompt,
                tell_end=tell_end,
                images=list(images),
            )
        )
        return Generation(
            inbox,
            forget=partial(self._forget, request),
            cancel=partial(self._cancel, request),
            conclude=partial(self._conclude, request),
        )

    @contextmanager
    def exchange(self, question: Callable[[int], ServerMessage]) -> Iterator[Inbox]:
        """Send the ``question`` of a number; its answers come into the inbox.

        Leaving by an exception tells the runner to forget it. Raises ``RunnerDied``.
        """
        request, inbox = self._open()
        self._child.send(question(request))
        try:
            yield inbox
        except BaseException:
            self._cancel(request)
            raise
        self._forget(request)

    async def wait_exit(self) -> Exit:
        """Wait for the end of the process, whatever brings it."""
        await self._gone.wait()
        assert self.exit is not None
        return self.exit

    async def stop(self, grace_ns: int = GRACE, reason: str = UNLOADED) -> None:
        """End the process: by request, then SIGTERM, then SIGKILL, each ``grace_ns`` apart.

        Requests still running fail with ``reason`` at once. Cancelling kills the process.
        """
        if self._stopping is None:
            self._stopping = reason
            self._fail_all(reason)
        try:
            self._child.send(Shutdown())
            if await self._gone_within(grace_ns):
                return
            self._child.kill(signal.SIGTERM)
            if await self._gone_within(grace_ns):
                return
        finally:
            self._child.kill()
        await self._gone.wait()

    async def _gone_within(self, nanoseconds: int) -> bool:
        try:
            async with asyncio.timeout(nanoseconds / SECOND):
                await self._gone.wait()
        except TimeoutError:
            return False
        return True

    # --- loading ----------------------------------------------------------------------------

    async def _until_ready(self, timeout_ns: int) -> Ready:
        assert self._loading is not None
        patience = None if timeout_ns >= FOREVER else timeout_ns / SECOND
        while True:
            try:
                async with asyncio.timeout(patience):
                    message = await self._loading.get()
            except TimeoutError:
                reason = f"timed out: no progress within {timeout_ns / SECOND:g} s"
                raise LoadTimeout(self._load_error(reason).message) from None
            if isinstance(message, Ready):
                if message.version != VERSION:
                    raise self._load_error(
                        f"its runner speaks protocol version {message.version}, not {VERSION}"
                    )
                self._loading = None
                return message
            if isinstance(message, LoadFailed):
                raise self._load_error(message.message)

    def _load_error(self, reason: str, signal: int | None = None) -> LoadError:
        return LoadError(f"error loading model {self.load.model}: {reason}", signal)

    # --- requests ---------------------------------------------------------------------------

    def _open(self) -> tuple[int, Inbox]:
        if not self.alive:
            raise RunnerDied(self._stopping or self._death())
        self._next_request += 1
        inbox = self._inboxes[self._next_request] = Inbox()
        return self._next_request, inbox

    def _forget(self, request: int) -> None:
        self._inboxes.pop(request, None)

    def _cancel(self, request: int) -> None:
        if self._inboxes.pop(request, None) is not None:
            self._child.send(Cancel(request))

    def _conclude(self, request: int) -> None:
        if request in self._inboxes:
            self._child.send(Conclude(request))

    async def _ask(self, question: Callable[[int], ServerMessage], kind: type[Answer]) -> Answer:
        with self.exchange(question) as inbox:
            message = await inbox.get()
        if isinstance(message, kind):
            return message
        raise failure(message)

    # --- called by the child ----------------------------------------------------------------

    def _receive(self, message: RunnerMessage) -> None:
        if isinstance(message, (Loading, Ready, LoadFailed)):
            if self._loading is None:
                raise ProtocolError(f"{type(message).__name__} without loading")
            self._loading.put(message)
            return
        if not 0 < message.id <= self._next_request:
            raise ProtocolError(f"an answer to request {message.id}, which was never sent")
        if isinstance(message, (Finished, Vectors)):
            self.served = True
        # Answers to a cancelled request may still be under way.
        inbox = self._inboxes.get(message.id)
        if inbox is not None:
            inbox.put(message)

    def _ended(self, end: Exit) -> None:
        self.exit = end
        self._gone.set()
        if self._loading is not None:
            why = f"model runner has unexpectedly stopped: {self._cause()}"
            if self.load.projector:
                # libmtmd crashes where a projector lacks tensors or has some of other shapes.
                why = f"with the projector {self.load.projector}: {why}"
            self._loading.fail(self._load_error(why, end.signal))
        self._fail_all(self._stopping or self._death())

    def _fail_all(self, reason: str) -> None:
        for inbox in self._inboxes.values():
            inbox.fail(RunnerDied(reason))
        self._inboxes.clear()

    def _death(self) -> str:
        return f"{STOPPED_UNEXPECTEDLY}: {self._cause()}"

    def _cause(self) -> str:
        return self._child.garbled or str(self.exit)
