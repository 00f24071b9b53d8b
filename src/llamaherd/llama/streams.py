"""Ollama's model files for llama.cpp, translated while it reads them and not copied before.

llama.cpp reads a model from a stream of C's (``llama_model_load_from_file_ptr``), and a stream can
be functions of ours (``fopencookie`` of glibc and musl). As a GGUF's tensors must lie one after
another without gaps, and a map of memory asks for a real file, the original file can't serve under
another header, nor can the model be mapped: its weights are read into memory once, as for a GPU.

``llama_model_init_from_user`` would take weights from a function too, but it makes tensors that the
model doesn't have, and forbids the faster layouts of weights. A projector is read by name and not
from a stream; it is small, and is copied to memory while it is loaded.
"""

from __future__ import annotations

import ctypes
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final, Protocol

from llamaherd.compat import DerivedFile, projector_of, text_of
from llamaherd.errors import InvalidGGUF
from llamaherd.gguf import GGUF
from llamaherd.llama.derived import DerivedReader


class Stream(Protocol):
    """A ``FILE *`` of C's, and what went wrong in reading it: C is told only that something did."""

    file: int
    failure: Exception | None


@contextmanager
def projector_file(path: Path) -> Iterator[Path]:
    """The projector that is in the file ``path``, as a file that llama.cpp can read.

    It is ``path`` itself, or a file in memory that goes away with the context, for which llama.cpp
    has no more use once it has loaded the projector. Raises InvalidGGUF for a file that is not
    sound or that lacks what its family needs, OSError for one that can't be read.
    """
    derived = _derive(path, projector_of)
    if derived is None:
        yield path
        return
    with closing(DerivedReader(path, derived)) as reader, _copy_of(reader) as copy:
        yield copy


@contextmanager
def text_stream(path: Path) -> Iterator[Stream | None]:
    """The language model that is in the file ``path``; None if llama.cpp can read that itself.

    Raises as ``projector_file``.
    """
    derived = _derive(path, text_of)
    if derived is None:
        yield None
        return
    with closing(DerivedReader(path, derived)) as reader, _open(reader) as stream:
        yield stream


def _derive(path: Path, derive: Callable[[GGUF], DerivedFile | None]) -> DerivedFile | None:
    try:
        gguf = GGUF.open(path)
    except InvalidGGUF:
        # llama.cpp refuses it too, and says what it makes of it.
        return None
    with gguf:
        return derive(gguf)


@contextmanager
def _open(reader: DerivedReader) -> Iterator[Stream]:
    if HAS_COOKIES:
        with closing(CookieStream(reader)) as stream:
            yield stream
        return
    with _copy_of(reader) as path, closing(FileStream(path)) as file:
        yield file


@contextmanager
def _copy_of(reader: DerivedReader) -> Iterator[Path]:
    """A file that has the bytes of ``reader``, in memory where the system can do that."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("derived.gguf")
        try:
            path = Path(f"/proc/self/fd/{descriptor}")
            reader.write(path)
            yield path
        finally:
            os.close(descriptor)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "derived.gguf")
        reader.write(path)
        yield path


_Read = ctypes.CFUNCTYPE(ctypes.c_ssize_t, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)
_Seek = ctypes.CFUNCTYPE(
    ctypes.c_int, ctypes.c_void_p, ctypes.POINTER(ctypes.c_int64), ctypes.c_int
)


class _Functions(ctypes.Structure):
    """``cookie_io_functions_t`` of stdio.h."""

    _fields_ = (
        ("read", _Read),
        ("write", ctypes.c_void_p),
        ("seek", _Seek),
        ("close", ctypes.c_void_p),
    )


_libc: Final = ctypes.CDLL(None)
_libc.fopen.restype = ctypes.c_void_p
_libc.fopen.argtypes = (ctypes.c_char_p, ctypes.c_char_p)
_libc.fclose.argtypes = (ctypes.c_void_p,)

#: Whether a stream can be functions of ours.
HAS_COOKIES: Final = hasattr(_libc, "fopencookie")
if HAS_COOKIES:
    _libc.fopencookie.restype = ctypes.c_void_p
    _libc.fopencookie.argtypes = (ctypes.c_void_p, ctypes.c_char_p, _Functions)
    _libc.setvbuf.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int, ctypes.c_size_t)

#: A cookie's stream reads by its buffer always, by glibc's own of 8 KiB twice as slowly. After
#: each jump to another tensor it fills one anew.
_BUFFER: Final = 1 << 18
_FULLY_BUFFERED: Final = 0


class FileStream:
    """A stream that reads a file."""

    def __init__(self, path: Path) -> None:
        self.failure: Exception | None = None
        self.file: int = _opened(_libc.fopen(bytes(path), b"rb"))

    def close(self) -> None:
        _libc.fclose(self.file)


class CookieStream:
    """A stream that reads from ``reader``. Where ``HAS_COOKIES``."""

    def __init__(self, reader: DerivedReader) -> None:
        self._reader = reader
        self._position = 0
        self.failure: Exception | None = None
        self._functions = _Functions(_Read(self._read), None, _Seek(self._seek), None)
        self.file: int = _opened(_libc.fopencookie(None, b"rb", self._functions))
        self._buffer = ctypes.create_string_buffer(_BUFFER)
        _libc.setvbuf(self.file, self._buffer, _FULLY_BUFFERED, _BUFFER)

    def close(self) -> None:
        _libc.fclose(self.file)

    def _read(self, _: int | None, buffer: int, size: int) -> int:
        if not size:
            return 0
        target = memoryview((ctypes.c_char * size).from_address(buffer)).cast("B")
        try:
            count = self._reader.read_into(self._position, target)
        except Exception as error:
            self.failure = error
            return -1
        self._position += count
        return count

    def _seek(self, _: int | None, offset: ctypes._Pointer[ctypes.c_int64], whence: int) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position, os.SEEK_END: self._reader.size}[whence]
        position = base + offset[0]
        if position < 0:
            return -1
        self._position = offset[0] = position
        return 0


def _opened(file: int | None) -> int:
    if not file:
        raise OSError("no stream could be opened")
    return file
