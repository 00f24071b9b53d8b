"""Gemma 3, and what is built like it: Ollama's convert_gemma3.go and convert_embeddinggemma.go."""

from __future__ import annotations

from math import isqrt
from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families import encoders

VOCABULARY: Final = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.token_type")

#: Models that read so many tokens were trained with positions closer by this factor.
_LONG_CONTEXT: Final = 131072
_LONG_CONTEXT_FACTOR: Final = 8.0

_DENSE: Final = {"dense.0.weight": "dense_2", "dense.1.weight": "dense_3"}

#: The first layer widens; older files of llama.cpp name the two the other way round.
_ENCODER_PARTS: Final = {
    "v.patch_embedding": "v.patch_embd",
    "v.position_embedding": "v.position_embd",
    "v.post_layernorm": "v.post_ln",
    "layer_norm1": "ln1",
    "layer_norm2": "ln2",
    "attn_output": "attn_out",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "mm.mm_input_projection": "mm.input_projection",
    "mm.mm_soft_emb_norm": "mm.soft_emb_norm",
}


def text(draft: Draft) -> None:
    if "dense.0.weight" in draft:
        _embedding(draft)
    elif _is_ollamas(draft):
        _keys(draft)


def _is_ollamas(draft: Draft) -> bool:
    """llama.cpp's converter writes a scale of norms always, and has no encoder in the file."""
    return (
        draft.any_tensor("v.", "mm.")
        or draft.has("gemma3.rope.global.freq_base")
        or draft.has("gemma3.rope.local.freq_base")
        or not draft.has("gemma3.attention.layer_norm_rms_epsilon")
    )


def _keys(draft: Draft) -> None:
    draft.take(
        {
            "rope.global.freq_base": "gemma3.rope.freq_base",
            "rope.local.freq_base": "gemma3.rope.freq_base_swa",
        }
    )
    draft.default(
        {
            "gemma3.attention.layer_norm_rms_epsilon": 1e-6,
            "gemma3.rope.freq_base": 1_000_000.0,
            "gemma3.rope.freq_base_swa": 10_000.0,
        }
    )
    no_prefix(draft)
    if draft.size("context_length") >= _LONG_CONTEXT:
        draft.default(
            {
                "gemma3.rope.scaling.type": "linear",
                "gemma3.rope.scaling.factor": _LONG_CONTEXT_FACTOR,
            }
        )
    shorten_vocabulary(draft, "token_embd.weight")


def no_prefix(draft: Draft) -> None:
    """Gemma's texts get no space before them; llama.cpp would add one if no key forbids it.

    Ollama's files have no such key, as its own tokenizer (model/sentencepiece.go) never does.
    """
    draft.default({"tokenizer.ggml.add_space_prefix": False})


def shorten_vocabulary(draft: Draft, embeddings: str) -> None:
    """Leave out tokens without an embedding, at the end: llama.cpp wants one for every token."""
    draft.shorten(VOCABULARY, draft.matrix(embeddings)[1])


def _embedding(draft: Draft) -> None:
    """EmbeddingGemma, which Ollama's file calls a gemma3 with two dense layers after pooling."""
    draft.become("gemma-embedding")
    draft.drop_keys(
        "gemma-embedding.attention.causal", "gemma-embedding.attention.sliding_window_pattern"
    )
    draft.default({"gemma-embedding.rope.freq_base_swa": 10_000.0})
    no_prefix(draft)
    for name, dense in _DENSE.items():
        columns, rows = draft.matrix(name)
        draft.set(
            {
                f"gemma-embedding.{dense}_feat_in": columns,
                f"gemma-embedding.{dense}_feat_out": rows,
            }
        )
    draft.rename_parts(
        {"dense.0": "dense_2", "dense.1": "dense_3", "norm.weight": "output_norm.weight"}
    )


def projector(draft: Draft) -> None:
    encoders.begin(draft, "gemma3", "gelu")
    draft.require(encoders.FEED_FORWARD | encoders.IMAGE_SIZE)
    draft.require(encoders.EPSILON)
    side = isqrt(draft.size("mm.tokens_per_image", 256))
    patches = draft.size("vision.image_size") // draft.size("vision.patch_size")
    if patches < side:
        raise draft.unsound(f"an image has {patches} patches on a side, for {side} tokens")
    draft.set({"clip.vision.projector.scale_factor": patches // side})
    draft.rename_parts(_ENCODER_PARTS)
    draft.widen("v.patch_embd.weight", "v.position_embd.weight")
