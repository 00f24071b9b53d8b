"""``ollama doctor``: what it finds, and that each problem comes with something to do."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread

import pytest

from llamaherd.config import Address, Settings, unknown_variables
from llamaherd.doctor import engine
from llamaherd.doctor.findings import Problem, Section, Size
from llamaherd.doctor.probe import Answer, ask
from llamaherd.doctor.report import as_json, as_text
from llamaherd.doctor.server import examine_server
from llamaherd.doctor.settings import examine_settings
from llamaherd.doctor.store import examine_store
from llamaherd.errors import ConfigError
from llamaherd.gpus import Gpu
from llamaherd.hardware import Hardware
from llamaherd.store.library import Library
from llamaherd.store.manifests import Layer, Manifest
from llamaherd.store.names import Name

MACHINE = Hardware("Testium", frozenset(), cores=2, threads=2, memory_total=1 << 34)


def doctor(*arguments: str, **environ: str) -> subprocess.CompletedProcess[str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OLLAMA_")}
    return subprocess.run(
        [sys.executable, "-m", "llamaherd", "doctor", *arguments],
        capture_output=True,
        text=True,
        env=kept | environ,
        check=False,
    )


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


# --- the whole ------------------------------------------------------------------------------


def test_on_a_sound_machine_it_tells_the_facts_and_exits_with_0(tmp_path: Path) -> None:
    done = doctor(OLLAMA_MODELS=str(tmp_path / "models"), OLLAMA_HOST=f":{free_port()}")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("No problems found.\n")
    for heading in ("Versions", "Machine", "Engine", "Store", "Server", "Settings"):
        assert f"\n{heading}\n" in f"\n{done.stdout}"
    assert "self-test         passed" in done.stdout
    assert not (tmp_path / "models").exists()


def test_with_problems_it_exits_with_1_and_json_names_each_with_a_remedy(tmp_path: Path) -> None:
    (tmp_path / "models").touch()
    done = doctor("--json", OLLAMA_MODELS=str(tmp_path / "models"), OLLAMA_HOST=f":{free_port()}")
    assert done.returncode == 1, done.stdout + done.stderr
    report = json.loads(done.stdout)
    assert not report["healthy"]
    (problem,) = report["problems"]
    assert problem["section"] == "Store"
    assert "is a file" in problem["problem"]
    assert problem["remedy"]
    assert report["facts"]["Engine"]["self-test"] == "passed"


# --- how it looks ---------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (999, "999 B"), (2500, "2.5 KB")])
def test_sizes_are_worded_for_people(size: int, text: str) -> None:
    assert str(Size(size)) == text


def test_facts_are_aligned_and_problems_numbered() -> None:
    sections = [
        Section("One", {"a": "first", "longer": ["x", "y"], "size": Size(2500), "sure": True}),
        Section("Two", {"none": None, "no": []}, [Problem("It broke.", "mend it\nor not")]),
    ]
    assert as_text(sections, 80) == (
        "One\n  a       first\n  longer  x, y\n  size    2.5 KB\n  sure    yes\n\n"
        "Two\n  none    unknown\n  no      none\n\n"
        "1 problem\n  1. It broke.\n     mend it\n     or not"
    )


def test_long_facts_wrap_but_commands_stay_whole() -> None:
    command = "pip install " + "x" * 60
    text = as_text([Section("S", {"f": ["word"] * 20}, [Problem("p", command)])], 40)
    lines = text.splitlines()
    assert f"     {command}" in lines
    assert all(len(line) <= 40 for line in lines if command not in line)


def test_sizes_are_numbers_in_json() -> None:
    facts = as_json([Section("S", {"size": Size(2500)})])["facts"]
    assert json.dumps(facts) == '{"S": {"size": 2500}}'


# --- engine ---------------------------------------------------------------------------------

SYSTEM_INFO = "CUDA : ARCHS = 890 | CPU : SSE3 = 1 | AVX2 = 1 | SVE_CNT = 0 | OPENMP = 1 | "


def test_compiled_features_are_those_that_are_on() -> None:
    assert engine.compiled_features(SYSTEM_INFO) == {"SSE3", "AVX2", "OPENMP"}


def test_a_build_for_a_bigger_processor_will_crash() -> None:
    (problem,) = engine.feature_problems(
        frozenset({"AVX2", "AVX512", "OPENMP"}), frozenset({"avx2"}), "rebuild"
    )
    assert "AVX512, which this processor lacks" in problem.text
    assert problem.remedy == "rebuild"


def test_a_build_for_a_smaller_processor_is_slow() -> None:
    (problem,) = engine.feature_problems(
        frozenset({"AVX2"}), frozenset({"avx2", "avx512f", "amx_int8"}), "rebuild"
    )
    assert "AMX_INT8, AVX512" in problem.text
    assert "slower" in problem.text


def test_a_build_for_the_very_processor_or_an_unknown_one_is_no_problem() -> None:
    compiled = frozenset({"AVX2", "FMA"})
    assert not list(engine.feature_problems(compiled, frozenset({"avx2", "fma", "vme"}), ""))
    assert not list(engine.feature_problems(compiled, frozenset(), ""))


PASSED = Answer({"sound": True, "tests": []})
CRASHED = Answer(None, "ended by SIGSEGV")
WRONG = Answer({"sound": False, "tests": [{"name": "q8_0", "sound": False}]}, "status 1")


def test_an_unsound_build_that_works_in_plain_layout_is_slower() -> None:
    tests = {"self-test": CRASHED, "in plain layout": PASSED}
    (problem,) = engine.self_test_problems(tests, "rebuild")
    assert "crashed: ended by SIGSEGV" in problem.text
    assert "plain layout" in problem.text
    assert problem.remedy == "rebuild"


def test_a_build_that_never_works_runs_no_model() -> None:
    tests = {"self-test": WRONG, "in plain layout": CRASHED}
    (problem,) = engine.self_test_problems(tests, "rebuild")
    assert "wrong numbers: q8_0" in problem.text
    assert "No model can run" in problem.text


def test_a_gpu_that_fails_is_told_apart() -> None:
    tests = {"self-test": PASSED, "self-test on GPU": CRASHED}
    (problem,) = engine.self_test_problems(tests, "rebuild")
    assert "GPU" in problem.text


def test_the_engine_that_the_package_asks_for_is_known() -> None:
    assert engine.required_version() == "0.3.36"


def test_a_child_that_fails_says_why() -> None:
    answer = ask("selftest", "--nonsense")
    assert not answer.sound
    assert "--nonsense" in answer.ending


def test_a_child_that_never_ends_is_ended() -> None:
    answer = ask("selftest", timeout=0.001)
    assert not answer.sound
    assert answer.ending == "no end after 0.001 s"


# --- store ----------------------------------------------------------------------------------


def commit(library: Library, name: str) -> str:
    """The digest of the model's weights."""
    weights = library.blobs.put(b"weights")
    config = Layer("application/vnd.docker.container.image.v1+json", library.blobs.put(b"{}"), 2)
    layer = Layer("application/vnd.ollama.image.model", weights, 7)
    manifest = Manifest(config=config, layers=[layer])
    library.manifests.write(Name.parse(name), manifest.encode())
    return weights


def test_a_sound_store_is_counted(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.prepare()
    commit(library, "one")
    commit(library, "two:3b")
    section = examine_store(tmp_path)
    assert not section.problems
    assert (section.facts["models"], section.facts["size"]) == (2, 9)
    assert section.facts["writable"]


def test_damaged_models_are_named(tmp_path: Path) -> None:
    library = Library(tmp_path)
    library.prepare()
    library.manifests.write(Name.parse("broken"), b"{nonsense")
    library.blobs.remove(commit(library, "hollow"))
    texts = [problem.text for problem in examine_store(tmp_path).problems]
    assert len(texts) == 2
    assert "broken:latest is damaged" in texts[0]
    assert "hollow:latest is damaged: 1 of its files are missing" in texts[1]


def test_a_store_that_is_a_file_or_relative_is_a_problem(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "is a file" in examine_store(file).problems[0].text
    assert "relative path" in examine_store(Path("models")).problems[0].text


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_of_someone_else_is_a_problem(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    (problem,) = examine_store(tmp_path / "models").problems
    assert "can't be written" in problem.text
    assert "chown" in problem.remedy


# --- server ---------------------------------------------------------------------------------


def local(port: int) -> Address:
    return Address("http", "127.0.0.1", port)


@contextmanager
def http_server(body: bytes, status: int = 200) -> Iterator[int]:
    """Answers everything with ``body``; yields its port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


def test_no_server_is_no_problem() -> None:
    section = examine_server(local(free_port()))
    assert "ollama serve" in str(section.facts["server"])
    assert not section.problems


def test_a_server_tells_its_version_and_models() -> None:
    with http_server(b'{"version": "0.9.6", "models": [{"name": "cria:latest"}]}') as port:
        section = examine_server(local(port))
    assert section.facts["server"] == "runs, version 0.9.6"
    assert section.facts["loaded models"] == ["cria:latest"]
    assert not section.problems


@pytest.mark.parametrize(("body", "status"), [(b"<html>", 200), (b"no such page", 404)])
def test_something_else_at_the_address_is_a_problem(body: bytes, status: int) -> None:
    with http_server(body, status) as port:
        (problem,) = examine_server(local(port)).problems
    assert problem.text.startswith(f"There is no Ollama server at {local(port)}: ")
    assert "OLLAMA_HOST" in problem.remedy


def test_a_server_that_hangs_does_not_hang_the_doctor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        (problem,) = examine_server(local(silent.getsockname()[1]), patience=0.05).problems
    assert "gave no answer" in problem.text


# --- settings -------------------------------------------------------------------------------


def settings_of(**environ: str) -> tuple[Settings, tuple[ConfigError, ...]]:
    return Settings.tolerant({f"OLLAMA_{name}": value for name, value in environ.items()})


def problems_of(environ: dict[str, str], machine: Hardware = MACHINE) -> list[str]:
    settings, complaints = settings_of(**environ)
    unknown = unknown_variables({f"OLLAMA_{name}": value for name, value in environ.items()})
    section = examine_settings(settings, machine, complaints, unknown)
    assert all(problem.remedy for problem in section.problems)
    return [problem.text for problem in section.problems]


def test_only_what_differs_from_the_defaults_is_shown() -> None:
    settings, _ = settings_of(KEEP_ALIVE="-1", NUM_PARALLEL="4", NOPRUNE="1", CONTEXT_LENGTH="4096")
    facts = examine_settings(settings, MACHINE).facts
    assert facts.keys() == {"OLLAMA_KEEP_ALIVE", "OLLAMA_NUM_PARALLEL", "OLLAMA_NOPRUNE"}
    assert examine_settings(settings_of()[0], MACHINE).facts == {"all": "as by default"}


def test_a_value_that_makes_no_sense_counts_as_the_default_and_is_told() -> None:
    settings, complaints = settings_of(MAX_QUEUE="many", KEEP_ALIVE="1h")
    assert settings.max_queue == Settings.from_environ({}).max_queue
    assert len(complaints) == 1
    assert "OLLAMA_MAX_QUEUE='many'" in problems_of({"MAX_QUEUE": "many"})[0]


def test_keys_are_counted_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text("inference:0123456789abcdef-in-file\n")
    keys = f"0123456789abcdef,inference:fedcba9876543210,@{file}"
    settings, _ = settings_of(API_KEYS=keys, API_KEY="0123456789abcdef")
    section = examine_settings(settings, MACHINE)
    assert section.facts == {
        "OLLAMA_API_KEYS": f"1 admin, 1 inference, {file}",
        "OLLAMA_API_KEY": "set",
    }
    assert not section.problems


def test_keys_that_could_be_guessed_or_read_by_nobody() -> None:
    (text,) = problems_of({"API_KEYS": "short"})
    assert text == "A key in OLLAMA_API_KEYS has fewer than 16 characters and could be guessed."
    (text,) = problems_of({"API_KEYS": "@/nowhere/keys"})
    assert "can't read /nowhere/keys" in text


def test_a_misspelt_variable_is_told_with_what_was_meant() -> None:
    assert "OLLAMA_KEEPALIVE is set, but is no setting" in problems_of({"KEEPALIVE": "1h"})[0]


def test_a_variable_that_is_not_used_here_is_only_mentioned() -> None:
    settings, _ = settings_of()
    section = examine_settings(settings, MACHINE, unknown=["OLLAMA_LLM_LIBRARY"])
    assert section.facts["set, not used"] == ["OLLAMA_LLM_LIBRARY"]
    assert not section.problems


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"KV_CACHE_TYPE": "q8_0", "FLASH_ATTENTION": "0"}, "needs flash attention"),
        ({"CONTEXT_LENGTH": "0"}, "context of 0"),
        ({"CONTEXT_LENGTH": "99999999999"}, "fits no model"),
        ({"MAX_QUEUE": "0"}, "refused"),
    ],
)
def test_settings_that_contradict_themselves(environ: dict[str, str], words: str) -> None:
    (text,) = problems_of(environ)
    assert words in text


def test_more_overhead_than_the_gpu_has_memory() -> None:
    with_gpu = replace(MACHINE, gpus=(Gpu("RTX", 8 << 30, 8 << 30, "CUDA"),))
    (text,) = problems_of({"GPU_OVERHEAD": str(9 << 30)}, with_gpu)
    assert "will not be used" in text
    assert not problems_of({"GPU_OVERHEAD": str(9 << 30)})


def test_accelerators_that_the_engine_does_not_find() -> None:
    trouble = "failed to initialize CUDA: no CUDA-capable device is detected"
    section = engine.examine_engine(replace(MACHINE, gpu_trouble=trouble))
    (found,) = (problem for problem in section.problems if trouble in problem.text)
    assert "nvidia-smi" in found.remedy
