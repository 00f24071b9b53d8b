"""What a request wants of the vectors that a model computed."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from llamaherd.llama.backend import Vector

#: Below this, the length of a vector counts as this, as with Ollama; no division by zero.
_LEAST_LENGTH: Final = 1e-12

#: Significant digits that are tried; nine are always enough for a number of 4 bytes.
_DIGITS: Final = (6, 7, 8)


def finished(rows: Vector, *, dimensions: int, normalize: bool) -> Vector:
    """The first ``dimensions`` numbers of each row (0: all), made of Euclidean length 1 if wanted.

    Models that are trained for shorter vectors (Matryoshka) have them at the beginning.
    """
    rows = rows[:, : dimensions or None]
    if not normalize:
        return rows
    lengths = np.sqrt(np.square(rows, dtype=np.float64).sum(axis=1, keepdims=True))
    return np.asarray(rows / np.maximum(lengths, _LEAST_LENGTH), np.float32)


def encoded(rows: Vector, *, decimal: bool) -> bytes:
    """The numbers as ``runner.protocol.Vectors`` has them."""
    numbers: npt.NDArray[Any] = shortest(rows) if decimal else rows.astype(np.float32)
    return numbers.astype(numbers.dtype.newbyteorder("<")).tobytes()


def shortest(rows: Vector) -> npt.NDArray[np.float64]:
    """The numbers with as few decimal digits as tell them from all others of 4 bytes.

    0.1 of 4 bytes is 0.10000000149011612 where it is taken for one of 8; Go prints it as 0.1, which
    is a third of the length.
    """
    exact = rows.astype(np.float64)
    found = exact.copy()
    # Numbers too small for the arithmetic below, zero among them, stay as they are.
    magnitude = np.abs(exact)
    open_ = np.flatnonzero(magnitude.ravel() > 1e-30)
    flat, values = found.ravel(), exact.ravel()[open_]
    exponents = np.floor(np.log10(np.abs(values))).astype(np.int64)
    for digits in (*_DIGITS, 9):
        scale = np.float64(10.0) ** (digits - 1 - exponents)
        rounded = np.rint(values * scale) / scale
        fits = rounded.astype(np.float32) == values.astype(np.float32)
        flat[open_[fits]] = rounded[fits]
        open_, values, exponents = open_[~fits], values[~fits], exponents[~fits]
    return flat.reshape(rows.shape)
