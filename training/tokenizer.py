"""The vocabulary: byte pairs of the generated text.

A word must be the same tokens wherever it stands, or it can't be copied from a sentence into JSON.
So pairs are first learnt with every space apart, and only then do common small words and marks get
a token that has the space in it. These merges come last, where they change nothing for any other
word. Digits are tokens by themselves, so every byte sequence is representable.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import Any, Final

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from training.prompts import CONTROL, MARKS
from training.samples import samples

#: All tokens: bytes, pairs, words with their space, and the special ones.
SIZE: Final = 1536

#: How many of them are words or marks with the space in front.
_SPACED: Final = 448

#: How many samples the pairs are learnt from.
_SAMPLES: Final = 20_000

_SPACE: Final = "Ġ"


def train(seed: int, folder: Path) -> None:
    """Writes ``tokenizer.json`` and ``tokenizer_config.json`` as transformers has them."""
    texts = [
        segment.text for sample in islice(samples(seed, worker=-1), _SAMPLES) for segment in sample
    ]
    pairs = _pairs([_without_specials(text) for text in texts])
    tokenizer = json.loads(pairs.to_str())
    _add_spaced(tokenizer, _common(pairs, texts))
    vocabulary = tokenizer["model"]["vocab"]
    tokenizer["added_tokens"] = [
        _added(len(vocabulary) + index, text, special=text in CONTROL)
        for index, text in enumerate((*CONTROL, *MARKS))
    ]
    tokenizer["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [
            {"type": "Digits", "individual_digits": True},
            {
                "type": "ByteLevel",
                "add_prefix_space": False,
                "trim_offsets": True,
                "use_regex": True,
            },
        ],
    }
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text)
    config = {"eos_token": "<|end|>", "pad_token": "<|endoftext|>", "bos_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def load(folder: Path) -> Tokenizer:
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def _pairs(texts: Iterable[str]) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(" "), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=SIZE - _SPACED - len(CONTROL) - len(MARKS),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def _without_specials(text: str) -> str:
    for special in (*CONTROL, *MARKS):
        text = text.replace(special, " ")
    return text


def _common(tokenizer: Tokenizer, texts: Iterable[str]) -> list[str]:
    """The tokens that most often are a whole word or mark after a space, capitals left out."""
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(_without_specials(text).split(" ")[1:])
    found: Counter[str] = Counter()
    for word, count in counts.items():
        if word and not word[0].isupper() and not word[0].isdigit():
            found[tokenizer.encode(word).tokens[0]] += count
    spaced = [token for token, _ in found.most_common() if token.isascii()]
    return spaced[:_SPACED]


def _add_spaced(tokenizer: dict[str, Any], words: Iterable[str]) -> None:
    model = tokenizer["model"]
    for word in words:
        model["vocab"][_SPACE + word] = len(model["vocab"])
        model["merges"].append([_SPACE, word])


def _added(number: int, text: str, *, special: bool) -> dict[str, Any]:
    return {
        "id": number,
        "content": text,
        "single_word": False,
        "lstrip": False,
        "rstrip": False,
        "normalized": False,
        "special": special,
    }
