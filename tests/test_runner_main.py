"""A real runner process, spoken to through its pipes."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TypeVar

import pytest

from llamaherd.runner.frames import FrameWriter, read_frame
from llamaherd.runner.protocol import (
    Cancel,
    Chunk,
    Detokenize,
    Detokenized,
    Embed,
    Embedded,
    Failed,
    Finished,
    Generate,
    Load,
    LoadFailed,
    Loading,
    Look,
    Placed,
    ProtocolError,
    Ready,
    RunnerMessage,
    Sampling,
    Seen,
    ServerMessage,
    Shutdown,
    Tokenize,
    Tokens,
    Vectors,
    decode_runner_message,
    encode,
)
from tests.support.encoders import write_encoder
from tests.support.models import write_model
from tests.support.pictures import picture, png
from tests.support.vision import write_vision_model

#: Far more than anything here takes, in seconds.
PATIENCE = 60

GREEDY = Sampling(temperature=0, repeat_penalty=1.0)

Message = TypeVar("Message", bound=RunnerMessage)


class Process:
    """The runner and our ends of its pipes."""

    def __init__(self) -> None:
        self.popen = subprocess.Popen(
            [sys.executable, "-m", "llamaherd.runner.main"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )

    def send(self, *messages: ServerMessage) -> None:
        assert self.popen.stdin is not None
        self.popen.stdin.write(b"".join(map(encode, messages)))
        self.popen.stdin.flush()

    def receive(self) -> RunnerMessage:
        assert self.popen.stdout is not None
        body = read_frame(self.popen.stdout)
        assert body is not None, "the runner has gone"
        return decode_runner_message(body)

    def expect(self, kind: type[Message]) -> Message:
        message = self.receive()
        assert isinstance(message, kind), message
        return message

    def load(
        self,
        model: Path,
        n_slots: int = 2,
        n_ctx: int = 256,
        *,
        pools: bool = False,
        projector: str = "",
    ) -> Ready:
        self.send(
            Load(
                str(model),
                n_ctx=n_ctx,
                n_slots=n_slots,
                n_embed=4,
                pools=pools,
                projector=projector,
            )
        )
        while isinstance(message := self.receive(), Loading):
            pass
        assert isinstance(message, Ready), message
        return message

    def until_finished(self, number: int) -> tuple[str, Finished]:
        text = ""
        while not isinstance(message := self.receive(), Finished):
            assert isinstance(message, Chunk), message
            if message.id == number:
                text += message.text
        assert message.id == number
        return text, message

    def exit_status(self) -> int:
        return self.popen.wait(PATIENCE)

    def end(self) -> None:
        self.popen.kill()
        self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout):
            assert pipe is not None
            pipe.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("models") / "tiny.gguf", n_ctx=4096)


@pytest.fixture
def process() -> Iterator[Process]:
    process = Process()
    yield process
    process.end()


def prompt_of(process: Process, text: str) -> list[int]:
    process.send(Tokenize(1, text))
    return process.expect(Tokens).tokens


def test_it_loads_and_answers(process: Process, model: Path) -> None:
    ready = process.load(model)
    assert (ready.n_ctx, ready.n_slots, ready.n_ctx_train, ready.n_vocab) == (256, 2, 4096, 512)
    assert ready.model_bytes > 0
    assert ready.cache_bytes > 0
    assert "CPU" in ready.system_info
    prompt = prompt_of(process, "Once upon a time")
    assert prompt == [1, 403, 407, 261, 378]
    process.send(Generate(7, prompt, GREEDY, num_predict=9))
    text, finished = process.until_finished(7)
    assert finished.eval_count == 9
    process.send(Detokenize(8, finished.tokens))
    assert process.expect(Detokenized) == Detokenized(8, text.lstrip())


def test_the_first_message_is_progress(process: Process, model: Path) -> None:
    process.send(Load(str(model), n_ctx=64))
    assert process.expect(Loading).progress == 0


@pytest.mark.parametrize(
    ("name", "reason"), [("missing.gguf", "no such file"), ("text.gguf", "invalid magic")]
)
def test_a_model_that_cannot_be_loaded(
    process: Process, tmp_path: Path, name: str, reason: str
) -> None:
    (tmp_path / "text.gguf").write_text("not a model")
    process.send(Load(str(tmp_path / name), n_ctx=64))
    while isinstance(message := process.receive(), Loading):
        pass
    assert isinstance(message, LoadFailed)
    assert reason in message.message
    assert process.exit_status() == 1


def test_another_version_of_the_protocol_is_refused(process: Process, model: Path) -> None:
    process.send(Load(str(model), n_ctx=64, version=99))
    process.expect(Loading)
    assert "version 99" in process.expect(LoadFailed).message


def test_requests_run_together(process: Process, model: Path) -> None:
    process.load(model)
    prompt = prompt_of(process, "Once")
    process.send(Generate(5, prompt, GREEDY, 20), Generate(6, prompt, GREEDY, 20))
    seen = []
    ends = 0
    while ends < 2:
        message = process.receive()
        assert isinstance(message, (Chunk, Finished))
        ends += isinstance(message, Finished)
        seen.append(message.id)
    assert seen[:6].count(5) >= 2
    assert seen[:6].count(6) >= 2


def test_a_cancelled_request_falls_silent_and_others_go_on(process: Process, model: Path) -> None:
    process.load(model)
    prompt = prompt_of(process, "Once")
    process.send(Generate(5, prompt, GREEDY))
    process.expect(Chunk)
    process.send(Cancel(5), Cancel(404), Generate(6, prompt, GREEDY, 10))
    while (message := process.receive()).id == 5:  # type: ignore[union-attr]
        assert isinstance(message, Chunk)
    assert process.until_finished(6)[1].eval_count == 10


def test_a_prompt_is_cancelled_while_it_is_read(process: Process, tmp_path: Path) -> None:
    slow = write_model(tmp_path / "slow.gguf", n_embd=256, n_layer=8, n_ff=1024, n_ctx=8192)
    process.load(slow, n_ctx=8192)
    long = [1, *[300] * 8000]
    process.send(Generate(5, long, GREEDY, 1), Cancel(5), Generate(6, [1, 403], GREEDY, 3))
    assert process.until_finished(6)[1].cached_count < 8000


def test_a_text_outside_the_vocabulary_fails_alone(process: Process, tmp_path: Path) -> None:
    process.load(write_model(tmp_path / "no-bytes.gguf", byte_tokens=False))
    process.send(Tokenize(3, "café 🙂"))
    failed = process.expect(Failed)
    assert (failed.id, failed.status) == (3, 400)
    assert "'🙂'" in failed.message
    process.send(Detokenize(4, [99999]))
    assert process.expect(Failed).status == 400
    assert prompt_of(process, "café")


def test_a_prompt_with_wrong_tokens_fails_alone(process: Process, model: Path) -> None:
    process.load(model)
    process.send(Generate(5, [1, 99999], GREEDY))
    assert process.expect(Failed).status == 400
    process.send(Generate(6, [1, 403], GREEDY, 3))
    assert process.until_finished(6)[1].eval_count == 3


def until_embedded(process: Process) -> tuple[bytes, Embedded]:
    data = b""
    while not isinstance(message := process.receive(), Embedded):
        assert isinstance(message, Vectors), message
        data += message.data
    return data, message


@pytest.mark.parametrize("pools", [True, False], ids=["encoder", "generator"])
def test_it_embeds(process: Process, model: Path, tmp_path: Path, pools: bool) -> None:
    path = write_encoder(tmp_path / "encoder.gguf") if pools else model
    process.load(path, pools=pools)
    process.send(Embed(5, ["a b", "c"]), Embed(6, ["a b"], dimensions=3))
    data, end = until_embedded(process)
    assert (end.id, end.width, len(data)) == (5, 64, 2 * 64 * 4)
    assert (end.counts[0] > end.counts[1], end.failures) == (True, [])
    short, end = until_embedded(process)
    assert (end.id, len(short)) == (6, 3 * 4)


def test_embeddings_that_are_cancelled_fall_silent(process: Process, model: Path) -> None:
    process.load(model)
    long: list[str | list[int]] = ["Once upon a time " * 200] * 200
    process.send(Embed(5, long), Cancel(5), Embed(6, ["Once"]))
    while (message := process.receive()).id == 5:  # type: ignore[union-attr]
        assert isinstance(message, Vectors)
    assert isinstance(message, Vectors)
    assert process.expect(Embedded).id == 6


def test_embeddings_that_are_wrong_fail_alone(process: Process, model: Path) -> None:
    process.load(model)
    process.send(Embed(5, ["a"], dimensions=65), Embed(6, [[1, 99999]]), Embed(7, ["a"]))
    assert process.expect(Failed).status == 400
    _, end = until_embedded(process)
    assert [(failure.index, failure.status) for failure in end.failures] == [(0, 400)]
    assert until_embedded(process)[1].failures == []


def test_images_that_nobody_waits_for_are_not_looked_at(process: Process, tmp_path: Path) -> None:
    """Those that the runner has begun with it finishes: the others come before they can."""
    files = write_vision_model(tmp_path, "llava")
    process.load(files.model, projector=str(files.projector))
    large, small = png(picture(1, 1500, 1500)), png(picture(2))
    process.send(
        Look(5, large),
        Look(6, small),
        Generate(7, [1, 403], GREEDY, num_predict=3, images=[Placed(1, small)]),
        Cancel(6),
        Cancel(7),
        Generate(8, [1, 403], GREEDY, num_predict=3, images=[Placed(1, small)]),
    )
    assert process.expect(Seen) == Seen(5, 16)
    assert process.until_finished(8)[1].prompt_count == 2 + 16


def test_one_image_need_not_wait_for_many_of_others(process: Process, tmp_path: Path) -> None:
    files = write_vision_model(tmp_path, "llava")
    process.load(files.model, projector=str(files.projector))
    many = [Placed(1, png(picture(seed, 500, 500))) for seed in range(12)]
    process.send(
        Generate(5, [1, 403], GREEDY, num_predict=3, images=many),
        Generate(6, [1, 403], GREEDY, num_predict=3, images=[Placed(1, png(picture(20)))]),
    )
    assert process.until_finished(6)[1].prompt_count == 2 + 16
    assert process.until_finished(5)[1].prompt_count == 2 + 12 * 16


def test_seeing_an_image_counts_as_reading_it(process: Process, tmp_path: Path) -> None:
    files = write_vision_model(tmp_path, "llava")
    process.load(files.model, projector=str(files.projector))
    image = Placed(2, png(picture(1, 1000, 1000)))
    durations = []
    for word in (403, 404):
        process.send(Generate(word, [1, word], GREEDY, num_predict=1, images=[image]))
        durations.append(process.until_finished(word)[1].prompt_duration)
    assert durations[0] > 3 * durations[1], "what was seen is not looked at again"


@pytest.mark.parametrize(
    "message", [Look(5, b"no image"), Generate(5, [1], images=[Placed(0, b"no image")])]
)
def test_an_image_that_is_none_fails_alone(
    process: Process, tmp_path: Path, message: ServerMessage
) -> None:
    files = write_vision_model(tmp_path, "llava")
    process.load(files.model, projector=str(files.projector))
    process.send(message, Look(6, png(picture(2))))
    failed = process.expect(Failed)
    assert (failed.id, failed.status) == (5, 400)
    assert process.expect(Seen) == Seen(6, 16)


def test_a_model_without_a_projector_sees_nothing(process: Process, model: Path) -> None:
    process.load(model)
    process.send(Look(5, png(picture(2))))
    assert process.expect(Failed) == Failed(5, "this model does not support images", 400)


def test_an_encoder_does_not_write(process: Process, tmp_path: Path) -> None:
    process.load(write_encoder(tmp_path / "encoder.gguf"), pools=True)
    process.send(Generate(5, [2, 3]))
    failed = process.expect(Failed)
    assert (failed.id, failed.status) == (5, 400)


def test_questions_before_loading_fail(process: Process) -> None:
    process.send(Tokenize(3, "early"), Embed(4, ["early"]))
    assert "not loaded" in process.expect(Failed).message
    assert "not loaded" in process.expect(Failed).message


# --- the end --------------------------------------------------------------------------------


def close_input(process: Process) -> None:
    assert process.popen.stdin is not None
    process.popen.stdin.close()


ENDS: dict[str, Callable[[Process], None]] = {
    "the server has gone": close_input,
    "shutdown": lambda process: process.send(Shutdown()),
    "SIGTERM": lambda process: process.popen.send_signal(signal.SIGTERM),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS.keys())
@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_it_ends_at_once(
    process: Process, model: Path, end: Callable[[Process], None], busy: bool
) -> None:
    process.load(model, n_ctx=4096)
    if busy:
        process.send(Generate(5, [1, 403], GREEDY))
        process.expect(Chunk)
    end(process)
    assert process.exit_status() == 0


def test_it_ends_before_it_was_told_to_load(process: Process) -> None:
    close_input(process)
    assert process.exit_status() == 0


def test_it_ends_when_its_answers_find_no_reader(process: Process, model: Path) -> None:
    process.load(model)
    assert process.popen.stdout is not None
    process.popen.stdout.close()
    process.send(Generate(5, [1, 403], GREEDY))
    assert process.exit_status() == 0


def test_garbage_ends_it(process: Process) -> None:
    assert process.popen.stdin is not None
    process.popen.stdin.write(b"\x02\x00\x00\x00hi")
    process.popen.stdin.flush()
    assert process.exit_status() == 1


def test_the_terminals_interrupt_is_left_to_the_server(process: Process, model: Path) -> None:
    process.load(model)
    process.popen.send_signal(signal.SIGINT)
    assert prompt_of(process, "Once") == [1, 403]


def test_it_dies_with_a_server_that_is_killed(model: Path) -> None:
    """The runner's pipes stay open, held by this test; only its parent goes."""
    program = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-m', 'llamaherd.runner.main'])\n"
        "time.sleep(3600)\n"
    )
    server = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert server.stdin is not None
    assert server.stdout is not None
    server.stdin.write(encode(Load(str(model), n_ctx=64)))
    server.stdin.flush()
    assert isinstance(decode_runner_message(read_frame(server.stdout) or b""), Loading)
    server.kill()
    server.wait()
    while read_frame(server.stdout) is not None:
        pass
    server.stdin.close()
    server.stdout.close()


# --- frames ---------------------------------------------------------------------------------


def test_a_frame_is_read_whole_or_not_at_all() -> None:
    frame = encode(Chunk(1, "text"))
    stream = BytesIO(frame + frame[:-1])
    assert decode_runner_message(read_frame(stream) or b"") == Chunk(1, "text")
    with pytest.raises(ProtocolError, match="within a frame"):
        read_frame(stream)
    assert read_frame(BytesIO()) is None


def test_a_slow_reader_holds_nobody_up() -> None:
    """Far more than a pipe holds is taken at once and arrives in order."""
    source, target = os.pipe()
    writer = FrameWriter(target, lost=lambda: None)
    messages = [Chunk(number, "x" * 1000) for number in range(1000)]
    for message in messages:
        writer.send([message])
    with os.fdopen(source, "rb") as stream:
        for message in messages:
            assert decode_runner_message(read_frame(stream) or b"") == message
        writer.flush()
        assert not select.select([stream], [], [], 0)[0]
    os.close(target)


def test_a_reader_that_has_gone_is_noticed() -> None:
    source, target = os.pipe()
    os.close(source)
    lost = []
    FrameWriter(target, lost=lambda: lost.append(True)).send([Chunk(1, "x")])
    assert lost == [True]
    os.close(target)
