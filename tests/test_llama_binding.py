"""llama.cpp behind the backend protocol: every bound function is called here at least once."""

from __future__ import annotations

import logging
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import llamaherd.llama
from llamaherd.errors import LoadError
from llamaherd.llama.alphabet import Alphabet, alphabet_of
from llamaherd.llama.backend import (
    CacheFull,
    DecodeAborted,
    DecodeFailed,
    InvalidText,
    InvalidToken,
    Step,
)
from llamaherd.llama.binding import LlamaBackend
from llamaherd.llama.evaluator import Evaluator
from llamaherd.llama.library import C, system_info
from llamaherd.llama.loader import LoadedModel, ModelSpec, load
from llamaherd.llama.memory import MemoryUse, memory_use
from tests.support.models import (
    write_adapter,
    write_model,
    write_sliding_window_model,
)
from tests.support.recurrent_models import write_recurrent_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    return write_model(folder / "tiny.gguf")


def load_model(model: Path, progress: list[float] | None = None, **fields: object) -> LoadedModel:
    told = [] if progress is None else progress
    values = {"n_ctx": 128, "n_slots": 2, "n_batch": 32, "threads": 1} | fields
    return load(ModelSpec(model=model, **values), told.append)  # type: ignore[arg-type]


@pytest.fixture
def backend(model: Path) -> Iterator[LlamaBackend]:
    backend = load_model(model).backend
    yield backend
    backend.close()


def evaluate(backend: LlamaBackend, tokens: list[int], position: int = 0, slot: int = 0) -> int:
    """The most likely next token."""
    backend.batch.clear()
    row = backend.batch.extend(tokens, position, slot, want=1)
    backend.decode()
    backend.wait()
    return int(backend.logits(row).argmax())


TOKENS = [1, 403, 407, 261, 378]  # <s> Once upon a time


# --- the library ----------------------------------------------------------------------------


def test_every_function_that_is_named_exists() -> None:
    named = {
        name
        for path in Path(llamaherd.llama.__file__).parent.glob("*.py")
        for name in re.findall(r"\bC\.(\w+)", path.read_text())
    }
    assert len(named) > 50
    assert not [name for name in named if not hasattr(C, name)]


def test_only_the_c_functions_are_imported_until_somebody_wants_more() -> None:
    program = (
        "import sys, llamaherd.llama.library\n"
        "assert 'llama_cpp' not in sys.modules and 'jinja2' not in sys.modules\n"
        "import llama_cpp\n"
        "assert llama_cpp.llama_cpp is llamaherd.llama.library.C\n"
        "assert llama_cpp.Llama\n"
    )
    subprocess.run([sys.executable, "-c", program], check=True)


def test_system_info_lists_features() -> None:
    assert "CPU" in system_info()


# --- loading --------------------------------------------------------------------------------


def test_loading_tells_progress_and_memory(model: Path) -> None:
    progress: list[float] = []
    loaded = load_model(model, progress)
    assert progress == sorted(progress)
    assert progress[-1] == 1.0
    assert loaded.n_ctx_train == 512
    assert loaded.memory.model > 600_000
    # 2 layers of keys and values of 32 f16 numbers for 256 cells
    assert loaded.memory.cache == pytest.approx(2 * 2 * 32 * 2 * 256, rel=0.2)
    assert loaded.memory.compute > 0
    assert loaded.memory.vram == 0
    loaded.backend.close()
    loaded.backend.close()


def test_all_options_together(model: Path, folder: Path) -> None:
    adapter = write_adapter(folder / "adapter.gguf")
    loaded = load_model(
        model,
        adapters=[adapter],
        gpu_layers=0,
        use_mmap=False,
        use_mlock=True,
        numa=True,
        flash_attention="on",
        kv_cache_type="f32",
        extra_buffers=False,
    )
    assert loaded.memory.cache > 64_000
    loaded.backend.close()


@pytest.mark.parametrize(
    ("option", "value"),
    [("use_mlock", True), ("flash_attention", "off"), ("use_mmap", False), ("n_ctx", 1)],
)
def test_options_one_by_one(model: Path, option: str, value: object) -> None:
    loaded = load_model(model, None, **{option: value})
    assert evaluate(loaded.backend, TOKENS) > 0
    loaded.backend.close()


def test_an_adapter_changes_what_the_model_says(
    model: Path, folder: Path, backend: LlamaBackend
) -> None:
    adapter = write_adapter(folder / "strong.gguf", gain=4.0)
    adapted = load_model(model, adapters=[adapter]).backend
    evaluate(backend, TOKENS)
    evaluate(adapted, TOKENS)
    last = len(TOKENS) - 1
    assert not np.allclose(backend.logits(last), adapted.logits(last), atol=0.1)
    adapted.close()


def test_the_context_is_at_most_what_the_model_was_trained_for(model: Path) -> None:
    backend = load_model(model, n_ctx=100_000).backend
    assert backend.n_ctx == 512
    backend.close()


def test_a_batch_holds_a_token_for_every_sequence(model: Path) -> None:
    backend = load_model(model, n_batch=1, n_slots=3).backend
    assert backend.batch.capacity == backend.n_seq
    backend.close()


def test_files_that_cannot_be_loaded(folder: Path, model: Path) -> None:
    text, cut, broken = folder / "text.gguf", folder / "cut.gguf", folder / "adapter-text.gguf"
    text.write_text("not a model")
    mute = write_model(folder / "mute.gguf", metadata={"tokenizer.ggml.model": "none"})
    cut.write_bytes(model.read_bytes()[:-1000])
    broken.write_text("no")
    for file, reason in (
        (folder / "missing.gguf", "no such file"),
        (text, "invalid magic characters"),
        (cut, "not within the file bounds"),
        (mute, "the model has no vocabulary"),
    ):
        with pytest.raises(LoadError, match=reason):
            load_model(file)
    with pytest.raises(LoadError, match=r"unable to load adapter .*adapter-text\.gguf"):
        load_model(model, adapters=[broken])


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kv_cache_type": "q3"}, "unknown type of K/V cache 'q3'"),
        ({"n_ctx": 0}, "no room for a token: n_ctx 0"),
        ({"kv_cache_type": "q8_0", "flash_attention": "off"}, "V cache requires flash_attn"),
    ],
)
def test_options_that_cannot_be_met(model: Path, options: dict[str, object], reason: str) -> None:
    with pytest.raises(LoadError, match=reason):
        load_model(model, None, **options)


def test_what_llama_cpp_says_of_memory() -> None:
    log = """
load_tensors:   CPU_Mapped model buffer size =   100.00 MiB
load_tensors:        CUDA0 model buffer size =    50.50 MiB
llama_adapter_lora_init_impl:        CPU LoRA buffer size =     1.25 MiB
llama_adapter_lora_init_impl:      CUDA0 LoRA buffer size =     2.00 MiB
llama_adapter_lora_init_impl:      CUDA0 LoRA buffer size =     0.25 MiB
llama_context:  CUDA_Host  output buffer size =     0.50 MiB
llama_kv_cache:        CPU KV buffer size =     4.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =     2.00 MiB
llama_kv_cache:      CUDA0 KV buffer size =     1.00 MiB
sched_reserve:      CUDA0 compute buffer size =     9.00 MiB
sched_reserve:      CUDA0 compute buffer size =     8.00 MiB
sched_reserve:  CUDA_Host compute buffer size =     3.00 MiB
"""
    mebibyte = 2**20
    assert memory_use(log.splitlines()) == MemoryUse(
        model=154 * mebibyte,
        cache=7 * mebibyte,
        compute=int(11.5 * mebibyte),
        vram=int(63.75 * mebibyte),
    )


@pytest.mark.parametrize(("layers", "on_gpu"), [("16/17", 50.0), ("17/17", 151.25)])
def test_a_model_whose_layers_all_lie_on_a_gpu_lies_there_as_a_whole(
    layers: str, on_gpu: float
) -> None:
    log = f"""
load_tensors: offloaded {layers} layers to GPU
load_tensors:   CPU_Mapped model buffer size =   100.00 MiB
load_tensors:        CUDA0 model buffer size =    50.00 MiB
llama_context:  CUDA_Host  output buffer size =     1.25 MiB
"""
    assert memory_use(log.splitlines()).vram == on_gpu * 2**20


def test_repacked_weights_are_counted_once() -> None:
    log = """
load_tensors:   CPU_Mapped model buffer size =   100.00 MiB
load_tensors:   CPU_REPACK model buffer size =    80.00 MiB
"""
    assert memory_use(log.splitlines()).model == 100 * 2**20


# --- vocabulary -----------------------------------------------------------------------------


def test_text_becomes_tokens_and_comes_back(backend: LlamaBackend) -> None:
    vocabulary = backend.vocabulary
    tokens = vocabulary.tokenize("Once upon a time", add_special=True, parse_special=True)
    assert tokens == TOKENS
    assert vocabulary.detokenize(tokens[1:]) == "Once upon a time"
    assert b"".join(map(backend.piece, tokens)) == b"<s> Once upon a time"


def test_text_of_any_length_and_kind(backend: LlamaBackend) -> None:
    text = "日本語 🐪 é\0\n" * 500
    vocabulary = backend.vocabulary
    tokens = vocabulary.tokenize(text, add_special=False, parse_special=False)
    assert vocabulary.detokenize(tokens) == text
    assert vocabulary.tokenize("", add_special=False, parse_special=False) == []
    assert vocabulary.detokenize([]) == ""


def test_special_tokens_are_parsed_on_demand(backend: LlamaBackend) -> None:
    tokenize = backend.vocabulary.tokenize
    assert tokenize("</s>", add_special=False, parse_special=True) == [2]
    assert 2 not in tokenize("</s>", add_special=False, parse_special=False)


def test_a_prompt_that_spells_out_bos_gets_no_second_one(backend: LlamaBackend) -> None:
    tokens = backend.vocabulary.tokenize("<s>Once", add_special=True, parse_special=True)
    assert tokens == [1, 403]


@pytest.mark.parametrize("token", [-1, 512, 2**31])
def test_a_number_that_is_no_token_is_refused(backend: LlamaBackend, token: int) -> None:
    with pytest.raises(InvalidToken, match=f"token {token} is not in the vocabulary"):
        backend.vocabulary.detokenize([1, token])


def test_what_the_vocabulary_says(backend: LlamaBackend) -> None:
    assert (backend.n_vocab, backend.bos, backend.add_bos) == (512, 1, True)
    assert backend.newline is not None
    assert backend.piece(backend.newline) == b"\n"
    assert backend.is_end(2)
    assert not backend.is_end(403)


def test_characters_without_tokens_are_refused_before_llama_cpp_aborts(folder: Path) -> None:
    path = write_model(folder / "no-bytes.gguf", byte_tokens=False)
    backend = load_model(path).backend
    vocabulary = backend.vocabulary

    def tokenize(text: str, *, parse_special: bool = True) -> list[int]:
        return vocabulary.tokenize(text, add_special=True, parse_special=parse_special)

    with pytest.raises(InvalidText, match=r"no token for the character '🙂' \(U\+1F642\)"):
        tokenize("café 🙂")
    assert vocabulary.detokenize(tokenize("café, a day\n")[1:]) == "café, a day\n"
    assert evaluate(backend, tokenize("Once upon")) > 0
    backend.close()


def test_the_alphabet_knows_special_tokens_and_single_bytes() -> None:
    alphabet = Alphabet(["▁", "a", "<0xC3>", "<0xA9>"], always=["_x_"], special=["<|end|>"])
    alphabet.check("a é", parse_special=True)
    alphabet.check("a_x_<|end|>", parse_special=True)
    alphabet.check("a_x_", parse_special=False)
    with pytest.raises(InvalidText, match="'<'"):
        alphabet.check("a<|end|>", parse_special=False)
    with pytest.raises(InvalidText, match="'b'"):
        alphabet.check("ab", parse_special=True)


def test_a_vocabulary_with_byte_tokens_needs_no_alphabet(backend: LlamaBackend) -> None:
    assert alphabet_of(backend.vocabulary) is None


# --- decoding -------------------------------------------------------------------------------


def test_chunks_and_shared_prefixes_compute_the_same(backend: LlamaBackend) -> None:
    whole = evaluate(backend, TOKENS)
    logits = backend.logits(len(TOKENS) - 1).copy()
    backend.truncate(0, 3)
    assert evaluate(backend, TOKENS[3:], 3) == whole
    backend.copy(0, 1, 4)
    assert evaluate(backend, TOKENS[4:], 4, slot=1) == whole
    assert np.allclose(backend.logits(0), logits, atol=0.05)


def test_rows_without_logits_are_told_apart(backend: LlamaBackend) -> None:
    evaluate(backend, TOKENS)
    with pytest.raises(DecodeFailed, match="no logits for row 0"):
        backend.logits(0)


def test_views_of_logits_are_few(backend: LlamaBackend) -> None:
    evaluate(backend, TOKENS)
    row = len(TOKENS) - 1
    assert backend.logits(row) is backend.logits(row)


def test_a_sequence_shifts_in_place(backend: LlamaBackend) -> None:
    assert backend.can_shift
    evaluate(backend, TOKENS)
    backend.shift(0, 1, 2)
    assert backend.can_truncate(0, 3)
    with pytest.raises(DecodeFailed):
        evaluate(backend, [300], 4)
    assert evaluate(backend, [300], 3) > 0


def test_a_full_memory_leaves_everything_as_it_was(backend: LlamaBackend) -> None:
    for slot in range(8):
        backend.truncate(slot % backend.n_seq, 0)
    chunk = [300] * 32
    for number in range(8):
        evaluate(backend, chunk, 32 * (number % 4), slot=number // 4)
    with pytest.raises(CacheFull):
        evaluate(backend, chunk, 0, slot=2)
    backend.truncate(1, 0)
    assert evaluate(backend, chunk, 0, slot=2) > 0


def test_an_impossible_batch_fails(backend: LlamaBackend, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(DecodeFailed, match="llama_decode: -1"):
        evaluate(backend, TOKENS, position=7, slot=0) and evaluate(backend, TOKENS, position=3)
    assert any(record.levelno == logging.ERROR for record in caplog.records)


def test_a_decode_is_aborted_without_noise_and_can_be_repeated(
    backend: LlamaBackend, caplog: pytest.LogCaptureFixture
) -> None:
    backend.abort()
    with pytest.raises(DecodeAborted):
        evaluate(backend, TOKENS)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    backend.truncate(0, 0)
    assert evaluate(backend, TOKENS) > 0


@pytest.mark.parametrize("line", [1, 2, 3])
def test_an_evaluation_may_end_at_any_time_of_an_abort(backend: LlamaBackend, line: int) -> None:
    """Before any ``line`` of it; at most one more evaluation is aborted then."""

    def outcome() -> str:
        backend.truncate(0, 0)
        try:
            evaluate(backend, TOKENS)
        except DecodeAborted:
            return "aborted"
        return "evaluated"

    lines_passed = 0

    def in_abort(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        nonlocal lines_passed
        lines_passed += event == "line"
        if lines_passed < line:
            return in_abort
        sys.settrace(None)
        outcome()
        return None

    def enter(frame: FrameType, event: str, _: object) -> Callable[..., Any] | None:
        return in_abort if frame.f_code is Evaluator.abort.__code__ else None

    before = sys.gettrace()
    sys.settrace(enter)
    try:
        backend.abort()
    finally:
        sys.settrace(before)
    outcome()
    assert outcome() == "evaluated"


def test_a_recurrent_sequence_goes_back_only_to_its_beginning(folder: Path) -> None:
    backend = load_model(write_recurrent_model(folder / "recurrent.gguf")).backend
    evaluate(backend, TOKENS)
    assert [backend.can_truncate(0, length) for length in (0, 3, 5, 6)] == [
        True,
        False,
        True,
        False,
    ]
    assert backend.n_seq == 2
    with pytest.raises(DecodeFailed, match="truncate"):
        backend.truncate(0, 3)
    backend.close()


def test_a_sliding_window_goes_back_as_far_as_it_still_sees(folder: Path) -> None:
    path = write_sliding_window_model(folder / "window.gguf", window=16)
    backend = load_model(path, n_ctx=512, n_slots=1).backend
    assert not backend.can_shift
    for start in range(0, 448, 32):
        evaluate(backend, [300] * 32, start)
    assert backend.can_truncate(0, 447)
    assert not backend.can_truncate(0, 40)
    backend.close()


def test_every_sampler(backend: LlamaBackend) -> None:
    evaluate(backend, TOKENS)
    steps = [
        Step("top_k", (40,)),
        Step("typical", (0.99,)),
        Step("top_p", (0.9,)),
        Step("min_p", (0.01,)),
        Step("temp", (0.8,)),
    ]
    for last in (
        Step("dist", (1,)),
        Step("mirostat", (1, 5, 0.1)),
        Step("mirostat_v2", (1, 5, 0.1)),
    ):
        chain = backend.chain([*steps, last])
        logits = backend.logits(len(TOKENS) - 1)
        assert 0 <= chain.pick(logits, None) < backend.n_vocab
        ids = np.array([7, 9], np.int32)
        assert chain.pick(logits[ids], ids) in (7, 9)
        chain.close()


def test_a_chain_that_chooses_nothing_is_an_error(backend: LlamaBackend) -> None:
    chain = backend.chain([Step("temp", (0.8,))])
    with pytest.raises(ArithmeticError):
        chain.pick(np.zeros(backend.n_vocab, np.float32), None)
