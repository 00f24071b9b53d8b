"""Dependencies point downward only, and each outside library stays where it belongs."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import llamaherd

ROOT = Path(llamaherd.__file__).parent

#: From the ground up: a module may import from its own row and the rows above it in this list.
LAYERS: tuple[tuple[str, ...], ...] = (
    ("version", "errors", "duration", "gpus"),
    ("messages", "options", "keys", "config", "observe", "grammar"),
    ("events", "telemetry", "gguf", "hardware"),
    ("api", "compat"),
    ("prompt", "llama", "engine", "runner.protocol", "store", "create.modelfile"),
    (
        "runner.main",
        "runner.frames",
        "runner.intake",
        "runner.viewing",
        "runner.child",
        "runner.generation",
        "runner.inbox",
        "runner.process",
        "runner.vectors",
        "runner.spare",
        "create",
        "cria",
        "registry",
    ),
    ("scheduler",),
    ("catalog", "formats", "generation", "tokenization", "embedding"),
    ("client", "server"),
    ("cli", "doctor", "__main__"),
)

#: Outside libraries and the only modules that may import them.
HOMES: dict[str, tuple[str, ...]] = {
    "starlette": ("server",),
    "uvicorn": ("server",),
    "llama_cpp": ("llama",),
    "click": ("cli",),
    "rich": ("cli",),
    "prompt_toolkit": ("cli",),
    "jinja2": ("prompt",),
    "llguidance": ("engine.compiler", "engine.grammar"),
    "numpy": ("llama", "engine", "create"),
    "PIL": ("engine.pixels",),
    "http": ("client", "server"),
    "httpx2": ("registry",),
    "cryptography": ("registry",),
    "prometheus_client": ("server.metrics",),
    "pynvml": ("gpus",),
}

#: Modules that must stay free of asyncio: pure logic, or the engine's own thread.
NO_ASYNCIO = (
    "engine",
    "llama",
    "prompt",
    "scheduler.policy",
    "scheduler.placement",
    "scheduler.shape",
    "gguf",
    "compat",
)


def modules() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(ROOT.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__") or "__init__", ast.parse(path.read_text())


def imports(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and node.level == 0:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def is_within(name: str, area: str) -> bool:
    return name == area or name.startswith(area + ".")


def layer_of(name: str) -> int | None:
    best: tuple[int, int] | None = None
    for index, row in enumerate(LAYERS):
        for area in row:
            if is_within(name, area) and (best is None or len(area) > best[1]):
                best = (index, len(area))
    return None if best is None else best[0]


MODULES = dict(modules())


@pytest.mark.parametrize("name", [name for name in MODULES if name not in ("__init__", "runner")])
def test_every_module_has_a_layer_and_imports_only_downward(name: str) -> None:
    own = layer_of(name)
    assert own is not None, f"{name} is in no layer"
    for imported in imports(MODULES[name]):
        if not imported.startswith("llamaherd."):
            continue
        other = layer_of(imported.removeprefix("llamaherd."))
        assert other is None or other <= own, f"{name} imports {imported} from a higher layer"


@pytest.mark.parametrize("name", MODULES)
def test_outside_libraries_stay_at_home(name: str) -> None:
    for imported in imports(MODULES[name]):
        homes = HOMES.get(imported.partition(".")[0])
        assert homes is None or any(is_within(name, home) for home in homes), (
            f"{name} imports {imported}, which belongs to {homes}"
        )


@pytest.mark.parametrize(
    "name", [name for name in MODULES if any(is_within(name, area) for area in NO_ASYNCIO)]
)
def test_pure_modules_do_not_import_asyncio(name: str) -> None:
    assert not any(imported.partition(".")[0] == "asyncio" for imported in imports(MODULES[name]))


@pytest.mark.parametrize("name", MODULES)
def test_only_the_settings_read_the_environment(name: str) -> None:
    if name in ("config", "llama.environment"):
        return
    for node in ast.walk(MODULES[name]):
        assert not (
            isinstance(node, ast.Attribute)
            and node.attr == "environ"
            and isinstance(node.value, ast.Name)
            and node.value.id == "os"
        ), f"{name} reads os.environ"
