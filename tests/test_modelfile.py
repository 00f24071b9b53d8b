"""The language of Modelfiles, and what a Modelfile asks the server to create."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.create.modelfile import (
    INSTRUCTIONS,
    MESSAGE_ROLES,
    Command,
    Modelfile,
    can_quote,
    quote,
)
from llamaherd.create.request import create_request, local_files, parse_parameter
from llamaherd.errors import BadRequest, ModelfileError, NotFound


def commands(text: str | bytes) -> list[tuple[str, ...]]:
    """What stands after the first line of a Modelfile whose first line is ``FROM x``."""
    prefix = "FROM x\n" if isinstance(text, str) else b"FROM x\n"
    found = Modelfile.parse(prefix + text).commands[1:]  # type: ignore[operator]
    return [tuple(filter(None, (c.instruction, c.key, c.value))) for c in found]


def value(text: str) -> str:
    (command,) = Modelfile.parse(f"FROM x\nSYSTEM {text}").commands[1:]
    return command.value


class TestLanguage:
    def test_all_instructions(self) -> None:
        modelfile = Modelfile.parse(
            """
# a comment
FROM llama3.2
  # an indented one
ADAPTER ./lora.gguf
PARAMETER temperature 0.7
PARAMETER stop a
PARAMETER stop b
TEMPLATE {{ .Prompt }} # no comment
SYSTEM You are Mario.
LICENSE MIT
MESSAGE user Is it?
MESSAGE assistant Yes: it is.
"""
        )
        assert modelfile.commands == (
            Command("from", "llama3.2"),
            Command("adapter", "./lora.gguf"),
            Command("parameter", "0.7", "temperature"),
            Command("parameter", "a", "stop"),
            Command("parameter", "b", "stop"),
            Command("template", "{{ .Prompt }} # no comment"),
            Command("system", "You are Mario."),
            Command("license", "MIT"),
            Command("message", "Is it?", "user"),
            Command("message", "Yes: it is.", "assistant"),
        )
        assert [command.line for command in modelfile.commands[:2]] == [3, 5]

    def test_case_does_not_matter_for_instructions(self) -> None:
        assert commands("system a\nSyStEm b\nparameter Temperature 1") == [
            ("system", "a"),
            ("system", "b"),
            ("parameter", "Temperature", "1"),
        ]

    @pytest.mark.parametrize(
        ("text", "expected"),
        [
            ("plain words  ", "plain words"),
            ("\t tabs\tinside \t", "tabs\tinside"),
            ('"  kept  "', "  kept  "),
            ('"""  kept  """   ', "  kept  "),
            ('"one\ntwo"', "one\ntwo"),
            ('"""\none\n\ntwo\n"""', "\none\n\ntwo\n"),
            ('"""a "quoted" word"""', 'a "quoted" word'),
            ('"say "hi" twice"', 'say "hi" twice'),
            ('"a" b\nc"', 'a" b\nc'),
            ('""""a""""', '"a"'),
            ('""', ""),
            ('""""""', ""),
            ("", ""),
            ('say "hi"', 'say "hi"'),
            ("'single'", "'single'"),
            (r"a\nb", r"a\nb"),
            ("👨‍👩‍👧 é", "👨‍👩‍👧 é"),
            ('"""# no comment\n# either"""', "# no comment\n# either"),
        ],
    )
    def test_values_and_quotes(self, text: str, expected: str) -> None:
        assert value(text) == expected

    @pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
    def test_lines_may_end_in_any_way(self, newline: str) -> None:
        text = newline.join(("FROM x", "", "# c", "SYSTEM s", "PARAMETER stop a", ""))
        assert [c.value for c in Modelfile.parse(text).commands] == ["x", "s", "a"]

    @pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16-le", "utf-16-be"])
    def test_byte_order_marks_are_understood(self, encoding: str) -> None:
        mark = "\ufeff" if encoding.startswith("utf-16") else ""
        content = f"{mark}FROM x\nSYSTEM é🙂\n".encode(encoding)
        assert Modelfile.parse(content).commands[1].value == "é🙂"

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "no FROM line"),
            ("# FROM x", "no FROM line"),
            ("PARAMETER stop x", "no FROM line"),
            (
                "FROM x\n\nBAD y",
                '(line 3): command must be one of "from", "license", "template", "system", '
                '"adapter", "parameter", or "message"',
            ),
            ("FROM", "(line 1): FROM needs a value"),
            ("FROM x\nADAPTER  \n", "(line 2): ADAPTER needs a value"),
            ("FROM x\nPARAMETER", "(line 2): PARAMETER needs a name and a value, not ''"),
            ("FROM x\nPARAMETER a-b 1", "(line 2): PARAMETER needs a name and a value, not 'a-b'"),
            ("FROM x\nPARAMETER stop\n", "(line 2): unexpected EOF: PARAMETER stop needs a value"),
            (
                'FROM x\r\n\r\nMESSAGE bad "y"',
                '(line 3): message role must be one of "system", "user", or "assistant"',
            ),
            ("FROM x\nMESSAGE user", "(line 2): unexpected EOF: MESSAGE user needs a value"),
            (
                'FROM x\nSYSTEM """a\nb\n""\n',
                "(line 2): unexpected EOF: the quote after SYSTEM is not closed",
            ),
            (
                'FROM x\nSYSTEM "\n',
                "(line 2): unexpected EOF: the quote after SYSTEM is not closed",
            ),
            (b"FROM x\nSYSTEM \xff", "(line 2): not valid UTF-8 text"),
            (b"\xff\xfeF\0R", "(line 1): not valid UTF-16-LE text"),
        ],
    )
    def test_errors_name_the_line(self, text: str | bytes, message: str) -> None:
        with pytest.raises(ModelfileError) as caught:
            Modelfile.parse(text)
        assert str(caught.value) == message

    def test_long_quoted_texts_take_no_quadratic_time(self) -> None:
        text = 'one "line" of many\n' * 200_000
        assert value(f'"""{text}"""') == text


@st.composite
def printable_commands(draw: st.DrawFn) -> Command:
    """A command that can be printed."""
    instruction = draw(st.sampled_from(INSTRUCTIONS))
    least = 1 if instruction in ("from", "adapter") else 0
    text = draw(st.text(alphabet='ab"\n\r\t #é🙂\x0b', min_size=least, max_size=12))
    if not can_quote(text):
        text = text.replace('"', "'")
    match instruction:
        case "parameter":
            return Command(instruction, text, draw(st.text("aZ0_", min_size=1)))
        case "message":
            return Command(instruction, text, draw(st.sampled_from(MESSAGE_ROLES)))
    return Command(instruction, text)


class TestPrinting:
    @pytest.mark.parametrize(
        ("text", "quoted"),
        [
            ("You are Mario.", "You are Mario."),
            ('say "hi"', 'say "hi"'),
            ("\n\n", '"\n\n"'),
            (" a", '" a"'),
            ("a ", '"a "'),
            ('a "b"\nc', '"""a "b"\nc"""'),
            ('"a', '""""a"""'),
            ("", '""'),
        ],
    )
    def test_quotes_only_where_needed(self, text: str, quoted: str) -> None:
        assert quote(text) == quoted
        assert value(quoted) == text

    def test_a_modelfile_is_one_line_for_each_command(self) -> None:
        text = 'FROM x\nPARAMETER stop "\n"\nMESSAGE user a: b\nSYSTEM s\n'
        assert str(Modelfile.parse(text)) == text

    @given(st.lists(printable_commands(), max_size=5))
    @settings(max_examples=300, deadline=None)
    def test_what_is_printed_reads_back(self, commands: list[Command]) -> None:
        modelfile = Modelfile((Command("from", "x"), *commands))
        assert Modelfile.parse(str(modelfile)) == modelfile

    @given(st.text(alphabet='FROMfrom syte"\n\r\t#x', max_size=40))
    @settings(max_examples=300, deadline=None)
    def test_any_text_is_read_or_refused_with_a_reason(self, text: str) -> None:
        try:
            modelfile = Modelfile.parse(text)
        except ModelfileError:
            return
        assert Modelfile.parse(str(modelfile)) == modelfile


class TestRequest:
    @staticmethod
    def request(text: str, **files: Mapping[str, str]) -> dict[str, Any]:
        return create_request(Modelfile.parse(text), lambda command: files.get(command.value))

    def test_from_a_model(self) -> None:
        assert self.request("FROM llama3.2") == {"from": "llama3.2"}

    def test_from_files(self) -> None:
        request = self.request(
            "FROM model\nFROM eyes\nADAPTER lora",
            model={"m.gguf": "sha256:1"},
            eyes={"mmproj.gguf": "sha256:2"},
            lora={"lora.gguf": "sha256:3"},
        )
        assert request == {
            "files": {"m.gguf": "sha256:1", "mmproj.gguf": "sha256:2"},
            "adapters": {"lora.gguf": "sha256:3"},
        }

    def test_one_name_is_not_for_two_files(self) -> None:
        model = {"model.gguf": "sha256:1", "LICENSE": "sha256:0"}
        same = self.request("FROM a\nFROM b", a=model, b={"LICENSE": "sha256:0"})
        assert same["files"] == model
        with pytest.raises(
            ModelfileError, match=r"b: another file is named model\.gguf already"
        ) as e:
            self.request("FROM a\nFROM b", a=model, b={"model.gguf": "sha256:2"})
        assert e.value.line == 2

    def test_everything_else(self) -> None:
        text = """FROM x
TEMPLATE t
SYSTEM first
SYSTEM s
LICENSE MIT
LICENSE second
MESSAGE user a: b
PARAMETER stop one
PARAMETER stop two
PARAMETER num_ctx 1
PARAMETER num_ctx 4096
PARAMETER temperature 0.7
PARAMETER use_mmap false
PARAMETER f16_kv true
"""
        assert self.request(text) == {
            "from": "x",
            "template": "t",
            "system": "s",
            "license": ["MIT", "second"],
            "messages": [{"role": "user", "content": "a: b"}],
            "parameters": {
                "stop": ["one", "two"],
                "num_ctx": 4096,
                "temperature": 0.7,
                "use_mmap": False,
            },
        }

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("PARAMETER colour red", "(line 2): unknown parameter 'colour'"),
            ("PARAMETER temperature hot", "(line 2): invalid float value [hot]"),
            ("PARAMETER num_ctx 1.5", "(line 2): invalid int value [1.5]"),
            ("PARAMETER use_mmap yes", "(line 2): invalid bool value [yes]"),
            ("PARAMETER num_ctx -5", '(line 2): option "num_ctx" must be at least 0, not -5'),
            ("ADAPTER ./nosuch", "(line 2): no adapter at ./nosuch"),
        ],
    )
    def test_what_cannot_be_is_refused_with_the_line(self, line: str, message: str) -> None:
        with pytest.raises(ModelfileError) as caught:
            self.request(f"FROM x\n{line}")
        assert str(caught.value) == message

    @pytest.mark.parametrize(
        ("name", "text", "expected"),
        [
            ("seed", "-1", -1),
            ("seed", "+42", 42),
            ("temperature", "1", 1.0),
            ("temperature", ".5", 0.5),
            ("temperature", "1e-3", 0.001),
            ("penalize_newline", "T", True),
            ("stop", "1", ["1"]),
        ],
    )
    def test_parameters_get_the_type_of_their_option(
        self, name: str, text: str, expected: Any
    ) -> None:
        parsed = parse_parameter(name, text)
        assert (parsed, type(parsed)) == (expected, type(expected))

    @pytest.mark.parametrize(
        ("name", "text"),
        [
            *(("temperature", t) for t in ("", "nan", "inf", "1e999", "0x1p3", "1_0", " 1", "١")),
            *(("seed", t) for t in ("", "1.0", "1_000", "9" * 30, "9" * 5000, "٣")),
        ],
    )
    def test_python_and_go_disagree_on_numbers_and_go_is_right(self, name: str, text: str) -> None:
        with pytest.raises(BadRequest, match="invalid"):
            parse_parameter(name, text)


class TestLocalFiles:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("m.gguf", "model/a.gguf", "model/b.gguf", "hf/model-1.safetensors"):
            path = tmp_path / name
            path.parent.mkdir(exist_ok=True)
            path.touch()
        for name in ("hf/config.json", "hf/tokenizer.model", "hf/README.md"):
            (tmp_path / name).touch()
        (tmp_path / "empty").mkdir()
        return tmp_path

    @pytest.mark.parametrize(
        ("argument", "files"),
        [
            ("./m.gguf", ["m.gguf"]),
            ("m.gguf", ["m.gguf"]),
            ("model", ["a.gguf", "b.gguf"]),
            ("./hf/", ["model-1.safetensors", "config.json", "tokenizer.model"]),
        ],
    )
    def test_paths_start_from_the_modelfile(
        self, folder: Path, argument: str, files: list[str]
    ) -> None:
        found = local_files(Command("from", argument), folder)
        assert found is not None
        assert list(found) == files
        assert all(path.is_file() for path in found.values())

    @pytest.mark.parametrize("argument", ["llama3.2", "./nosuch.gguf", "me/x:v1", "x" * 5000, "\0"])
    def test_what_is_not_there_is_the_name_of_a_model(self, folder: Path, argument: str) -> None:
        assert local_files(Command("from", argument), folder) is None

    def test_home(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HOME", str(folder))
        assert local_files(Command("from", "~/m.gguf"), Path("/")) == {"m.gguf": folder / "m.gguf"}

    def test_a_folder_without_weights_is_an_error(self, folder: Path) -> None:
        with pytest.raises(NotFound, match="no Modelfile or safetensors files found"):
            local_files(Command("from", "empty"), folder)

    def test_what_is_neither_file_nor_folder_is_an_error(self, folder: Path) -> None:
        os.mkfifo(folder / "pipe")
        for argument in ("pipe", "/dev/zero"):
            with pytest.raises(BadRequest, match=f"{argument} is neither a file nor a folder"):
                local_files(Command("from", argument), folder)

    def test_links_do_not_smuggle_files_in(self, folder: Path) -> None:
        (folder / "hf" / "secret.json").symlink_to(folder / "m.gguf")
        with pytest.raises(BadRequest, match=r"insecure path: .*secret\.json"):
            local_files(Command("from", "hf"), folder)
