"""A program that speaks ``runner.protocol`` and has no model: ``fake_runner.py [FLAG…]``.

A token is the code point of a character. ``Generate`` answers with its prompt, a ``Chunk`` for
each token, up to ``num_predict`` of them; see ``_Fake.generate`` for what single prompts do. The
flags make it behave badly:

``--load-steps N``       report N steps of progress, ``--load-pause S`` seconds apart
``--load-fails TEXT``    fail to load
``--load-hangs``         never become ready
``--load-dies SIGNAL``   die of a signal while loading; only with extra buffers if ``--unsound``
``--unsound``            die of SIGSEGV at the first ``Generate`` when extra buffers are on
``--ignores-shutdown``   stay on when told to end
``--ignores-sigterm``    stay on at SIGTERM
``--garbage``            write something else than frames once ready
``--version N``          claim to speak another version of the protocol
``--slots N``            how many requests run together
``--report-fds``         say in ``Ready.system_info`` which file descriptors are open
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from llamaherd.runner.protocol import (
    HEADER_SIZE,
    VERSION,
    Cancel,
    Chunk,
    Conclude,
    Detokenize,
    Detokenized,
    Failed,
    Finished,
    Generate,
    Load,
    LoadFailed,
    Loading,
    Ready,
    RunnerMessage,
    ServerMessage,
    Shutdown,
    Tokenize,
    Tokens,
    decode_server_message,
    encode,
    frame_length,
)


def tokens(text: str) -> list[int]:
    return [ord(char) for char in text]


def read() -> ServerMessage:
    """The next message; the end of the input ends the program."""
    header = sys.stdin.buffer.read(HEADER_SIZE)
    if len(header) < HEADER_SIZE:
        sys.exit(0)
    return decode_server_message(sys.stdin.buffer.read(frame_length(header)))


def write(*messages: RunnerMessage) -> None:
    sys.stdout.buffer.write(b"".join(encode(message) for message in messages))
    sys.stdout.buffer.flush()


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def die(name: str) -> NoReturn:
    say(f"error: dying of {name}")
    os.kill(os.getpid(), getattr(signal, name))
    raise AssertionError("still alive")


class _Fake:
    def __init__(self, flags: argparse.Namespace, load: Load) -> None:
        self.flags = flags
        self.unsound = flags.unsound and load.extra_buffers
        self.running: set[int] = set()

    def answer(self, message: ServerMessage) -> None:
        match message:
            case Tokenize(id, text):
                write(Tokens(id, tokens(text)))
            case Detokenize(id, numbers):
                write(Detokenized(id, "".join(map(chr, numbers))))
            case Generate():
                self.generate(message)
            case Cancel(id):
                self.running.discard(id)
                say(f"cancelled {id}")
            case Conclude(id):
                self.running.discard(id)
                write(Chunk(id, "under way"), Finished(id, "stop", 4, 1, 9, 1))
            case Shutdown() if not self.flags.ignores_shutdown:
                sys.exit(0)

    def generate(self, request: Generate) -> None:
        """``hang`` is never answered further than one ``Chunk``, ``fail`` is a bad request,
        ``exit`` ends the program, ``die`` is a crash, ``close`` closes the output, ``active``
        tells the requests that hang, ``wrong`` gets an answer of another kind.
        """
        text = "".join(map(chr, request.prompt))
        if self.unsound:
            die("SIGSEGV")
        match text:
            case "hang":
                self.running.add(request.id)
                write(Chunk(request.id, "…"))
                return
            case "fail":
                write(Failed(request.id, "no such prompt", 400))
                return
            case "exit":
                say("  giving up")
                os._exit(3)
            case "die":
                die("SIGSEGV")
            case "close":
                os.close(1)
                return
            case "wrong":
                write(Tokens(request.id, []))
                return
            case "active":
                text = json.dumps(sorted(self.running))
        if request.num_predict >= 0:
            text = text[: request.num_predict]
        write(
            *(Chunk(request.id, char) for char in text),
            Finished(request.id, "stop", len(request.prompt), 1, len(text), 1),
        )


def load(flags: argparse.Namespace, message: Load) -> None:
    for step in range(flags.load_steps):
        write(Loading((step + 1) / flags.load_steps))
        time.sleep(flags.load_pause)
    if flags.load_dies and (message.extra_buffers or not flags.unsound):
        die(flags.load_dies)
    if flags.load_fails:
        write(LoadFailed(flags.load_fails))
        sys.exit(1)
    while flags.load_hangs:
        signal.pause()


def ready(flags: argparse.Namespace, message: Load) -> Ready:
    about: dict[str, Any] = {"pid": os.getpid(), "extra_buffers": message.extra_buffers}
    if flags.report_fds:
        about["fds"] = sorted(
            path.readlink().as_posix()
            for path in Path("/proc/self/fd").iterdir()
            if path.is_symlink()
        )
    return Ready(
        n_ctx=message.n_ctx,
        n_slots=flags.slots or message.n_slots,
        n_ctx_train=2048,
        n_vocab=1 << 20,
        model_bytes=1000,
        cache_bytes=200,
        compute_bytes=30,
        system_info=json.dumps(about),
        version=flags.version,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--load-steps", type=int, default=0)
    parser.add_argument("--load-pause", type=float, default=0)
    parser.add_argument("--load-fails", default="")
    parser.add_argument("--load-hangs", action="store_true")
    parser.add_argument("--load-dies", default="")
    parser.add_argument("--unsound", action="store_true")
    parser.add_argument("--ignores-shutdown", action="store_true")
    parser.add_argument("--ignores-sigterm", action="store_true")
    parser.add_argument("--garbage", action="store_true")
    parser.add_argument("--version", type=int, default=VERSION)
    parser.add_argument("--slots", type=int, default=0)
    parser.add_argument("--report-fds", action="store_true")
    flags = parser.parse_args()
    if flags.ignores_sigterm:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    message = read()
    assert isinstance(message, Load)
    load(flags, message)
    write(ready(flags, message))
    if flags.garbage:
        sys.stdout.write("llama_model_loader: hello\n")
        sys.stdout.flush()
    fake = _Fake(flags, message)
    while True:
        fake.answer(read())


if __name__ == "__main__":
    main()
