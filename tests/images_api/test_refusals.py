"""What can't be shown is refused with its reason, and the server goes on."""

from __future__ import annotations

import io
import re
import struct
import zlib
from typing import Any

import anthropic
import ollama
import openai
import pytest
from PIL import Image

from llamaherd.errors import PromptError
from llamaherd.generation import prompting
from llamaherd.prompt.builder import generate_prompt
from llamaherd.runner.process import Runner
from llamaherd.runner.protocol import Load
from tests.images_api.sights import CAT, DOG, Sight, b64, data_url
from tests.support.pictures import picture, png
from tests.support.server import Answer, RunningServer


def generate(server: RunningServer, *images: Any, **request: Any) -> Answer:
    asked = {"model": "llava", "prompt": "What is it?", "images": images, "stream": False}
    return server.post("/api/generate", **{**asked, **request})


def declared(width: int, height: int) -> bytes:
    """A PNG that says so of its size."""
    file = bytearray(CAT)
    file[16:24] = struct.pack(">II", width, height)
    file[29:33] = struct.pack(">I", zlib.crc32(file[12:29]))
    return bytes(file)


def encoded(form: str, mode: str = "RGB", **options: Any) -> bytes:
    file, image = io.BytesIO(), Image.fromarray(picture(1))
    # Of a picture of few colours a palette has all.
    image = image.quantize() if mode == "P" else image.convert(mode)
    image.save(file, form, **options)
    return file.getvalue()


@pytest.mark.parametrize(
    ("image", "reason"),
    [
        (b"", "0 bytes that are none of JPEG, PNG, WEBP, GIF, BMP"),
        (b"no image", "8 bytes that are none of"),
        (b"GIF89a", "none of"),
        (CAT[: len(CAT) // 2], "image file is truncated"),
        (encoded("JPEG")[:-300], "image file is truncated"),
        (encoded("TIFF"), "none of"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "none of"),
        (declared(0, 0), "none of"),
        (declared(10_001, 10_000), "10001 x 10000 pixels, at most 100000000"),
        (declared(60_000, 60_000), "3600000000 pixels"),
        (declared(2**31 - 1, 2**31 - 1), "pixels"),
    ],
    ids=lambda value: value[:20] if isinstance(value, str) else None,
)
def test_files_that_are_no_images(server: RunningServer, image: bytes, reason: str) -> None:
    for answer in (
        generate(server, b64(image)),
        generate(server, b64(image), stream=True),
        generate(server, b64(image), prompt="Once [img-0]", raw=True),
        generate(server, b64(image), _debug_render_only=True),
    ):
        assert answer.status == 400, answer.text
        message = answer.json()["error"]
        assert message.startswith("invalid image: ")
        assert reason in message


def test_of_several_images_the_one_is_told(server: RunningServer) -> None:
    answer = generate(server, b64(CAT), b64(b"no image"), b64(DOG))
    assert answer.status == 400
    assert answer.json()["error"].startswith("image 2 of 3: invalid image: 8 bytes")


@pytest.mark.parametrize(
    ("image", "byte"), [(data_url(CAT), 4), ("!", 0), (b64(CAT)[:-2], len(b64(CAT)) - 4)]
)
def test_what_is_not_base64(server: RunningServer, image: str, byte: int) -> None:
    answer = generate(server, image)
    assert (answer.status, answer.json()["error"]) == (
        400,
        f"images: illegal base64 data at input byte {byte}",
    )
    talk = [{"role": "user", "content": "hi", "images": [image]}]
    answer = server.post("/api/chat", model="llava", messages=talk)
    assert answer.json()["error"] == f"messages.images: illegal base64 data at input byte {byte}"


@pytest.mark.parametrize("value", [5, {}, True, [b64(CAT)]], ids=str)
def test_what_is_no_text(server: RunningServer, value: Any) -> None:
    answer = generate(server, value)
    assert answer.status == 400
    assert "GenerateRequest.images of type api.ImageData" in answer.json()["error"]
    assert generate(server, images=b64(CAT)).status == 400


def test_a_model_that_sees_nothing_says_so(server: RunningServer) -> None:
    message = "blind:latest does not support images"
    with ollama.Client(host=server.host) as client:
        with pytest.raises(ollama.ResponseError, match=message) as refused:
            client.generate("blind", "What is it?", images=[CAT])
        assert refused.value.status_code == 400
        with pytest.raises(ollama.ResponseError, match=message):
            client.chat("blind", [{"role": "user", "content": "Hi", "images": [CAT]}])
    url = f"http://{server.host}"
    image: Any = {"type": "image_url", "image_url": {"url": data_url(CAT)}}
    with (
        openai.OpenAI(base_url=f"{url}/v1", api_key="x", max_retries=0) as client,
        pytest.raises(openai.BadRequestError, match=message),
    ):
        client.chat.completions.create(
            model="blind", messages=[{"role": "user", "content": [image]}]
        )
    source: Any = {"type": "base64", "media_type": "image/png", "data": b64(CAT)}
    with (
        anthropic.Anthropic(base_url=url, api_key="x", max_retries=0) as claude,
        pytest.raises(anthropic.BadRequestError, match=message),
    ):
        claude.messages.create(
            model="blind",
            max_tokens=8,
            messages=[{"role": "user", "content": [{"type": "image", "source": source}]}],
        )


def test_the_other_dialects_name_the_field(server: RunningServer) -> None:
    part = {"type": "image_url", "image_url": {"url": "https://example.com/cat.png"}}
    talk = [{"role": "user", "content": [part]}]
    error = server.post("/v1/chat/completions", model="llava", messages=talk).json()["error"]
    assert error["param"] == "messages[0].content[0].image_url"
    assert "expected a data URL with base64" in error["message"]
    source = {"type": "base64", "media_type": "image/png", "data": "!"}
    talk = [{"role": "user", "content": [{"type": "image", "source": source}]}]
    answer = server.post("/v1/messages", model="llava", max_tokens=8, messages=talk)
    assert answer.status == 400
    assert "messages.0.content.0.source.data" in answer.json()["error"]["message"]
    part = {"type": "input_image", "file_id": "file-1"}
    answer = server.post(
        "/v1/responses", model="llava", input=[{"role": "user", "content": [part]}]
    )
    assert answer.status == 400
    assert answer.json()["error"]["param"] == "input[0].content[0].image_url"


def test_embeddings_take_no_images(server: RunningServer) -> None:
    """The interface knows no such field; as of others that it doesn't know, nothing comes of it."""
    plain = server.post("/api/embed", model="llava", input="hi").json()["embeddings"]
    more = server.post("/api/embed", model="llava", input="hi", images=[b64(CAT)])
    assert more.json()["embeddings"] == plain


# --- what is an image ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("form", "mode", "options"),
    [
        ("PNG", "RGB", {}),
        ("PNG", "RGBA", {}),
        ("PNG", "P", {}),
        ("BMP", "RGB", {}),
        ("WEBP", "RGB", {"lossless": True}),
        ("WEBP", "RGBA", {"lossless": True}),
        ("GIF", "P", {"save_all": True, "append_images": [Image.new("RGB", (64, 48))]}),
    ],
    ids=lambda value: str(value)[:12],
)
def test_formats_without_loss_are_the_same_image(
    server: RunningServer, llava: Sight, form: str, mode: str, options: dict[str, Any]
) -> None:
    assert generate(server, b64(encoded(form, mode, **options))).json()["response"] == llava.text(
        "cat"
    )


def test_other_files_are_what_their_pixels_are(server: RunningServer) -> None:
    """Photographs lose a little, so what they have become is compared."""
    exif = Image.Exif()
    exif[0x0112] = 6
    for file in (
        encoded("JPEG"),
        encoded("JPEG", progressive=True),
        encoded("JPEG", "L"),
        encoded("JPEG", "CMYK"),
        encoded("PNG", "L"),
        encoded("PNG", "1"),
        encoded("WEBP", quality=30),
    ):
        with Image.open(io.BytesIO(file)) as image:
            same = io.BytesIO()
            image.convert("RGB").save(same, "PNG")
        assert (
            generate(server, b64(file)).json()["response"]
            == generate(server, b64(same.getvalue())).json()["response"]
        )
    turned = io.BytesIO()
    Image.fromarray(picture(1)).rotate(-90, expand=True).save(turned, "PNG")
    assert (
        generate(server, b64(encoded("PNG", exif=exif))).json()["response"]
        == generate(server, b64(turned.getvalue())).json()["response"]
    )


@pytest.mark.parametrize("model", ["llava", "qwen2vl", "idefics3"])
def test_sizes_that_nobody_expects(server: RunningServer, model: str) -> None:
    for width, height in [(1, 1), (1, 3000), (3000, 1), (2, 3), (900, 800)]:
        answer = generate(server, b64(png(picture(5, width, height))), model=model)
        if answer.status == 400:
            message = f"invalid image: an image of {width} x {height} can't be used: "
            assert answer.json()["error"].startswith(message)
            assert model == "idefics3"
        else:
            assert answer.json()["eval_count"] > 0
    assert generate(server, b64(CAT), model=model).status == 200


def test_more_images_than_the_context_can_hold(server: RunningServer) -> None:
    """Of words the last ones would count, but a reply without having seen is none."""
    images = [*[b64(CAT)] * 1000, b64(DOG)]
    answer = generate(server, *images)
    assert answer.status == 400
    count = re.fullmatch(
        r"the prompt takes (\d+) tokens, 16016 of them for images, and can't be cut to fit the"
        r" context of 512",
        answer.json()["error"],
    )
    assert count
    assert 16016 < int(count[1]) < 16100
    answer = generate(server, *images, truncate=False)
    assert answer.status == 400
    assert answer.json()["error"] == "the input length exceeds the context length"


@pytest.mark.anyio
async def test_images_that_no_context_could_hold_are_refused(
    llava: Sight, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A context of 12 million tokens, that is; the runner would run out of memory."""
    monkeypatch.setattr(prompting, "LONGEST_TEXT", 100)
    files = llava.files
    runner = await Runner.start(Load(str(files.model), n_ctx=64, projector=str(files.projector)))
    try:
        building = generate_prompt(None, "Once", limit=None, images=[CAT] * 7)
        with pytest.raises(PromptError, match=r"the prompt has 11\d tokens, at most 100 are read"):
            await prompting.build(building, runner)
    finally:
        await runner.stop()
