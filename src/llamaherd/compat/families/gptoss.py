"""gpt-oss: Ollama's convert_gptoss.go."""

from __future__ import annotations

from typing import Final

from llamaherd.compat.draft import Draft

_ARCHITECTURE: Final = "gpt-oss"

_PARTS: Final = {
    "attn_out": "attn_output",
    "attn_sinks": "attn_sinks.weight",
    "weight.weight": "weight",
    "ffn_norm": "post_attention_norm",
}


def text(draft: Draft) -> None:
    if draft.any_tensor("blk.0.ffn_gate_up_exps"):
        raise draft.unsound(
            "tensor 'blk.0.ffn_gate_up_exps.weight' has the rows of two; expected "
            "'ffn_gate_exps' and 'ffn_up_exps' apart"
        )
    draft.become(_ARCHITECTURE)
    _, widened, _ = draft.shape("blk.0.ffn_gate_exps.weight", 3)
    draft.default(
        {
            f"{_ARCHITECTURE}.expert_feed_forward_length": widened,
            f"{_ARCHITECTURE}.rope.scaling.type": "yarn",
        }
    )
    draft.set({"tokenizer.ggml.pre": "gpt-4o"})
    # Some files have them in BF16, at which the sum that llama.cpp makes ends the process.
    draft.widen(*(name for name in draft.names() if name.endswith("_exps.bias")))
    draft.rename_parts(_PARTS)
