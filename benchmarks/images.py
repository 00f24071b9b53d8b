"""Images before a prompt: our whole stack against llama.cpp's own loop for them.

``python -m benchmarks.images MODEL.gguf`` gives the model the encoder of LLaVA 1.5 (CLIP ViT-L/14
at 336 pixels, F16, random weights) and prints, as medians of the turns, in seconds to the first
token: of an image not seen before over HTTP, and by ``mtmd_helper_eval_chunks``; of another
question about the same image. Then, what a reply that is being written suffers while the image of
another request is encoded: its tokens per second, and its longest pause in seconds.
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import hashlib
import http.client
import io
import json
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import gguf
import llama_cpp
import numpy as np
from llama_cpp import mtmd_cpp as mtmd
from PIL import Image

from benchmarks.bare import flash_attention, make_sampler, silence
from benchmarks.models import cache_folder
from benchmarks.stack import Server, serving
from llamaherd.gguf import GGUF

BLOCKS: Final = 23
WIDTH: Final = 1024
HIDDEN: Final = 4096
HEADS: Final = 16
SIDE: Final = 336
PATCH: Final = 14

PROMPT: Final = " What is in this image? Tell me as much of it as you can see."

OPTIONS: Final[dict[str, Any]] = {"temperature": 0, "repeat_penalty": 1.0, "num_ctx": 2048}


def write_projector(path: Path, n_embd: int) -> None:
    """A file of 0.6 GB that takes as long as LLaVA's own and sees nothing."""
    random = np.random.default_rng(0)
    writer = gguf.GGUFWriter(path, "clip")
    writer.add_type("mmproj")
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.use_gelu", False)
    for name, value in {
        "image_size": SIDE,
        "patch_size": PATCH,
        "embedding_length": WIDTH,
        "feed_forward_length": HIDDEN,
        "block_count": BLOCKS,
        "attention.head_count": HEADS,
        "projection_dim": n_embd,
    }.items():
        writer.add_uint32(f"clip.vision.{name}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.48, 0.46, 0.41])
    writer.add_array("clip.vision.image_std", [0.27, 0.26, 0.28])

    def add(name: str, *shape: int, kind: type[np.floating[Any]] = np.float16) -> None:
        scale = shape[-1] ** -0.5
        writer.add_tensor(name, (random.standard_normal(shape, np.float32) * scale).astype(kind))

    def add_vectors(name: str, size: int) -> None:
        writer.add_tensor(f"{name}.bias", np.zeros(size, np.float32))

    def add_norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))
        add_vectors(name, WIDTH)

    def add_linear(name: str, rows: int, columns: int) -> None:
        add(f"{name}.weight", rows, columns)
        add_vectors(name, rows)

    add("v.patch_embd.weight", WIDTH, 3, PATCH, PATCH)
    add("v.class_embd", WIDTH, kind=np.float32)
    add("v.position_embd.weight", (SIDE // PATCH) ** 2 + 1, WIDTH, kind=np.float32)
    add_norm("v.pre_ln")
    for block in range(BLOCKS):
        name = f"v.blk.{block}."
        add_norm(f"{name}ln1")
        add_norm(f"{name}ln2")
        for part in ("attn_q", "attn_k", "attn_v", "attn_out"):
            add_linear(name + part, WIDTH, WIDTH)
        add_linear(f"{name}ffn_up", HIDDEN, WIDTH)
        add_linear(f"{name}ffn_down", WIDTH, HIDDEN)
    add_linear("mm.0", n_embd, WIDTH)
    add_linear("mm.2", n_embd, n_embd)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def cached_projector(model: Path) -> Path:
    with GGUF.open(model) as opened:
        n_embd = opened.arch_value("embedding_length", int)
    path = cache_folder() / f"llava-1.5-projector-{n_embd}.gguf"
    if not path.exists():
        unfinished = path.with_suffix(".unfinished")
        write_projector(unfinished, n_embd)
        unfinished.rename(path)
    return path


def new_image() -> bytes:
    noise = np.random.default_rng().integers(0, 256, (480, 640, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).save(file, "JPEG")
    return file.getvalue()


# --- the baseline -------------------------------------------------------------------------------


def bare(model: Path, projector: Path, threads: int, turns: int) -> list[float]:
    """Seconds of each turn to the first token, by llama.cpp's loop, after the model is loaded."""
    silence()
    silent = llama_cpp.llama_log_callback(lambda level, text, data: None)
    mtmd.mtmd_helper_log_set(silent, ctypes.c_void_p(0))
    llama_cpp.llama_backend_init()
    loaded = llama_cpp.llama_model_load_from_file(
        bytes(model), llama_cpp.llama_model_default_params()
    )
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = OPTIONS["num_ctx"]
    params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = threads
    params.flash_attn_type = flash_attention()
    context = llama_cpp.llama_init_from_model(loaded, params)
    given = mtmd.mtmd_context_params_default()
    given.n_threads = threads
    given.print_timings = False
    eye = mtmd.mtmd_init_from_file(bytes(projector), loaded, given)
    vocabulary = llama_cpp.llama_model_get_vocab(loaded)
    sampler = make_sampler("greedy", llama_cpp.llama_vocab_n_tokens(vocabulary))
    marked = mtmd.mtmd_default_marker() + PROMPT.encode()
    seconds = []
    for _ in range(turns):
        image = new_image()
        started = time.perf_counter()
        data = (ctypes.c_uint8 * len(image)).from_buffer_copy(image)
        bitmap = mtmd.mtmd_helper_bitmap_init_from_buf(eye, data, len(image), False)
        text = mtmd.mtmd_input_text(marked, len(marked), True, True)
        chunks = mtmd.mtmd_input_chunks_init()
        bitmaps = (mtmd.mtmd_bitmap_p_ctypes * 1)(bitmap)
        assert mtmd.mtmd_tokenize(eye, chunks, ctypes.byref(text), bitmaps, 1) == 0
        end = llama_cpp.llama_pos()
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
        result = mtmd.mtmd_helper_eval_chunks(
            eye, context, chunks, 0, 0, 512, True, ctypes.byref(end)
        )
        assert result == 0
        llama_cpp.llama_sampler_sample(sampler, context, -1)
        seconds.append(time.perf_counter() - started)
    return seconds


def bare_process(given: argparse.Namespace, projector: Path) -> float:
    command = [sys.executable, "-m", "benchmarks.images", str(given.model), "--bare"]
    command += [str(projector), "--threads", str(given.threads)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout))


# --- ours ---------------------------------------------------------------------------------------


def create(server: Server, model: Path, projector: Path) -> None:
    digests = {}
    for path in (model, projector):
        with path.open("rb") as file:
            digests[path.name] = "sha256:" + hashlib.file_digest(file, "sha256").hexdigest()
        with path.open("rb") as file:
            server.request("POST", f"/api/blobs/{digests[path.name]}", file)
    server.request("POST", "/api/create", {"model": "seeing", "files": digests, "stream": False})


def first_token(server: Server, threads: int, image: bytes | None, prompt: str) -> float:
    options = OPTIONS | {"num_predict": 1, "num_thread": threads}
    images = [] if image is None else [base64.b64encode(image).decode()]
    return server.stream("seeing", prompt, options, images=images).first_token / 1e9


def pauses(server: Server, threads: int, disturb: bool) -> tuple[float, float]:
    """Tokens per second of a reply, and its longest pause, while another request has an image."""
    lines = stream_lines(server, threads)
    next(lines)
    other = threading.Thread(target=first_token, args=(server, threads, new_image(), PROMPT))
    times = [time.perf_counter()]
    if disturb:
        other.start()
    for _ in lines:
        times.append(time.perf_counter())
        if disturb and not other.is_alive():
            break
    if disturb:
        other.join()
    gaps = [later - earlier for earlier, later in pairwise(times)]
    return len(gaps) / sum(gaps), max(gaps)


def stream_lines(server: Server, threads: int) -> Iterator[bytes]:
    connection = http.client.HTTPConnection(server.host, timeout=600)
    options = OPTIONS | {"num_predict": 160, "num_thread": threads}
    body = {"model": "seeing", "prompt": "Once upon a time", "raw": True, "options": options}
    connection.request("POST", "/api/generate", json.dumps(body))
    answer = connection.getresponse()
    while line := answer.readline():
        yield line
    connection.close()


def turn(server: Server, given: argparse.Namespace, projector: Path) -> dict[str, float]:
    # As in the bare loop, no other prompt is in the memory.
    server.unload("seeing")
    first_token(server, given.threads, None, "Hello")
    image = new_image()
    row = {
        "over HTTP": first_token(server, given.threads, image, PROMPT),
        "same image again": first_token(server, given.threads, image, " Why?"),
        "bare": bare_process(given, projector),
    }
    row["ratio"] = row["over HTTP"] / row["bare"]
    row["tokens/s alone"], row["longest pause alone"] = pauses(server, given.threads, False)
    row["tokens/s beside"], row["longest pause beside"] = pauses(server, given.threads, True)
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", type=Path)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--bare", type=Path, metavar="PROJECTOR", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.bare:
        print(json.dumps(statistics.median(bare(given.model, given.bare, given.threads, 2)[1:])))
        return
    projector = cached_projector(given.model)
    with serving(OLLAMA_NUM_PARALLEL="2") as server:
        create(server, given.model, projector)
        rows = [turn(server, given, projector) for _ in range(given.turns)]
    for name in rows[0]:
        values = [row[name] for row in rows]
        print(f"{name:22} {statistics.median(values):7.2f} ({min(values):.2f}–{max(values):.2f})")


if __name__ == "__main__":
    main()
