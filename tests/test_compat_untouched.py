"""Files that are in llama.cpp's form already, as from Hugging Face, whose families Ollama has too.

They have what llama.cpp's converters write (``conversion/``): nothing about them may change.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

from llamaherd.compat import Parts, parts_in, projector_of, text_of
from llamaherd.gguf import GGUF
from tests.support.ollama_files import Contents, Raw, write

Keys = dict[str, Any]
Shapes = dict[str, tuple[int, ...]]

EMBEDDINGS: Shapes = {"token_embd.weight": (8, 4)}
GEMMA3: Keys = {".attention.layer_norm_rms_epsilon": 1e-6, ".rope.freq_base": 1e6}
TEKKEN: Keys = {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "tekken"}

#: The architecture, keys (those with a dot before them are the architecture's), and tensors.
FILES: list[tuple[str, Keys, Shapes]] = [
    ("gemma3", GEMMA3 | {".context_length": 131_072}, EMBEDDINGS),
    ("gemma3", GEMMA3 | {".context_length": 32_768}, EMBEDDINGS),
    ("gemma-embedding", {}, EMBEDDINGS | {"dense_2.weight": (8, 16), "dense_3.weight": (16, 8)}),
    ("gemma3n", {}, EMBEDDINGS | {"per_layer_token_embd.weight": (8, 4)}),
    ("gemma4", {"tokenizer.ggml.model": "gemma4"}, {"blk.0.ffn_down_exps.scale": (4,)}),
    ("gpt-oss", {"tokenizer.ggml.pre": "gpt-4o"}, {"blk.0.attn_sinks.weight": (8,)}),
    ("llama", {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "llama-bpe"}, EMBEDDINGS),
    ("llama", {"tokenizer.ggml.model": "llama"}, EMBEDDINGS),
    ("llama4", {".expert_feed_forward_length": 4}, EMBEDDINGS),
    ("mistral3", TEKKEN | {".rope.scaling.yarn_beta_fast": 32.0}, EMBEDDINGS),
    ("qwen2vl", {".rope.dimension_sections": [16, 24, 24, 0]}, EMBEDDINGS),
    ("qwen3vl", {".rope.dimension_sections": [24, 20, 20, 0]}, EMBEDDINGS),
    ("qwen3vlmoe", {".rope.dimension_sections": [24, 20, 20, 0]}, EMBEDDINGS),
    ("qwen3next", {".attention.head_count_kv": 2}, {"blk.0.ssm_dt.bias": (4,)}),
    (
        "qwen35",
        {".attention.head_count_kv": 2, ".rope.dimension_sections": [11, 11, 10, 0]},
        {"blk.0.ssm_dt.bias": (4,), "blk.1.nextn.eh_proj.weight": (4, 4)},
    ),
    ("lfm2", {}, {"token_embd_norm.weight": (4,), "blk.0.ffn_gate.weight": (4, 8)}),
    ("nemotron_h_moe", {".moe_latent_size": 4}, {"blk.1.ffn_latent_down.weight": (4, 8)}),
    ("laguna", {".rope.dimension_count_swa": 4}, {"blk.0.attn_gate.weight": (4, 8)}),
    ("bert", {"tokenizer.ggml.precompiled_charsmap": [1, 2]}, EMBEDDINGS),
    ("clip", {"clip.has_vision_encoder": True, "clip.projector_type": "mlp"}, {"v.x": (4,)}),
    ("clip", {"clip.has_vision_encoder": True, "clip.vision.projector_type": "x"}, {"v.x": (4,)}),
]


@pytest.mark.parametrize(("architecture", "keys", "shapes"), FILES)
def test_nothing_changes(architecture: str, keys: Keys, shapes: Shapes, tmp_path: Path) -> None:
    tensors = {
        name: Raw(np.zeros(shape[::-1], np.float32), gguf.GGMLQuantizationType.F32)
        for name, shape in shapes.items()
    }
    contents = Contents({}, tensors)
    for key, value in keys.items():
        contents.set(**{f"{architecture}{key}" if key.startswith(".") else key: value})
    path = write(tmp_path / "file.gguf", architecture, contents)
    with GGUF.open(path) as file:
        assert text_of(file) is None
        assert projector_of(file) is None
        assert parts_in(file, path) == Parts(file.data_size, mapped=True)
