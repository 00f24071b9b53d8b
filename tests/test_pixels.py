"""Image files become pixels: upright, in colours, on white, or are refused with a reason."""

from __future__ import annotations

import io
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

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


@pytest.mark.parametrize("orientation", range(10))
def test_photographs_are_turned_as_they_say(orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(SMALL_IMAGE, "PNG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
    assert np.array_equal(read_pixels(data), expected)
    assert (expected.shape[0] == 3) == (5 <= orientation <= 8)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
def test_whatever_else_a_camera_notes_does_not_matter(form: str) -> None:
    """A resolution of text, which Pillow reads and can't write."""
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "AB"
    notes = exif.tobytes()
    assert notes.count(b"\x01\x0f\x00\x02") == 1
    notes = notes.replace(b"\x01\x0f\x00\x02", b"\x01\x1a\x00\x02")
    image = Image.fromarray(picture(1, 64, 48))
    assert read_pixels(encoded(image, form, exif=notes)).shape == (64, 48, 3)


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


def test_colours_by_number_without_a_list_of_them_are_refused() -> None:
    data = encoded(SMALL_IMAGE.convert("P"), "PNG")
    start = data.index(b"PLTE") - 4
    end = start + 12 + int.from_bytes(data[start : start + 4])
    with pytest.raises(PromptError, match="invalid image: "):
        read_pixels(data[:start] + data[end:])


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
