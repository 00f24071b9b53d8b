"""Which types a model can be quantised to, and that llama.cpp's tool would make the same of it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import gguf as reference
import msgspec
import numpy as np
import pytest

from llamaherd.create.quantize.child import quantize
from llamaherd.create.quantize.job import Job
from llamaherd.create.quantize.types import (
    NEED_IMPORTANCE_MATRIX,
    TARGETS,
    Target,
    parse_target,
    type_of,
)
from llamaherd.errors import BadRequest, StoreError
from llamaherd.gguf import GGUF, ValueType, metadata_info
from llamaherd.llama import quantize as llama
from tests.support import quantized
from tests.support.gguf_files import write_gguf
from tests.support.models import write_model

RECORDED = json.loads(quantized.RECORDED.read_text())


class TestNames:
    @pytest.mark.parametrize("text", ["q4_K_M", "Q4_K_M", "q4_k_m", "Q4_K"])
    def test_in_any_case(self, text: str) -> None:
        assert parse_target(text) == Target("Q4_K_M", 15)

    def test_the_numbers_are_those_of_llama_cpp(self) -> None:
        """As the ``gguf`` package knows them; MXFP4 is for mixtures of experts there."""
        numbers = {
            kind.name.removeprefix("MOSTLY_").removeprefix("ALL_").removesuffix("_MOE"): kind.value
            for kind in reference.LlamaFileType
        }
        later = {"Q1_0", "Q2_0"} - numbers.keys()
        assert {name: numbers[name] for name in TARGETS.keys() - later} == {
            name: number for name, number in TARGETS.items() if name not in later
        }

    @pytest.mark.parametrize("text", ["q9_0", "NVFP4", "q4", " q8_0", "15", "copy"])
    def test_no_others(self, text: str) -> None:
        message = f"unsupported quantization type {text.upper()} - supported types are F32, F16, "
        with pytest.raises(BadRequest, match=message):
            parse_target(text)

    @pytest.mark.parametrize("text", sorted(NEED_IMPORTANCE_MATRIX))
    def test_not_those_that_need_an_importance_matrix(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(BadRequest, match=f"type {text} - it needs an importance matrix"):
            parse_target(text.lower())
        model = quantized.write("shallow", tmp_path / "model.gguf")
        assert llama.plan(model, TARGETS[text]).needs_importance_matrix


class TestTypeOfAModel:
    @pytest.mark.parametrize(
        ("file_type", "tensors", "expected"),
        [
            (1, ["F16", "F32"], "F16"),
            (32, ["BF16", "F32"], "BF16"),
            (0, ["F32", "F32"], "F32"),
            (None, ["F32", "F32"], "F32"),
            (None, ["F16", "F16", "F32"], "F16"),
            (None, ["BF16", "I32"], "BF16"),
            (None, [], "F32"),
            (15, ["Q4_K", "F32"], "Q4_K_M"),
            (None, ["F32", "Q4_K"], "Q4_K"),
        ],
    )
    def test_it_is_what_the_file_says(
        self, tmp_path: Path, file_type: int | None, tensors: list[str], expected: str
    ) -> None:
        assert self.type_of(tmp_path, file_type, tensors) == expected

    def test_unless_the_tensors_say_otherwise(self, tmp_path: Path) -> None:
        assert self.type_of(tmp_path, 1, ["F16", "Q8_0"]) == "Q8_0"
        assert self.type_of(tmp_path, 15, ["F16", "F16"]) == "F16"
        assert self.type_of(tmp_path, 1, ["F32", "F32"]) == "F32"

    def type_of(self, folder: Path, file_type: int | None, tensors: list[str]) -> str:
        said = {} if file_type is None else {"general.file_type": (ValueType.UINT32, file_type)}
        shapes = {f"t{index}": (kind, (256,)) for index, kind in enumerate(tensors)}
        write_gguf(folder / "model.gguf", said, shapes)
        with GGUF.open(folder / "model.gguf") as gguf:
            return type_of(gguf)


class TestSameAsTheTool:
    """The recorded types are those of the tool's files; ``tests.parity.quantized`` compares the
    files themselves."""

    @pytest.mark.parametrize("name", quantized.MODELS)
    def test_each_tensor_has_the_type_that_the_tool_gives_it(
        self, name: str, tmp_path: Path
    ) -> None:
        source, result = quantized.write(name, tmp_path / "model.gguf"), tmp_path / "result.gguf"
        assert set(RECORDED[name]) == set(quantized.targets(name))
        for target, expected in RECORDED[name].items():
            if expected is None:
                with pytest.raises(BadRequest, match="no tensor type fallback is defined for"):
                    llama.quantize(source, result, TARGETS[target], threads=2)
                continue
            llama.quantize(source, result, TARGETS[target], threads=2)
            assert quantized.tensor_types(result) == expected, target

    def test_what_the_file_says_about_itself_stays_but_for_the_type(self, tmp_path: Path) -> None:
        source, result = quantized.write("shallow", tmp_path / "model.gguf"), tmp_path / "r.gguf"
        llama.quantize(source, result, TARGETS["Q4_K_M"], threads=1)
        with GGUF.open(source) as before, GGUF.open(result) as after:
            changed = {"general.file_type": 15, "general.quantization_version": 2}
            assert metadata_info(after, verbose=True) == (
                metadata_info(before, verbose=True) | changed
            )
            assert {tensor.name: tensor.shape for tensor in after.tensors} == {
                tensor.name: tensor.shape for tensor in before.tensors
            }

    def test_the_weights_are_near_what_they_were(self, tmp_path: Path) -> None:
        source, result = quantized.write("shallow", tmp_path / "model.gguf"), tmp_path / "r.gguf"
        llama.quantize(source, result, TARGETS["Q4_K_M"], threads=2)
        before = {tensor.name: tensor for tensor in reference.GGUFReader(source).tensors}
        for tensor in reference.GGUFReader(result).tensors:
            old = before[tensor.name].data.astype(np.float32)
            error = reference.quants.dequantize(tensor.data, tensor.tensor_type) - old
            assert np.abs(error).mean() <= 0.08 * np.abs(old).mean(), tensor.name

    def test_an_alignment_that_llama_cpp_does_not_keep(self, tmp_path: Path) -> None:
        source = write_model(tmp_path / "m.gguf", metadata={"general.alignment": 4096})
        result = tmp_path / "result.gguf"
        llama.quantize(source, result, TARGETS["Q8_0"], threads=1, realign=True)
        aligned = write_model(tmp_path / "usual.gguf")
        usual = tmp_path / "usual-result.gguf"
        llama.quantize(aligned, usual, TARGETS["Q8_0"], threads=1)
        assert tensor_data(result) == tensor_data(usual)


def tensor_data(path: Path) -> dict[str, bytes]:
    return {tensor.name: tensor.data.tobytes() for tensor in reference.GGUFReader(path).tensors}


class TestWhatCannotBe:
    """The work of the child process, done here."""

    def run(self, source: Path, result: Path, target: str = "Q8_0") -> None:
        job = Job(str(source), str(result.parent), target, TARGETS[target])
        with result.open("w+b") as file:
            quantize(msgspec.json.encode(job), [file.fileno()])

    def test_numbers_that_are_none(self, tmp_path: Path) -> None:
        source = spoilt(write_model(tmp_path / "model.gguf"), np.float32("nan"))
        with pytest.raises(BadRequest, match=r"tensor 'blk\.0\.ffn_up\.weight' has invalid data"):
            self.run(source, tmp_path / "result")

    def test_numbers_that_the_type_cannot_hold(self, tmp_path: Path) -> None:
        source = spoilt(write_model(tmp_path / "model.gguf"), np.float32(1e30))
        with pytest.raises(BadRequest, match="quantized data validation failed"):
            self.run(source, tmp_path / "result", "F16")

    def test_an_architecture_that_llama_cpp_does_not_know(self, tmp_path: Path) -> None:
        source = write_model(tmp_path / "model.gguf", metadata={"general.architecture": "wombat"})
        with pytest.raises(BadRequest, match="unknown model architecture: 'wombat'"):
            self.run(source, tmp_path / "result")

    def test_a_disk_without_room(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        source = write_model(tmp_path / "model.gguf")
        full = shutil.disk_usage(tmp_path)._replace(free=1000)
        monkeypatch.setattr("llamaherd.store.files.shutil.disk_usage", lambda _: full)
        with pytest.raises(StoreError, match=r"not enough disk space: .* are to be written"):
            self.run(source, tmp_path / "result")
        assert (tmp_path / "result").stat().st_size == 0


def spoilt(path: Path, number: np.float32) -> Path:
    """The first number of a tensor replaced."""
    with GGUF.open(path) as gguf:
        tensor = next(t for t in gguf.tensors if t.name == "blk.0.ffn_up.weight")
        offset = gguf.data_offset + tensor.offset
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(number.tobytes())
    return path
