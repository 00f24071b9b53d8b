"""The report that ``ollama show`` prints. Pure: the server's answer in, text out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

from llamaherd.cli.formatting import cell_width, excerpt, section
from llamaherd.client import Object

#: Columns to which long texts wrap, and how many of their lines are shown.
TEXT_WIDTH: Final = 100
TEXT_LINES: Final = 2
#: Columns that the visible start of a long metadata array may take.
ARRAY_WIDTH: Final = 10

Rows = list[tuple[str, ...]]


def model_report(model: Object, *, verbose: bool = False) -> str:
    """All sections that the model has; ``verbose`` adds its metadata and tensors."""
    return "".join(section(title, rows) for title, rows in _sections(model, verbose) if rows)


def _sections(model: Object, verbose: bool) -> Iterator[tuple[str, Rows]]:
    yield "Model", _model(model)
    yield "Capabilities", [(str(name),) for name in model.get("capabilities") or ()]
    yield "Projector", _projector(model.get("projector_info") or {})
    yield "Parameters", _parameters(model.get("parameters") or "")
    if verbose:
        yield "Metadata", _metadata(model.get("model_info") or {})
        yield "Tensors", _tensors(model.get("tensors") or [])
    yield "System", [*excerpt(model.get("system") or "", TEXT_LINES, TEXT_WIDTH)]
    yield "License", [*excerpt(model.get("license") or "", TEXT_LINES, TEXT_WIDTH)]


def _model(model: Object) -> Rows:
    details = model.get("details") or {}
    info = model.get("model_info") or {}
    architecture = str(info.get("general.architecture") or details.get("family", ""))
    rows: Rows = [
        ("architecture", architecture),
        ("parameters", str(details.get("parameter_size", ""))),
    ]
    for label, key in (
        ("context length", f"{architecture}.context_length"),
        ("embedding length", f"{architecture}.embedding_length"),
    ):
        if key in info:
            rows.append((label, _value(info[key])))
    rows.append(("quantization", str(details.get("quantization_level", ""))))
    return rows


def _projector(info: Object) -> Rows:
    if not info:
        return []
    # Few models have a projector, and reading GGUF files takes long to import.
    from llamaherd.gguf import human_number

    architecture = str(info.get("general.architecture", ""))
    fields: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
        ("parameters", "general.parameter_count", human_number),
        ("embedding length", f"{architecture}.vision.embedding_length", _value),
        ("dimensions", f"{architecture}.vision.projection_dim", _value),
    )
    known = [(label, spell(info[key])) for label, key, spell in fields if key in info]
    return [("architecture", architecture), *known]


def _parameters(text: str) -> Rows:
    pairs = (line.split(None, 1) for line in text.splitlines())
    return [(pair[0], pair[1].rstrip()) for pair in pairs if len(pair) == 2]


def _metadata(info: Object) -> Rows:
    return [(key, _go_value(info[key])) for key in sorted(info)]


def _tensors(tensors: list[Object]) -> Rows:
    return [
        (str(tensor.get("name")), str(tensor.get("type")), _list(tensor.get("shape") or []))
        for tensor in tensors
    ]


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else str(value)


def _go_value(value: Any) -> str:
    """As Ollama prints metadata: every number is a float to it, written in the shortest way."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # Metadata is rarely asked for, and Go's formats take long to import.
        from llamaherd.prompt.go_format import format_shortest

        return f"{'-' if value < 0 else ''}{format_shortest(abs(float(value)))}"
    if isinstance(value, list):
        return _array(value, _go_value)
    return "<nil>" if value is None else _value(value)


def _array(items: list[Any], spell: Callable[[Any], str]) -> str:
    """As many items as ``ARRAY_WIDTH`` holds, at least one, and how many more there are."""
    shown, width = 0, 1
    for item in items:
        width += cell_width(spell(item)) + (2 if shown else 0)
        if shown and width > ARRAY_WIDTH:
            break
        shown += 1
    found = " ".join(map(spell, items[:shown]))
    return f"[{found}]" if shown == len(items) else f"[{found} ...+{len(items) - shown} more]"


def _list(items: list[Any]) -> str:
    return f"[{' '.join(_value(item) for item in items)}]"
