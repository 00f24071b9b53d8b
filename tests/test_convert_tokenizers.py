"""Converted tokenizers cut text as the originals do: small ones of every kind, trained once.

What the originals answer is recorded (``tests/parity/record.py``).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.create.convert.folder import ModelFolder
from llamaherd.create.convert.tokenizers import tokenizer_metadata
from llamaherd.create.convert.tokenizers.sentencepiece import SENTENCEPIECE_FILE
from llamaherd.create.convert.writer import Value, write_gguf
from llamaherd.errors import BadRequest
from tests.support.evaluate import vocabulary
from tests.support.tokenizers import FOLDER, TEXTS, recorded

#: What llama.cpp wants to know of a model even if it reads the vocabulary only.
MODEL: dict[str, Value] = {
    "general.architecture": "llama",
    "llama.context_length": 64,
    "llama.embedding_length": 8,
    "llama.block_count": 1,
    "llama.feed_forward_length": 8,
    "llama.attention.head_count": 1,
    "llama.attention.layer_norm_rms_epsilon": 1e-5,
}
SIZE = 480


def folder_of(name: str) -> ModelFolder:
    return ModelFolder({path.name: path for path in (FOLDER / name).iterdir()})


@pytest.mark.parametrize("name", recorded())
def test_the_tokens_are_those_of_the_original(name: str, tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gguf"
    with path.open("wb") as file:
        write_gguf(file.write, MODEL | tokenizer_metadata(folder_of(name), SIZE), [])
    with vocabulary(path) as ours:
        for text, tokens in zip(TEXTS, recorded()[name], strict=True):
            if name == "unigram" and "\n" in text:
                # Line ends become spaces by a table that is too large to be kept here.
                continue
            assert ours.tokenize(text, add_special=True, parse_special=True) == tokens, text


class Files:
    """A tokenizer whose files can be changed before it is converted."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start_from(self, name: str) -> None:
        for path in (FOLDER / name).iterdir():
            (self.folder / path.name).write_bytes(path.read_bytes())

    def write(self, name: str, content: Any) -> None:
        (self.folder / name).write_text(json.dumps(content))

    def change(self, change: Callable[[Any], Any], name: str = "tokenizer.json") -> None:
        content = json.loads((self.folder / name).read_text())
        change(content)
        self.write(name, content)

    def metadata(self, size: int = SIZE) -> dict[str, Any]:
        files = {path.name: path for path in self.folder.iterdir()}
        return {
            key.removeprefix("tokenizer.").removeprefix("ggml."): value
            for key, value in tokenizer_metadata(ModelFolder(files), size).items()
        }


@pytest.fixture
def files(tmp_path: Path) -> Files:
    files = Files(tmp_path)
    files.start_from("llama3")
    return files


class TestTokens:
    def test_gaps_are_filled_and_what_is_beyond_goes(self, files: Files) -> None:
        tokens = files.metadata(size=405)["tokens"]
        assert tokens[400:] == [
            "<|begin_of_text|>",
            "<|end_of_text|>",
            "<|eot_id|>",
            "[PAD403]",
            "[PAD404]",
        ]
        shorter = files.metadata(size=401)
        assert len(shorter["tokens"]) == 401
        assert "eos_token_id" not in shorter

    def test_have_types(self, files: Files) -> None:
        added = [
            {"id": 403, "content": "<tool>", "special": False},
            {"id": 404, "content": "<|looks_special|>", "special": False},
        ]
        files.change(lambda content: content["added_tokens"].extend(added))
        assert files.metadata(size=406)["token_type"][399:] == [1, 3, 3, 3, 4, 3, 5]

    def test_merges_are_kept_in_order(self, files: Files) -> None:
        pairs = json.loads((files.folder / "tokenizer.json").read_text())["model"]["merges"]
        assert files.metadata()["merges"] == [" ".join(pair) for pair in pairs]
        files.change(lambda content: content["model"].update(merges=[" ".join(p) for p in pairs]))
        assert files.metadata()["merges"] == [" ".join(pair) for pair in pairs]


class TestSpecialTokens:
    def test_every_further_end_is_known_too(self, files: Files) -> None:
        files.write("generation_config.json", {"eos_token_id": [401, 402]})
        metadata = files.metadata()
        assert (metadata["eos_token_id"], metadata["eot_token_id"]) == (402, 401)

    def test_the_model_tells_what_the_tokenizer_does_not(self, files: Files) -> None:
        files.write("tokenizer_config.json", {})
        files.write("config.json", {"eos_token_id": [401, 402], "pad_token_id": 7})
        metadata = files.metadata()
        assert metadata["eos_token_id"] == 401
        assert metadata["eot_token_id"] == 402
        assert metadata["padding_token_id"] == 7
        assert metadata["bos_token_id"] == 400

    def test_without_a_post_processor_the_flags_count(self, files: Files) -> None:
        files.change(lambda content: content.update(post_processor=None))
        assert files.metadata()["add_bos_token"] is False
        files.write("tokenizer_config.json", {"add_bos_token": True, "add_eos_token": True})
        metadata = files.metadata()
        assert metadata["add_bos_token"] is metadata["add_eos_token"] is True


class TestChatTemplate:
    def test_comes_along(self, files: Files) -> None:
        assert files.metadata()["chat_template"] == "{{ messages }}"

    def test_a_file_of_its_own_wins(self, files: Files) -> None:
        (files.folder / "chat_template.jinja").write_text("from a file")
        assert files.metadata()["chat_template"] == "from a file"

    def test_several_have_names(self, files: Files) -> None:
        templates = [
            {"name": "default", "template": "one"},
            {"name": "tool_use", "template": "two"},
        ]
        files.write("tokenizer_config.json", {"chat_template": templates})
        metadata = files.metadata()
        assert (metadata["chat_template"], metadata["chat_template.tool_use"]) == ("one", "two")

    def test_of_the_wrong_kind(self, files: Files) -> None:
        files.write("tokenizer_config.json", {"chat_template": [{"name": 1}]})
        with pytest.raises(BadRequest, match=r"tokenizer_config.json: chat_template: expected"):
            files.metadata()


def change_model(**fields: Any) -> Callable[[Any], Any]:
    return lambda content: content["model"].update(fields)


def pre_tokenizer(*steps: Any) -> Callable[[Any], Any]:
    part = {"type": "Sequence", "pretokenizers": list(steps)}
    return lambda content: content.update(pre_tokenizer=part)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (change_model(type="Fancy"), "model.type: expected BPE, WordPiece, Unigram, not Fancy"),
        (change_model(vocab=[["a", 0.5]]), "model.vocab: expected an object"),
        (change_model(vocab={"a": "1"}), "Expected `int`, got `str`"),
        (change_model(merges=["a b c"]), r"model.merges\[0\]: expected two parts"),
        (change_model(type="Unigram"), "model.vocab: expected a list"),
        (
            change_model(type="Unigram", vocab=[["a", -1e300]]),
            r"model.vocab\[0\]: expected a log probability, not -1e\+300",
        ),
        (pre_tokenizer(), "pre_tokenizer: the engine has none that cuts text by none"),
        (pre_tokenizer({"type": "Split", "pattern": {"Regex": r"\d"}}), "an unknown step, 'Split'"),
        (
            pre_tokenizer(
                {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated"},
                {"type": "ByteLevel", "use_regex": False},
            ),
            r"none that cuts text by \\w\+",
        ),
        (lambda content: content.update(pre_tokenizer=[]), "Expected `object | null`"),
        (lambda content: content.update(post_processor={"type": "Sequence"}), "processors"),
        (lambda content: content["added_tokens"].append({"id": -1, "content": "x"}), "below 0"),
    ],
)
def test_unusable_tokenizers_are_refused(
    files: Files, change: Callable[[Any], Any], message: str
) -> None:
    files.change(change)
    with pytest.raises(BadRequest, match=f"tokenizer.json: .*{message}|{message}"):
        files.metadata()


def test_a_tokenizer_is_needed(files: Files) -> None:
    (files.folder / "tokenizer.json").unlink()
    with pytest.raises(BadRequest, match=r"tokenizer.json and tokenizer.model are missing"):
        files.metadata()


class TestSentencePiece:
    CONTENT = (FOLDER / "sentencepiece" / SENTENCEPIECE_FILE).read_bytes()

    def read(self, folder: Path, content: bytes) -> dict[str, Value]:
        path = folder / SENTENCEPIECE_FILE
        path.write_bytes(content)
        return tokenizer_metadata(ModelFolder({SENTENCEPIECE_FILE: path}), SIZE)

    def test_added_tokens_come_from_the_configuration(self, tmp_path: Path) -> None:
        table = {"470": {"content": "<|im_end|>", "special": True}, "471": {"content": "▁x"}}
        config = tmp_path / "tokenizer_config.json"
        config.write_text(json.dumps({"added_tokens_decoder": table, "eos_token": "<|im_end|>"}))
        model = FOLDER / "sentencepiece" / SENTENCEPIECE_FILE
        files = {SENTENCEPIECE_FILE: model, "tokenizer_config.json": config}
        metadata = tokenizer_metadata(ModelFolder(files), SIZE)
        tokens = metadata["tokenizer.ggml.tokens"]
        assert isinstance(tokens, list)
        assert tokens[470:472] == ["<|im_end|>", " x"]
        assert metadata["tokenizer.ggml.eos_token_id"] == 470

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (b"\x0a\x7f", "a field of 127 bytes where 0 are left"),
            (b"\xff" * 11, "a number that does not end"),
            (b"\x0b", "wire type 3"),
            (b"\x08\x01", "a number where a message was expected"),
            (b"\x0a\x02\x18\x01", "piece 0"),
            (b"\x0a\x05\x0a\x01a\x18\x09", "piece 0"),
            (b"\x0a\x03\x0a\x01\xff", "piece 0"),
            (b"\x12\x02\x18\x04", "model type 4"),
        ],
    )
    def test_damaged_models_are_refused(self, content: bytes, message: str, tmp_path: Path) -> None:
        with pytest.raises(BadRequest, match=f"tokenizer.model: .*{message}"):
            self.read(tmp_path, content)

    @settings(max_examples=50, deadline=None)
    @given(data=st.data())
    def test_any_damage_is_refused_or_harmless(
        self, data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
    ) -> None:
        content = bytearray(self.CONTENT)
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        del content[data.draw(st.integers(0, len(content))) :]
        with suppress(BadRequest):
            self.read(tmp_path_factory.mktemp("damaged"), bytes(content))
