"""Making blobs in a process of its own, which may crash or be killed without harm."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import tempfile
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Final

import msgspec

from llamaherd.create.report import Failed, Made, Report, Step, Underway
from llamaherd.errors import BadRequest, ConversionFailed, StoreError
from llamaherd.runner.child import Exit
from llamaherd.store.blobs import BlobStore
from llamaherd.store.files import discard, open_temporary, publish
from llamaherd.store.progress import Progress

#: Seconds between two lines of progress when the process says nothing, so that a caller who has
#: lost interest can stop it then.
_PATIENCE: Final = 0.5

_READ: Final = 1 << 16


@dataclass(frozen=True, slots=True)
class Task:
    """What a process is to make.

    ``module`` is run with file descriptors as its arguments (see ``create.child``) and gets
    ``request``, a line of JSON. ``noun`` names the work in messages, ``word`` its steps. No more
    than ``most_made`` files come of it.
    """

    module: str
    request: bytes
    noun: str
    word: Callable[[Step], Progress]
    most_made: int = 1


def make_blobs(blobs: BlobStore, task: Task) -> Generator[Progress, None, list[str]]:
    """The digests of what the process makes, which is then in the store.

    Closing the generator kills the process. Raises ``BadRequest`` when what was asked for can't be
    made, ``StoreError`` and ``ConversionFailed``; then nothing is left in the store, unless it
    failed between one blob's last step and another's: what is left then, the next start removes.
    """
    yield task.word(Underway(0, 0))
    with contextlib.ExitStack() as stack:
        files = []
        for _ in range(task.most_made):
            file, temporary = open_temporary(blobs.folder)
            stack.callback(discard, file, temporary)
            files.append((file, temporary))
        digests = yield from _run([file.fileno() for file, _ in files], task)
        for (file, temporary), digest in zip(files, digests, strict=False):
            publish(file, temporary, blobs.path(digest))
    return digests


def _run(descriptors: Sequence[int], task: Task) -> Generator[Progress, None, list[str]]:
    # -P keeps a folder named llamaherd in the working directory from being run instead.
    command = [sys.executable, "-P", "-m", task.module, *map(str, descriptors)]
    with tempfile.TemporaryFile() as errors, _process(command, descriptors, errors) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(task.request + b"\n")
        outcome: Report | None = None
        for report in _reports(process.stdout):
            if isinstance(report, Step):
                yield task.word(report)
            else:
                outcome = report
        returncode = process.wait()
        return _digests(outcome, returncode, errors, task.noun)


@contextlib.contextmanager
def _process(
    command: list[str], descriptors: Sequence[int], errors: IO[bytes]
) -> Iterator[subprocess.Popen[bytes]]:
    """The session of its own keeps a terminal's Ctrl-C for the server, which then decides."""
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            bufsize=0,
            pass_fds=descriptors,
            start_new_session=True,
        )
    except OSError as error:
        raise ConversionFailed(f"can't start a process: {error.strerror}") from error
    with process:
        try:
            yield process
        finally:
            process.kill()


def _reports(output: IO[bytes]) -> Iterator[Report]:
    """Each report, and the last step again when there was none for a while."""
    buffer = b""
    last: Step = Underway(0, 0)
    while True:
        if not select.select([output], [], [], _PATIENCE)[0]:
            yield last
            continue
        received = output.read(_READ)
        if not received:
            return
        *lines, buffer = (buffer + received).split(b"\n")
        for line in lines:
            report = msgspec.json.decode(line, type=Report)
            if isinstance(report, Step):
                last = report
            yield report


def _digests(outcome: Report | None, returncode: int, errors: IO[bytes], noun: str) -> list[str]:
    match outcome:
        case Made(digests) if returncode == 0:
            return digests
        case Failed(message, is_request):
            raise (BadRequest if is_request else StoreError)(message)
        case _:
            errors.seek(0)
            lines = errors.read().decode(errors="replace").splitlines()
            raise ConversionFailed(f"the {noun} failed, {Exit.of(returncode, lines)}")
