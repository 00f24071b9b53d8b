"""Tiny random models as Hugging Face stores them, one for each architecture that we convert.

The same seed gives the same weights everywhere, so what transformers computes from them can be
recorded once (``tests/parity/record.py``) and compared with ever after.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from llamaherd.create.convert.convert import Conversion
from llamaherd.create.convert.folder import ModelFolder

Array = npt.NDArray[Any]
DType = Literal["F32", "F16", "BF16"]
Shapes = dict[str, tuple[int, ...]]

#: Rows of the vocabulary, of which the tokenizer knows fewer.
N_VOCAB: Final = 96
#: What the models are asked about.
TOKENS: Final = [1, 17, 43, 8, 29, 61, 5, 77, 30, 12]

#: What transformers made of them: some of its numbers, and how far all of them spread.
RECORDED_OUTPUTS: Final = Path(__file__).parents[1] / "data" / "convert-outputs.json"

N_EMBD: Final = 64
N_FF: Final = 96
N_LAYER: Final = 2


@dataclass(frozen=True)
class Case:
    """``is_causal`` tells text generators from models that give vectors; the larger their
    ``embedding_gain``, the more a token matters for the next one."""

    config: dict[str, Any]
    shapes: Shapes
    zero_norms: bool = False
    is_causal: bool = True
    embedding_gain: float = 4.0


def decoder_config(architecture: str, **more: Any) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "hidden_size": N_EMBD,
        "intermediate_size": N_FF,
        "num_hidden_layers": N_LAYER,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 128,
        "rms_norm_eps": 1e-5,
        "vocab_size": N_VOCAB,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "tie_word_embeddings": False,
        **more,
    }


def decoder_shapes(
    *,
    head: int = 16,
    n_layer: int = N_LAYER,
    layer_norms: tuple[str, ...] = ("input_layernorm", "post_attention_layernorm"),
    biased: tuple[str, ...] = (),
    head_norms: bool = False,
    tied: bool = False,
    feed_forward: bool = True,
) -> Shapes:
    shapes: Shapes = {
        "model.embed_tokens.weight": (N_VOCAB, N_EMBD),
        "model.norm.weight": (N_EMBD,),
    }
    if not tied:
        shapes["lm_head.weight"] = (N_VOCAB, N_EMBD)
    for layer in range(n_layer):
        matrices = {
            "self_attn.q_proj": (4 * head, N_EMBD),
            "self_attn.k_proj": (2 * head, N_EMBD),
            "self_attn.v_proj": (2 * head, N_EMBD),
            "self_attn.o_proj": (N_EMBD, 4 * head),
        }
        if feed_forward:
            matrices |= {
                "mlp.gate_proj": (N_FF, N_EMBD),
                "mlp.up_proj": (N_FF, N_EMBD),
                "mlp.down_proj": (N_EMBD, N_FF),
            }
        shapes |= _layer(f"model.layers.{layer}.", matrices, biased)
        for name in layer_norms:
            shapes[f"model.layers.{layer}.{name}.weight"] = (N_EMBD,)
        if head_norms:
            for name in ("q_norm", "k_norm"):
                shapes[f"model.layers.{layer}.self_attn.{name}.weight"] = (head,)
    return shapes


def _layer(prefix: str, matrices: Mapping[str, tuple[int, int]], biased: tuple[str, ...]) -> Shapes:
    shapes: Shapes = {}
    for name, shape in matrices.items():
        shapes[f"{prefix}{name}.weight"] = shape
        if name in biased:
            shapes[f"{prefix}{name}.bias"] = shape[:1]
    return shapes


def mixtral_shapes() -> Shapes:
    shapes = decoder_shapes(feed_forward=False)
    for layer in range(N_LAYER):
        block = f"model.layers.{layer}.block_sparse_moe."
        shapes[f"{block}gate.weight"] = (4, N_EMBD)
        for expert in range(4):
            shapes[f"{block}experts.{expert}.w1.weight"] = (N_FF, N_EMBD)
            shapes[f"{block}experts.{expert}.w2.weight"] = (N_EMBD, N_FF)
            shapes[f"{block}experts.{expert}.w3.weight"] = (N_FF, N_EMBD)
    return shapes


def phi3_shapes() -> Shapes:
    shapes: Shapes = {
        "model.embed_tokens.weight": (N_VOCAB, N_EMBD),
        "model.norm.weight": (N_EMBD,),
        "lm_head.weight": (N_VOCAB, N_EMBD),
    }
    for layer in range(N_LAYER):
        prefix = f"model.layers.{layer}."
        shapes |= {
            f"{prefix}input_layernorm.weight": (N_EMBD,),
            f"{prefix}post_attention_layernorm.weight": (N_EMBD,),
            f"{prefix}self_attn.qkv_proj.weight": (64 + 2 * 32, N_EMBD),
            f"{prefix}self_attn.o_proj.weight": (N_EMBD, 64),
            f"{prefix}mlp.gate_up_proj.weight": (2 * N_FF, N_EMBD),
            f"{prefix}mlp.down_proj.weight": (N_EMBD, N_FF),
        }
    return shapes


def bert_shapes(positions: int = 64, prefix: str = "", gamma: bool = False) -> Shapes:
    weight, bias = ("gamma", "beta") if gamma else ("weight", "bias")
    shapes: Shapes = {
        f"{prefix}embeddings.word_embeddings.weight": (N_VOCAB, N_EMBD),
        f"{prefix}embeddings.position_embeddings.weight": (positions, N_EMBD),
        f"{prefix}embeddings.token_type_embeddings.weight": (2, N_EMBD),
        f"{prefix}embeddings.LayerNorm.{weight}": (N_EMBD,),
        f"{prefix}embeddings.LayerNorm.{bias}": (N_EMBD,),
    }
    for layer in range(N_LAYER):
        block = f"{prefix}encoder.layer.{layer}."
        matrices = {
            "attention.self.query": (N_EMBD, N_EMBD),
            "attention.self.key": (N_EMBD, N_EMBD),
            "attention.self.value": (N_EMBD, N_EMBD),
            "attention.output.dense": (N_EMBD, N_EMBD),
            "intermediate.dense": (N_FF, N_EMBD),
            "output.dense": (N_EMBD, N_FF),
        }
        shapes |= _layer(block, matrices, tuple(matrices))
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{block}{name}.{weight}"] = (N_EMBD,)
            shapes[f"{block}{name}.{bias}"] = (N_EMBD,)
    return shapes


def nomic_shapes() -> Shapes:
    shapes: Shapes = {
        "embeddings.word_embeddings.weight": (N_VOCAB, N_EMBD),
        "embeddings.token_type_embeddings.weight": (2, N_EMBD),
        "emb_ln.weight": (N_EMBD,),
        "emb_ln.bias": (N_EMBD,),
    }
    for layer in range(N_LAYER):
        block = f"encoder.layers.{layer}."
        shapes |= {
            f"{block}attn.Wqkv.weight": (3 * N_EMBD, N_EMBD),
            f"{block}attn.out_proj.weight": (N_EMBD, N_EMBD),
            f"{block}mlp.fc11.weight": (N_FF, N_EMBD),
            f"{block}mlp.fc12.weight": (N_FF, N_EMBD),
            f"{block}mlp.fc2.weight": (N_EMBD, N_FF),
        }
        for name in ("norm1", "norm2"):
            shapes[f"{block}{name}.weight"] = (N_EMBD,)
            shapes[f"{block}{name}.bias"] = (N_EMBD,)
    return shapes


def bert_config(architecture: str, model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": N_EMBD,
        "intermediate_size": N_FF,
        "num_hidden_layers": N_LAYER,
        "num_attention_heads": 4,
        "max_position_embeddings": 64,
        "type_vocab_size": 2,
        "vocab_size": N_VOCAB,
        "hidden_act": "gelu",
        "layer_norm_eps": 1e-12,
        **more,
    }


_FOUR_NORMS: Final = (
    "input_layernorm",
    "post_attention_layernorm",
    "pre_feedforward_layernorm",
    "post_feedforward_layernorm",
)
_ATTENTION: Final = tuple(f"self_attn.{name}_proj" for name in "qkvo")
_GEMMA: Final = {"head_dim": 32, "hidden_activation": "gelu_pytorch_tanh"}

LLAMA3_SCALING: Final = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 16,
}
LONG_FACTORS: Final = {
    "type": "longrope",
    "short_factor": [1.0, 1.05, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6],
    "long_factor": [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0],
}


def long_phi3_config(trained: int) -> dict[str, Any]:
    """For contexts up to ``trained`` the short factors hold, for longer ones the long factors."""
    config = decoder_config("Phi3ForCausalLM", model_type="phi3", pad_token_id=0)
    config["max_position_embeddings"] = 1024
    config["original_max_position_embeddings"] = trained
    return config | {"rope_scaling": LONG_FACTORS}


CASES: Final = {
    "llama": Case(decoder_config("LlamaForCausalLM", model_type="llama"), decoder_shapes()),
    "llama-biased": Case(
        decoder_config(
            "LlamaForCausalLM", model_type="llama", attention_bias=True, rope_theta=500.0
        ),
        decoder_shapes(biased=_ATTENTION),
    ),
    "llama3": Case(
        decoder_config(
            "LlamaForCausalLM",
            model_type="llama",
            tie_word_embeddings=True,
            rope_theta=500_000.0,
            rope_scaling=LLAMA3_SCALING,
        ),
        decoder_shapes(tied=True),
    ),
    "llama-linear": Case(
        decoder_config(
            "LlamaForCausalLM",
            model_type="llama",
            rope_scaling={"type": "linear", "factor": 4.0},
        ),
        decoder_shapes(),
    ),
    "mistral": Case(
        decoder_config(
            "MistralForCausalLM", model_type="mistral", head_dim=32, sliding_window=None
        ),
        decoder_shapes(head=32),
    ),
    "mixtral": Case(
        decoder_config(
            "MixtralForCausalLM",
            model_type="mixtral",
            num_local_experts=4,
            num_experts_per_tok=2,
            sliding_window=None,
        ),
        mixtral_shapes(),
    ),
    "gemma": Case(
        decoder_config("GemmaForCausalLM", model_type="gemma", **_GEMMA)
        | {"tie_word_embeddings": True},
        decoder_shapes(head=32, tied=True),
        zero_norms=True,
    ),
    "gemma2": Case(
        decoder_config(
            "Gemma2ForCausalLM",
            model_type="gemma2",
            **_GEMMA,
            query_pre_attn_scalar=32,
            sliding_window=4,
            attn_logit_softcapping=5.0,
            final_logit_softcapping=3.0,
        )
        | {"tie_word_embeddings": True},
        decoder_shapes(head=32, tied=True, layer_norms=_FOUR_NORMS),
        zero_norms=True,
    ),
    "gemma3": Case(
        decoder_config(
            "Gemma3ForCausalLM",
            model_type="gemma3_text",
            **_GEMMA,
            query_pre_attn_scalar=32,
            sliding_window=4,
            rope_theta=1_000_000.0,
            rope_local_base_freq=100.0,
            rope_scaling={"rope_type": "linear", "factor": 8.0},
        )
        | {"num_hidden_layers": 6, "tie_word_embeddings": True},
        decoder_shapes(head=32, tied=True, n_layer=6, layer_norms=_FOUR_NORMS, head_norms=True),
        zero_norms=True,
    ),
    "phi3": Case(
        decoder_config("Phi3ForCausalLM", model_type="phi3", pad_token_id=0), phi3_shapes()
    ),
    "phi3-short": Case(long_phi3_config(512), phi3_shapes()),
    "phi3-long": Case(long_phi3_config(8), phi3_shapes()),
    "qwen2": Case(
        decoder_config("Qwen2ForCausalLM", model_type="qwen2"),
        decoder_shapes(biased=_ATTENTION[:3]),
    ),
    "qwen2-yarn": Case(
        decoder_config(
            "Qwen2ForCausalLM",
            model_type="qwen2",
            rope_scaling={
                "type": "yarn",
                "factor": 4.0,
                "original_max_position_embeddings": 32,
            },
        ),
        decoder_shapes(biased=_ATTENTION[:3]),
    ),
    "qwen3": Case(
        decoder_config("Qwen3ForCausalLM", model_type="qwen3", head_dim=32),
        decoder_shapes(head=32, head_norms=True),
    ),
    "bert": Case(bert_config("BertModel", "bert"), bert_shapes(), is_causal=False),
    "roberta": Case(
        bert_config("RobertaModel", "roberta", pad_token_id=3, max_position_embeddings=68),
        bert_shapes(positions=68, prefix="roberta."),
        is_causal=False,
    ),
    "nomic-bert": Case(
        {
            "architectures": ["NomicBertModel"],
            "model_type": "nomic_bert",
            "n_embd": N_EMBD,
            "n_inner": N_FF,
            "n_layer": N_LAYER,
            "n_head": 4,
            "n_positions": 64,
            "layer_norm_epsilon": 1e-12,
            "rotary_emb_base": 1000,
            "rotary_emb_fraction": 1.0,
            "activation_function": "swiglu",
            "type_vocab_size": 2,
            "vocab_size": N_VOCAB,
            "hidden_size": N_EMBD,
            "intermediate_size": N_FF,
            "num_hidden_layers": N_LAYER,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
        },
        nomic_shapes(),
        is_causal=False,
    ),
}


def weights(case: Case, seed: int = 0) -> dict[str, npt.NDArray[np.float32]]:
    """Random numbers that F16 and BF16 can hold, so that no type changes them."""
    random = np.random.default_rng(seed)
    tensors = {}
    for name, shape in case.shapes.items():
        values = random.standard_normal(shape)
        if len(shape) > 1:
            values *= 1.5 / np.sqrt(np.prod(shape[1:]))
            if "embed" in name and case.is_causal:
                values *= case.embedding_gain if "embed_tokens" in name else 4
        elif name.endswith((".bias", ".beta")):
            values *= 0.3
        else:
            is_zero = case.zero_norms and not name.startswith("vision_tower.")
            values = values * 0.2 + (0 if is_zero else 1)
        tensors[name] = bfloat16_bits(values.astype(np.float32))[1]
    return tensors


def bfloat16_bits(
    values: npt.NDArray[np.float32],
) -> tuple[npt.NDArray[np.uint16], npt.NDArray[np.float32]]:
    """Cut to BF16: the bits, and the numbers that they stand for."""
    bits = (values.view(np.uint32) >> 16).astype(np.uint16)
    return bits, (bits.astype(np.uint32) << 16).view(np.float32)


def write_safetensors(path: Path, tensors: Mapping[str, Array], dtype: DType = "F32") -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    data = bytearray()
    for name, values in tensors.items():
        content = _encode(values, dtype)
        offsets = [len(data), len(data) + len(content)]
        header[name] = {"dtype": dtype, "shape": values.shape, "data_offsets": offsets}
        data += content
    text = json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def _encode(values: Array, dtype: DType) -> bytes:
    if dtype == "BF16":
        return bfloat16_bits(values.astype(np.float32))[0].tobytes()
    return values.astype(np.float32 if dtype == "F32" else np.float16).tobytes()


def write_checkpoint(folder: Path, case: Case, dtype: DType = "F32") -> Path:
    """Configuration and weights; no tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(case.config))
    write_safetensors(folder / "model.safetensors", weights(case), dtype)
    return folder


def write_tokenizer(
    folder: Path, *, wordpiece: bool = False, added: Mapping[str, int] | None = None
) -> None:
    """A few tokens, for tests in which the text doesn't matter; ``added`` are special."""
    letters = [chr(ord("a") + index) for index in range(26)]
    model: dict[str, Any]
    if wordpiece:
        tokens = ["[PAD]", "[CLS]", "[SEP]", "[UNK]", "[MASK]", *letters]
        model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##"}
    else:
        tokens = ["<unk>", "<s>", "</s>", "<0x0A>", "▁", *letters]
        model = {"type": "BPE", "unk_token": "<unk>", "byte_fallback": True, "merges": []}
    vocabulary = {token: index for index, token in enumerate(tokens)}
    special = [
        {"id": number, "content": token, "special": True} for token, number in (added or {}).items()
    ]
    content = {"model": {**model, "vocab": vocabulary}, "added_tokens": special}
    (folder / "tokenizer.json").write_text(json.dumps(content))


def sample(rows: npt.NDArray[np.float32]) -> list[list[float]]:
    """A part of the outputs that an error anywhere would show in: each row has seen all layers."""
    return [[round(float(value), 5) for value in row[::7]] for row in rows[1::4]]


def convert_folder(folder: Path, target: Path) -> Path:
    """Convert in this process, which shows errors best."""
    files = {
        path.relative_to(folder).as_posix(): path
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".gguf"
    }
    with target.open("wb") as file:
        Conversion(ModelFolder(files)).model.write(file.write)
    return target


def tolerance(dtype: DType) -> float:
    """How far outputs may be off, as a part of their spread: llama.cpp rounds what it multiplies
    with a matrix to the type of that matrix."""
    return 0.06 if dtype == "BF16" else 0.01
