"""Images of several people at once, those who go away, and runners that end meanwhile."""

from __future__ import annotations

import io
import os
import re
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from random import Random
from typing import Any, Final

import numpy as np
import pytest
from PIL import Image

from tests.images_api.sights import BIRD, CAT, DOG, Sight, b64
from tests.support.mtmd_oracle import MARKER, Question, ask_oracle
from tests.support.pictures import picture, png
from tests.support.server import Answer, RunningServer
from tests.support.vision import KINDS, Kind

_READS: Final = re.compile(r"runner (\d+) reads a prompt")
_RESIDENT: Final = re.compile(r"VmRSS:\s+(\d+) kB")

#: As pixels it takes 48 MB, and the model's library the better part of a second to make it small.
LARGE: Final = (4000, 4000)

#: In bytes: not all of it, so that the library has yet to work when this much is there.
MUCH: Final = 40 << 20

#: What people ask of four images, by their numbers: prompts that begin alike, in all ways.
PARTS: Final[Sequence[str | int]] = ("Once upon a time ", 0, 1, "she saw ", 2, "and then ", 3)


def question(image: bytes, model: str = "llava", **request: Any) -> dict[str, Any]:
    asked = {"model": model, "prompt": "What is it?", "images": [b64(image)], "stream": False}
    return {**asked, **request}


def large(seed: int) -> bytes:
    return png(picture(seed, *LARGE))


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(8) as pool:
        yield pool


@pytest.fixture
def runner(server: RunningServer, llava: Sight) -> int:
    """The process that has the model."""
    answer = server.post("/api/generate", **question(CAT))
    assert answer.json()["response"] == llava.text("cat")
    return [int(match[1]) for line in server.log if (match := _READS.search(line))][-1]


def resident(process: int) -> int:
    """The memory that a process has, in bytes."""
    found = _RESIDENT.search(Path(f"/proc/{process}/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def wait_until_shown(process: int, before: int) -> None:
    """Until a large image is in the memory of a process, which it takes a second to look at."""
    patience = time.monotonic() + 60
    while resident(process) < before + MUCH:
        assert time.monotonic() < patience, "no image came"


@pytest.mark.parametrize("kind", KINDS)
def test_everybody_gets_an_answer_to_their_own_image(
    server: RunningServer, sights: Mapping[Kind, Sight], pool: ThreadPoolExecutor, kind: Kind
) -> None:
    names = ["cat", "dog", "none", "both"] * 3
    images = {"cat": [CAT], "dog": [DOG], "none": [], "both": [CAT, DOG]}
    asked = [question(b"", kind, images=[b64(image) for image in images[name]]) for name in names]
    answers = list(pool.map(lambda each: server.post("/api/generate", **each), asked))
    assert [answer.json()["response"] for answer in answers] == [
        sights[kind].text(name) for name in names
    ]


@pytest.mark.parametrize("kind", ["gemma3", "qwen2vl"])
def test_prompts_that_begin_alike_are_never_confused(
    server: RunningServer, sights: Mapping[Kind, Sight], pool: ThreadPoolExecutor, kind: Kind
) -> None:
    """Though some share what was read, and others go away in the middle of it."""
    random = Random(7)
    prompts = [
        [*PARTS[:length], *random.choices(PARTS, k=random.randrange(4)), "Why?"]
        for length in range(len(PARTS))
        for _ in range(2)
    ]
    answers = ask_oracle(sights[kind].files, *map(as_question, prompts), as_served=True)
    asked = list(range(len(prompts))) * 2
    random.shuffle(asked)

    def ask(number: int) -> str:
        request = as_request(prompts[number], kind)
        with server.sent("/api/generate", **request):
            pass
        answer = server.post("/api/generate", **request)
        assert answer.status == 200, answer.text
        return str(answer.json()["response"])

    expected = [answers[number].text for number in asked]
    for said, text in zip(pool.map(ask, asked), expected, strict=True):
        assert text.startswith(said), "the oracle goes on after a token that ends"


def as_question(parts: Sequence[str | int]) -> Question:
    prompt = "".join(part if isinstance(part, str) else MARKER for part in parts)
    return Question(prompt, [picture(part) for part in parts if isinstance(part, int)])


def as_request(parts: Sequence[str | int], kind: Kind) -> dict[str, Any]:
    prompt = "".join(part if isinstance(part, str) else "[img]" for part in parts)
    images = [b64(png(picture(part))) for part in parts if isinstance(part, int)]
    return question(b"", kind, prompt=prompt, images=images, raw=True)


def test_others_go_on_while_a_large_image_is_looked_at(
    server: RunningServer, llava: Sight, runner: int, pool: ThreadPoolExecutor
) -> None:
    before = resident(runner)
    slow: Future[Answer] = pool.submit(server.post, "/api/generate", **question(large(21)))
    wait_until_shown(runner, before)
    quick = server.post("/api/generate", **question(b"", images=[]))
    assert quick.json()["response"] == llava.text("none")
    assert not slow.done()
    assert slow.result().json()["eval_count"] == 8


def test_who_goes_away_leaves_no_work_behind(
    server: RunningServer, llava: Sight, runner: int
) -> None:
    """But for the image that was begun; what is sent again was not looked at."""
    before = resident(runner)
    reads = sum("reads a prompt" in line for line in server.log)
    with server.sent("/api/generate", **question(large(22))):
        wait_until_shown(runner, before)
    answer = server.post("/api/generate", **question(DOG))
    assert answer.json()["response"] == llava.text("dog")
    assert sum("reads a prompt" in line for line in server.log) == reads + 1


def test_large_images_leave_no_memory_behind(server: RunningServer, runner: int) -> None:
    before = resident(runner)
    clear = np.full((3000, 3000, 1), 128, np.uint8)
    for seed in (31, 32, 33):
        file = io.BytesIO()
        image = Image.fromarray(np.dstack([picture(seed, 3000, 3000), clear]))
        image.save(file, "PNG", compress_level=1)
        answer = server.post("/api/generate", **question(file.getvalue()))
        assert answer.status == 200, answer.text
    assert resident(runner) < before + (60 << 20)


def test_many_images_leave_little_memory_behind(server: RunningServer, runner: int) -> None:
    """Of each its embeddings are kept, 4 KB here, up to a bound."""
    before = resident(runner)
    for seed in range(1000, 1060):
        answer = server.post(
            "/api/generate", **question(png(picture(seed)), options={"num_predict": 1})
        )
        assert answer.status == 200, answer.text
    assert resident(runner) < before + (10 << 20)


def test_a_runner_that_is_killed_fails_its_requests_alone(
    server: RunningServer, llava: Sight, runner: int, pool: ThreadPoolExecutor
) -> None:
    before = resident(runner)
    lost: Future[Answer] = pool.submit(server.post, "/api/generate", **question(large(23)))
    wait_until_shown(runner, before)
    os.kill(runner, signal.SIGKILL)
    assert lost.result().status == 500
    assert "model runner has unexpectedly stopped" in lost.result().json()["error"]
    answer = server.post("/api/generate", **question(BIRD))
    assert answer.status == 200
    assert server.post("/api/generate", **question(CAT)).json()["response"] == llava.text("cat")


def test_a_model_is_unloaded_while_it_looks(
    server: RunningServer, llava: Sight, runner: int, pool: ThreadPoolExecutor
) -> None:
    before = resident(runner)
    lost: Future[Answer] = pool.submit(server.post, "/api/generate", **question(large(24)))
    wait_until_shown(runner, before)
    answer = server.post("/api/generate", model="llava", keep_alive=0, stream=False)
    assert answer.json()["done_reason"] == "unload"
    assert lost.result().status == 500
    assert lost.result().json()["error"] == "model was unloaded while the request was running"
    assert "llava:latest" not in server.loaded()
    assert server.post("/api/generate", **question(CAT)).json()["response"] == llava.text("cat")
