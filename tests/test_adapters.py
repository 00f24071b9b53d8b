"""Models with adapters: what fits, what adds up, and what stays out of each other's way."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llamaherd.create.adapters import MAX_ADAPTERS, check_adapter, grouped
from llamaherd.errors import BadRequest
from llamaherd.gguf import ValueType
from tests.support.adapters import peft_config, write_adapter_folder
from tests.support.cli import ollama
from tests.support.gguf_files import Pairs, write_gguf
from tests.support.models import write_adapter, write_model
from tests.support.server import RunningServer, digest_of, running_server

ROUTE = "blk.0.attn_output.weight"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("adapters")
    write_model(folder / "tiny.gguf")
    write_adapter(folder / "one.gguf", gain=2.0)
    write_adapter(folder / "two.gguf", gain=2.0, seed=2)
    return folder


@pytest.fixture(scope="module")
def server(folder: Path) -> Iterator[RunningServer]:
    with running_server(folder) as server:
        server.add("tiny", folder / "tiny.gguf")
        yield server


@pytest.fixture
def store(folder: Path) -> Path:
    return folder / ".ollama" / "models"


def writes(server: RunningServer, model: str, prompt: str = "Once") -> str:
    options = {"temperature": 0, "num_predict": 24}
    answer = server.post("/api/generate", model=model, prompt=prompt, options=options, stream=False)
    assert answer.status == 200, answer.text
    return str(answer.json()["response"])


def upload(server: RunningServer, *paths: Path) -> dict[str, str]:
    files = {path.name: digest_of(path.read_bytes()) for path in paths}
    for path in paths:
        assert server.upload(path, files[path.name]).status in (200, 201)
    return files


def matrix(shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """One of ggml's shape, which may leave out sizes of 1."""
    return np.zeros((*shape, 1, 1)[1::-1], np.float32)


class TestGroups:
    def test_a_folder_of_safetensors_or_a_gguf_is_one(self) -> None:
        files = {
            "2/adapter_config.json": "a",
            "2/adapter_model.safetensors": "b",
            "1/lora.gguf": "c",
            "1/other.bin": "d",
            "adapter_config.json": "e",
            "adapters.safetensors": "f",
        }
        assert list(grouped(files)) == [
            ("1/lora.gguf", {"lora.gguf": "c"}),
            ("1/other.bin", {"other.bin": "d"}),
            ("2", {"adapter_config.json": "a", "adapter_model.safetensors": "b"}),
            ("adapters.safetensors", {"adapter_config.json": "e", "adapters.safetensors": "f"}),
        ]

    def test_are_not_without_number(self) -> None:
        files = {f"{number}.gguf": "x" for number in range(MAX_ADAPTERS + 1)}
        with pytest.raises(BadRequest, match="33 adapters, expected at most 32"):
            list(grouped(files))


class TestFits:
    def test_what_was_made_for_the_model(self, folder: Path, tmp_path: Path) -> None:
        check_adapter("one", folder / "one.gguf", folder / "tiny.gguf")
        extra = {
            "blk.0.attn_norm.weight": (64,),
            "token_embd.weight.lora_a": (512, 4),
            "token_embd.weight.lora_b": (64, 4),
            "output.weight.lora_a": (1, 64),
            "output.weight.lora_b": (512, 1),
        }
        adapter = write_adapter(tmp_path / "more.gguf", tensors=extra)
        check_adapter("more", adapter, folder / "tiny.gguf")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"architecture": "qwen2"}, "made for architecture qwen2, the base model is llama"),
            ({"alpha": float("nan")}, "adapter.lora.alpha: expected a number, not nan"),
            ({"kind": "control"}, "adapter.type: expected 'lora', not 'control'"),
            ({"model_layers": 3}, "the base model has no matrix blk.2.attn_output.weight"),
            ({"n_embd": 32}, r"lora_a: shape \[32, 4\], expected \[64, 4\]"),
            ({"model_layers": 0}, "has no LoRA tensors"),
            ({"tensors": {f"{ROUTE}.lora_b": ()}}, f"tensor {ROUTE}.lora_b is missing"),
            ({"tensors": {f"{ROUTE}.lora_a": ()}}, f"tensor {ROUTE}.lora_a is missing"),
            ({"tensors": {f"{ROUTE}.lora_b": (64, 8)}}, r"lora_b: shape \[8, 64\], expected \[4"),
            ({"tensors": {f"{ROUTE}.lora_b": (4, 64)}}, r"lora_b: shape \[64, 4\], expected \[4"),
            ({"tensors": {"blk.0.ffn_up.weight": (64, 4)}}, "a name that ends in .lora_a or"),
            (
                {
                    "tensors": {
                        "output_norm.weight.lora_a": (4, 64),
                        "output_norm.weight.lora_b": (64, 4),
                    }
                },
                "the base model has no matrix output_norm.weight",
            ),
        ],
    )
    def test_the_rest_is_refused_by_name(
        self, changes: dict[str, Any], message: str, folder: Path, tmp_path: Path
    ) -> None:
        adapter = write_adapter(tmp_path / "lora.gguf", **changes)
        with pytest.raises(BadRequest, match=f"^adapters: mine: .*{message}"):
            check_adapter("mine", adapter, folder / "tiny.gguf")

    @given(
        st.dictionaries(
            st.builds(
                str.__add__,
                st.sampled_from([ROUTE, "token_embd.weight", "output_norm.weight", ""]),
                st.sampled_from([".lora_a", ".lora_b", ".lora_c", ""]),
            ),
            st.sampled_from([(64, 4), (4, 64), (4, 512), (64,), (1, 64), (64, 4, 1)])
            | st.lists(st.sampled_from([1, 4, 64]), max_size=3).map(tuple),
            max_size=3,
        )
    )
    @settings(
        max_examples=60,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture],
    )
    def test_whatever_it_has_is_taken_or_refused(
        self, folder: Path, tmp_path: Path, shapes: dict[str, tuple[int, ...]]
    ) -> None:
        adapter = tmp_path / "any.gguf"
        pairs: Pairs = {
            "general.type": (ValueType.STRING, "adapter"),
            "adapter.type": (ValueType.STRING, "lora"),
        }
        write_gguf(adapter, pairs, {name: ("F32", shape) for name, shape in shapes.items()})
        try:
            check_adapter("any", adapter, folder / "tiny.gguf")
        except BadRequest:
            return
        for name in {name[:-7] for name in shapes if name.endswith((".lora_a", ".lora_b"))}:
            a, b = (matrix(shapes[f"{name}.lora_{half}"]) for half in "ab")
            product = a @ b.T if name == "token_embd.weight" else b @ a
            assert product.shape == ((512, 64) if name == "token_embd.weight" else (64, 64))

    def test_a_file_cut_short(self, folder: Path, tmp_path: Path) -> None:
        adapter = tmp_path / "cut.gguf"
        adapter.write_bytes((folder / "one.gguf").read_bytes()[:-64])
        with pytest.raises(BadRequest, match=r"^adapters: mine: cut\.gguf is truncated"):
            check_adapter("mine", adapter, folder / "tiny.gguf")


class TestCreate:
    def test_a_base_that_does_not_match_leaves_nothing(
        self, server: RunningServer, store: Path, tmp_path: Path
    ) -> None:
        files = upload(server, write_adapter(tmp_path / "wide.gguf", n_embd=32))
        before = set(store.rglob("*"))
        answer = server.post(
            "/api/create", model="bad", adapters=files, stream=False, **{"from": "tiny"}
        )
        assert answer.status == 400
        assert answer.json()["error"].startswith("adapters: wide.gguf: tensor blk.0.attn_output")
        assert set(store.rglob("*")) == before

    def test_what_was_converted_for_nothing_goes(
        self, server: RunningServer, store: Path, tmp_path: Path
    ) -> None:
        """The first of two adapters is converted before the second turns out not to fit."""
        files = self.safetensors(server, tmp_path, "1/")
        misfit = upload(server, write_adapter(tmp_path / "wide.gguf", n_embd=32))
        files["2/wide.gguf"] = misfit["wide.gguf"]
        before = set(store.rglob("*"))
        answer = server.post("/api/create", model="bad", adapters=files, **{"from": "tiny"})
        statuses = [line.get("status") for line in answer.lines()]
        assert statuses[0] == "converting adapter"
        assert "2/wide.gguf" in answer.lines()[-1]["error"]
        assert set(store.rglob("*")) == before

    def safetensors(self, server: RunningServer, tmp_path: Path, prefix: str) -> dict[str, str]:
        random = np.random.default_rng(5)
        stem = "base_model.model.model.layers.0.self_attn.q_proj"
        tensors = {
            f"{stem}.lora_A.weight": random.standard_normal((4, 64)) / 8,
            f"{stem}.lora_B.weight": random.standard_normal((64, 4)),
        }
        folder = write_adapter_folder(tmp_path / "peft", tensors, peft_config())
        return {f"{prefix}{name}": d for name, d in upload(server, *folder.iterdir()).items()}

    def test_names_stay_inside(self, server: RunningServer, folder: Path) -> None:
        files = upload(server, folder / "one.gguf")
        for name in ("../one.gguf", "/one.gguf", "a//b", ""):
            answer = server.post(
                "/api/create", model="bad", adapters={name: files["one.gguf"]}, **{"from": "tiny"}
            )
            assert (answer.status, answer.json()["error"]) == (400, "file path must be relative")


@pytest.fixture(scope="module")
def adapted(server: RunningServer, folder: Path) -> None:
    """Models with one adapter, the other, both at once, and one after the other."""
    files = upload(server, folder / "one.gguf", folder / "two.gguf")
    one, two = ({name: digest} for name, digest in files.items())
    server.create("one", "tiny", adapters=one)
    server.create("two", "tiny", adapters=two)
    server.create("both", "tiny", adapters=files)
    server.create("stacked", "one", adapters=two)


@pytest.mark.usefixtures("adapted")
class TestAdaptedModels:
    def test_adapters_add_up(self, server: RunningServer) -> None:
        """Whether they come together or one after the other."""
        texts = {model: writes(server, model) for model in ("tiny", "one", "two", "both")}
        assert len(set(texts.values())) == 4
        assert writes(server, "stacked") == texts["both"]

    def test_the_same_one_can_not_be_added_twice(self, server: RunningServer, folder: Path) -> None:
        files = upload(server, folder / "one.gguf")
        answer = server.post(
            "/api/create", model="one", adapters=files, stream=False, **{"from": "one"}
        )
        message = "adapters: one.gguf: the model has this adapter already"
        assert (answer.status, answer.json()) == (400, {"error": message})

    def test_requests_do_not_disturb_each_other(self, server: RunningServer) -> None:
        """Each model writes in company what it writes alone."""
        prompts = ["Once", "One day", "Lily", "The dog"]
        asked = [(model, prompt) for prompt in prompts for model in ("tiny", "one", "both")]
        alone = [writes(server, *each) for each in asked]
        with ThreadPoolExecutor(len(asked)) as pool:
            together = list(pool.map(lambda each: writes(server, *each), asked * 2))
        assert together == alone * 2
        assert {"tiny:latest", "one:latest", "both:latest"} <= server.loaded().keys()

    def test_show(self, server: RunningServer, store: Path, folder: Path) -> None:
        shown = server.post("/api/show", model="both").json()
        assert shown["details"]["families"] == ["llama"] * 3
        assert shown["details"]["parent_model"] == "tiny:latest"
        blobs = [
            store / "blobs" / digest_of((folder / name).read_bytes()).replace(":", "-")
            for name in ("tiny.gguf", "one.gguf", "two.gguf")
        ]
        commands = [f"FROM {blobs[0]}", f"ADAPTER {blobs[1]}", f"ADAPTER {blobs[2]}"]
        lines = shown["modelfile"].splitlines()
        assert [line for line in lines if line.startswith(("FROM", "ADAPTER"))] == commands
        printed = ollama("show", "both", "--modelfile", host=server.host)
        assert printed.stdout == shown["modelfile"] + "\n"

    def test_a_shown_modelfile_makes_the_model_again(
        self, server: RunningServer, tmp_path: Path
    ) -> None:
        printed = ollama("show", "both", "--modelfile", host=server.host)
        (tmp_path / "Modelfile").write_text(printed.stdout)
        done = ollama("create", "again", host=server.host, folder=tmp_path)
        assert done.code == 0, done
        assert writes(server, "again") == writes(server, "both")

    def test_removing_keeps_what_others_use(
        self, server: RunningServer, store: Path, folder: Path
    ) -> None:
        path = write_adapter(folder / "own.gguf", seed=3)
        files = upload(server, path, folder / "one.gguf")
        server.create("gone", "tiny", adapters=files)
        own, shared = (
            store / "blobs" / files[name].replace(":", "-") for name in ("own.gguf", "one.gguf")
        )
        assert own.exists()
        server.request("DELETE", "/api/delete", {"model": "gone"})
        assert not own.exists()
        assert shared.exists()
        assert writes(server, "one") != writes(server, "tiny")


class TestCommandLine:
    def test_several_of_every_kind(
        self, server: RunningServer, folder: Path, tmp_path: Path
    ) -> None:
        """A folder, a file in a folder, GGUF files of the same name: in the Modelfile's order."""
        random = np.random.default_rng(7)
        for layer in (0, 1):
            stem = f"base_model.model.model.layers.{layer}.self_attn.q_proj"
            tensors = {
                f"{stem}.lora_A.weight": random.standard_normal((4, 64)) / 8,
                f"{stem}.lora_B.weight": random.standard_normal((64, 4)),
            }
            write_adapter_folder(tmp_path / f"peft{layer}", tensors, peft_config())
        for name in ("one", "two"):
            (tmp_path / name).mkdir()
            shutil.copy(folder / f"{name}.gguf", tmp_path / name / "lora.gguf")
        (tmp_path / "Modelfile").write_text(
            "FROM tiny\n"
            "ADAPTER ./peft0\n"
            "ADAPTER ./one/lora.gguf\n"
            "ADAPTER peft1/adapter_model.safetensors\n"
            "ADAPTER ./two\n"
        )
        done = ollama("create", "four", host=server.host, folder=tmp_path)
        assert done.code == 0, done
        modelfile = server.post("/api/show", model="four").json()["modelfile"]
        digests = [line.rpartition("sha256-")[2] for line in modelfile.splitlines()[5:9]]
        expected = [
            digest_of((folder / name).read_bytes()).removeprefix("sha256:")
            for name in ("one.gguf", "two.gguf")
        ]
        assert digests[1::2] == expected
        assert len(set(digests)) == 4
        assert writes(server, "four") != writes(server, "tiny")

    def test_an_adapter_beside_its_model(self, server: RunningServer, tmp_path: Path) -> None:
        """``ADAPTER .`` means the adapter's files, not the model's."""
        write_adapter_folder(tmp_path, {}, {})
        (tmp_path / "model.safetensors").touch()
        (tmp_path / "Modelfile").write_text("FROM tiny\nADAPTER .\n")
        done = ollama("create", "beside", host=server.host, folder=tmp_path)
        assert done.code == 1
        assert "adapter_config.json: peft_type: expected 'LORA'" in done.stderr
        assert "model.safetensors" not in done.stderr.replace("adapter_model.safetensors", "")
