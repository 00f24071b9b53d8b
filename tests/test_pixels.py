"""Image files become pixels: upright, in colours, on white, or are refused with a reason."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from llamaherd.engine import pixels
from llamaherd.engine.pixels import read_pixels, shrunk
from llamaherd.errors import PromptError
from tests.support.pictures import picture

#: 3 wide, 2 high, all pixels different, in colours that every format can hold.
SMALL = np.array(
    [[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[0, 0, 0], [255, 255, 255], [128, 128, 128]]],
    np.uint8,
)


def encoded(image: Image.Image, form: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, form, **options)
    return file.getvalue()


SMALL_IMAGE = Image.fromarray(SMALL)


@pytest.mark.parametrize(
    ("form", "options"),
    [("PNG", {}), ("BMP", {}), ("WEBP", {"lossless": True}), ("GIF", {})],
    ids=lambda value: str(value),
)
def test_formats_without_loss(form: str, options: dict[str, Any]) -> None:
    assert np.array_equal(read_pixels(encoded(SMALL_IMAGE, form, **options)), SMALL)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=str)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_photographs(mode: str, options: dict[str, Any]) -> None:
    image = Image.fromarray(picture(1)).convert(mode)
    found = read_pixels(encoded(image, "JPEG", quality=95, **options))
    expected = np.asarray(image.convert("RGB"), np.int16)
    assert found.shape == expected.shape
    assert np.abs(found - expected).mean() < 8


@pytest.mark.parametrize("mode", ["L", "P", "1", "I;16", "RGBA", "LA"])
def test_every_kind_of_png_is_in_colours(mode: str) -> None:
    image = Image.new("I;16", (3, 2), 40_000) if mode == "I;16" else SMALL_IMAGE.convert(mode)
    found = read_pixels(encoded(image, "PNG"))
    assert found.shape == (2, 3, 3)
    assert found.dtype == np.uint8
    if mode == "I;16":
        assert (found == 40_000 // 256).all()


def test_what_is_transparent_is_white() -> None:
    image = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    image.putpixel((1, 0), (10, 20, 30, 255))
    assert read_pixels(encoded(image, "PNG")).tolist() == [[[255, 255, 255], [10, 20, 30]]]


def test_photographs_are_turned_as_they_say() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned by a quarter
    found = read_pixels(encoded(SMALL_IMAGE, "PNG", exif=exif))
    assert np.array_equal(found, np.rot90(SMALL, -1))


def test_of_an_animation_the_first_frame_counts() -> None:
    frames = [SMALL_IMAGE, Image.new("RGB", (3, 2))]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert np.array_equal(read_pixels(data), SMALL)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes that are none of JPEG, PNG, WEBP, GIF, BMP"),
        (b"no image", "8 bytes that are none of"),
        (encoded(SMALL_IMAGE, "TIFF"), "none of"),
        (encoded(SMALL_IMAGE, "PNG")[:50], "truncated"),
        (encoded(Image.fromarray(picture(1)), "JPEG")[:-200], "truncated"),
    ],
    ids=["empty", "text", "another format", "damaged", "truncated"],
)
def test_what_is_no_image_is_refused(data: bytes, reason: str) -> None:
    with pytest.raises(PromptError, match=reason) as caught:
        read_pixels(data)
    assert caught.value.message.startswith("invalid image: ")


def test_an_image_that_would_take_too_much_memory_is_refused_unread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pixels, "_MOST_PIXELS", 5)
    with pytest.raises(PromptError, match="invalid image: 3 x 2 pixels, at most 5"):
        read_pixels(encoded(SMALL_IMAGE, "PNG"))


@given(st.sampled_from(["PNG", "JPEG", "WEBP", "GIF", "BMP"]), st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_files_are_read_or_refused(form: str, data: st.DataObject) -> None:
    content = bytearray(encoded(SMALL_IMAGE, form))
    for _ in range(data.draw(st.integers(1, 4))):
        place = data.draw(st.integers(0, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    with suppress(PromptError):
        assert read_pixels(bytes(content)).ndim == 3


def test_shrinking_keeps_the_shape() -> None:
    assert shrunk(picture(1, 64, 48), 0.5).shape == (24, 32, 3)
    assert shrunk(picture(1, 64, 1), 0.1).shape == (1, 6, 3)
