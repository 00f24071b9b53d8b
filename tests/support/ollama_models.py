"""Tiny language models of Ollama's families, as llama.cpp's converter and as Ollama's name them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import gguf
import numpy as np
import numpy.typing as npt

from tests.support.models import write_model, write_sliding_window_model
from tests.support.ollama_checkpoints import MODEL_WIDTH
from tests.support.ollama_encoders import FAMILIES as ENCODERS
from tests.support.ollama_encoders import make_encoder
from tests.support.ollama_files import Contents, Raw, read, write

_F32: Final = gguf.GGMLQuantizationType.F32
_HEADS: Final = 4
_HEAD: Final = MODEL_WIDTH // _HEADS
_EXPERTS: Final = 2
_HIDDEN: Final = 64

#: Stands for an image in Ollama's Gemma 3; the model has no embedding for it.
_SOFT_TOKEN: Final = "<image_soft_token>"


@dataclass(frozen=True)
class Pair:
    """A model in both forms, without an encoder, and what Ollama calls its architecture."""

    architecture: str
    ollama: Contents
    llama_cpp: Contents
    llama_cpp_architecture: str

    def write(self, directory: Path) -> tuple[Path, Path]:
        """Ollama's file, with an encoder if the family has one, and llama.cpp's."""
        family = self.architecture
        encoder = next((make_encoder(other) for other in ENCODERS if other == family), None)
        return (
            write(directory / f"{family}.gguf", family, self.ollama, encoder),
            write(directory / f"{family}-text.gguf", self.llama_cpp_architecture, self.llama_cpp),
        )


def make_model(family: str, directory: Path) -> Pair:
    ours, theirs, architecture = _MAKERS[family](directory / f"{family}-source.gguf")
    return Pair(family, ours, theirs, architecture)


def with_break_embedding(family: str, model: Contents) -> dict[str, Raw]:
    """What llama.cpp's projector for Mistral has of the language model."""
    if family != "mistral3":
        return {}
    token = model.keys["tokenizer.ggml.tokens"][1].index("[IMG_BREAK]")
    row = model.tensors["token_embd.weight"].data[token]
    return {"v.token_embd.img_break": Raw(row, _F32)}


_Made = tuple[Contents, Contents, str]


def _gemma3(path: Path) -> _Made:
    theirs = read(write_sliding_window_model(path, window=24))
    theirs.set(
        gemma3__attention__layer_norm_rms_epsilon=1e-6,
        gemma3__rope__freq_base=1_000_000.0,
        gemma3__rope__freq_base_swa=10_000.0,
        tokenizer__ggml__add_space_prefix=False,
    )
    ours = deepcopy(theirs)
    ours.drop(
        "gemma3.attention.layer_norm_rms_epsilon",
        "gemma3.rope.freq_base",
        "gemma3.rope.freq_base_swa",
        "tokenizer.ggml.add_space_prefix",
    )
    _add_token(ours, _SOFT_TOKEN)
    return ours, theirs, "gemma3"


def _mistral3(path: Path) -> _Made:
    theirs = read(write_model(path, architecture="mistral3", control_tokens=["[IMG_BREAK]"]))
    theirs.set(
        mistral3__rope__scaling__type="yarn",
        mistral3__rope__scaling__factor=4.0,
        mistral3__rope__scaling__original_context_length=128,
        mistral3__rope__scaling__yarn_beta_fast=16.0,
        mistral3__rope__scaling__yarn_beta_slow=2.0,
        mistral3__rope__scaling__yarn_log_multiplier=0.5,
        mistral3__attention__temperature_scale=0.25,
    )
    ours = deepcopy(theirs)
    for name in ("beta_fast", "beta_slow"):
        ours.rename_keys(f"mistral3.rope.scaling.yarn_{name}", f"mistral3.rope.scaling.{name}")
    ours.rename_keys(
        "mistral3.rope.scaling.yarn_log_multiplier", "mistral3.rope.scaling.mscale_all_dim"
    )
    ours.rename_keys("mistral3.attention.temperature_scale", "mistral3.rope.scaling_beta")
    return ours, theirs, "mistral3"


def _qwen25vl(path: Path) -> _Made:
    sections = [2, 3, 3, 0]
    metadata = {"qwen2vl.rope.dimension_sections": sections}
    theirs = read(write_model(path, architecture="qwen2vl", n_head=_HEADS, metadata=metadata))
    ours = deepcopy(theirs)
    ours.rename_keys("qwen2vl.", "qwen25vl.")
    ours.drop("qwen25vl.rope.dimension_sections")
    ours.set(qwen25vl__rope__mrope_section=sections[:3])
    return ours, theirs, "qwen2vl"


def _qwen3vl(path: Path) -> _Made:
    sections = [2, 3, 3, 0]
    metadata = {
        "qwen3vl.rope.dimension_sections": sections,
        "qwen3vl.attention.key_length": _HEAD,
        "qwen3vl.attention.value_length": _HEAD,
        "qwen3vl.n_deepstack_layers": 1,
    }
    theirs = read(write_model(path, architecture="qwen3vl", n_head=_HEADS, metadata=metadata))
    for layer in range(2):
        for norm in ("attn_q_norm", "attn_k_norm"):
            theirs.tensors[f"blk.{layer}.{norm}.weight"] = _floats(np.full(_HEAD, 1.5))
    ours = deepcopy(theirs)
    ours.drop("qwen3vl.rope.dimension_sections", "qwen3vl.n_deepstack_layers")
    ours.set(qwen3vl__rope__mrope_section=sections[:3])
    return ours, theirs, "qwen3vl"


def _llama4(path: Path) -> _Made:
    # Every fourth layer has no positions; llama.cpp needs one.
    n_layer = 4
    theirs = read(write_model(path, architecture="llama4", n_layer=n_layer, n_head=_HEADS))
    random = np.random.default_rng(1)
    for layer in range(n_layer):
        block = f"blk.{layer}."
        for part in ("gate", "up", "down"):
            shared = theirs.tensors.pop(f"{block}ffn_{part}.weight")
            theirs.tensors[f"{block}ffn_{part}_shexp.weight"] = shared
            experts = random.standard_normal((_EXPERTS, *shared.data.shape)) / 8
            theirs.tensors[f"{block}ffn_{part}_exps.weight"] = _floats(experts)
        router = random.standard_normal((_EXPERTS, MODEL_WIDTH))
        theirs.tensors[f"{block}ffn_gate_inp.weight"] = _floats(router)
    width = theirs.tensors["blk.0.ffn_up_shexp.weight"].data.shape[0]
    theirs.set(
        llama4__expert_count=_EXPERTS,
        llama4__expert_used_count=1,
        llama4__interleave_moe_layer_step=1,
        llama4__expert_feed_forward_length=width,
    )
    ours = deepcopy(theirs)
    ours.drop("llama4.expert_feed_forward_length")
    ours.set(llama4__intermediate_size_moe=width, llama4__intermediate_size=width)
    return ours, theirs, "llama4"


def _gptoss(path: Path) -> _Made:
    metadata = {
        "gpt-oss.attention.key_length": _HEAD,
        "gpt-oss.attention.value_length": _HEAD,
        "gpt-oss.attention.sliding_window": 16,
        "gpt-oss.expert_count": _EXPERTS,
        "gpt-oss.expert_used_count": 1,
        "gpt-oss.expert_feed_forward_length": _HIDDEN,
        "gpt-oss.rope.scaling.type": "yarn",
        "gpt-oss.rope.scaling.factor": 4.0,
        "gpt-oss.rope.scaling.original_context_length": 128,
        "tokenizer.ggml.pre": "gpt-4o",
    }
    theirs = read(
        write_model(path, architecture="gpt-oss", n_head=_HEADS, n_head_kv=2, metadata=metadata)
    )
    random = np.random.default_rng(1)
    shapes = {"gate": (_HIDDEN, MODEL_WIDTH), "up": (_HIDDEN, MODEL_WIDTH)}
    shapes["down"] = (MODEL_WIDTH, _HIDDEN)
    for layer in range(2):
        block = f"blk.{layer}."
        norm = theirs.tensors.pop(f"{block}ffn_norm.weight")
        theirs.tensors[f"{block}post_attention_norm.weight"] = norm
        theirs.tensors[f"{block}attn_sinks.weight"] = _floats(random.standard_normal(_HEADS))
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            rows = len(theirs.tensors[f"{block}{part}.weight"].data)
            theirs.tensors[f"{block}{part}.bias"] = _floats(random.standard_normal(rows))
        for part, (rows, columns) in shapes.items():
            del theirs.tensors[f"{block}ffn_{part}.weight"]
            name = f"{block}ffn_{part}_exps"
            experts = random.standard_normal((_EXPERTS, rows, columns)).astype(np.float32)
            kind = gguf.GGMLQuantizationType.MXFP4
            theirs.tensors[f"{name}.weight"] = Raw(gguf.quants.quantize(experts, kind), kind)
            theirs.tensors[f"{name}.bias"] = _floats(random.standard_normal((_EXPERTS, rows)))
        router = random.standard_normal((_EXPERTS, MODEL_WIDTH))
        theirs.tensors[f"{block}ffn_gate_inp.weight"] = _floats(router)
        theirs.tensors[f"{block}ffn_gate_inp.bias"] = _floats(random.standard_normal(_EXPERTS))
    ours = deepcopy(theirs)
    ours.rename_keys("gpt-oss.", "gptoss.")
    ours.drop("gptoss.expert_feed_forward_length", "gptoss.rope.scaling.type")
    ours.set(tokenizer__ggml__pre="default")
    ours.rename(
        lambda name: (
            name.replace("attn_output", "attn_out")
            .replace("attn_sinks.weight", "attn_sinks")
            .replace("post_attention_norm", "ffn_norm")
        )
    )
    return ours, theirs, "gpt-oss"


def _mllama(path: Path) -> _Made:
    theirs = read(write_model(path))
    ours = deepcopy(theirs)
    ours.rename_keys("llama.", "mllama.")
    ours.set(mllama__block_count=3, mllama__attention__cross_attention_layers=[1])
    ours.rename(lambda name: name.replace("blk.1.", "blk.2."))
    for name in ("cross_attn_q_proj", "cross_attn_k_proj", "ffn_up"):
        ours.tensors[f"blk.1.{name}.weight"] = _floats(np.ones((MODEL_WIDTH, MODEL_WIDTH)))
    ours.tensors["v.class_embd"] = _floats(np.ones(MODEL_WIDTH))
    # Ollama's file has embeddings of tokens for images, which have no row in the output.
    _add_token(ours, "<|image|>")
    embeddings = ours.tensors["token_embd.weight"].data
    ours.tensors["token_embd.weight"] = _floats(np.vstack([embeddings, np.ones((8, MODEL_WIDTH))]))
    return ours, theirs, "llama"


def _gemma3n(path: Path) -> _Made:
    n_layer, paths, low, per_layer = 2, 4, 64, 256
    metadata = {
        "gemma3n.attention.key_length": _HEAD,
        "gemma3n.attention.value_length": _HEAD,
        "gemma3n.attention.sliding_window": 16,
        "gemma3n.rope.freq_base_swa": 10_000.0,
        "tokenizer.ggml.add_space_prefix": False,
    }
    theirs = read(
        write_model(path, architecture="gemma3n", n_head=_HEADS, n_head_kv=2, metadata=metadata)
    )
    width, n_vocab = MODEL_WIDTH, len(theirs.keys["tokenizer.ggml.tokens"][1])
    shapes: dict[str, tuple[int, ...]] = {
        "altup_proj.weight": (paths - 1, width, width),
        "altup_unembd_proj.weight": (paths - 1, width, width),
        "per_layer_token_embd.weight": (n_vocab, per_layer * n_layer),
        "per_layer_model_proj.weight": (per_layer * n_layer, width),
        "per_layer_proj_norm.weight": (per_layer,),
    }
    for layer in range(n_layer):
        parts = {
            "attn_q_norm": (_HEAD,),
            "attn_k_norm": (_HEAD,),
            "post_attention_norm": (width,),
            "post_ffw_norm": (width,),
            "inp_gate": (per_layer, width),
            "proj": (width, per_layer),
            "post_norm": (width,),
            "altup_correct_coef": (paths, paths),
            "altup_correct_scale": (width,),
            "altup_predict_coef": (paths * paths, paths),
            "altup_router": (paths, width),
            "altup_router_norm": (width,),
            "laurel_l": (low, width),
            "laurel_r": (width, low),
            "laurel_post_norm": (width,),
        }
        shapes |= {f"blk.{layer}.{part}.weight": shape for part, shape in parts.items()}
    del theirs.tensors["output.weight"]
    random = np.random.default_rng(1)
    for name, shape in shapes.items():
        theirs.tensors[name] = _floats(random.standard_normal(shape) / np.sqrt(shape[-1]))
    ours = deepcopy(theirs)
    ours.drop("tokenizer.ggml.add_space_prefix", "gemma3n.rope.freq_base_swa")
    ours.set(gemma3n__rope__freq_base_local=10_000.0)
    # Ollama's file has tokens of images and sounds, which have no embeddings for the layers.
    _add_token(ours, "<image_soft_token>")
    embeddings = ours.tensors["token_embd.weight"].data
    ours.tensors["token_embd.weight"] = _floats(np.vstack([embeddings, np.ones((1, width))]))
    return ours, theirs, "gemma3n"


def _add_token(contents: Contents, text: str) -> None:
    for key, value in (("tokens", text), ("scores", 0.0), ("token_type", 3)):
        kind, values, items = contents.keys[f"tokenizer.ggml.{key}"]
        contents.keys[f"tokenizer.ggml.{key}"] = (kind, [*values, value], items)


def _floats(numbers: npt.NDArray[np.floating]) -> Raw:
    return Raw(numbers.astype(np.float32), _F32)


_MAKERS: Final[Mapping[str, Callable[[Path], _Made]]] = {
    "gemma3": _gemma3,
    "mistral3": _mistral3,
    "qwen25vl": _qwen25vl,
    "qwen3vl": _qwen3vl,
    "llama4": _llama4,
    "gptoss": _gptoss,
    "gemma3n": _gemma3n,
    "mllama": _mllama,
}
FAMILIES: Final = tuple(_MAKERS)
