"""How the engine is compiled for a machine, and the proof that this machine's build is sound."""

from __future__ import annotations

import io
import json
import re
import shlex
import subprocess
import sys
import tomllib
from dataclasses import replace
from pathlib import Path

import pytest

from llamaherd.llama import selftest
from scripts import build_engine, set_up
from scripts.build_engine import Progress
from scripts.engine_flags import (
    AMX_CURE,
    HIDE_ARCHIVES,
    Compiler,
    Machine,
    Plan,
    cache_key,
    choose_flags,
)
from scripts.machine import NoCompiler, c_compiler, describe_compiler, find_compiler, parse_macros

ROOT = Path(__file__).parents[1]

GCC_12 = Compiler("/usr/bin/c++", "gcc", (12, 2, 0))
GCC_14 = Compiler("/usr/bin/c++", "gcc", (14, 1, 0))
CLANG = Compiler("/usr/bin/clang++", "clang", (18, 1, 3))
LINUX = Machine("linux", "x86_64", "glibc 2.36", GCC_12, frozenset({"__AVX2__=1"}), openmp=True)


def definitions(plan: Plan) -> dict[str, str]:
    """CMake's view: the last of several definitions of a variable counts."""
    pairs = (argument.removeprefix("-D").partition("=") for argument in plan.cmake_args)
    return {name: value for name, _, value in pairs}


# --- flags ----------------------------------------------------------------------------------


def test_every_build_is_for_the_very_machine_and_leaves_out_what_nothing_loads() -> None:
    chosen = definitions(choose_flags(LINUX))
    assert chosen["GGML_NATIVE"] == "ON"
    assert {chosen[f"LLAMA_BUILD_{part}"] for part in ("TESTS", "EXAMPLES", "TOOLS", "SERVER")} == {
        "OFF"
    }


@pytest.mark.parametrize(
    ("compiler", "arch", "cured"),
    [
        (GCC_12, "x86_64", True),
        (replace(GCC_12, version=(13, 3, 0)), "x86_64", True),
        (GCC_14, "x86_64", False),
        (GCC_12, "aarch64", False),
        (CLANG, "x86_64", False),
        (replace(CLANG, family="apple-clang", version=(12, 0, 0)), "x86_64", False),
    ],
)
def test_only_gcc_before_14_on_x86_needs_the_cure_for_amx(
    compiler: Compiler, arch: str, cured: bool
) -> None:
    chosen = definitions(choose_flags(replace(LINUX, compiler=compiler, arch=arch)))
    assert ("CMAKE_CXX_FLAGS" in chosen) == cured
    if cured:
        assert chosen["CMAKE_CXX_FLAGS"].split() == list(AMX_CURE)


def test_openmp_is_used_where_it_is() -> None:
    assert definitions(choose_flags(LINUX))["GGML_OPENMP"] == "ON"
    assert definitions(choose_flags(replace(LINUX, openmp=False)))["GGML_OPENMP"] == "OFF"


def test_cuda_needs_a_gpu_and_a_compiler() -> None:
    gpu_only = replace(LINUX, nvidia_gpus=("RTX 4090, 8.9",))
    compiler_only = replace(LINUX, cuda_compiler="/cuda/bin/nvcc")
    both = replace(gpu_only, cuda_compiler="/cuda/bin/nvcc", cuda_version="13.0")
    assert "GGML_CUDA" not in definitions(choose_flags(compiler_only))
    assert definitions(choose_flags(both))["GGML_CUDA"] == "ON"
    assert definitions(choose_flags(both))["CMAKE_CUDA_COMPILER"] == "/cuda/bin/nvcc"
    plan = choose_flags(gpu_only)
    assert "GGML_CUDA" not in definitions(plan)
    assert any("RTX 4090" in note and "nvcc" in note for note in plan.notes)


def test_what_cudas_compiler_links_as_archives_stays_its_own() -> None:
    """Or a C++ library of another version takes the place of the system's everywhere."""
    gpu = replace(LINUX, nvidia_gpus=("RTX 4090, 8.9",), cuda_compiler="/cuda/bin/nvcc")
    plan = choose_flags(gpu, "-DCMAKE_SHARED_LINKER_FLAGS=-Wl,-z,now", ldflags="-L/lib/mine")
    flags = definitions(plan)["CMAKE_SHARED_LINKER_FLAGS"].split()
    assert flags == ["-L/lib/mine", "-Wl,-z,now", HIDE_ARCHIVES]
    assert "CMAKE_SHARED_LINKER_FLAGS" not in definitions(choose_flags(LINUX))


def test_a_mac_says_that_metal_is_on() -> None:
    assert "Metal: on" in choose_flags(replace(LINUX, system="darwin")).notes


def test_the_users_arguments_come_last_and_win() -> None:
    plan = choose_flags(LINUX, "-DGGML_NATIVE=OFF '-DGGML_BLAS_VENDOR=Open BLAS' -Wno-dev")
    assert definitions(plan)["GGML_NATIVE"] == "OFF"
    assert plan.cmake_args[-2:] == ("-DGGML_BLAS_VENDOR=Open BLAS", "-Wno-dev")


@pytest.mark.parametrize("name", ["CMAKE_CXX_FLAGS", "CMAKE_CXX_FLAGS:STRING"])
def test_the_users_compiler_flags_do_not_drop_the_cure(name: str) -> None:
    plan = choose_flags(LINUX, f"'-D{name}=-O2 -g'", "-pipe")
    assert definitions(plan)["CMAKE_CXX_FLAGS"].split() == ["-pipe", "-O2", "-g", *AMX_CURE]


def test_the_arguments_survive_the_environment() -> None:
    plan = choose_flags(LINUX, "'-DX=a b'")
    assert shlex.split(plan.environment["CMAKE_ARGS"]) == list(plan.cmake_args)


# --- the cache of wheels --------------------------------------------------------------------


def test_whatever_changes_the_code_changes_the_key() -> None:
    plan = choose_flags(LINUX)
    keys = [
        cache_key(LINUX, plan, "sources"),
        cache_key(LINUX, plan, "newer sources"),
        cache_key(LINUX, choose_flags(LINUX, "-DGGML_BLAS=ON"), "sources"),
        cache_key(replace(LINUX, compiler=GCC_14), plan, "sources"),
        cache_key(replace(LINUX, target=frozenset({"__AMX_TILE__=1"})), plan, "sources"),
        cache_key(replace(LINUX, arch="aarch64"), plan, "sources"),
        cache_key(replace(LINUX, libc="glibc 2.41"), plan, "sources"),
    ]
    assert len(set(keys)) == len(keys)


def test_where_the_compiler_lies_does_not() -> None:
    plan = choose_flags(LINUX)
    elsewhere = replace(LINUX, compiler=replace(GCC_12, path="/opt/gcc/bin/g++"))
    assert cache_key(LINUX, plan, "") == cache_key(elsewhere, plan, "")


def test_the_cache_follows_the_xdg_convention() -> None:
    assert build_engine.cache_folder({"XDG_CACHE_HOME": "/x"}) == Path("/x/llamaherd/engine")
    home = Path.home() / ".cache/llamaherd/engine"
    assert build_engine.cache_folder({}) == home
    assert build_engine.cache_folder({"XDG_CACHE_HOME": "not/absolute"}) == home


def test_a_wheel_of_the_same_key_is_taken_from_the_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    plan = choose_flags(LINUX)
    wanted = build_engine.Recipe(LINUX, plan, cache_key(LINUX, plan, ""))
    kept = tmp_path / "llamaherd/engine" / wanted.key / "llama_cpp_python-0-py3-none-any.whl"
    kept.parent.mkdir(parents=True)
    kept.touch()
    with build_engine.wheel(wanted) as wheel:
        assert wheel == kept


def test_a_built_wheel_is_kept_whole(tmp_path: Path) -> None:
    built = tmp_path / "engine.whl"
    built.write_bytes(b"wheel")
    kept = build_engine.keep(built, tmp_path / "cache/key")
    assert kept == tmp_path / "cache/key/engine.whl"
    assert [path.read_bytes() for path in kept.parent.iterdir()] == [b"wheel"]


def test_a_cache_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    built = tmp_path / "engine.whl"
    built.touch()
    (tmp_path / "cache").touch()
    assert build_engine.keep(built, tmp_path / "cache/key") is None


# --- compilers ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("macros", "family", "version"),
    [
        ("__GNUC__ 12|__GNUC_MINOR__ 2|__GNUC_PATCHLEVEL__ 0", "gcc", (12, 2, 0)),
        (
            "__GNUC__ 4|__clang__ 1|__clang_major__ 18|__clang_minor__ 1|__clang_patchlevel__ 3",
            "clang",
            (18, 1, 3),
        ),
        (
            "__clang__ 1|__clang_major__ 15|__apple_build_version__ 15000040",
            "apple-clang",
            (15, 0, 0),
        ),
        ("__EDG__ 1", "other", ()),
    ],
)
def test_a_compiler_is_known_by_its_macros(
    macros: str, family: str, version: tuple[int, ...]
) -> None:
    text = "".join(f"#define {macro}\n" for macro in macros.split("|"))
    found = describe_compiler("c++", parse_macros(text))
    assert (found.family, found.version) == (family, version)


def test_a_missing_compiler_is_named_with_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(NoCompiler, match=r"C\+\+ compiler .*apt-get install g\+\+"):
        find_compiler({"PATH": str(tmp_path)})
    with pytest.raises(NoCompiler, match="tried nonsense"):
        find_compiler({"PATH": str(tmp_path), "CXX": "nonsense"})


def test_the_c_compiler_is_the_users_or_the_sibling(tmp_path: Path) -> None:
    sibling = tmp_path / "clang"
    sibling.touch(mode=0o755)
    assert c_compiler("/usr/bin/clang++", {"PATH": str(tmp_path)}) == str(sibling)
    assert c_compiler("/usr/bin/clang++", {"CC": "mine", "PATH": str(tmp_path)}) == "mine"
    assert c_compiler("/usr/bin/icpx", {"PATH": str(tmp_path)}) is None


# --- set-up ---------------------------------------------------------------------------------


def test_progress_off_a_terminal_is_ten_lines() -> None:
    stream = io.StringIO()
    progress = Progress(stream)
    for done in range(1, 137):
        progress.show(done, 136)
    progress.end()
    lines = stream.getvalue().splitlines()
    assert len(lines) == 10
    assert lines[-1].startswith("engine: 136 of 136 compiled, 0:")


def test_a_changed_lock_file_asks_for_a_new_set_up(tmp_path: Path) -> None:
    lock = tmp_path / "requirements/dev.lock"
    lock.parent.mkdir()
    lock.write_text("one==1\n")
    before = set_up.inputs_digest(tmp_path)
    assert set_up.inputs_digest(tmp_path) == before
    lock.write_text("one==2\n")
    assert set_up.inputs_digest(tmp_path) != before


def test_only_tests_need_the_lock_file_of_the_tests(tmp_path: Path) -> None:
    lock = tmp_path / "requirements/dev.lock"
    lock.parent.mkdir()
    lock.write_text("pytest==1\n")
    before = set_up.inputs_digest(tmp_path, set_up.RUN_INPUTS)
    lock.write_text("pytest==2\n")
    assert set_up.inputs_digest(tmp_path, set_up.RUN_INPUTS) == before


@pytest.mark.parametrize("lock", ["run.lock", "dev.lock", "engine.lock", "engine-build.lock"])
def test_every_locked_package_has_hashes_and_no_host(lock: str) -> None:
    text = (ROOT / "requirements" / lock).read_text()
    packages = re.findall(r"^\S+==\S+.*?(?=^\S|\Z)", text, re.MULTILINE | re.DOTALL)
    assert packages
    assert all("--hash=sha256:" in package for package in packages)
    assert "://" not in text


def locked_packages(lock: str) -> dict[str, set[str]]:
    """The versions that a lock file names: several where the platform decides."""
    packages: dict[str, set[str]] = {}
    text = (ROOT / "requirements" / lock).read_text()
    for name, version in re.findall(r"^([\w-]+)==(\S+)", text, re.MULTILINE):
        packages.setdefault(name, set()).add(version)
    return packages


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = [*project["project"]["dependencies"], *project["dependency-groups"]["build"]]
    names = {re.split(r"[<>=;\[ ]", requirement)[0] for requirement in wanted}
    assert names - {"llama-cpp-python"} <= locked_packages("run.lock").keys()
    for_tests = project["project"]["optional-dependencies"]["dev"]
    names = {re.split(r"[<>=;\[ ]", requirement)[0] for requirement in for_tests}
    assert names <= locked_packages("dev.lock").keys()


def test_what_is_tested_is_what_runs() -> None:
    tested = locked_packages("dev.lock")
    for name, versions in locked_packages("run.lock").items():
        assert versions <= tested[name], name


def test_the_engine_is_locked_at_the_version_that_the_package_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [name for name in project["dependencies"] if name.startswith("llama-cpp-python")]
    (locked,) = re.findall(r"^\S+==\S+", (ROOT / "requirements/engine.lock").read_text())
    assert wanted == [locked]
    assert "llama-cpp-python" not in (ROOT / "requirements/dev.lock").read_text()


# --- the proof ------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["--no-extra-buffers"]])
def test_q8_0_and_f16_models_survive_a_prompt_of_600_tokens_on_this_build(
    arguments: list[str],
) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "llamaherd.llama.selftest", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"status {done.returncode}\n{done.stdout}\n{done.stderr}"
    report = json.loads(done.stdout)
    assert report["sound"]
    assert report["extra_buffers"] is not bool(arguments)
    assert [test["name"] for test in report["tests"]] == ["q8_0", "f16", "q8_0 against f16"]


def test_the_chunks_of_the_self_test_make_up_its_prompt() -> None:
    assert sum(selftest.CHUNKS) == selftest.PROMPT_TOKENS == 600
