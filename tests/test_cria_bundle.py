"""How the model of the package gets into a store: whole or not at all, and over nobody's own."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llamaherd.catalog import Catalog
from llamaherd.cria import bundle
from llamaherd.errors import BadRequest, ModelNotFound, StoreError
from llamaherd.store.blobs import digest_of
from llamaherd.store.library import Library
from llamaherd.store.manifests import MediaType
from llamaherd.store.names import Name
from llamaherd.store.progress import SUCCESS

#: What the package may weigh with it, in bytes.
LIMIT = 6_000_000

INSTALL = """
import sys
from pathlib import Path
from llamaherd.cria import bundle
from llamaherd.store.library import Library
{setup}
library = Library(Path(sys.argv[1]))
library.prepare()
sys.stdin.readline()
assert bundle.install_if_missing(library, bundle.NAME)
"""

#: Ends the process by SIGKILL when it calls this for the n-th time.
KILLED_AT = """
import os
from llamaherd.store import {module}
real, calls = {module}.{function}, []
def deadly(*arguments):
    calls.append(arguments)
    if len(calls) == {call}:
        os.kill(os.getpid(), 9)
    return real(*arguments)
{module}.{function} = deadly
"""


@pytest.fixture
def library(tmp_path: Path) -> Library:
    made = Library(tmp_path / "store")
    made.prepare()
    return made


def install(root: Path, setup: str = "") -> subprocess.Popen[bytes]:
    """A process that installs as soon as it is sent a line."""
    command = [sys.executable, "-c", INSTALL.format(setup=setup), str(root)]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    _, errors = process.communicate(b"\n", timeout=60)
    return process.returncode, errors.decode()


def is_whole(library: Library) -> bool:
    stored = library.manifest(bundle.NAME)
    return all(
        digest_of(library.blobs.read(layer.digest, LIMIT)) == layer.digest
        for layer in stored.manifest.blobs
    )


def give_own_model(library: Library) -> bytes:
    """A model of the user's own under the name of ours; its manifest."""
    bundle.install_if_missing(library, bundle.NAME)
    stored = library.manifest(bundle.NAME).manifest
    template = [layer for layer in stored.layers or () if layer.media_type == MediaType.TEMPLATE]
    own = type(stored)(config=stored.config, layers=template)
    library.commit(bundle.NAME, own)
    return library.manifests.read_bytes(bundle.NAME)


def test_it_is_small() -> None:
    assert bundle.WEIGHTS.stat().st_size < LIMIT


def test_the_first_use_puts_all_of_it_into_the_store(library: Library) -> None:
    assert bundle.install_if_missing(library, bundle.NAME)
    assert is_whole(library)
    model = library.get(bundle.NAME)
    assert model.template == bundle.TEMPLATE.read_text()
    assert model.system == bundle.SYSTEM.read_text()
    assert model.parameters == bundle.parameters()
    assert "MIT" in model.licenses[0]
    assert model.config.file_type == "Q8_0"


def test_what_it_can_do(library: Library) -> None:
    model = Catalog(library).find("cria")
    assert model.capabilities == ("completion", "tools", "insert", "thinking")
    assert model.shape.context_train == 2048


@pytest.mark.parametrize(
    ("text", "ours"),
    [
        ("cria", True),
        ("cria:latest", True),
        ("CRIA", True),
        ("library/cria", True),
        ("registry.ollama.ai/library/cria:latest", True),
        ("cria:big", False),
        ("me/cria", False),
        ("example.com/library/cria", False),
        ("crias", False),
    ],
)
def test_by_which_names_it_is_known(library: Library, text: str, ours: bool) -> None:
    assert bundle.is_bundled(Name.parse(text)) == ours
    assert bundle.install_if_missing(library, Name.parse(text)) == ours
    assert library.exists(Name.parse(text)) == ours


def test_a_second_use_writes_nothing(library: Library) -> None:
    bundle.install_if_missing(library, bundle.NAME)
    before = library.manifest(bundle.NAME)
    bundle.install_if_missing(library, Name.parse("Cria"))
    assert library.manifest(bundle.NAME) == before


def test_removed_it_comes_back_when_it_is_used(library: Library) -> None:
    catalog = Catalog(library)
    first = catalog.find("cria")
    library.delete(bundle.NAME)
    assert not list(library.blobs.folder.iterdir())
    assert catalog.known("cria") is None
    assert catalog.find("cria").stored.digest == first.stored.digest
    assert is_whole(library)


def test_a_model_of_ones_own_is_never_replaced(library: Library) -> None:
    own = give_own_model(library)
    assert bundle.install_if_missing(library, bundle.NAME)
    with pytest.raises(BadRequest, match="another model than the one in this version"):
        list(bundle.pull(library))
    assert library.manifests.read_bytes(bundle.NAME) == own


def test_not_even_one_that_appears_while_ours_is_being_read(
    library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Library.commit

    def late(self: Library, *arguments: object, **more: object) -> None:
        monkeypatch.setattr(Library, "commit", real)
        give_own_model(self)
        real(self, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(Library, "commit", late)
    bundle.install_if_missing(library, bundle.NAME)
    layers = library.manifest(bundle.NAME).manifest.layers or []
    assert [layer.media_type for layer in layers] == [MediaType.TEMPLATE]


def test_pulling_needs_no_network_and_says_what_it_does(library: Library) -> None:
    for _ in range(2):
        steps = list(bundle.pull(library))
        assert steps[0].status == "pulling manifest"
        assert steps[-1] == SUCCESS
        transfers = [step for step in steps if step.digest]
        assert sum(step.total for step in transfers) == library.manifest(bundle.NAME).manifest.size
        assert all(step.completed == step.total for step in transfers)
    assert is_whole(library)


def test_two_processes_at_once(tmp_path: Path) -> None:
    root = tmp_path / "store"
    processes = [install(root) for _ in range(2)]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write(b"\n")
        process.stdin.flush()
    for process in processes:
        code, errors = finish(process)
        assert code == 0, errors
    assert is_whole(Library(root))


@pytest.mark.parametrize(
    ("module", "function", "call"),
    [("blobs", "publish", 1), ("blobs", "publish", 3), ("manifests", "write_atomically", 1)],
)
def test_killed_in_the_middle(tmp_path: Path, module: str, function: str, call: int) -> None:
    root = tmp_path / "store"
    setup = KILLED_AT.format(module=module, function=function, call=call)
    code, errors = finish(install(root, setup))
    assert code == -signal.SIGKILL, errors
    library = Library(root)
    with pytest.raises(ModelNotFound):
        library.manifest(bundle.NAME)
    bundle.install_if_missing(library, bundle.NAME)
    assert is_whole(library)


def test_a_store_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    library = Library(tmp_path / "store")
    library.prepare()
    shutil.rmtree(library.blobs.folder)
    library.blobs.folder.write_text("in the way")
    with pytest.raises(StoreError, match=f"can't put cria:latest into the store: .*{tmp_path}"):
        bundle.install_if_missing(library, bundle.NAME)
    assert not library.exists(bundle.NAME)


def test_a_damaged_package_is_noticed(
    library: Library, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    damaged = tmp_path / "model.gguf"
    damaged.write_bytes(bundle.WEIGHTS.read_bytes()[:-1])
    monkeypatch.setattr(bundle, "WEIGHTS", damaged)
    with pytest.raises(StoreError, match=r"model\.gguf is damaged"):
        bundle.install_if_missing(library, bundle.NAME)
    assert not library.exists(bundle.NAME)
