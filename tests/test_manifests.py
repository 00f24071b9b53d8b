"""Manifests: Ollama's bytes, and no trust in what lies on disk."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.errors import ModelNotFound, StoreError
from llamaherd.store.blobs import digest_of
from llamaherd.store.encoding import go_json, sorted_keys
from llamaherd.store.manifests import (
    CONFIG_TYPE,
    MAX_SIZE,
    Layer,
    Manifest,
    ManifestStore,
    MediaType,
    decode_manifest,
)
from llamaherd.store.names import Name

#: As a real Ollama wrote it.
STORY = Path(__file__).parent / "data/store/manifests/registry.ollama.ai/library/story/latest"

TINY = Name.parse("tiny")


def layer(content: bytes = b"weights", kind: str = MediaType.MODEL, origin: str = "") -> Layer:
    return Layer(media_type=kind, digest=digest_of(content), size=len(content), from_=origin)


def manifest(*layers: Layer) -> Manifest:
    return Manifest(config=layer(b"{}", CONFIG_TYPE), layers=list(layers))


@pytest.fixture
def manifests(tmp_path: Path) -> ManifestStore:
    return ManifestStore(tmp_path / "models" / "manifests")


def names(manifests: ManifestStore) -> list[str]:
    return [name.short for name in manifests.names()]


class TestEncoding:
    def test_a_manifest_of_ollama_is_written_as_it_was_read(self) -> None:
        content = STORY.read_bytes()
        assert decode_manifest(content).encode() == content

    def test_where_a_layer_comes_from_is_left_out_when_unknown(self) -> None:
        encoded = manifest(layer(), layer(origin="me/<x>:latest")).encode()
        first, second = json.loads(encoded)["layers"]
        assert list(first) == ["mediaType", "digest", "size"]
        assert list(second) == ["mediaType", "digest", "size", "from"]
        assert b'"from":"me/\\u003cx\\u003e:latest"}]}\n' in encoded

    @pytest.mark.parametrize(
        ("value", "text"),
        [
            (None, "null"),
            (True, "true"),
            (0, "0"),
            (0.0, "0"),
            (-0.0, "-0"),
            (1.0, "1"),
            (0.8, "0.8"),
            (1e-5, "0.00001"),
            (1.5e-7, "1.5e-7"),
            (1e20, "100000000000000000000"),
            (1e21, "1e+21"),
            ("</s> & é\u2028🙂", '"\\u003c/s\\u003e \\u0026 é\\u2028🙂"'),
            ('\t\n\b\f\x01\x7f"\\', '"\\t\\n\\b\\f\\u0001\x7f\\"\\\\"'),
            ({"b": [1, "x"], "a": {}}, '{"b":[1,"x"],"a":{}}'),
        ],
    )
    def test_json_comes_out_as_from_go(self, value: Any, text: str) -> None:
        assert go_json(value).decode() == text + "\n"

    def test_the_keys_of_a_map_are_sorted_by_their_bytes(self) -> None:
        value = {"b": 1, "a": [{"é": 1, "z": 2, "Z": 3}]}
        assert go_json(sorted_keys(value)).decode() == '{"a":[{"Z":3,"z":2,"é":1}],"b":1}\n'

    def test_what_has_no_json_form_is_refused(self) -> None:
        with pytest.raises(TypeError, match="bytes has no JSON form"):
            go_json({"x": b""})

    @given(
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(st.characters(codec="utf-8")),
            lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
            max_leaves=8,
        )
    )
    @settings(max_examples=100, deadline=None)
    def test_json_reads_back(self, value: Any) -> None:
        assert json.loads(go_json(value)) == value

    @given(st.floats(allow_nan=False, allow_infinity=False))
    @settings(max_examples=200, deadline=None)
    def test_numbers_read_back(self, value: float) -> None:
        assert float(json.loads(go_json(value))) == value


class TestStore:
    def test_what_is_written_can_be_read(self, manifests: ManifestStore) -> None:
        written = manifest(layer())
        manifests.write(TINY, written.encode())
        stored = manifests.read(TINY)
        assert stored.manifest == written
        assert stored.digest == digest_of(written.encode()).removeprefix("sha256:")
        assert stored.modified_at == manifests.path(TINY).stat().st_mtime_ns
        assert written.size == 9

    def test_the_path_is_that_of_ollama(self, manifests: ManifestStore) -> None:
        assert manifests.path(Name.parse("localhost:5000/me/tiny:v1")) == (
            manifests.folder / "localhost:5000" / "me" / "tiny" / "v1"
        )

    def test_a_model_that_is_not_there_is_called_as_the_user_called_it(
        self, manifests: ManifestStore
    ) -> None:
        for use in (manifests.read, manifests.read_bytes, manifests.remove):
            with pytest.raises(ModelNotFound, match=r"^model 'nosuch' not found$"):
                use(Name.parse("nosuch"))

    def test_removing_takes_empty_folders_along(self, manifests: ManifestStore) -> None:
        for name in ("tiny", "tiny:v1", "me/tiny"):
            manifests.write(Name.parse(name), manifest().encode())
        manifests.remove(Name.parse("me/tiny"))
        assert not (manifests.folder / "registry.ollama.ai" / "me").exists()
        manifests.remove(Name.parse("tiny:v1"))
        assert names(manifests) == ["tiny:latest"]
        manifests.remove(TINY)
        assert list(manifests.folder.iterdir()) == []

    def test_names_are_listed_without_what_is_no_manifest(self, manifests: ManifestStore) -> None:
        assert names(manifests) == []
        for name in ("tiny", "me/tiny:v1", "localhost:5000/me/tiny"):
            manifests.write(Name.parse(name), manifest().encode())
        (manifests.folder / ".DS_Store").touch()
        (manifests.path(TINY).parent / ".hidden").touch()
        (manifests.path(TINY).parent / "folder").mkdir()
        assert names(manifests) == ["localhost:5000/me/tiny:latest", "tiny:latest", "me/tiny:v1"]

    def test_a_damaged_one_costs_a_warning_not_the_list(
        self, manifests: ManifestStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        for name in ("tiny", "broken"):
            manifests.write(Name.parse(name), manifest().encode())
        manifests.path(Name.parse("broken")).write_bytes(b"{")
        with caplog.at_level(logging.WARNING):
            found = manifests.read_all()
        assert [stored.name for stored in found] == [TINY]
        assert "skipped broken:latest: damaged manifest" in caplog.text

    def test_so_does_a_folder_that_can_not_be_read(
        self, manifests: ManifestStore, caplog: pytest.LogCaptureFixture
    ) -> None:
        manifests.write(TINY, manifest().encode())
        unreadable = manifests.path(TINY).parents[1] / "loop"
        unreadable.symlink_to("loop")
        manifests.prepare()
        with caplog.at_level(logging.WARNING):
            assert [stored.name for stored in manifests.read_all()] == [TINY]
        assert f"skipped models: can't read {unreadable}: " in caplog.text
        with pytest.raises(StoreError, match=f"can't read {unreadable}: "):
            manifests.references()


class TestCase:
    @pytest.fixture
    def manifests(self, manifests: ManifestStore) -> ManifestStore:
        for name in ("tiny", "Big:Q4", "BIG:q8"):
            manifests.write(Name.parse(name), manifest().encode())
        return manifests

    @pytest.mark.parametrize(
        ("asked", "spelled"),
        [
            ("TINY", "tiny:latest"),
            ("Registry.ollama.AI/Library/Tiny:LATEST", "tiny:latest"),
            ("big:q4", "Big:Q4"),
            ("BIG:Q4", "Big:Q4"),
            ("big:Q8", "BIG:q8"),
        ],
    )
    def test_an_existing_model_is_found_in_any_case(
        self, manifests: ManifestStore, asked: str, spelled: str
    ) -> None:
        found = manifests.existing_spelling(Name.parse(asked))
        assert found.short == spelled
        assert found.given == asked
        assert manifests.exists(found)

    @pytest.mark.parametrize(
        ("asked", "spelled"),
        [
            ("TINY:New", "tiny:New"),
            ("Library/Other", "Other:latest"),
            ("Me/Tiny", "Me/Tiny:latest"),
            ("Example.com/Library/Tiny", "Example.com/Library/Tiny:latest"),
        ],
    )
    def test_a_new_one_takes_over_the_parts_that_exist(
        self, manifests: ManifestStore, asked: str, spelled: str
    ) -> None:
        assert manifests.existing_spelling(Name.parse(asked)).short == spelled


class TestDistrust:
    @pytest.mark.parametrize(
        ("content", "complaint"),
        [
            (b"", "truncated"),
            (b"null", "Expected `object`"),
            (b"[]", "Expected `object`"),
            (b"\xff\xfe", "malformed"),
            (b'{"layers":[]}', "missing required field `config`"),
            (b'{"config":{"mediaType":"x","digest":"../../x","size":1}}', "not a digest"),
            (b'{"config":{"mediaType":"x","digest":5,"size":1}}', "Expected `str`"),
            (b"[" * 100_000, "Expected `object`"),
            (b'{"x":' * 100_000, "recursion|depth|truncated"),
            (b" " * (MAX_SIZE + 1), "too large for a manifest"),
        ],
    )
    def test_a_damaged_manifest_is_an_error_with_the_path(
        self, manifests: ManifestStore, content: bytes, complaint: str
    ) -> None:
        manifests.write(TINY, content)
        with pytest.raises(StoreError, match=str(manifests.path(TINY))) as caught:
            manifests.read(TINY)
        assert any(part in str(caught.value) for part in complaint.split("|")), caught.value

    def test_a_negative_size_is_refused(self) -> None:
        broken = Manifest(config=Layer(media_type="x", digest=digest_of(b""), size=-1))
        with pytest.raises(StoreError, match="has the size -1"):
            decode_manifest(broken.encode())

    @pytest.mark.parametrize("level", range(4))
    def test_a_link_may_not_lead_out_of_the_store(
        self, manifests: ManifestStore, tmp_path: Path, level: int
    ) -> None:
        outside = tmp_path / "outside"
        target = outside.joinpath(*TINY.parts[level + 1 :])
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(manifest().encode())
        link = manifests.folder.joinpath(*TINY.parts[: level + 1])
        link.parent.mkdir(parents=True)
        link.symlink_to(outside)
        with pytest.raises(StoreError, match="leads out of the model store"):
            manifests.read(TINY)
        assert manifests.read_all() == []

    def test_nothing_is_written_through_such_a_link(
        self, manifests: ManifestStore, tmp_path: Path
    ) -> None:
        (tmp_path / "outside").mkdir()
        manifests.folder.mkdir(parents=True)
        (manifests.folder / TINY.host).symlink_to(tmp_path / "outside")
        with pytest.raises(StoreError, match="leads out of the model store"):
            manifests.write(TINY, manifest().encode())
        assert list((tmp_path / "outside").iterdir()) == []

    def test_the_store_itself_may_be_a_link(self, tmp_path: Path) -> None:
        (tmp_path / "disk").mkdir()
        (tmp_path / "models").symlink_to(tmp_path / "disk")
        manifests = ManifestStore(tmp_path / "models" / "manifests")
        manifests.write(TINY, manifest().encode())
        assert manifests.read(TINY).name == TINY

    def test_a_circle_of_links_is_an_error(self, manifests: ManifestStore) -> None:
        path = manifests.path(TINY)
        path.parent.mkdir(parents=True)
        path.symlink_to(path)
        with pytest.raises(StoreError):
            manifests.read(TINY)

    def test_blobs_that_a_damaged_manifest_mentions_count_as_used(
        self, manifests: ManifestStore
    ) -> None:
        encoded = manifest(layer()).encode()
        manifests.write(TINY, encoded[: len(encoded) // 2 + 80])
        with pytest.raises(StoreError):
            manifests.read(TINY)
        assert manifests.references() >= {digest_of(b"{}")}

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_what_cannot_be_read_cannot_be_called_unused(self, manifests: ManifestStore) -> None:
        manifests.write(TINY, manifest().encode())
        manifests.path(TINY).chmod(0)
        with pytest.raises(StoreError, match="Permission denied"):
            manifests.references()
