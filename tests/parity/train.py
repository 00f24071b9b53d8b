"""Trains the small tokenizers of ``tests/data/tokenizers`` on a few sentences."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import sentencepiece
from tokenizers import (
    AddedToken,
    Regex,
    Tokenizer,
    decoders,
    models,
    normalizers,
    pre_tokenizers,
    processors,
    trainers,
)

from llamaherd.create.convert.tokenizers import pre_tokenizers as ours

SENTENCES: Final = [
    "The quick brown fox jumps over the lazy dog, and the tokenizer splits the words.",
    "Hello world, hello there: don't stop, you're the first, I'll go at 12 or 345.",
    "Unbelievably, tokenization and detokenization are not the same as stopping words.",
    "A naïve café in the école serves the students and the teachers of the town.",
    "camelCase words and HTTP servers, snake_case words and new lines.",
] * 4

SIZE: Final = 400
_SPACE: Final = "▁"


def write_all(folder: Path) -> None:
    for name, make in TOKENIZERS.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        make(folder / name)


def _save(tokenizer: Tokenizer, folder: Path, **config: Any) -> None:
    text = json.dumps(json.loads(tokenizer.to_str()), ensure_ascii=False, separators=(",", ":"))
    (folder / "tokenizer.json").write_text(text)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))


def _byte_level(steps: list[Any], *, ignore_merges: bool = False) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(ignore_merges=ignore_merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(steps)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=SIZE, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(SENTENCES, trainer)
    return tokenizer


def _split(regex: str) -> list[Any]:
    return _steps(regex)


def _steps(*regexes: str, digits: bool = False) -> list[Any]:
    """One after the other; ``digits`` are cut apart at last."""
    return [
        *(pre_tokenizers.Split(Regex(regex), "isolated") for regex in regexes),
        *([pre_tokenizers.Digits(individual_digits=True)] if digits else []),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ]


def _with_line_ends(regex: str) -> str:
    return regex.replace(r"\r", "\r").replace(r"\n", "\n")


def _number(tokenizer: Tokenizer, text: str) -> int:
    number: int | None = tokenizer.token_to_id(text)
    assert number is not None, text
    return number


def _special(tokenizer: Tokenizer, *texts: str) -> None:
    tokenizer.add_special_tokens([AddedToken(text, special=True) for text in texts])


def llama3(folder: Path) -> None:
    tokenizer = _byte_level(_split(ours._LLAMA3), ignore_merges=True)
    _special(tokenizer, "<|begin_of_text|>", "<|end_of_text|>", "<|eot_id|>")
    begin = tokenizer.token_to_id("<|begin_of_text|>")
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=True),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", begin)]
            ),
        ]
    )
    _save(
        tokenizer,
        folder,
        bos_token="<|begin_of_text|>",
        eos_token={"content": "<|eot_id|>"},
        chat_template="{{ messages }}",
    )


def qwen2(folder: Path) -> None:
    tokenizer = _byte_level(_split(ours._QWEN2))
    _special(tokenizer, "<|endoftext|>", "<|im_start|>", "<|im_end|>")
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    _save(tokenizer, folder, eos_token="<|im_end|>", pad_token="<|endoftext|>", bos_token=None)


def tekken(folder: Path) -> None:
    tokenizer = _byte_level(_split(ours._TEKKEN), ignore_merges=True)
    _save(tokenizer, folder)


def gpt4o(folder: Path) -> None:
    _save(_byte_level(_split(ours._GPT4O)), folder)


def qwen35(folder: Path) -> None:
    _save(_byte_level(_split(ours._QWEN35)), folder)


def seed_coder(folder: Path) -> None:
    """With the line ends themselves in the expression."""
    _save(_byte_level(_split(_with_line_ends(ours._SEED_CODER))), folder)


def minicpm5(folder: Path) -> None:
    _save(_byte_level(_steps(ours._UP_TO_3_DIGITS, ours._MINICPM5)), folder)


def deepseek_llm(folder: Path) -> None:
    steps = (
        _with_line_ends(ours._LINE_ENDS),
        ours._DEEPSEEK_WORDS,
        ours._DEEPSEEK_MARKS,
        r"\s+$",
        ours._CHINESE,
    )
    _save(_byte_level(_steps(*steps, digits=True)), folder)


def deepseek_coder(folder: Path) -> None:
    steps = (_with_line_ends(ours._LINE_ENDS), r"\s?\p{L}+", r"\s?\p{P}+", ours._CHINESE)
    _save(_byte_level(_steps(*steps, digits=True)), folder)


def deepseek_v3(folder: Path) -> None:
    steps = (ours._UP_TO_3_DIGITS, ours._CHINESE_OR_KANA, _with_line_ends(ours._DEEPSEEK3))
    _save(_byte_level(_steps(*steps)), folder)


def smollm(folder: Path) -> None:
    steps = [
        pre_tokenizers.Digits(individual_digits=True),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
    ]
    _save(_byte_level(steps), folder)


def roberta(folder: Path) -> None:
    tokenizer = _byte_level([pre_tokenizers.ByteLevel(add_prefix_space=False)])
    _special(tokenizer, "<s>", "<pad>", "</s>")
    pairs = {text: (text, _number(tokenizer, text)) for text in ("<s>", "</s>")}
    tokenizer.post_processor = processors.RobertaProcessing(
        pairs["</s>"], pairs["<s>"], add_prefix_space=False
    )
    _save(tokenizer, folder, bos_token="<s>", eos_token="</s>", cls_token="<s>", sep_token="</s>")


def _sentencepiece(folder: Path, kind: str) -> sentencepiece.SentencePieceProcessor:
    content = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(SENTENCES),
        model_writer=content,
        model_type=kind,
        vocab_size=SIZE + 60,
        byte_fallback=True,
        normalization_rule_name="identity",
        remove_extra_whitespaces=False,
        split_digits=True,
        hard_vocab_limit=False,
        minloglevel=2,
    )
    return sentencepiece.SentencePieceProcessor(model_proto=content.getvalue())


def sentencepiece_model(folder: Path) -> None:
    model = _sentencepiece(folder, "bpe").serialized_model_proto()
    (folder / "tokenizer.model").write_bytes(model)
    (folder / "tokenizer_config.json").write_text(json.dumps({"add_bos_token": True}))


def _from_sentencepiece(folder: Path, *, prefix: bool) -> Tokenizer:
    """As transformers turns a SentencePiece model into ``tokenizer.json``: every way in which a
    piece can be merged, in the order of the pieces."""
    processor = _sentencepiece(folder, "bpe")
    pieces = [processor.id_to_piece(index) for index in range(processor.get_piece_size())]
    numbers = {piece: index for index, piece in enumerate(pieces)}
    merges = [
        (piece[:cut], piece[cut:])
        for piece in pieces
        for cut in range(1, len(piece))
        if piece[:cut] in numbers and piece[cut:] in numbers and not piece.startswith("<")
    ]
    tokenizer = Tokenizer(
        models.BPE(numbers, merges, unk_token="<unk>", fuse_unk=True, byte_fallback=True)
    )
    steps: list[Any] = [normalizers.Replace(" ", _SPACE)]
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Prepend(_SPACE), *steps] if prefix else steps
    )
    for text in ("<unk>", "<s>", "</s>"):
        _special(tokenizer, text)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 1)]
    )
    return tokenizer


def llama2(folder: Path) -> None:
    _save(_from_sentencepiece(folder, prefix=True), folder, bos_token="<s>", eos_token="</s>")


def gemma(folder: Path) -> None:
    _save(_from_sentencepiece(folder, prefix=False), folder, bos_token="<s>", eos_token="</s>")


def bert(folder: Path) -> None:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    trainer = trainers.WordPieceTrainer(
        vocab_size=SIZE, special_tokens=special, show_progress=False
    )
    tokenizer.train_from_iterator(SENTENCES, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    _save(
        tokenizer,
        folder,
        **{f"{name}_token": f"[{name.upper()}]" for name in ("pad", "unk", "cls", "sep", "mask")},
    )


def unigram(folder: Path) -> None:
    processor = _sentencepiece(folder, "unigram")
    count = processor.get_piece_size()
    pieces = [(processor.id_to_piece(i), processor.get_score(i)) for i in range(count)]
    pieces = [each for each in pieces if not each[0].startswith("<0x")]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme="always")]
    )
    _special(tokenizer, "<s>", "</s>")
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)]
    )
    _save(tokenizer, folder, bos_token="<s>", eos_token="</s>", unk_token="<unk>")


TOKENIZERS: Final[dict[str, Callable[[Path], None]]] = {
    "llama3": llama3,
    "qwen2": qwen2,
    "tekken": tekken,
    "gpt4o": gpt4o,
    "smollm": smollm,
    "qwen35": qwen35,
    "seed-coder": seed_coder,
    "minicpm5": minicpm5,
    "deepseek-llm": deepseek_llm,
    "deepseek-coder": deepseek_coder,
    "deepseek-v3": deepseek_v3,
    "roberta": roberta,
    "sentencepiece": sentencepiece_model,
    "llama2": llama2,
    "gemma": gemma,
    "bert": bert,
    "unigram": unigram,
}
