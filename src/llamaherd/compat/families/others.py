"""Language models without an encoder whose files differ from llama.cpp's in little."""

from __future__ import annotations

from base64 import b64decode
from typing import Final

from llamaherd.compat.draft import Draft
from llamaherd.compat.families.ends import set_ends
from llamaherd.gguf import Array, ValueType

#: What llama.cpp calls the attention with compressed keys and values that several families have.
_LATENT: Final = "deepseek2"

_CHARACTERS: Final = "tokenizer.ggml.precompiled_charsmap"


def lfm2(draft: Draft) -> None:
    """LFM 2: Ollama's convert_lfm2.go."""
    if "output_norm.weight" not in draft or "token_embd_norm.weight" in draft:
        return
    draft.rename_parts({"output_norm": "token_embd_norm"})
    draft.set(
        {
            "tokenizer.ggml.pre": "lfm2",
            # Some files have the width before it is rounded.
            "lfm2.feed_forward_length": draft.matrix("blk.0.ffn_gate.weight")[1],
        }
    )


def olmo3(draft: Draft) -> None:
    """Olmo 3: Ollama's convert_olmo.go. llama.cpp has it under the name of its predecessor."""
    draft.become("olmo2")


def glm4_moe_lite(draft: Draft) -> None:
    """GLM 4.7 Flash: Ollama's convert_glm4moelite.go.

    Its keys say how long keys and values are for each head, and once compressed (``_mla``); to
    llama.cpp it is the other way round, and compressed there is but one head.
    """
    draft.become(_LATENT)
    rank = draft.size("attention.kv_lora_rank")
    head = draft.size("attention.key_length")
    draft.set(
        {
            f"{_LATENT}.attention.head_count_kv": 1,
            f"{_LATENT}.attention.key_length": rank + draft.size("rope.dimension_count"),
            f"{_LATENT}.attention.value_length": rank,
            f"{_LATENT}.attention.key_length_mla": head,
            f"{_LATENT}.attention.value_length_mla": head,
            "tokenizer.ggml.pre": "glm4",
        }
    )
    draft.default({f"{_LATENT}.expert_group_count": 1, f"{_LATENT}.expert_group_used_count": 1})
    set_ends(draft)


def laguna(draft: Draft) -> None:
    """Laguna: Ollama's convert_laguna.go of its first versions."""
    draft.take(
        {
            "rope.swa.dimension_count": "laguna.rope.dimension_count_swa",
            "rope.swa.freq_base": "laguna.rope.freq_base_swa",
        }
    )
    draft.rename_parts({"attn_g.weight": "attn_gate.weight"})


def bert(draft: Draft) -> None:
    """Snowflake Arctic Embed 2, whose rules for characters are in base64, a letter to an item."""
    letters = draft.gguf.get(_CHARACTERS)
    if not isinstance(letters, Array) or letters.item_type is not ValueType.STRING:
        return
    try:
        rules = b64decode("".join(map(str, letters)), validate=True)
    except ValueError as error:
        raise draft.unsound(f"key '{_CHARACTERS}' is not base64: {error}") from error
    draft.set({_CHARACTERS: rules})


def nemotron_h_moe(draft: Draft) -> None:
    """Nemotron 3: Ollama's convert_nemotron_h.go."""
    name = next((name for name in draft.names() if name.endswith(".ffn_latent_in.weight")), None)
    if name is not None:
        draft.default({"nemotron_h_moe.moe_latent_size": draft.matrix(name)[1]})
    draft.rename_parts({"ffn_latent_in": "ffn_latent_down", "ffn_latent_out": "ffn_latent_up"})
    draft.drop("mtp.")


def nemotron_h_omni(draft: Draft) -> None:
    """Nemotron 3 that sees and hears: Ollama's convert_nemotron_h.go. Only its language is kept."""
    experts = draft.value("expert_count", int, 0)
    draft.become("nemotron_h_moe" if experts > 0 else "nemotron_h")
    nemotron_h_moe(draft)
