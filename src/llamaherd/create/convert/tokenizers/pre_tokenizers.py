"""How byte-level BPE tokenizers cut text before they merge, by llama.cpp's names for it.

llama.cpp has the cutting rules built in (``llm_tokenizer_bpe`` in llama-vocab.cpp), so a tokenizer
must be recognised by its structure: the regular expressions and steps of its ``pre_tokenizer``.
"""

from __future__ import annotations

from typing import Any, Final

from llamaherd.create.convert.tokenizers.tokenizer_json import (
    TOKENIZER_FILE,
    Parts,
    TokenizerFile,
    flatten,
)
from llamaherd.errors import BadRequest

_LETTERS: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_REST_SLASH: Final = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_LOWER: Final = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+"
_UPPER: Final = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*"
_SHORT: Final = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)?"

_LLAMA3: Final = _LETTERS + r"\p{N}{1,3}" + _REST
_QWEN2: Final = _LETTERS + r"\p{N}" + _REST
_TEKKEN: Final = f"{_LOWER}|{_UPPER}" + r"|\p{N}" + _REST_SLASH
_GPT4O: Final = f"{_LOWER}{_SHORT}|{_UPPER}{_SHORT}" + r"|\p{N}{1,3}" + _REST_SLASH

_QWEN35: Final = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}"
    r"| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_SEED_CODER: Final = _LETTERS + r"\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+"
_UP_TO_3_DIGITS: Final = r"\p{N}{1,3}"
_MINICPM5: Final = _LETTERS + r"\p{N}+" + _REST

_LINE_ENDS: Final = r"[\r\n]"
_CHINESE: Final = "[一-龥ࠀ-一가-퟿]+"
_CHINESE_OR_KANA: Final = "[一-龥぀-ゟ゠-ヿ]+"
#: Letters that have a case, in all the alphabets that DeepSeek thought of.
_CASED: Final = (
    "A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚ"
    "Ḁ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻ"
    "Ȿ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃"
)
_DEEPSEEK_WORDS: Final = rf"\s?[{_CASED}]+"
_DEEPSEEK_MARKS: Final = r"\s?[!-/:-~！-／：-～‘-‟　-。]+"
_DEEPSEEK3: Final = (
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+"""
    r"| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)

Steps = tuple[str, ...]

_DIGITS: Final = "each digit by itself"
_GPT2: Final = "the regular expression of GPT-2"

#: What differs when whole words of the vocabulary are taken without merging (``ignore_merges``).
_NAMES: Final[dict[Steps, tuple[str, str]]] = {
    (_GPT2,): ("gpt-2", "gpt-2"),
    (_DIGITS, _GPT2): ("smollm", "smollm"),
    (_LLAMA3,): ("dbrx", "llama-bpe"),
    (_QWEN2,): ("qwen2", "qwen2"),
    (_TEKKEN,): ("tekken", "tekken"),
    (_GPT4O,): ("gpt-4o", "gpt-4o"),
    (_QWEN35,): ("qwen35", "qwen35"),
    (_SEED_CODER,): ("seed-coder", "seed-coder"),
    (_UP_TO_3_DIGITS, _MINICPM5): ("minicpm5", "minicpm5"),
    (_LINE_ENDS, _DEEPSEEK_WORDS, _DEEPSEEK_MARKS, r"\s+$", _CHINESE, _DIGITS): (
        "deepseek-llm",
        "deepseek-llm",
    ),
    (_LINE_ENDS, r"\s?\p{L}+", r"\s?\p{P}+", _CHINESE, _DIGITS): (
        "deepseek-coder",
        "deepseek-coder",
    ),
    (_UP_TO_3_DIGITS, _CHINESE_OR_KANA, _DEEPSEEK3): ("deepseek-v3", "deepseek-v3"),
}


def pre_tokenizer_name(tokenizer: TokenizerFile) -> str:
    """Raises ``BadRequest`` for a pre-tokenizer that llama.cpp doesn't have."""
    parts = list(flatten(tokenizer.pre_tokenizer, "pretokenizers"))
    steps = tuple(step for part in parts for step in _steps(part))
    names = _NAMES.get(steps)
    if names is None or not any(part.get("type") == "ByteLevel" for part in parts):
        described = " then ".join(steps) or "none"
        raise BadRequest(
            f"{TOKENIZER_FILE}: pre_tokenizer: the engine has none that cuts text by {described}"
        )
    return names[bool(tokenizer.model.ignore_merges)]


def _steps(part: Parts) -> Steps:
    match part:
        case {"type": "Split", "pattern": {"Regex": str() as regex}} if _keeps_matches(part):
            # Some files have the line ends themselves where others have their escapes.
            return (regex.replace("\r", r"\r").replace("\n", r"\n"),)
        case {"type": "Digits", "individual_digits": True}:
            return (_DIGITS,)
        case {"type": "ByteLevel"}:
            return (_GPT2,) if part.get("use_regex", True) else ()
        case _:
            return (f"an unknown step, {_shown(part.get('type'))}",)


def _keeps_matches(part: Parts) -> bool:
    """Two ways to say that what the expression matches becomes a word."""
    return (part.get("behavior"), bool(part.get("invert"))) in (
        ("Isolated", False),
        ("Removed", True),
    )


def _shown(kind: Any) -> str:
    return repr(kind)[:40]
