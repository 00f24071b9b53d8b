"""Looking at the images of prompts, and remembering those seen last.

An encoder may take seconds for an image. It works in another thread than the engine, whose replies
go on meanwhile.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any, Final

from llamaherd.engine.pictures import Parts, Picture
from llamaherd.engine.pixels import read_pixels, shrunk
from llamaherd.errors import PromptError
from llamaherd.llama.backend import Outline, Pixels, UnusableImage, VisionBackend

#: Conversations come with the same images again and again. Of so many bytes of embeddings together
#: they are kept; an image of LLaVA 1.5 7B takes 9 MiB.
_KEPT_BYTES: Final = 256 << 20

#: So many images that were made ready wait for the encoder. What they take is known to nobody: tens
#: of megabytes, with encoders that cut an image into tiles.
_KEPT_OUTLINES: Final = 8

#: Of so many images it is remembered what they take.
_KEPT_COUNTS: Final = 10_000

#: Bytes of a number in an embedding.
_NUMBER: Final = 4

#: An image that is still too large gets at least so much smaller.
_LEAST_SHRINKING: Final = 0.9

#: Where that made no difference it gets so much smaller.
_BOLD_SHRINKING: Final = 0.5

#: No image is made smaller than this, in pixels.
_SMALLEST_SIDE: Final = 16

#: Pictures of one image have different keys.
_PICTURE_BITS: Final = 16


def most_cells(backend: VisionBackend, n_ctx: int, n_batch: int) -> int:
    """What one image may take: half of the context, for words are to have room beside it, and no
    more than a batch where all of it must be evaluated together (Gemma 4's take up to 1120)."""
    return min(n_ctx // 2, n_batch) if backend.mutual else n_ctx // 2


class Viewer:
    """A vision backend with the images that it has seen last. Belongs to one thread.

    An image that would take more than ``most_cells`` is made smaller, if that helps.
    """

    def __init__(
        self, backend: VisionBackend, most_cells: int, kept_bytes: int = _KEPT_BYTES
    ) -> None:
        self._backend = backend
        self._most_cells = most_cells
        self._kept_bytes = kept_bytes
        self._counts: OrderedDict[bytes, int] = OrderedDict()
        self._outlines: OrderedDict[bytes, list[list[int] | Outline]] = OrderedDict()
        self._seen: OrderedDict[bytes, Parts] = OrderedDict()

    def count(self, image: bytes) -> int:
        """How many cells the image, the bytes of its file, takes.

        Raises ``PromptError`` if it can't be used.
        """
        digest = hashlib.sha256(image).digest()
        if digest not in self._counts:
            self._counts[digest] = _cells(self._outline(digest, image))
            if len(self._counts) > _KEPT_COUNTS:
                self._counts.popitem(last=False)
        return self._counts[digest]

    def see(self, image: bytes) -> Parts:
        """What the model is shown for an image; raises as ``count``, and ``EncodeFailed``."""
        digest = hashlib.sha256(image).digest()
        seen = self._seen.get(digest)
        if seen is None:
            seen = self._encode(digest, self._outline(digest, image))
            del self._outlines[digest]
            self._seen[digest] = seen
            self._forget(self._seen, most=sys.maxsize)
        self._seen.move_to_end(digest)
        return seen

    def _outline(self, digest: bytes, image: bytes) -> list[list[int] | Outline]:
        outlines = self._outlines.get(digest)
        if outlines is None:
            try:
                outlines = self._fitting(read_pixels(image))
            except UnusableImage as error:
                raise PromptError(f"invalid image: {error}") from error
            self._outlines[digest] = outlines
            self._forget(self._outlines, _KEPT_OUTLINES)
        return outlines

    def _fitting(self, pixels: Pixels) -> list[list[int] | Outline]:
        """Of the image, or of a smaller one that takes few enough cells if there is any."""
        whole = fitting = self._backend.outline(pixels)
        while (excess := _cells(fitting) / self._most_cells) > 1:
            # The cells of an image grow with its area, unless encoders bound its size themselves.
            is_bound = fitting is not whole and _cells(fitting) >= _cells(whole)
            factor = _BOLD_SHRINKING if is_bound else min(_LEAST_SHRINKING, math.sqrt(1 / excess))
            if max(pixels.shape) <= _SMALLEST_SIDE:
                return whole
            pixels = shrunk(pixels, factor)
            try:
                fitting = self._backend.outline(pixels)
            except UnusableImage:
                return whole
        return fitting

    def _encode(self, digest: bytes, outlines: list[list[int] | Outline]) -> Parts:
        first_key = int.from_bytes(digest) << _PICTURE_BITS
        parts: list[list[int] | Picture] = []
        for number, outline in enumerate(outlines):
            if isinstance(outline, list):
                parts.append(outline)
                continue
            picture = Picture(
                key=first_key + number,
                embeddings=self._backend.encode(outline),
                places=outline.places,
                moves=outline.moves,
                span=outline.span,
                mutual=self._backend.mutual,
            )
            parts.append(picture)
        return parts

    def _forget(self, images: OrderedDict[bytes, Any], most: int) -> None:
        """Those used least recently, as long as there are too many; the last one stays."""
        size = sum(map(_cells, images.values())) * self._backend.width * _NUMBER
        while len(images) > 1 and (size > self._kept_bytes or len(images) > most):
            _, forgotten = images.popitem(last=False)
            size -= _cells(forgotten) * self._backend.width * _NUMBER


def _cells(parts: Sequence[list[int] | Outline | Picture]) -> int:
    return sum(len(part) if isinstance(part, list) else part.length for part in parts)
