"""Images for tests, made of numbers."""

from __future__ import annotations

import struct
import zlib
from typing import Final

import numpy as np
import numpy.typing as npt

#: RGB values of the shape (height, width, 3).
Pixels = npt.NDArray[np.uint8]

_FIELDS: Final = 4


def picture(seed: int, width: int = 64, height: int = 48) -> Pixels:
    """Fields of random colours, as sixteen rectangles; another seed gives a clearly other image."""
    random = np.random.default_rng(seed)
    colours = random.integers(0, 256, (_FIELDS, _FIELDS, 3), np.uint8)
    rows = np.arange(height) * _FIELDS // height
    columns = np.arange(width) * _FIELDS // width
    return np.ascontiguousarray(colours[rows][:, columns])


def png(pixels: Pixels) -> bytes:
    """The file of an image, in colours of eight bits without compression tricks.

    Format: https://www.w3.org/TR/png-3/
    """
    height, width, _ = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    unfiltered = np.zeros((height, 1), np.uint8)
    rows = np.hstack([unfiltered, pixels.reshape(height, width * 3)])
    chunks = (b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(kind, data) for kind, data in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
