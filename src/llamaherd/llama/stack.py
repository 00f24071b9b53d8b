"""Room on the stack for llama.cpp's tokenizer.

Most BPE vocabularies cut a text by regular expressions, which llama.cpp leaves to C++'s std::regex
(``unicode_regex_split`` in unicode.cpp). GCC's calls itself for each character of a match: 28,000
letters, spaces or dashes in a row overflow the usual 8 MB, which ends the process.
"""

from __future__ import annotations

import re
import resource
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

#: What one character of a match may take, in bytes; 303 were measured (GCC 12, x86-64).
BYTES_PER_CHARACTER: Final = 512

#: What any thread has, in bytes, and what a call takes beside its matches.
_USUAL: Final = 2 << 20
_REST: Final = 1 << 20

#: What the threads of a runner have, in bytes: llguidance tokenizes the texts that a grammar forces
#: in whichever thread asks. Pages that aren't touched cost nothing.
_ROOMY: Final = 64 << 20

#: How long such a text may be, in bytes.
LONGEST_FORCED: Final = _ROOMY // BYTES_PER_CHARACTER

#: Characters that are looked at together.
_WINDOW: Final = 2048

#: Expressions may go on from text to white space, as to line breaks, but not to text again.
_UNBROKEN: Final = re.compile(r"\S*+\s*+")

T = TypeVar("T")

_starting: Final = threading.Lock()


def longest_run(text: str) -> int:
    """What no match in ``text`` is longer than, in characters.

    That is the longest text without white space, with what white space follows it, and some more.
    """
    longest = current = 0
    for start in range(0, len(text), _WINDOW):
        is_unbroken = _UNBROKEN.fullmatch(text, start, start + _WINDOW)
        current = current + 1 if is_unbroken else 0
        longest = max(longest, current)
    return (longest + 2) * _WINDOW


def with_room(run: int, call: Callable[[], T]) -> T:
    """What ``call`` returns or raises, which tokenizes a text with such a ``longest_run``.

    It gets a thread of its own where the usual ones have not enough room.
    """
    size = run * BYTES_PER_CHARACTER
    if size <= _USUAL:
        return call()
    with ThreadPoolExecutor(1, "roomy") as thread:
        with _starting:
            before = threading.stack_size(_REST + size)
            try:
                future = thread.submit(call)
            finally:
                threading.stack_size(before)
        return future.result()


def make_threads_roomy() -> None:
    """Give this thread, and those that start from now on, what grammars need."""
    threading.stack_size(_ROOMY)
    soft, hard = resource.getrlimit(resource.RLIMIT_STACK)
    wanted = _ROOMY if hard == resource.RLIM_INFINITY else min(_ROOMY, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_STACK, (wanted, hard))
