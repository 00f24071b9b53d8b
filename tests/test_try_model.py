"""``make run``: from a GGUF file to text, through the real server and command line."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from scripts.try_model import model_name
from tests.support.models import write_model


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def try_model(
    folder: Path, port: int, model: Path | None, prompt: str = "Once upon a time"
) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {
        "MODEL": str(model or ""),
        "PROMPT": prompt,
        "OLLAMA_HOST": f"127.0.0.1:{port}",
        "OLLAMA_MODELS": str(folder / "store"),
    }
    return subprocess.run(
        [sys.executable, "-m", "scripts.try_model"],
        capture_output=True,
        text=True,
        env=environ,
        check=False,
    )


def test_a_file_becomes_a_model_that_writes_and_the_server_is_gone_after(tmp_path: Path) -> None:
    port = free_port()
    model = write_model(tmp_path / "tiny one.gguf", n_ctx=64)
    done = try_model(tmp_path, port, model)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.split()) > 10
    assert "ollama run try/tiny-one" in done.stderr
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", port)) != 0


def test_without_a_file_there_is_a_tour_of_what_the_package_has(tmp_path: Path) -> None:
    done = try_model(tmp_path, free_port(), None, "")
    assert done.returncode == 0, done.stderr
    assert "Cria" in done.stdout
    assert 'get_weather({"city": "Lisbon"})' in done.stdout
    assert '{"name": "Ada", "age": 36}' in done.stdout
    assert "left + right" in done.stdout
    assert "ollama run cria" in done.stderr


def test_a_reader_that_goes_away_ends_the_tour(tmp_path: Path) -> None:
    line = f"{sys.executable} -m scripts.try_model | head -n 3; exit ${{PIPESTATUS[0]}}"
    environ = os.environ | {
        "MODEL": "",
        "PROMPT": "",
        "OLLAMA_HOST": f"127.0.0.1:{free_port()}",
        "OLLAMA_MODELS": str(tmp_path / "store"),
    }
    done = subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env=environ, check=False
    )
    assert done.returncode == 141
    assert "Traceback" not in done.stderr


def test_a_prompt_alone_goes_to_the_model_of_the_package(tmp_path: Path) -> None:
    done = try_model(tmp_path, free_port(), None, "What is 2 + 3?")
    assert done.returncode == 0, done.stderr
    assert "5" in done.stdout
    assert "get_weather" not in done.stdout


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "nonsense.gguf"
    file.write_bytes(b"GGUF nonsense")
    done = try_model(tmp_path, free_port(), file)
    assert done.returncode == 1
    assert "Error: " in done.stderr
    assert not done.stdout


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("stories260K-f32.gguf", "try/stories260K-f32"),
        ("My model (final).gguf", "try/My-model-final"),
        ("…", "try/model"),
    ],
)
def test_a_file_to_try_gets_a_name_of_its_own(file: str, name: str) -> None:
    assert model_name(Path(file)) == name
