"""What ``/show`` prints. Pure: the server's answer in, text out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from llamaherd.cli.show import model_report
from llamaherd.client import Object

_NAME_WIDTH: Final = 30


def shown(part: str, model: Object, *, system: str, options: Mapping[str, Any]) -> str:
    """``part`` is one of ``PARTS``; ``system`` and ``options`` are those of the session."""
    match part:
        case "info":
            return model_report(model)
        case "parameters":
            return _parameters(str(model.get("parameters") or ""), options)
        case "system":
            text = system or str(model.get("system") or "")
            return f"{text}\n\n" if text else "No system message was specified for this model.\n"
        case _:
            text = str(model.get(part) or "")
            return f"{text}\n" if text else _MISSING[part]


_MISSING: Final = {
    "license": "No license was specified for this model.\n",
    "modelfile": "\n",
    "template": "No prompt template was specified for this model.\n",
}


def _parameters(of_model: str, options: Mapping[str, Any]) -> str:
    lines = of_model.split("\n") if of_model else [_NO_PARAMETERS]
    text = "Model defined parameters:\n" + "".join(f"  {line}\n" for line in lines) + "\n"
    if options:
        rows = (f"  {name:<{_NAME_WIDTH}} {_value(options[name])}\n" for name in sorted(options))
        text += "User defined parameters:\n" + "".join(rows) + "\n"
    return text


_NO_PARAMETERS: Final = "No additional parameters were specified for this model."


def _value(value: Any) -> str:
    """As Go prints it."""
    match value:
        case bool():
            return "true" if value else "false"
        case list():
            return f"[{' '.join(map(str, value))}]"
        case float() if value.is_integer():
            return str(int(value))
        case _:
            return str(value)
