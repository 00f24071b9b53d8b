"""Creating models: the same bytes as from Ollama, or nothing at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from llamaherd.api.requests import CreateRequest, read_create
from llamaherd.create.create import create_model
from llamaherd.create.layers import (
    Part,
    Weights,
    encode_messages,
    encode_parameters,
    manifest_of,
    new_part,
)
from llamaherd.errors import BadRequest, LlamaherdError, ModelNotFound, StoreError
from llamaherd.gguf import ValueType
from llamaherd.messages import Message, ToolCall, ToolCallFunction
from llamaherd.store.blobs import digest_of
from llamaherd.store.library import Library
from llamaherd.store.manifests import Layer, MediaType
from llamaherd.store.names import Name
from tests.support.gguf_files import Pairs, write_gguf

DATA = Path(__file__).parent / "data"
REFERENCE = DATA / "store"
TRANSCRIPT = json.loads((DATA / "http-transcript.json").read_text())

#: The weights of the recorded models, stories260K, of which their IDs need no more than this.
STORIES_DIGEST = "sha256:dc29a49675f8d45e34334883da31b22184ba844fd150383fb4da68003673e0ed"
STORIES = Weights(MediaType.MODEL, "llama", 260_032, "unknown")

STORY_CHANGES: dict[str, Any] = {
    "template": "{{ if .System }}<s>{{ .System }}</s>{{ end }}{{ .Prompt }}",
    "system": "You tell stories.",
    "license": ["MIT"],
    "parameters": {"stop": ["The end", "END"], "temperature": 0},
    "messages": [
        {"role": "user", "content": "hi"},
        {"role": "assistant", "content": "hello"},
    ],
}

LLAMA: Pairs = {
    "llama.block_count": (ValueType.UINT32, 1),
    "general.file_type": (ValueType.UINT32, 0),
}


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "models")
    library.prepare()
    return library


def upload(
    library: Library, tmp_path: Path, pairs: Pairs = LLAMA, size: int = 32, kind: str = "F32"
) -> str:
    """A GGUF with one tensor, as a blob."""
    write_gguf(tmp_path / "upload.gguf", pairs, {"token_embd.weight": (kind, (size,))})
    return library.blobs.put((tmp_path / "upload.gguf").read_bytes())


@pytest.fixture
def weights(library: Library, tmp_path: Path) -> str:
    return upload(library, tmp_path)


@pytest.fixture
def tiny(library: Library, weights: str) -> str:
    create(library, model="tiny", files={"m.gguf": weights})
    return weights


def create(library: Library, **fields: Any) -> list[str]:
    """The statuses of a creation asked for with these JSON fields."""
    request = read_create(json.dumps(fields).encode())
    return [progress.status for progress in create_model(library, request)]


def layers(library: Library, name: str) -> list[Layer]:
    return library.manifest(Name.parse(name)).manifest.layers or []


def kinds(library: Library, name: str) -> list[str]:
    return [layer.media_type.rpartition(".")[2] for layer in layers(library, name)]


def snapshot(library: Library) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in library.root.rglob("*") if path.is_file()}


class TestSameAsOllama:
    """Recorded IDs are digests over everything that a model is made of."""

    @staticmethod
    def model_id(library: Library, *changes: tuple[MediaType, bytes]) -> tuple[str, int]:
        base = Layer(
            media_type=MediaType.MODEL,
            digest=STORIES_DIGEST,
            size=1_054_464,
            from_="tiny:latest",
        )
        parts = [Part(base, "", weights=STORIES)]
        parts += [new_part(library.blobs, kind, content) for kind, content in changes]
        manifest, _ = manifest_of(parts)
        return digest_of(manifest.encode()).removeprefix("sha256:"), manifest.size

    @staticmethod
    def recorded(name: str) -> tuple[str, int]:
        text = TRANSCRIPT["tags"]["body"]
        start = text.index(f'{{"name":"{name}:latest"')
        entry = text[start : text.index('","details"', start)] + '"}'
        model = json.loads(entry)
        return model["digest"], model["size"]

    def test_a_template(self, library: Library) -> None:
        template = b"<PRE> {{ .Prompt }} <SUF>{{ .Suffix }} <MID>"
        assert self.model_id(library, (MediaType.TEMPLATE, template)) == self.recorded("fim")

    def test_system_licences_parameters_and_messages(self, library: Library) -> None:
        parameters = {"temperature": 0.0, "stop": ["</s>", "\n\n"], "num_ctx": 256}
        messages = [Message("user", "hi"), Message("assistant", "hello")]
        changes = (
            (MediaType.SYSTEM, b"You are Mario."),
            (MediaType.LICENSE, b"MIT"),
            (MediaType.LICENSE, b"second"),
            (MediaType.PARAMS, encode_parameters(parameters)),
            (MediaType.MESSAGES, encode_messages(messages)),
        )
        assert self.model_id(library, *changes) == self.recorded("mario")

    def test_the_recorded_store(self, library: Library, tmp_path: Path) -> None:
        """All the same but the weights, and where they came from."""
        mine = upload(library, tmp_path, size=260_032)
        create(library, model="story", files={"m.gguf": mine}, **STORY_CHANGES)
        theirs = Library(REFERENCE).manifest(Name.parse("story")).manifest
        ours = library.manifest(Name.parse("story")).manifest
        size = library.blobs.size(mine)

        def translate(content: bytes) -> bytes:
            return content.replace(STORIES_DIGEST.encode(), mine.encode())

        config = translate(Library(REFERENCE).blobs.read(theirs.config.digest, 1 << 20))
        assert library.blobs.read(ours.config.digest, 1 << 20) == config
        expected = translate(theirs.encode()).replace(
            theirs.config.digest.encode(), digest_of(config).encode()
        )
        expected = expected.replace(b'"size":1054464', f'"size":{size}'.encode())
        for layer in theirs.layers or []:
            expected = expected.replace(layer.from_.encode() or b"\0", b"ORIGIN")
        assert ours.encode().replace(str(library.blobs.path(mine)).encode(), b"ORIGIN") == expected
        for layer in (theirs.layers or [])[1:]:
            ours_bytes = library.blobs.read(layer.digest, 1 << 20)
            assert ours_bytes == Library(REFERENCE).blobs.read(layer.digest, 1 << 20)

    @pytest.mark.parametrize("name", ["create-nothing", "create-baddigest", "create-badfile"])
    def test_errors_are_worded_the_same(self, library: Library, name: str) -> None:
        recorded = TRANSCRIPT[name]
        lines: list[dict[str, Any]] = []
        request = read_create(recorded["request"]["body"].encode())
        try:
            lines.extend({"status": step.status} for step in create_model(library, request))
        except LlamaherdError as error:
            text = str(error).replace(str(library.root), "$OLLAMA_MODELS")
            lines.append({"error": text})
        expected = [json.loads(line) for line in recorded["body"].splitlines()]
        assert lines == [
            {k: v for k, v in line.items() if k != "status" or "error" not in line}
            for line in expected
        ]


class TestFromGGUF:
    def test_progress(self, library: Library, weights: str) -> None:
        system = digest_of(b"s")
        assert create(library, model="tiny", files={"m.gguf": weights}, system="s") == [
            "parsing GGUF",
            f"using existing layer {weights}",
            f"creating new layer {system}",
            "writing manifest",
            "success",
        ]
        again = create(library, model="tiny", files={"m.gguf": weights}, system="s")
        assert again[2] == f"using existing layer {system}"

    def test_the_config_comes_from_the_file(self, library: Library, tmp_path: Path) -> None:
        pairs = {**LLAMA, "general.file_type": (ValueType.UINT32, 1)}
        digest = upload(library, tmp_path, pairs, size=1_234_560, kind="F16")
        create(library, model="tiny", files={"any name": digest})
        model = library.get(Name.parse("tiny"))
        assert model.config.model_type == "1.23M"
        assert model.config.file_type == "F16"
        assert model.config.model_families == ["llama"]
        assert model.config.rootfs.diff_ids == [digest]
        assert model.parent_model == str(library.blobs.path(digest))
        assert model.template is None

    def test_a_projector_comes_after_its_model(
        self, library: Library, weights: str, tmp_path: Path
    ) -> None:
        eyes = upload(library, tmp_path, {"llama.vision.block_count": (ValueType.UINT32, 2)})
        create(library, model="sees", files={"a-mmproj.gguf": eyes, "z.gguf": weights})
        assert kinds(library, "sees") == ["model", "projector"]
        assert library.get(Name.parse("sees")).config.model_families == ["llama", "llama"]

    def test_a_known_chat_format_becomes_a_template(self, library: Library, tmp_path: Path) -> None:
        jinja = (
            "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + "
            "message['content'] + '<|im_end|>' + '\n' }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
        )
        pairs = {**LLAMA, "tokenizer.chat_template": (ValueType.STRING, jinja)}
        files = {"m.gguf": upload(library, tmp_path, pairs)}
        statuses = create(library, model="chat", files=files)
        assert "using autodetected template chatml" in statuses
        assert kinds(library, "chat") == ["model", "template", "params"]
        model = library.get(Name.parse("chat"))
        assert "<|im_start|>" in (model.template or "")
        assert model.parameters == {"stop": ["<|im_start|>", "<|im_end|>"]}

        create(library, model="own", files=files, template="own", parameters={"stop": ["x"]})
        model = library.get(Name.parse("own"))
        assert (model.template, model.parameters) == ("own", {"stop": ["x"]})

    @pytest.mark.parametrize(
        ("content", "name", "message"),
        [
            (b"GGUF", "m.gguf", "GGUF|truncated|header"),
            (b"GGUF\3\0\0\0" + b"\xff" * 16, "m.gguf", "sha256-"),
            (b"<html>", "m.gguf", "supplied file was not in GGUF format"),
            (b"<html>", "index.html", "unknown type"),
            (b"", "empty", "unknown type"),
            (b"{}", "model.safetensors", "config.json is missing"),
        ],
    )
    def test_files_that_are_no_model(
        self, library: Library, content: bytes, name: str, message: str
    ) -> None:
        digest = library.blobs.put(content)
        before = snapshot(library)
        with pytest.raises(BadRequest, match=message):
            create(library, model="x", files={name: digest})
        assert snapshot(library) == before

    def test_only_one_model_can_be_served(
        self, library: Library, weights: str, tmp_path: Path
    ) -> None:
        lora = upload(library, tmp_path, {"general.type": (ValueType.STRING, "adapter")})
        for files in ({"1": weights, "2": weights}, {"l": lora}):
            with pytest.raises(BadRequest, match="files must hold exactly one model"):
                create(library, model="x", files=files)
        with pytest.raises(BadRequest, match="adapters: m is a model, not an adapter"):
            create(library, model="x", files={"m": weights}, adapters={"m": weights})


class TestFromModel:
    def test_layers_say_where_they_come_from(self, library: Library, tiny: str) -> None:
        create(library, model="me/new", **{"from": "TINY"}, system="s")
        assert [layer.from_ for layer in layers(library, "me/new")] == ["tiny:latest", ""]
        assert library.get(Name.parse("me/new")).parent_model == "tiny:latest"

    @pytest.fixture
    def base(self, library: Library, tiny: str) -> None:
        create(library, model="base", **{"from": "tiny"}, **STORY_CHANGES)

    def test_without_changes_everything_is_taken_over(self, library: Library, base: None) -> None:
        create(library, model="new", **{"from": "base"})
        new, old = library.get(Name.parse("new")), library.get(Name.parse("base"))
        for field in ("template", "system", "parameters", "messages", "licenses", "model_path"):
            assert getattr(new, field) == getattr(old, field)

    def test_changes_replace_and_licences_add_up(self, library: Library, base: None) -> None:
        changes = {
            "template": "t",
            "system": "s",
            "license": "second",
            "messages": [{"role": "user", "content": "new"}],
        }
        create(library, model="new", **{"from": "base"}, **changes)
        new = library.get(Name.parse("new"))
        assert (new.template, new.system, new.licenses) == ("t", "s", ["MIT", "second"])
        assert new.messages == [Message("user", "new")]

    def test_parameters_are_merged(self, library: Library, base: None) -> None:
        given = {"temperature": 0.5, "num_ctx": 256, "stop": None, "future": {"b": 1, "a": [2]}}
        create(library, model="new", **{"from": "base"}, parameters=given)
        assert library.get(Name.parse("new")).parameters == {
            "temperature": 0.5,
            "num_ctx": 256,
            "future": {"a": [2], "b": 1},
        }

    def test_a_single_stop_becomes_a_list(self, library: Library, tiny: str) -> None:
        create(library, model="new", **{"from": "tiny"}, parameters={"stop": "x", "num_ctx": 8.0})
        assert layers(library, "new")[1].digest == digest_of(b'{"num_ctx":8,"stop":["x"]}\n')

    def test_empty_texts_change_nothing(self, library: Library, base: None) -> None:
        empty = {"template": "", "system": "", "license": "", "parameters": {}, "messages": []}
        create(library, model="new", **{"from": "base"}, **empty)
        assert sorted(kinds(library, "new")) == sorted(kinds(library, "base"))

    def test_a_model_can_be_changed_in_place(self, library: Library, base: None) -> None:
        create(library, model="BASE", **{"from": "base"}, system="new")
        assert [model.name.short for model in library.list()] == ["base:latest", "tiny:latest"]
        assert library.get(Name.parse("base")).system == "new"
        assert not library.blobs.exists(digest_of(b"You tell stories."))

    def test_blobs_of_the_replaced_model_can_be_kept(self, library: Library, base: None) -> None:
        request = CreateRequest(model="base", from_="tiny")
        list(create_model(library, request, keep_replaced=True))
        assert library.blobs.exists(digest_of(b"You tell stories."))

    def test_messages_are_written_as_ollama_writes_them(self) -> None:
        call = ToolCall(ToolCallFunction("f", {"z": 1, "a": "<"}), id="1")
        messages = [Message("user", images=[b"hi"]), Message("assistant", tool_calls=[call])]
        assert encode_messages(messages) == (
            b'[{"role":"user","content":"","images":["aGk="]},'
            b'{"role":"assistant","content":"","tool_calls":'
            b'[{"id":"1","function":{"name":"f","arguments":{"a":"\\u003c","z":1}}}]}]\n'
        )


class TestNothingHalfDone:
    @pytest.mark.parametrize(
        ("fields", "error", "message"),
        [
            ({}, BadRequest, "neither 'from' or 'files' was specified"),
            ({"from": "nosuch"}, ModelNotFound, "model 'nosuch' not found"),
            ({"from": "bad name"}, BadRequest, "invalid model name"),
            ({"from": "tiny", "files": {"m": "x"}}, BadRequest, "only one of 'from' and 'files'"),
            ({"from": "tiny", "quantize": "q9"}, BadRequest, "unsupported quantization type Q9 - "),
            ({"from": "tiny", "template": "{{ if }}"}, BadRequest, "template error: "),
            (
                {"from": "tiny", "parameters": {"temperature": "hot"}},
                BadRequest,
                'parameters: option "temperature" must be of type float32',
            ),
            (
                {"from": "tiny", "parameters": {"num_ctx": -1}},
                BadRequest,
                'parameters: option "num_ctx" must be at least 0',
            ),
            (
                {"from": "tiny", "messages": [{"role": "x", "content": "y"}]},
                BadRequest,
                'message role must be one of .*, not "x"',
            ),
            ({"from": "tiny", "adapters": {"a": "sha256:x"}}, BadRequest, "invalid digest format"),
        ],
    )
    @pytest.mark.parametrize("target", ["new", "tiny"])
    def test_what_cannot_be_leaves_the_store_as_it_was(
        self,
        library: Library,
        tiny: str,
        target: str,
        fields: dict[str, Any],
        error: type[Exception],
        message: str,
    ) -> None:
        before = snapshot(library)
        with pytest.raises(error, match=message):
            create(library, model=target, **{"system": "unwanted", **fields})
        assert snapshot(library) == before

    def test_a_name_that_cannot_be_is_refused_first(self, library: Library, tiny: str) -> None:
        with pytest.raises(BadRequest, match=r"^invalid model name$"):
            create(library, model="bad name", **{"from": "tiny"})

    def test_a_client_that_goes_away_changes_nothing(self, library: Library, tiny: str) -> None:
        before = snapshot(library)
        steps = create_model(library, CreateRequest(model="new", from_="tiny", system="s"))
        assert next(step for step in steps if step.status == "writing manifest")
        steps.close()
        assert snapshot(library) == before

    def test_a_base_that_lost_its_weights_is_reported(self, library: Library, tiny: str) -> None:
        library.blobs.remove(tiny)
        with pytest.raises(StoreError, match=f"{library.blobs.path(tiny)}: No such file"):
            create(library, model="new", **{"from": "tiny"})
