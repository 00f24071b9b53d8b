"""Special tokens and the chat template: what stands beside the vocabulary in several files."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from llamaherd.create.convert.config import CONFIG_FILE
from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.tokenizers.tokenizer_json import Parts, TokenizerFile, flatten
from llamaherd.create.convert.tokenizers.vocabulary import Vocabulary
from llamaherd.create.convert.writer import Value
from llamaherd.errors import BadRequest

TOKENIZER_CONFIG: Final = "tokenizer_config.json"
_MORE_SPECIAL: Final = "special_tokens_map.json"
_GENERATION: Final = "generation_config.json"
_TEMPLATE: Final = "chat_template.jinja"
_TEMPLATE_JSON: Final = "chat_template.json"

#: Transformers' names to GGUF's.
_NAMES: Final = {
    "bos": "bos",
    "eos": "eos",
    "unk": "unknown",
    "sep": "seperator",
    "pad": "padding",
    "cls": "cls",
    "mask": "mask",
}


def special_metadata(
    folder: ModelFolder, vocabulary: Vocabulary, tokenizer: TokenizerFile | None, size: int
) -> dict[str, Value]:
    """The numbers of the special tokens, all below ``size``, and what is put around a text."""
    config = folder.json_object(TOKENIZER_CONFIG)
    first, last = _surrounding(tokenizer)
    found = _numbers(folder, vocabulary, config)
    texts = vocabulary.numbers()
    for name, text, stand_in in (("bos", first, "cls"), ("eos", last, "sep")):
        if text in texts and found.get(name) != texts[text] and found.get(stand_in) != texts[text]:
            found[name] = texts[text]
        if name not in found and stand_in in found:
            found[name] = found[stand_in]
    ends = [number for number in _ends(folder) if number != found.get("eos")]
    metadata: dict[str, Value] = {
        f"tokenizer.ggml.{_NAMES[name]}_token_id": number
        for name, number in found.items()
        if number < size
    }
    for name, number in zip(("eot", "eom"), ends, strict=False):
        if number < size:
            metadata[f"tokenizer.ggml.{name}_token_id"] = number
    knows = tokenizer is not None and tokenizer.post_processor is not None
    metadata["tokenizer.ggml.add_bos_token"] = (
        first is not None if knows else _said(config, "add_bos_token", vocabulary.add_bos)
    )
    metadata["tokenizer.ggml.add_eos_token"] = (
        last is not None if knows else _said(config, "add_eos_token", vocabulary.add_eos)
    )
    return metadata


def _said(config: dict[str, Any], name: str, default: bool) -> bool:
    value = config.get(name)
    return value if isinstance(value, bool) else default


def _numbers(folder: ModelFolder, vocabulary: Vocabulary, config: dict[str, Any]) -> dict[str, int]:
    """By name: what the tokenizer says first, then the model, then the vocabulary itself."""
    texts = vocabulary.numbers()
    more, model = folder.json_object(_MORE_SPECIAL), _model_config(folder)
    found = {}
    for name in _NAMES:
        written = _text(config.get(f"{name}_token")) or _text(more.get(f"{name}_token"))
        number = texts.get(written)
        if number is None:
            number = next(_token_ids(model.get(f"{name}_token_id")), vocabulary.special.get(name))
        if number is not None:
            found[name] = number
    return found


def _text(token: Any) -> str:
    """A token is written as its text, or as an object with more about it."""
    if isinstance(token, dict):
        token = token.get("content")
    return token if isinstance(token, str) else ""


def _ends(folder: ModelFolder) -> list[int]:
    """Every token that ends a reply."""
    for config in (folder.json_object(_GENERATION), _model_config(folder)):
        if ends := list(_token_ids(config.get("eos_token_id"))):
            return list(dict.fromkeys(ends))
    return []


def _model_config(folder: ModelFolder) -> dict[str, Any]:
    """Of a model that sees, the language model's is a section, which counts where the whole says
    nothing."""
    config = folder.json_object(CONFIG_FILE)
    text = config.get("text_config")
    said = {name: value for name, value in config.items() if value is not None}
    return {**text, **said} if isinstance(text, dict) else said


def _token_ids(value: Any) -> Iterator[int]:
    for number in value if isinstance(value, list) else [value]:
        if type(number) is int and number >= 0:
            yield number


def _surrounding(tokenizer: TokenizerFile | None) -> tuple[str | None, str | None]:
    """The special tokens that the tokenizer puts before and after a text."""
    first = last = None
    for part in flatten(tokenizer.post_processor if tokenizer else None, "processors"):
        match part:
            case {"type": "TemplateProcessing", "single": [_, *_] as single}:
                first, last = _special(single[0]), _special(single[-1])
            case {"type": "RobertaProcessing" | "BertProcessing"}:
                first, last = _pair_text(part, "cls"), _pair_text(part, "sep")
    return first, last


def _special(item: Any) -> str | None:
    match item:
        case {"SpecialToken": {"id": str() as text}}:
            return text
    return None


def _pair_text(part: Parts, name: str) -> str | None:
    match part.get(name):
        case [str() as text, *_]:
            return text
    return None


def template_metadata(folder: ModelFolder) -> dict[str, Value]:
    """The chat template in Jinja, and further ones by name. A file of its own wins, as it does in
    transformers."""
    if _TEMPLATE in folder:
        return {"tokenizer.chat_template": folder.text(_TEMPLATE)}
    for file in (_TEMPLATE_JSON, TOKENIZER_CONFIG):
        template = folder.json_object(file).get("chat_template")
        if isinstance(template, str):
            return {"tokenizer.chat_template": template}
        if isinstance(template, list):
            return dict(_named_templates(template, file))
    return {}


def _named_templates(templates: list[Any], file: str) -> Iterator[tuple[str, Value]]:
    for each in templates:
        match each:
            case {"name": "default", "template": str() as text}:
                yield "tokenizer.chat_template", text
            case {"name": str() as name, "template": str() as text}:
                yield f"tokenizer.chat_template.{name}", text
            case _:
                raise BadRequest(f"{file}: chat_template: expected a list of names and templates")
