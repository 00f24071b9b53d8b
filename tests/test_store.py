"""The library: a store that a real Ollama wrote, and changes to one that keep it whole."""

from __future__ import annotations

import logging
import multiprocessing
import os
import shutil
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.errors import ModelNotFound, StoreError
from llamaherd.messages import Message
from llamaherd.store.blobs import STALE_AFTER, digest_of
from llamaherd.store.library import Library
from llamaherd.store.manifests import CONFIG_TYPE, MAX_SIZE, Layer, Manifest, MediaType
from llamaherd.store.model import ModelConfig
from llamaherd.store.names import Name
from llamaherd.store.show import modelfile_text, parameters_text

#: As a real Ollama wrote it (``ollama create story``), but for the blob with the weights.
REFERENCE = Path(__file__).parent / "data" / "store"
WEIGHTS = "sha256-dc29a49675f8d45e34334883da31b22184ba844fd150383fb4da68003673e0ed"

TINY = Name.parse("tiny")
CONFIG = ModelConfig(model_format="gguf", model_family="llama").encode()


@pytest.fixture
def reference(tmp_path: Path) -> Library:
    shutil.copytree(REFERENCE, tmp_path / "reference")
    return Library(tmp_path / "reference")


@pytest.fixture
def library(tmp_path: Path) -> Library:
    library = Library(tmp_path / "models")
    library.prepare()
    return library


def layer(kind: str, content: bytes) -> Layer:
    return Layer(media_type=kind, digest=digest_of(content), size=len(content))


def add(library: Library, name: str, **contents: bytes) -> Manifest:
    """A model with these layers, by the names of their media types."""
    layers = [layer(MediaType[kind.upper()], content) for kind, content in contents.items()]
    manifest = Manifest(config=layer(CONFIG_TYPE, CONFIG), layers=layers)
    library.commit(Name.parse(name), manifest, [*contents.values(), CONFIG])
    return manifest


def blobs(library: Library) -> set[str]:
    return {path.name.replace("-", ":") for path in library.blobs.folder.iterdir()}


def names(library: Library) -> list[str]:
    return [model.name.short for model in library.list()]


def age(library: Library) -> None:
    for path in library.blobs.folder.iterdir():
        then = path.stat().st_mtime - STALE_AFTER - 10
        os.utime(path, (then, then))


class TestReference:
    def test_it_is_listed_as_ollama_lists_it(self, reference: Library) -> None:
        (story,) = reference.list()
        assert story.name.short == "story:latest"
        assert story.size == 1_055_293
        assert story.digest == "8e59b64cf7c9353bea80deb8d82f99086cec8d00d2bf1375cb314c2dee6f2340"
        assert story.parent_model == f"/usr/share/ollama/.ollama/models/blobs/{WEIGHTS}"
        assert story.config.model_format == "gguf"
        assert story.config.model_family == "llama"
        assert story.config.model_families == ["llama"]
        assert story.config.model_type == "260K"
        assert story.config.file_type == "unknown"

    def test_every_layer_is_read(self, reference: Library) -> None:
        story = reference.get(Name.parse("STORY"))
        assert story.model_path == reference.root / "blobs" / WEIGHTS
        assert story.template == "{{ if .System }}<s>{{ .System }}</s>{{ end }}{{ .Prompt }}"
        assert story.system == "You tell stories."
        assert story.licenses == ["MIT"]
        assert story.parameters == {"stop": ["The end", "END"], "temperature": 0}
        assert story.messages == [
            Message(role="user", content="hi"),
            Message(role="assistant", content="hello"),
        ]
        assert story.adapter_paths == story.projector_paths == ()

    def test_its_config_is_written_as_it_was_read(self, reference: Library) -> None:
        (story,) = reference.list()
        digest = reference.manifest(story.name).manifest.config.digest
        assert story.config.encode() == reference.blobs.read(digest, 1 << 20)

    def test_a_copy_is_the_same_model(self, reference: Library) -> None:
        reference.copy(Name.parse("story"), Name.parse("me/tale:v1"))
        assert len({model.digest for model in reference.list()}) == 1


class TestListing:
    def test_an_empty_store_has_no_models(self, tmp_path: Path) -> None:
        assert Library(tmp_path / "nothing").list() == []

    def test_the_model_changed_last_comes_first(self, library: Library) -> None:
        for age_, name in enumerate(("new", "b", "a", "old")):
            add(library, name, model=b"w")
            moment = 10**9 - (age_ if name != "a" else 1)
            os.utime(library.manifests.path(Name.parse(name)), (moment, moment))
        assert names(library) == ["new:latest", "a:latest", "b:latest", "old:latest"]

    def test_a_model_with_a_damaged_config_is_left_out_with_a_warning(
        self, library: Library, caplog: pytest.LogCaptureFixture
    ) -> None:
        manifest = add(library, "tiny", model=b"w")
        library.blobs.path(manifest.config.digest).write_bytes(b"[]")
        with caplog.at_level(logging.WARNING):
            assert library.list() == []
        assert "skipped tiny:latest: damaged layer" in caplog.text

    def test_a_damaged_layer_is_an_error_with_its_path(self, library: Library) -> None:
        manifest = add(library, "tiny", model=b"w", params=b'["no", "map"]')
        path = library.blobs.path(manifest.blobs[1].digest)
        with pytest.raises(StoreError, match=f"damaged layer {path}"):
            library.get(TINY)
        path.unlink()
        with pytest.raises(StoreError, match=f"can't read {path}: No such file"):
            library.get(TINY)

    def test_layers_of_unknown_kinds_are_kept_and_ignored(self, library: Library) -> None:
        other = layer("application/vnd.example.future", b"?")
        manifest = Manifest(config=layer(CONFIG_TYPE, CONFIG), layers=[other])
        library.commit(TINY, manifest, [b"?", CONFIG])
        model = library.get(TINY)
        assert model.layers == (other,)
        assert model.model_path is None
        assert model.template is None

    def test_images_in_messages_are_bytes_again(self, library: Library) -> None:
        add(library, "tiny", messages=b'[{"role":"user","content":"","images":["aGk="]}]')
        assert library.get(TINY).messages == [Message(role="user", images=[b"hi"])]


class TestChanges:
    def test_deleting_removes_only_what_nobody_else_has(self, library: Library) -> None:
        add(library, "tiny", model=b"weights", system=b"one")
        add(library, "other", model=b"weights", system=b"two")
        library.delete(Name.parse("TINY"))
        assert names(library) == ["other:latest"]
        assert blobs(library) == {digest_of(b) for b in (b"weights", b"two", CONFIG)}
        library.delete(Name.parse("other"))
        assert blobs(library) == set()
        assert list(library.manifests.folder.iterdir()) == []

    def test_deleting_spares_blobs_that_were_just_uploaded(self, library: Library) -> None:
        add(library, "tiny", model=b"weights")
        uploaded = library.blobs.put(b"for a model that is being created")
        library.delete(TINY)
        assert blobs(library) == {uploaded}

    def test_forgetting_removes_a_blob_that_no_model_has(self, library: Library) -> None:
        add(library, "tiny", model=b"weights")
        library.forget(library.blobs.put(b"on the way to another"))
        library.forget(digest_of(b"weights"))
        assert blobs(library) == {digest_of(b"weights"), digest_of(CONFIG)}

    def test_deleting_a_model_twice_fails_as_ollama_does(self, library: Library) -> None:
        with pytest.raises(ModelNotFound, match=r"^model 'luigi' not found$"):
            library.delete(Name.parse("luigi"))

    def test_a_damaged_model_can_be_deleted(self, library: Library) -> None:
        add(library, "tiny", model=b"weights")
        library.manifests.path(TINY).write_bytes(b"{")
        library.delete(TINY)
        assert not library.exists(TINY)

    def test_deleting_keeps_blobs_that_a_damaged_manifest_mentions(self, library: Library) -> None:
        add(library, "tiny", model=b"weights")
        manifest = add(library, "broken", model=b"weights")
        library.manifests.path(Name.parse("broken")).write_bytes(manifest.encode()[:-5])
        library.delete(TINY)
        assert digest_of(b"weights") in blobs(library)

    def test_a_copy_shares_all_blobs(self, library: Library) -> None:
        add(library, "tiny", model=b"weights", system=b"s")
        library.copy(Name.parse("Tiny"), Name.parse("me/tiny:v1"))
        assert sorted(names(library)) == ["me/tiny:v1", "tiny:latest"]
        library.delete(TINY)
        assert library.get(Name.parse("me/tiny:v1")).system == "s"

    def test_copying_onto_itself_in_another_case_changes_nothing(self, library: Library) -> None:
        add(library, "tiny", model=b"weights")
        library.copy(TINY, Name.parse("TINY"))
        assert names(library) == ["tiny:latest"]

    def test_what_is_not_there_cannot_be_copied(self, library: Library) -> None:
        with pytest.raises(ModelNotFound, match="nosuch"):
            library.copy(Name.parse("nosuch"), Name.parse("x"))
        assert names(library) == []

    def test_a_damaged_model_is_not_copied(self, library: Library) -> None:
        add(library, "tiny", model=b"weights")
        library.manifests.path(TINY).write_bytes(b"{")
        with pytest.raises(StoreError, match="damaged manifest"):
            library.copy(TINY, Name.parse("x"))

    def test_replacing_removes_what_only_the_old_model_had(self, library: Library) -> None:
        add(library, "tiny", model=b"weights", system=b"old")
        add(library, "TINY", model=b"weights", system=b"new")
        assert names(library) == ["tiny:latest"]
        assert blobs(library) == {digest_of(b) for b in (b"weights", b"new", CONFIG)}

    def test_replacing_can_leave_the_old_blobs(self, library: Library) -> None:
        add(library, "tiny", model=b"weights", system=b"old")
        manifest = Manifest(config=layer(CONFIG_TYPE, CONFIG), layers=[])
        library.commit(TINY, manifest, keep_replaced=True)
        assert digest_of(b"old") in blobs(library)

    def test_a_model_is_not_written_while_a_blob_is_missing(self, library: Library) -> None:
        missing = layer(MediaType.MODEL, b"never uploaded")
        manifest = Manifest(config=layer(CONFIG_TYPE, CONFIG), layers=[missing])
        with pytest.raises(StoreError, match="is missing"):
            library.commit(TINY, manifest, [CONFIG])
        assert not library.exists(TINY)

    def test_a_store_that_is_a_file_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "models").write_text("")
        with pytest.raises(StoreError, match=f"can't create {tmp_path}/models/manifests"):
            Library(tmp_path / "models").prepare()


class TestPruning:
    def test_old_blobs_without_a_model_go(self, library: Library) -> None:
        add(library, "tiny", model=b"weights")
        library.blobs.put(b"orphan")
        library.blobs.folder.joinpath(f"{WEIGHTS}-partial-0").touch()
        age(library)
        assert library.prune() == 2
        assert blobs(library) == {digest_of(b"weights"), digest_of(CONFIG)}

    def test_young_ones_may_belong_to_a_model_that_is_being_created(self, library: Library) -> None:
        uploaded = library.blobs.put(b"just uploaded")
        assert library.prune() == 0
        assert blobs(library) == {uploaded}

    def test_files_that_are_no_blobs_are_left_alone(self, library: Library) -> None:
        library.blobs.folder.joinpath("notes.txt").touch()
        age(library)
        assert library.prune() == 0

    def test_blobs_of_a_damaged_model_stay(self, library: Library) -> None:
        manifest = add(library, "broken", model=b"weights")
        library.manifests.path(Name.parse("broken")).write_bytes(manifest.encode()[:-5])
        age(library)
        assert library.prune() == 0

    def test_nothing_goes_while_a_manifest_can_not_be_read(self, library: Library) -> None:
        add(library, "huge", model=b"weights")
        library.manifests.path(Name.parse("huge")).write_bytes(bytes(MAX_SIZE + 1))
        age(library)
        with pytest.raises(StoreError, match="too large for a manifest"):
            library.prune()
        assert digest_of(b"weights") in blobs(library)


class TestNamedPipes:
    """To open one waits for its other end, and nobody there would ever come."""

    def test_as_a_manifest(self, library: Library) -> None:
        path = library.manifests.path(TINY)
        path.parent.mkdir(parents=True)
        os.mkfifo(path)
        with pytest.raises(StoreError, match=f"can't read {path}: it is a named pipe"):
            library.get(TINY)
        assert library.list() == []

    @pytest.mark.parametrize("kind", ["config", "system"])
    def test_as_a_layer(self, kind: str, library: Library) -> None:
        manifest = add(library, "tiny", system=b"Be brief.")
        layers = {"config": manifest.config, "system": (manifest.layers or [])[0]}
        path = library.blobs.path(layers[kind].digest)
        path.unlink()
        os.mkfifo(path)
        with pytest.raises(StoreError, match=f"can't read {path}: it is a named pipe"):
            library.get(TINY)
        assert [model.name for model in library.list()] == ([] if kind == "config" else [TINY])


@pytest.mark.parametrize("operation", ["get", "delete"])
def test_a_name_too_long_for_a_file_is_no_models(operation: str, library: Library) -> None:
    with pytest.raises(ModelNotFound):
        getattr(library, operation)(Name.parse(f"{'h' * 300}/namespace/model"))


def test_there_is_no_model_whose_name_is_too_long_for_a_file(library: Library) -> None:
    assert not library.exists(Name.parse(f"{'h' * 300}/namespace/model"))


def test_what_a_killed_process_left_of_a_manifest_goes_at_a_later_start(library: Library) -> None:
    add(library, "tiny")
    folder = library.manifests.path(TINY).parent
    abandoned, underway = folder / ".tmp-abandoned", folder / ".tmp-underway"
    for path in (abandoned, underway):
        path.write_bytes(b'{"schemaVersion":2,')
    long_ago = time.time() - STALE_AFTER - 1
    os.utime(abandoned, (long_ago, long_ago))
    library.prepare()
    assert sorted(folder.iterdir()) == [underway, library.manifests.path(TINY)]


def churn(root: Path, number: int) -> None:
    """Creates and deletes models that share their weights with those of other processes."""
    library = Library(root)
    for turn in range(15):
        name = f"m{number}-{turn}"
        add(library, name, model=b"shared weights", system=f"{number}".encode())
        library.get(Name.parse(name))
        library.delete(Name.parse(name))


class TestTogether:
    def test_processes_that_share_blobs_never_take_them_from_each_other(
        self, library: Library
    ) -> None:
        context = multiprocessing.get_context("spawn")
        with context.Pool(3) as pool:
            pool.starmap(churn, [(library.root, number) for number in range(3)])
        assert library.list() == []
        assert blobs(library) == set()

    def test_neither_do_threads(self, library: Library) -> None:
        failures: list[BaseException] = []

        def run(number: int) -> None:
            try:
                churn(library.root, number)
            except BaseException as error:
                failures.append(error)

        threads = [threading.Thread(target=run, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert failures == []
        assert blobs(library) == set()

    @given(
        st.lists(
            st.tuples(
                st.sampled_from(("add", "delete", "copy")), *[st.sampled_from(("a", "b", "c"))] * 2
            ),
            max_size=12,
        )
    )
    @settings(max_examples=40, deadline=None)
    def test_exactly_the_blobs_of_the_models_are_kept(
        self, tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, str]]
    ) -> None:
        library = Library(tmp_path_factory.mktemp("models"))
        for action, one, two in steps:
            if action == "add":
                add(library, one, model=b"shared", system=two.encode())
            elif library.exists(Name.parse(one)):
                if action == "delete":
                    library.delete(Name.parse(one))
                else:
                    library.copy(Name.parse(one), Name.parse(f"copy-{two}"))
        used = {
            blob.digest for stored in library.manifests.read_all() for blob in stored.manifest.blobs
        }
        library.blobs.prepare()
        age(library)
        library.prune()
        assert blobs(library) == used


class TestShow:
    def test_the_modelfile_builds_the_model_again(self, reference: Library) -> None:
        story = reference.get(Name.parse("story"))
        assert modelfile_text(story).splitlines() == [
            '# Modelfile generated by "ollama show"',
            "# To build a new Modelfile based on this, replace FROM with:",
            "# FROM story:latest",
            "",
            f"FROM {reference.root}/blobs/{WEIGHTS}",
            "TEMPLATE {{ if .System }}<s>{{ .System }}</s>{{ end }}{{ .Prompt }}",
            "SYSTEM You tell stories.",
            "PARAMETER stop The end",
            "PARAMETER stop END",
            "PARAMETER temperature 0",
            "LICENSE MIT",
            "MESSAGE user hi",
            "MESSAGE assistant hello",
        ]

    def test_several_lines_are_quoted_and_a_missing_template_is_the_prompt(
        self, library: Library
    ) -> None:
        add(
            library,
            "mario",
            model=b"weights",
            adapter=b"lora",
            projector=b"eyes",
            system=b'Say "hi"\nand go.',
            params=b'{"num_ctx":1e6,"stop":["</s>","\\n\\n"],"temperature":0.5,"use_mmap":true}',
        )
        folder = library.blobs.folder
        weights, adapter, projector = (
            folder / digest_of(content).replace(":", "-")
            for content in (b"weights", b"lora", b"eyes")
        )
        text = modelfile_text(library.get(Name.parse("mario")))
        assert text.partition("\n\n")[2] == (
            f"FROM {weights}\nADAPTER {adapter}\nFROM {projector}\n"
            "TEMPLATE {{ .Prompt }}\n"
            'SYSTEM """Say "hi"\nand go."""\n'
            "PARAMETER num_ctx 1000000\n"
            "PARAMETER stop </s>\n"
            'PARAMETER stop "\n\n"\n'
            "PARAMETER temperature 0.5\n"
            "PARAMETER use_mmap true\n"
        )

    def test_parameters_are_a_table_in_the_order_of_their_names(self) -> None:
        parameters = {
            "temperature": 0,
            "stop": ["</s>", "\n\n", '"\\\x00é\u200b🙂'],
            "num_ctx": 256,
        }
        assert parameters_text(parameters) == "\n".join(
            (
                "num_ctx                        256",
                'stop                           "</s>"',
                'stop                           "\\n\\n"',
                'stop                           "\\"\\\\\\x00é\\u200b🙂"',
                "temperature                    0",
            )
        )
