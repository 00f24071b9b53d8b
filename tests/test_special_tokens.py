"""The special tokens that templates write, as a GGUF's vocabulary spells them."""

from __future__ import annotations

from pathlib import Path

import pytest

from llamaherd.gguf import GGUF, ValueType
from llamaherd.prompt.special import special_tokens
from llamaherd.prompt.template import SpecialTokens
from tests.support.gguf_files import Pairs, write_gguf

TOKENS: Pairs = {
    "tokenizer.ggml.tokens": (ValueType.ARRAY, ValueType.STRING, ["<unk>", "<s>", "</s>", "<|x|>"])
}


def model(kind: str) -> Pairs:
    return {"tokenizer.ggml.model": (ValueType.STRING, kind)}


def token(name: str, value: int) -> Pairs:
    return {f"tokenizer.ggml.{name}_token_id": (ValueType.UINT32, value)}


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ({}, SpecialTokens("", "", False)),
        ({**TOKENS}, SpecialTokens("", "", False)),
        ({**TOKENS, **model("llama")}, SpecialTokens("<s>", "</s>", True)),
        (
            {**TOKENS, **model("gpt2"), **token("bos", 3), **token("eos", 3)},
            SpecialTokens("<|x|>", "<|x|>", False),
        ),
        (
            {
                **TOKENS,
                **model("gpt2"),
                "tokenizer.ggml.pre": (ValueType.STRING, "llama-bpe"),
                **token("bos", 3),
            },
            SpecialTokens("<|x|>", "", True),
        ),
        (
            {
                **TOKENS,
                **model("llama"),
                "tokenizer.ggml.add_bos_token": (ValueType.BOOL, False),
                **token("eos", 3),
            },
            SpecialTokens("<s>", "<|x|>", False),
        ),
        ({**TOKENS, **model("llama"), **token("bos", 99)}, SpecialTokens("", "</s>", True)),
    ],
)
def test_special_tokens(tmp_path: Path, pairs: Pairs, expected: SpecialTokens) -> None:
    write_gguf(tmp_path / "m.gguf", pairs, {"token_embd.weight": ("F32", (32,))})
    with GGUF.open(tmp_path / "m.gguf") as gguf:
        assert special_tokens(gguf) == expected
