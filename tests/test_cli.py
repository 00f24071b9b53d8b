"""The command line against a live server with a tiny model: what a person meets, end to end."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from llamaherd.cli.streams import LONGEST_INPUT
from llamaherd.version import OLLAMA_VERSION
from tests.support.cli import Outcome, Terminal, ollama, recorded
from tests.support.models import write_model
from tests.support.registry import Call, fake_registry
from tests.support.server import RunningServer, running_server

Command = Callable[..., Outcome]

MARIO = """\
FROM ./tiny.gguf
TEMPLATE {{ .Prompt }}
SYSTEM You are Mario.
PARAMETER num_ctx 256
PARAMETER stop </s>
PARAMETER stop "

"
PARAMETER temperature 0
LICENSE MIT
LICENSE second
MESSAGE user hi
MESSAGE assistant hello
"""
SHORT = "FROM ./tiny.gguf\nPARAMETER temperature 0\nPARAMETER num_predict 12\n"
TALK = SHORT + "MESSAGE user hi\nMESSAGE assistant hello\n"
LONG = "FROM ./tiny.gguf\nPARAMETER num_predict -1\nPARAMETER num_ctx 128\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where a person works: weights and some Modelfiles."""
    folder = tmp_path_factory.mktemp("work")
    write_model(folder / "tiny.gguf")
    (folder / "Modelfile").write_text(SHORT)
    (folder / "Mario").write_text(MARIO)
    (folder / "Talk").write_text(TALK)
    (folder / "Long").write_text(LONG)
    return folder


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture(scope="module")
def server(home: Path) -> Iterator[RunningServer]:
    with running_server(home) as server:
        yield server


@pytest.fixture(scope="module")
def run(server: RunningServer, folder: Path) -> Command:
    """Runs a command in the folder, against a server that has a few models."""

    def run(*arguments: str, stdin: str | bytes = b"", **environment: str) -> Outcome:
        return ollama(
            *arguments, stdin=stdin, host=server.host, folder=folder, environment=environment
        )

    for model, file in (
        ("tiny", "Modelfile"),
        ("mario", "Mario"),
        ("talk", "Talk"),
        ("long", "Long"),
    ):
        assert run("create", model, "-f", file).code == 0
    return run


def forbid(call: Call) -> bool:
    """What a registry answers to whoever has no right to anything."""
    call.reply(401)
    return True


def answered(server: RunningServer, model: str, prompt: str) -> str:
    """What the model writes when it is asked over HTTP."""
    answer = server.post("/api/generate", model=model, prompt=prompt, stream=False)
    return str(answer.json()["response"])


class TestCreate:
    def test_from_a_file_the_weights_are_sent_once(self, run: Command, folder: Path) -> None:
        write_model(folder / "other.gguf", seed=1)
        (folder / "Other").write_text("FROM other.gguf")
        first, second = (run("create", "other", "-f", "Other") for _ in range(2))
        assert first.code == second.code == 0
        assert first.stdout == second.stdout == ""
        steps = first.stderr.splitlines()
        assert steps[0] == "gathering model components "
        assert steps[1] == "copying file other.gguf 100% "
        assert steps[-1] == "success "
        assert "copying" not in second.stderr

    def test_the_file_named_modelfile_is_the_default(self, run: Command) -> None:
        assert run("create", "default").code == 0
        assert "num_predict" in run("show", "default", "--parameters").stdout

    def test_standard_input_may_be_the_modelfile(self, run: Command) -> None:
        assert run("create", "piped", "-f", "-", stdin="FROM tiny\nSYSTEM Piped.").code == 0
        assert run("show", "piped", "--system").stdout == "Piped."

    def test_from_another_model(self, run: Command, folder: Path) -> None:
        (folder / "Child").write_text("FROM mario\nSYSTEM You are Luigi.")
        assert run("create", "child", "-f", "Child").code == 0
        assert run("show", "child", "--license").stdout == "MIT\nsecond\n"

    def test_no_modelfile(self, run: Command) -> None:
        assert run("create", "x", "-f", "/nonexistent") == recorded("create x -f /nonexistent")

    def test_a_folder_without_weights(self, run: Command, folder: Path) -> None:
        (folder / "empty").mkdir()
        (folder / "Empty").write_text("FROM ./empty")
        assert run("create", "x", "-f", "Empty") == recorded("create x -f /nonexistent")

    def test_no_from(self, run: Command, folder: Path) -> None:
        (folder / "bad3").write_text("SYSTEM x")
        assert run("create", "x", "-f", "bad3") == recorded("create x -f bad3")

    def test_a_from_that_can_be_no_model(self, run: Command, folder: Path) -> None:
        (folder / "bad4").write_text("FROM ./missing.gguf")
        assert run("create", "x", "-f", "bad4") == recorded("create x -f bad4")

    def test_a_mistake_in_the_modelfile_is_found_before_anything_is_sent(
        self, run: Command, folder: Path
    ) -> None:
        (folder / "bad5").write_text("FROM ./tiny.gguf\nPARAMETER colour blue")
        outcome = run("create", "x", "-f", "bad5")
        assert outcome.code == 1
        assert "unknown parameter 'colour'" in outcome.stderr
        assert "copying" not in outcome.stderr

    def test_weights_that_are_none(self, run: Command, folder: Path) -> None:
        (folder / "junk.gguf").write_text("not a model")
        (folder / "bad6").write_text("FROM junk.gguf")
        outcome = run("create", "x", "-f", "bad6")
        assert outcome.code == 1
        assert "Error: " in outcome.stderr
        assert run("show", "x").code == 1


class TestShow:
    @pytest.mark.parametrize("part", ["--parameters", "--system", "--template", "--license"])
    def test_parts(self, run: Command, part: str) -> None:
        assert run("show", "mario", part) == recorded(f"show mario {part}")._replace(stderr="")

    def test_the_modelfile(self, run: Command) -> None:
        def without_path(text: str) -> str:
            return re.sub(r"^FROM .*/blobs/sha256-[0-9a-f]{64}$", "FROM", text, flags=re.M)

        expected = without_path(recorded("show mario --modelfile").stdout)
        assert without_path(run("show", "mario", "--modelfile").stdout) == expected

    def test_the_report(self, run: Command) -> None:
        report = run("show", "mario").stdout
        expected = recorded("show mario").stdout
        assert report.partition("Capabilities")[2] == expected.partition("Capabilities")[2]
        assert "architecture        llama" in report

    def test_the_verbose_report_has_the_tensors(self, run: Command) -> None:
        assert "output_norm.weight" in run("show", "mario", "-v").stdout

    def test_a_missing_model(self, run: Command) -> None:
        assert run("show", "nosuch") == recorded("show nosuch")


class TestLibrary:
    def test_list_finds_models_by_prefix(self, run: Command) -> None:
        header, *rows = run("ls", "MAR").stdout.splitlines()
        assert header.split() == ["NAME", "ID", "SIZE", "MODIFIED"]
        assert [row.split()[0] for row in rows] == ["mario:latest"]

    def test_copy_and_remove(self, run: Command) -> None:
        assert run("cp", "mario", "luigi") == recorded("cp mario luigi")._replace(stderr="")
        assert run("rm", "luigi") == recorded("rm luigi")._replace(stderr="")
        assert run("rm", "luigi") == recorded("rm luigi", occurrence=1)
        assert run("cp", "nosuch", "x") == recorded("cp nosuch x")

    def test_several_are_removed_in_turn_up_to_the_first_that_is_missing(
        self, run: Command
    ) -> None:
        for name in ("one", "two"):
            run("cp", "tiny", name)
        outcome = run("rm", "one", "nosuch", "two")
        assert outcome == (1, "deleted 'one'\n", "Error: model 'nosuch' not found\n")
        assert run("rm", "two").code == 0

    def test_a_damaged_model_can_be_removed(self, run: Command, home: Path) -> None:
        run("cp", "tiny", "broken")
        (store,) = home.glob(".ollama/models/manifests/*")
        (store / "library" / "broken" / "latest").write_text("{")
        outcome = run("rm", "broken")
        assert outcome[:2] == (0, "deleted 'broken'\n")
        assert outcome.stderr.startswith("Warning: unable to stop model 'broken': damaged manifest")

    def test_a_push_to_a_namespace_of_others_says_so(self, run: Command) -> None:
        with fake_registry() as registry:
            registry.spoil = forbid
            run("cp", "tiny", f"{registry.host}/others/tiny")
            outcome = run("push", f"{registry.host}/others/tiny", "--insecure")
        assert outcome[:2] == (1, "")
        assert outcome.stderr.endswith(
            "Error: you are not authorized to push to this namespace, create the model under a"
            " namespace you own\n"
        )

    def test_the_version_is_the_servers(self, run: Command) -> None:
        assert run("-v") == (0, f"ollama version is {OLLAMA_VERSION}\n", "")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (("create", "x", "-f", "/dev/zero"), "/dev/zero"),
        (("create", "x", "-f", "-"), "the Modelfile"),
        (("run", "tiny"), "the input"),
    ],
)
def test_input_beyond_measure_is_refused(
    arguments: tuple[str, ...], what: str, run: Command
) -> None:
    stdin = b"" if what == "/dev/zero" else bytes(LONGEST_INPUT + 1)
    outcome = run(*arguments, stdin=stdin)
    assert outcome[:2] == (1, "")
    assert f"{what} is too large: more than {LONGEST_INPUT} bytes\n" in outcome.stderr


class TestRun:
    def test_a_prompt_from_arguments(self, run: Command, server: RunningServer) -> None:
        outcome = run("run", "tiny", "Once", "upon")
        assert outcome == (0, answered(server, "tiny", "Once upon") + "\n\n", "")

    def test_a_prompt_from_a_pipe_comes_before_the_arguments(
        self, run: Command, server: RunningServer
    ) -> None:
        outcome = run("run", "tiny", "upon", stdin="Once")
        assert outcome.stdout == answered(server, "tiny", "Once upon") + "\n\n"

    def test_an_empty_prompt_loads_the_model(self, run: Command) -> None:
        run("stop", "tiny")
        assert run("run", "tiny", "") == (0, "", "")
        assert "tiny:latest" in run("ps").stdout

    def test_verbose_adds_timings_to_stderr(self, run: Command) -> None:
        run("stop", "tiny")
        timings = run("run", "tiny", "Once", "--verbose").stderr
        assert [line.split(":")[0] for line in timings.splitlines()] == [
            "total duration",
            "load duration",
            "prompt eval count",
            "prompt eval duration",
            "prompt eval rate",
            "eval count",
            "eval duration",
            "eval rate",
        ]
        assert "eval count:           12 token(s)" in timings

    def test_a_model_that_can_not_think(self, run: Command) -> None:
        outcome = run("run", "tiny", "Once", "--think")
        assert outcome.code == 1
        assert "does not support thinking" in outcome.stderr

    def test_a_missing_model_is_pulled_and_the_reason_shown_why_not(self, run: Command) -> None:
        outcome = run("run", "localhost:1/ns/nosuch", "hi", "--insecure")
        assert outcome.code == 1
        assert outcome.stdout == ""
        assert outcome.stderr.splitlines()[-1].startswith("Error: ")

    def test_the_reply_streams_and_ctrl_c_ends_it(
        self, run: Command, server: RunningServer, home: Path
    ) -> None:
        terminal = Terminal("run", "long", "Once", host=server.host, home=home)
        terminal.wait_for("\x1b[K")  # The spinner goes away for the first word.
        terminal.interrupt()
        assert terminal.end() == 130
        assert "Traceback" not in terminal.shown


class TestStreams:
    """Standard streams as shells may hand them to a program."""

    def shell(self, server: RunningServer, line: str) -> Outcome:
        done = subprocess.run(
            ["bash", "-c", line.replace("ollama", f"{sys.executable} -m llamaherd")],
            env={"PATH": "/usr/bin:/bin", "OLLAMA_HOST": server.host},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    def test_closed_streams(self, run: Command, server: RunningServer) -> None:
        assert self.shell(server, "ollama list >&-") == (0, "", "")
        assert self.shell(server, "ollama run tiny Once <&-").code == 0
        assert self.shell(server, "ollama show nosuch 2>&- >&-") == (1, "", "")

    @pytest.mark.parametrize("command", ["list", "run long Once"])
    def test_a_reader_that_goes_away(
        self, run: Command, server: RunningServer, command: str
    ) -> None:
        outcome = self.shell(server, f"ollama {command} | true; exit ${{PIPESTATUS[0]}}")
        assert outcome == (141, "", "")

    @pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has /dev/full")
    def test_a_full_disk(self, run: Command, server: RunningServer) -> None:
        outcome = self.shell(server, "ollama list >/dev/full")
        assert outcome == (1, "", "Error: No space left on device\n")

    def test_a_character_set_without_the_reply_s_characters(
        self, run: Command, server: RunningServer, folder: Path
    ) -> None:
        (folder / "Accent").write_text("FROM tiny\nSYSTEM café 🙂")
        run("create", "accent", "-f", "Accent")
        outcome = self.shell(server, "PYTHONIOENCODING=ascii ollama show accent --system")
        assert outcome == (0, "caf? ?", "")


class TestRunning:
    def test_ps_tells_of_a_loaded_model_until_it_is_stopped(self, run: Command) -> None:
        assert run("run", "tiny", "", "--keepalive", "-1").code == 0
        header, row = run("ps", "tiny").stdout.splitlines()
        assert header.split() == ["NAME", "ID", "SIZE", "PROCESSOR", "UNTIL"]
        assert re.fullmatch(r"tiny:latest +[0-9a-f]{12} +[0-9.]+ .B +\d+%.*PU +Forever +", row)
        assert run("stop", "tiny") == recorded("stop tiny")._replace(stderr="")
        assert run("ps", "tiny").stdout.splitlines() == [
            "NAME    ID    SIZE    PROCESSOR    UNTIL "
        ]

    def test_stopping_what_does_not_exist(self, run: Command) -> None:
        assert run("stop", "nosuch") == recorded("stop nosuch")

    def test_a_second_server_on_the_port(self, server: RunningServer, tmp_path: Path) -> None:
        outcome = ollama("serve", host=server.host, environment={"OLLAMA_MODELS": str(tmp_path)})
        expected = recorded("serve").stderr.replace("127.0.0.1:11601", server.host)
        assert outcome == (1, "", expected)


class TestTerminal:
    def test_progress_stays_on_the_screen(
        self, run: Command, server: RunningServer, home: Path, folder: Path
    ) -> None:
        write_model(folder / "third.gguf", seed=2)
        (folder / "Third").write_text("FROM third.gguf")
        terminal = Terminal(
            "create", "third", "-f", "Third", host=server.host, home=home, folder=folder
        )
        assert terminal.end() == 0
        final = terminal.shown[terminal.shown.rindex("gathering model components") :]
        final = re.sub("\x1b\\[[0-9;]*m", "", final)
        assert re.search(r"copying file third\.gguf +100% ━+ ", final)
        assert "\nsuccess" in final

    def test_a_dumb_terminal_gets_plain_text(
        self, run: Command, server: RunningServer, home: Path
    ) -> None:
        terminal = Terminal("run", "tiny", "Once upon", host=server.host, home=home, kind="dumb")
        assert terminal.end() == 0
        expected = answered(server, "tiny", "Once upon") + "\n\n"
        assert terminal.shown.replace("\r\n", "\n") == expected

    def test_where_nothing_can_move_progress_is_plain(
        self, run: Command, server: RunningServer, home: Path, folder: Path
    ) -> None:
        (folder / "Plain").write_text("FROM tiny\nSYSTEM plain")
        arguments = ("create", "plain", "-f", "Plain")
        terminal = Terminal(*arguments, host=server.host, home=home, folder=folder, kind="dumb")
        assert terminal.end() == 0
        lines = terminal.shown.split("\r\n")
        assert lines[0] == "gathering model components "
        assert lines[-2] == "success "
        assert "\x1b" not in terminal.shown
