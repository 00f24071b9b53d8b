"""How models are placed on machines: context, slots, layers, memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llamaherd.config import KV_CACHE_TYPES, Settings
from llamaherd.errors import InvalidGGUF
from llamaherd.gguf import GGUF
from llamaherd.options import resolve_options
from llamaherd.scheduler.memory import Memory, gibibytes
from llamaherd.scheduler.placement import (
    Placement,
    Plan,
    cache_bytes,
    compute_bytes,
    free_memory,
)
from llamaherd.scheduler.shape import ModelShape
from tests.support.models import write_model

GIB = 1 << 30
MIB = 1 << 20

#: Llama-3.2-1B, Q4_K_M.
LLAMA_1B = ModelShape(
    layers=16,
    embedding=2048,
    heads=32,
    key_width=16 * 8 * 64,
    value_width=16 * 8 * 64,
    head_sizes=(64, 64),
    context_train=131072,
    vocabulary=128256,
    weights=799_862_912,
)
EMBEDDER = replace(LLAMA_1B, embeds=True)
ENCODER = replace(LLAMA_1B, context_train=512, embeds=True, pools=True, causal=False)


@dataclass(frozen=True)
class Card:
    memory_free: int


@dataclass(frozen=True)
class Computer:
    cores: int = 6
    threads: int = 12
    gpus: tuple[Card, ...] = ()


CPU = Computer()
ROOM = Memory(host=16 * GIB)


def place(
    shape: ModelShape = LLAMA_1B,
    *,
    machine: Computer = CPU,
    room: Memory = ROOM,
    environ: dict[str, str] | None = None,
    **options: Any,
) -> Plan:
    settings = Settings.from_environ(environ or {})
    placement = Placement(shape, resolve_options(options), settings, machine)
    return placement.plan("/m.gguf", [], "", room)


class TestContext:
    def test_the_request_says(self) -> None:
        assert place(num_ctx=1000).load.n_ctx == 1000

    def test_else_the_settings(self) -> None:
        assert place().load.n_ctx == 4096
        assert place(environ={"OLLAMA_CONTEXT_LENGTH": "8192"}).load.n_ctx == 8192
        assert place(environ={"OLLAMA_CONTEXT_LENGTH": "0"}).load.n_ctx == 4096

    def test_never_more_than_the_model_was_trained_for(self) -> None:
        assert place(replace(LLAMA_1B, context_train=512), num_ctx=1000).load.n_ctx == 512
        assert place(replace(LLAMA_1B, context_train=0), num_ctx=1000).load.n_ctx == 1000

    def test_never_less_than_four(self) -> None:
        assert place(num_ctx=1).load.n_ctx == 4

    def test_a_batch_is_no_larger(self) -> None:
        assert place(num_ctx=100).load.n_batch == 100
        assert place(num_batch=64).load.n_batch == 64

    def test_a_model_that_pools_reads_a_text_in_one_batch(self) -> None:
        assert place(ENCODER, num_batch=64).load.n_batch == 512
        assert place(EMBEDDER, num_batch=64).load.n_batch == 64


class TestSlots:
    def test_four_when_their_cache_is_small_beside_what_is_free(self) -> None:
        assert place().load.n_slots == 4

    @pytest.mark.parametrize(("free", "slots"), [(2048, 4), (2047, 3), (1536, 3), (1024, 2)])
    def test_fewer_when_it_is_not(self, free: int, slots: int) -> None:
        # The cache of one slot is 128 MiB.
        room = Memory(host=LLAMA_1B.weights + free * MIB)
        assert place(room=room).load.n_slots == slots

    def test_one_at_least(self) -> None:
        assert place(room=Memory()).load.n_slots == 1

    def test_the_settings_win(self) -> None:
        environ = {"OLLAMA_NUM_PARALLEL": "7"}
        assert place(room=Memory(), environ=environ).load.n_slots == 7

    def test_many_for_a_model_that_pools(self) -> None:
        """Its requests share batches, and cost nothing beyond them."""
        load = place(ENCODER, environ={"OLLAMA_NUM_PARALLEL": "7"}).load
        assert (load.n_slots, load.n_embed, load.pools) == (64, 64, True)

    def test_every_other_model_has_sequences_for_embeddings_beside_its_slots(self) -> None:
        load = place().load
        assert (load.n_slots, load.n_embed, load.pools) == (4, 4, False)
        assert place(EMBEDDER).load.n_embed == 16


class TestThreads:
    def test_one_for_each_core(self) -> None:
        assert place().load.threads == 6

    def test_the_request_wins(self) -> None:
        assert place(num_thread=3).load.threads == 3
        assert place(num_thread=9).load.threads == 9

    def test_but_not_beyond_what_the_processor_runs(self) -> None:
        assert place(num_thread=4096).load.threads == 12


class TestAccelerators:
    ONE = Computer(gpus=(Card(4 * GIB),))

    def place(self, vram: int, environ: dict[str, str] | None = None, **options: Any) -> Plan:
        return place(machine=self.ONE, room=Memory(16 * GIB, vram), environ=environ, **options)

    def test_all_layers_and_the_output_when_they_fit(self) -> None:
        placed = self.place(4 * GIB)
        assert placed.load.gpu_layers == 17
        assert placed.estimate.memory.host == 0

    def test_else_as_many_as_fit(self) -> None:
        placed = self.place(1200 * MIB)
        assert 0 < placed.load.gpu_layers < 17
        assert placed.estimate.vram <= 1200 * MIB
        assert placed.estimate.memory.host > 0

    def test_none_when_none_fits(self) -> None:
        placed = self.place(100 * MIB)
        assert placed.load.gpu_layers == 0
        assert placed.estimate.vram == 0

    def test_a_projector_is_there_as_a_whole_where_any_layer_is(self) -> None:
        sees = replace(LLAMA_1B, weights=LLAMA_1B.weights + 800 * MIB, projector=800 * MIB)
        blind = self.place(4 * GIB, num_gpu=1).estimate
        one = place(sees, machine=self.ONE, room=Memory(16 * GIB, 4 * GIB), num_gpu=1).estimate
        assert one.vram - blind.vram == 800 * MIB
        none = place(sees, machine=self.ONE, room=Memory(16 * GIB, 1200 * MIB)).load
        assert none.gpu_layers == 0

    def test_the_request_wins(self) -> None:
        assert self.place(4 * GIB, num_gpu=5).load.gpu_layers == 5
        assert self.place(4 * GIB, num_gpu=0).load.gpu_layers == 0
        assert self.place(4 * GIB, num_gpu=999).load.gpu_layers == 17

    def test_nothing_to_ask_for_without_any(self) -> None:
        assert place(num_gpu=20, main_gpu=3).load.gpu_layers == 0
        assert place(num_gpu=20, main_gpu=3).load.main_gpu == 0

    def test_some_of_each_is_left_free_if_wished(self) -> None:
        settings = Settings.from_environ({"OLLAMA_GPU_OVERHEAD": str(GIB)})
        assert free_memory(7, [4 * GIB, 100], settings) == Memory(7, 3 * GIB)

    def test_beside_others_a_model_wants_to_be_there_as_a_whole(self) -> None:
        settings = Settings.from_environ({})
        least = Placement(LLAMA_1B, resolve_options(), settings, self.ONE).smallest()
        assert least.memory.host == 0
        assert least.vram > LLAMA_1B.weights


class TestFlashAttention:
    GPU = Computer(gpus=(Card(40 * GIB),))

    def on_gpu(self, environ: dict[str, str] | None = None) -> str:
        room = Memory(16 * GIB, 40 * GIB)
        return place(machine=self.GPU, room=room, environ=environ).load.flash_attention

    def test_by_device(self) -> None:
        assert place().load.flash_attention == "off"
        assert self.on_gpu() == "auto"

    @pytest.mark.parametrize(("text", "choice"), [("1", "on"), ("0", "off")])
    def test_the_settings_win(self, text: str, choice: str) -> None:
        environ = {"OLLAMA_FLASH_ATTENTION": text}
        assert place(environ=environ).load.flash_attention == choice
        assert self.on_gpu(environ) == choice

    def test_a_quantised_cache_needs_it(self) -> None:
        load = place(environ={"OLLAMA_KV_CACHE_TYPE": "q8_0"}).load
        assert (load.kv_cache_type, load.flash_attention) == ("q8_0", "on")

    def test_where_memory_is_short_its_smaller_buffers_decide(self) -> None:
        assert place(num_ctx=131072, room=Memory(16 * GIB)).load.flash_attention == "off"
        short = Memory(12 * GIB)
        placed = place(num_ctx=131072, room=short)
        assert placed.load.flash_attention == "on"
        assert placed.estimate.memory.fits(short)

    def test_without_it_the_cache_is_not_quantised(self) -> None:
        environ = {"OLLAMA_KV_CACHE_TYPE": "q8_0", "OLLAMA_FLASH_ATTENTION": "0"}
        load = place(environ=environ).load
        assert (load.kv_cache_type, load.flash_attention) == ("f16", "off")

    def test_nor_with_heads_that_are_no_whole_blocks(self) -> None:
        shape = replace(LLAMA_1B, head_sizes=(80, 80))
        assert place(shape, environ={"OLLAMA_KV_CACHE_TYPE": "q8_0"}).load.kv_cache_type == "f16"
        assert place(shape, environ={"OLLAMA_KV_CACHE_TYPE": "f32"}).load.kv_cache_type == "f32"


class TestMemory:
    """Against what llama.cpp reports for this model."""

    @pytest.mark.parametrize(("n_slots", "reported"), [(1, 134_217_728), (4, 536_870_912)])
    def test_cache(self, n_slots: int, reported: int) -> None:
        assert cache_bytes(LLAMA_1B, 4096, n_slots, "f16") == reported

    @pytest.mark.parametrize(
        ("n_slots", "flash", "reported"),
        [
            (1, False, 304_223_355),
            (4, False, 1_134_475_346),
            (1, True, 74_302_095),
            (4, True, 87_996_498),
        ],
    )
    def test_compute_buffers(self, n_slots: int, flash: bool, reported: int) -> None:
        """Reported without the sequences for embeddings, two rows of logits each, and before a
        prompt was scored, whose logits then take up to 32 MiB."""
        estimated = compute_bytes(LLAMA_1B, 4096, n_slots, 512, flash=flash)
        embedding = 2 * 4 * LLAMA_1B.vocabulary * 4
        scores = (65 - n_slots - 8) * LLAMA_1B.vocabulary * 4
        assert estimated == pytest.approx(reported + embedding + scores, rel=0.03)

    def test_logits_that_can_be_had_at_once(self) -> None:
        """32 MiB of them, but at least one for each sequence."""
        assert place().load.n_outputs == (32 << 20) // (4 * LLAMA_1B.vocabulary) == 65
        assert place(replace(LLAMA_1B, vocabulary=2**23)).load.n_outputs == 4 + 4 + 4
        assert place(replace(LLAMA_1B, vocabulary=512), num_batch=128).load.n_outputs == 128

    def test_quantised_caches_are_smaller(self) -> None:
        sizes = {kind: cache_bytes(LLAMA_1B, 4096, 1, kind) for kind in KV_CACHE_TYPES}
        assert sizes["f32"] == 2 * sizes["f16"] == 2 * sizes["bf16"]
        assert sizes["q8_0"] * 32 == sizes["f16"] * 17
        assert sizes["q4_0"] * 32 == sizes["f16"] * 9

    def test_a_model_that_pools(self) -> None:
        """No cache, but logits of all tokens of the batch; attention without its whole matrix."""
        placed = place(ENCODER)
        assert placed.load.flash_attention == "on"
        assert placed.estimate.cache == 0
        assert placed.estimate.compute > 4 * 512 * ENCODER.vocabulary
        one_way = replace(ENCODER, causal=True)
        assert place(one_way).estimate.cache == cache_bytes(LLAMA_1B, 512, 1, "f16")

    def test_recurrent_layers_take_the_same_for_any_context(self) -> None:
        """Two slots and one sequence for embeddings have a state."""
        shape = replace(LLAMA_1B, key_width=0, value_width=0, state_width=1000)
        assert cache_bytes(shape, 4096, 2, "f16") == cache_bytes(shape, 64, 2, "f16") == 12000

    def test_weights_that_are_mapped_need_not_be_there_at_once(self) -> None:
        mapped, copied = place().estimate, place(use_mmap=False).estimate
        assert copied.pinned - mapped.pinned == LLAMA_1B.weights
        assert mapped.memory == copied.memory

    def test_a_projector_is_never_mapped(self) -> None:
        sees = replace(LLAMA_1B, weights=LLAMA_1B.weights + MIB, projector=MIB)
        assert place(sees).estimate.pinned - place().estimate.pinned == MIB
        copied = place(sees, use_mmap=False).estimate
        assert copied.pinned - place(use_mmap=False).estimate.pinned == MIB

    @given(
        layers=st.integers(0, 100),
        weights=st.integers(0, 1 << 40),
        vram=st.integers(0, 1 << 40),
        num_ctx=st.integers(0, 2**31 - 1),
        num_gpu=st.integers(-1, 200),
    )
    def test_what_was_planned_without_orders_fits_the_accelerators(
        self, layers: int, weights: int, vram: int, num_ctx: int, num_gpu: int
    ) -> None:
        shape = replace(LLAMA_1B, layers=layers, weights=weights)
        placed = place(
            shape,
            machine=Computer(gpus=(Card(vram),)),
            room=Memory(GIB, vram),
            num_ctx=num_ctx,
            num_gpu=num_gpu,
        )
        assert 0 <= placed.load.gpu_layers <= layers + 1
        assert placed.estimate.memory.host >= 0
        if num_gpu < 0:
            assert placed.estimate.vram <= vram

    def test_sizes_for_people(self) -> None:
        assert gibibytes(3 * GIB // 2) == "1.5 GiB"


class TestShape:
    def shape(self, path: Path, **options: Any) -> ModelShape:
        with GGUF.open(write_model(path / "model.gguf", **options)) as gguf:
            return ModelShape.of(gguf)

    def test_of_a_file(self, tmp_path: Path) -> None:
        shape = self.shape(tmp_path, n_layer=3, n_embd=64, n_head=8, n_head_kv=4, n_ctx=256)
        assert shape == ModelShape(
            layers=3,
            embedding=64,
            heads=8,
            key_width=3 * 4 * 8,
            value_width=3 * 4 * 8,
            head_sizes=(8, 8),
            context_train=256,
            vocabulary=512,
            weights=shape.weights,
        )
        assert 100_000 < shape.weights < (tmp_path / "model.gguf").stat().st_size

    def test_layers_may_differ(self, tmp_path: Path) -> None:
        metadata = {"llama.attention.head_count_kv": [4, 0, 2], "llama.attention.key_length": 16}
        shape = self.shape(tmp_path, n_layer=3, metadata=metadata)
        assert (shape.key_width, shape.value_width) == (6 * 16, 6 * 8)

    def test_layers_without_heads_may_have_a_state(self, tmp_path: Path) -> None:
        metadata = {
            "llama.attention.head_count_kv": [4, 0, 0],
            "llama.ssm.inner_size": 128,
            "llama.ssm.state_size": 16,
            "llama.ssm.conv_kernel": 4,
            "llama.ssm.group_count": 1,
        }
        shape = self.shape(tmp_path, n_layer=3, metadata=metadata)
        assert shape.state_width == 2 * (3 * (128 + 2 * 16) + 16 * 128)

    def test_pooling_tells_that_a_model_embeds(self, tmp_path: Path) -> None:
        for pooling, pools, ranks in ((0, False, False), (1, True, False), (3, False, False)):
            shape = self.shape(tmp_path, metadata={"llama.pooling_type": pooling})
            assert (shape.embeds, shape.pools, shape.ranks) == (True, pools, ranks)
        assert self.shape(tmp_path, metadata={"llama.pooling_type": 4}).ranks

    def test_a_model_of_both_directions_pools(self, tmp_path: Path) -> None:
        both = self.shape(tmp_path, metadata={"llama.attention.causal": False})
        assert (both.embeds, both.pools, both.causal) == (False, True, False)

    @pytest.mark.parametrize(
        ("key", "value"),
        [
            ("llama.block_count", 1 << 30),
            ("llama.embedding_length", 2**31),
            ("llama.context_length", "long"),
            ("llama.attention.head_count", 2**32 - 1),
            ("llama.attention.head_count_kv", [4, -4]),
        ],
    )
    def test_impossible_sizes_are_errors_that_name_the_key(
        self, tmp_path: Path, key: str, value: Any
    ) -> None:
        with pytest.raises(InvalidGGUF, match=key):
            self.shape(tmp_path, metadata={key: value})
