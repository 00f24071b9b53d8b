"""llama.cpp's C functions, by ctypes, and its log.

Only modules of this package import from here. The functions follow ``llama.h`` of the revision
that llama-cpp-python 0.3.36 carries.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import logging
import re
import sys
import threading
from collections.abc import Callable
from types import ModuleType
from typing import Any, ClassVar, Final

logger = logging.getLogger("llamaherd.llama.cpp")

_PACKAGE: Final = "llama_cpp"


def import_functions(module: str) -> ModuleType:
    """A module of C functions alone.

    The package's ``__init__`` imports a high-level API with a hundred milliseconds of dependencies
    that a runner would pay on every load; an empty stand-in keeps it from running, and makes way
    again for whoever wants the whole package.
    """
    name = f"{_PACKAGE}.{module}"
    if _PACKAGE in sys.modules:
        return importlib.import_module(name)
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.submodule_search_locations is None:
        raise ImportError("llama-cpp-python is not installed", name=_PACKAGE)
    stand_in = ModuleType(_PACKAGE)
    stand_in.__path__ = list(spec.submodule_search_locations)
    sys.modules[_PACKAGE] = stand_in
    try:
        return importlib.import_module(name)
    finally:
        del sys.modules[_PACKAGE]


C: Final[Any] = import_functions(_PACKAGE)


def function(name: str, result: Any, *arguments: Any) -> Callable[..., Any]:
    """A C function with types of our own, where those of the binding cost time per call."""
    found = C._lib[name]
    found.restype = result
    found.argtypes = list(arguments)
    return found  # type: ignore[no-any-return]


# ggml_log_level: none, debug, info, warning, error, and 5 to continue the last line. llama.cpp
# talks much, so its information counts as debugging and its warnings as information. What it calls
# debugging are dumps of its graphs, which we never show.
_LEVELS: Final = {
    1: logging.DEBUG - 1,
    2: logging.DEBUG,
    3: logging.INFO,
    4: logging.ERROR,
}
_CONTINUED: Final = 5

#: What passes an error on writes before it who it is and what failed.
_WHERE: Final = re.compile(
    r"^(?:.*failed to quantize: |(?:\w+: |error loading model: |failed to load model '[^']*': )+)"
)

LogListener = Callable[[int, str], None]


class _LogRouter(threading.local):
    """Puts llama.cpp's pieces of lines together and hands whole lines to logging.

    Each thread has its own pieces and listener: an image may be encoded while text is evaluated.
    """

    expecting_errors: ClassVar[bool] = False

    def __init__(self) -> None:
        self.listener: LogListener | None = None
        self._level = logging.DEBUG
        self._line = ""

    def write(self, level: int, text: bytes, _: object) -> None:
        if level != _CONTINUED:
            self._level = _LEVELS.get(level, logging.DEBUG)
        *lines, self._line = (self._line + text.decode("utf-8", "replace")).split("\n")
        for line in lines:
            level = logging.DEBUG if self.expecting_errors else self._level
            logger.log(level, "%s", line)
            if self.listener is not None:
                self.listener(self._level, line)


_router: Final = _LogRouter()
log_callback: Final = C.llama_log_callback(_router.write)


def expect_errors(expected: bool) -> None:
    """Whether errors are the consequence of something wanted, and no news for the log."""
    _LogRouter.expecting_errors = expected


class LoadLog:
    """Listens to what llama.cpp says in this thread: the errors it reports and all lines.

    A context manager; within another it listens alone.
    """

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._outer: LogListener | None = None

    def __enter__(self) -> LoadLog:
        self._outer, _router.listener = _router.listener, self._listen
        return self

    def __exit__(self, *_: object) -> None:
        _router.listener = self._outer

    @property
    def reason(self) -> str:
        """The first error that was reported, the later ones being its consequences."""
        if not self.errors:
            return "llama.cpp gave no reason"
        return complaint(self.errors[0])

    def _listen(self, level: int, line: str) -> None:
        self.lines.append(line)
        if level >= logging.ERROR and line.strip():
            self.errors.append(line.strip())


def complaint(line: str) -> str:
    """What an error says without the names of the functions that pass it on."""
    return _WHERE.sub("", line)


def initialise(*, numa: bool = False) -> None:
    """Start the library once per process, with its log going to Python's."""
    C.llama_log_set(log_callback, ctypes.c_void_p(0))
    C.llama_backend_init()
    if numa:
        C.llama_numa_init(C.GGML_NUMA_STRATEGY_DISTRIBUTE)


#: How many devices there are; the first call has all backends look for theirs.
count_devices: Final = function("ggml_backend_dev_count", ctypes.c_size_t)


def system_info() -> str:
    """The features that this build uses, as llama.cpp prints them."""
    return str(C.llama_print_system_info().decode("utf-8", "replace")).strip()
