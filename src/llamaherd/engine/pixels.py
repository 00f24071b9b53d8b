"""From the bytes of an image file to its pixels."""

from __future__ import annotations

import io
import warnings
from typing import Final

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError

from llamaherd.errors import PromptError
from llamaherd.llama.backend import Pixels

#: The formats that are read. All of them are common, and none can name other files.
_FORMATS: Final = ("JPEG", "PNG", "WEBP", "GIF", "BMP")

#: No larger image is decoded, in pixels: three bytes each are made of them.
_MOST_PIXELS: Final = 100_000_000

#: Pillow has the pixels of an image in blocks of up to so many bytes. Those of its own choice the C
#: library keeps for itself when they are freed, so that one large image holds gigabytes for ever.
_BLOCK_SIZE: Final = 64 << 20
Image.core.set_block_size(_BLOCK_SIZE)  # type: ignore[attr-defined]  # documented, but not typed

#: What Pillow's decoders raise for damaged files, or for sizes that nobody means.
_DAMAGED: Final = (
    Image.DecompressionBombError,
    ArithmeticError,
    AssertionError,
    EOFError,
    IndexError,
    OSError,
    SyntaxError,
    ValueError,
)

#: What makes the image of a camera that was held so upright, by EXIF's numbers for it.
_TURNS: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}

#: What shines through where an image is transparent.
_BACKGROUND: Final = (255, 255, 255, 255)


def read_pixels(data: bytes) -> Pixels:
    """The first frame, upright, on white where it is transparent.

    Raises ``PromptError`` for what isn't an image, is damaged or too large.
    """
    try:
        with warnings.catch_warnings(action="ignore"), _opened(data) as image:
            if image.width * image.height > _MOST_PIXELS:
                raise PromptError(
                    f"invalid image: {image.width} x {image.height} pixels, at most {_MOST_PIXELS}"
                )
            image.load()
            return np.asarray(_in_colours(_upright(image)))
    except _DAMAGED as error:
        raise PromptError(f"invalid image: {error}") from error


def shrunk(pixels: Pixels, factor: float) -> Pixels:
    """The same image with both sides ``factor`` (below 1) times as long."""
    height, width, _ = pixels.shape
    size = max(1, round(width * factor)), max(1, round(height * factor))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS))


def _opened(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=_FORMATS)
    except UnidentifiedImageError:
        raise PromptError(
            f"invalid image: {len(data)} bytes that are none of {', '.join(_FORMATS)}"
        ) from None


def _upright(image: Image.Image) -> Image.Image:
    """Unlike Pillow's ``exif_transpose``, which writes all that a camera noted anew, and fails if
    there is anything odd in it."""
    orientation = image.getexif().get(ExifTags.Base.Orientation)
    turn = _TURNS.get(orientation) if isinstance(orientation, int) else None
    return image if turn is None else image.transpose(turn)


def _in_colours(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        # Pillow would cut greys of 16 bits off at 255.
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
    if not image.has_transparency_data:
        # Pillow would copy an image that is so already.
        return image if image.mode == "RGB" else image.convert("RGB")
    ground = Image.new("RGBA", image.size, _BACKGROUND)
    return Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
