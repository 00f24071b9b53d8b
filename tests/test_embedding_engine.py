"""Embedding in steps: who comes when, what fails, and that vectors are those of the model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llamaherd.engine.passages import PassageReader
from llamaherd.llama.backend import CacheFull, DecodeAborted, DecodeFailed
from llamaherd.llama.embedding import LastTokenBackend, PooledBackend
from llamaherd.llama.loader import LoadedModel, ModelSpec, load, load_encoder
from llamaherd.runner.protocol import Embed, Generate
from tests.support.encoders import CONTEXT, FIRST, LAST, MEAN, RANK, spelled, write_encoder
from tests.support.engine import GREEDY, Desk
from tests.support.evaluate import evaluate
from tests.support.models import write_model, write_sliding_window_model
from tests.support.recurrent_models import write_recurrent_model
from tests.support.vectors import Answer, EmbeddingDesk, FakeVectors

BOTH = pytest.mark.parametrize("whole", [True, False], ids=["whole", "in pieces"])


def vector(tokens: list[int]) -> list[float]:
    """What ``FakeVectors`` makes of them."""
    return [len(tokens), sum(tokens)]


class TestSteps:
    @BOTH
    def test_inputs_share_batches(self, whole: bool) -> None:
        backend = FakeVectors(whole=whole, n_seq=4)
        desk = EmbeddingDesk(backend)
        inputs = [[1, 2, 3], [4, 5], [6, 7, 8], [9, 1]]
        desk.submit_tokens(1, *inputs)
        assert desk.finish()[1].vectors == {n: vector(each) for n, each in enumerate(inputs)}
        assert len(backend.batches) == (1 if whole else 2)

    @BOTH
    def test_requests_share_batches(self, whole: bool) -> None:
        backend = FakeVectors(whole=whole)
        desk = EmbeddingDesk(backend)
        for number in (1, 2, 3):
            desk.submit_tokens(number, [number, 5])
        answers = desk.finish()
        assert [answers[n].vectors[0] for n in (1, 2, 3)] == [vector([n, 5]) for n in (1, 2, 3)]
        assert len(backend.batches) == (1 if whole else 2)

    @BOTH
    def test_a_long_list_does_not_hold_up_a_short_one(self, whole: bool) -> None:
        desk = EmbeddingDesk(FakeVectors(whole=whole, n_seq=2))
        desk.submit_tokens(1, *[[1, 2]] * 40)
        desk.embedder.step()
        desk.submit_tokens(2, [3, 4])
        for _ in range(4):
            desk.embedder.step()
        assert desk.answers[2].end is not None
        assert desk.answers[1].end is None
        assert len(desk.finish()[1].vectors) == 40

    def test_a_batch_is_bounded_but_holds_one_input_at_least(self) -> None:
        backend = FakeVectors(n_ctx=600, n_batch=600, n_seq=8)
        desk = EmbeddingDesk(backend)
        desk.submit_tokens(1, [1] * 500, *[[2] * 100] * 4)
        desk.finish()
        assert [sum(map(len, batch)) for batch in backend.batches] == [500, 200, 200]

    def test_in_pieces_a_step_reads_what_the_pacer_allows(self) -> None:
        backend = FakeVectors(whole=False, n_ctx=200, n_batch=64)
        desk = EmbeddingDesk(backend)
        desk.submit_tokens(1, [1] * 150)
        desk.embedder.step(writing=1)
        desk.embedder.step()
        assert [sum(map(len, batch)) for batch in backend.batches] == [32, 64]
        assert desk.finish()[1].vectors == {0: vector([1] * 150)}

    @given(
        whole=st.booleans(),
        n_seq=st.integers(1, 4),
        requests=st.lists(
            st.lists(st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=6),
            min_size=1,
            max_size=5,
        ),
        failures=st.lists(st.sampled_from([DecodeAborted, CacheFull]), max_size=4),
    )
    @settings(max_examples=60, deadline=None)
    def test_every_input_gets_its_vector(
        self,
        whole: bool,
        n_seq: int,
        requests: list[list[list[int]]],
        failures: list[type[Exception]],
    ) -> None:
        backend = FakeVectors(whole=whole, n_seq=n_seq)
        backend.failures = failures
        desk = EmbeddingDesk(backend, make_room=lambda: True)
        for number, inputs in enumerate(requests):
            desk.submit_tokens(number, *inputs)
        answers = desk.finish()
        for number, inputs in enumerate(requests):
            assert answers[number].vectors == dict(enumerate(map(vector, inputs)))
            assert answers[number].failures == {}


class TestFailures:
    @BOTH
    def test_a_cancelled_request_falls_silent(self, whole: bool) -> None:
        backend = FakeVectors(whole=whole, n_seq=2)
        desk = EmbeddingDesk(backend)
        desk.submit_tokens(1, *[[1, 2, 3]] * 9)
        desk.submit_tokens(2, *[[4, 5]] * 3)
        desk.embedder.step()
        before = len(desk.answers[1].vectors) if 1 in desk.answers else 0
        desk.embedder.cancel(1)
        desk.embedder.cancel(404)
        answers = desk.finish()
        assert len(answers[2].vectors) == 3
        if 1 in answers:
            assert len(answers[1].vectors) == before
            assert answers[1].end is None

    def test_only_who_is_being_evaluated_is_interrupted(self) -> None:
        class Interrupting(FakeVectors):
            def embed(self) -> None:
                desk.embedder.interrupt(1)
                assert self.aborted == 1
                desk.embedder.interrupt(2)
                assert self.aborted == 1
                super().embed()

        backend = Interrupting()
        desk = EmbeddingDesk(backend)
        desk.embedder.interrupt(1)
        desk.submit_tokens(1, [1])
        desk.finish()
        desk.embedder.interrupt(1)
        assert backend.aborted == 1

    @BOTH
    def test_an_evaluation_that_was_aborted_is_done_again(self, whole: bool) -> None:
        backend = FakeVectors(whole=whole)
        backend.failures = [DecodeAborted]
        desk = EmbeddingDesk(backend)
        desk.submit_tokens(1, [1, 2, 3], [4, 5])
        assert desk.finish()[1].vectors == {0: vector([1, 2, 3]), 1: vector([4, 5])}

    def test_a_batch_that_fails_takes_only_its_own_with_it(self) -> None:
        backend = FakeVectors(n_seq=2)
        backend.failures = [DecodeFailed]
        desk = EmbeddingDesk(backend)
        desk.submit_tokens(1, [1], [2], [3])
        answer = desk.finish()[1]
        assert answer.vectors == {2: vector([3])}
        assert answer.failures == dict.fromkeys((0, 1), (500, "a failure for a test"))

    def test_infinite_numbers_are_not_sent(self) -> None:
        desk = EmbeddingDesk(FakeVectors())
        desk.submit_tokens(1, [1], [99], [2])
        answer = desk.finish()[1]
        assert answer.vectors.keys() == {0, 2}
        assert answer.failures.keys() == {1}
        assert "NaN" in answer.failures[1][1]

    def test_a_full_memory_is_emptied_of_what_nobody_needs(self) -> None:
        backend = FakeVectors(whole=False)
        backend.failures = [CacheFull]
        prefixes = ["forgotten"]

        def make_room() -> bool:
            return bool(prefixes and prefixes.pop())

        desk = EmbeddingDesk(backend, make_room)
        desk.submit_tokens(1, [1, 2], [3, 4])
        assert len(desk.finish()[1].vectors) == 2
        assert prefixes == []

    def test_the_youngest_begins_again_where_there_is_no_room(self) -> None:
        backend = FakeVectors(whole=False)
        backend.failures = [CacheFull]
        desk = EmbeddingDesk(backend)
        desk.submit_tokens(1, [1, 2], [3, 4])
        assert desk.finish()[1].vectors == {0: vector([1, 2]), 1: vector([3, 4])}

    def test_one_that_finds_no_room_alone_fails(self) -> None:
        backend = FakeVectors(whole=False)
        backend.failures = [CacheFull]
        desk = EmbeddingDesk(backend)
        desk.submit_tokens(1, [1, 2])
        assert desk.finish()[1].failures == {0: (500, "the context memory is full")}


# --- real models ----------------------------------------------------------------------------


def spec(path: Path, **fields: Any) -> ModelSpec:
    values = {"n_ctx": 64, "n_slots": 2, "n_batch": 64, "threads": 1, "n_embed": 4, "gpu_layers": 0}
    return ModelSpec(model=path, **(values | fields))


class Model:
    """A backend with the reader of its requests."""

    def __init__(self, backend: PooledBackend | LastTokenBackend, desk: EmbeddingDesk) -> None:
        self.reader = PassageReader(backend.vocabulary, backend)
        self._desk = desk

    def answer(self, *inputs: str | list[int], **fields: Any) -> Answer:
        self._desk.answers.clear()
        self._desk.submit(self.reader.read(Embed(1, [*inputs], **fields)))
        return self._desk.finish()[1]

    def rows(self, *inputs: str | list[int], **fields: Any) -> npt.NDArray[np.float64]:
        vectors = self.answer(*inputs, **fields).vectors
        return np.array([vectors[index] for index in range(len(inputs))])


def encoder(path: Path, pooling: int | None = MEAN, **fields: Any) -> Model:
    backend = load_encoder(spec(write_encoder(path, pooling=pooling), **fields), lambda _: None)
    return Model(backend.backend, EmbeddingDesk(backend.backend))


def decoder(loaded: LoadedModel) -> Model:
    assert loaded.vectors is not None
    return Model(loaded.vectors, EmbeddingDesk(loaded.vectors))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("encoders")


@pytest.fixture(scope="module")
def mean(folder: Path) -> Model:
    return encoder(folder / "mean.gguf")


class TestEncoders:
    @pytest.mark.parametrize(
        ("pooling", "pool"),
        [
            (MEAN, lambda rows: rows.mean(axis=0)),
            (FIRST, lambda rows: rows[0]),
            (LAST, lambda rows: rows[-1]),
            (None, lambda rows: rows.mean(axis=0)),
        ],
        ids=["mean", "cls", "last", "unspecified"],
    )
    def test_pool_as_their_file_says(self, tmp_path: Path, pooling: int | None, pool: Any) -> None:
        model = encoder(tmp_path / "model.gguf", pooling)
        for text in ("abc d", "x"):
            (row,) = model.rows(text, normalize=False)
            tokens = evaluate(tmp_path / "model.gguf", spelled(text), vectors=True)
            assert np.allclose(row, pool(tokens), atol=1e-4)

    def test_the_neighbours_in_a_batch_do_not_matter(self, mean: Model) -> None:
        texts = ["a", "the quick brown fox", "jumps over", "the lazy dog", "zz", "a"]
        together = mean.rows(*texts)
        alone = np.concatenate([mean.rows(text) for text in texts])
        assert np.allclose(together, alone, atol=1e-5)
        assert not np.allclose(together[0], together[1], atol=0.1)

    def test_vectors_have_length_one_unless_raw_ones_are_wanted(self, mean: Model) -> None:
        (row,), (raw,) = mean.rows("abc"), mean.rows("abc", normalize=False)
        assert np.isclose(np.linalg.norm(row), 1)
        assert np.allclose(row, raw / np.linalg.norm(raw))
        assert abs(np.linalg.norm(raw) - 1) > 0.1

    def test_fewer_dimensions_are_the_first_ones_made_of_length_one(self, mean: Model) -> None:
        (row,), (short,) = mean.rows("abc"), mean.rows("abc", dimensions=5)
        assert np.allclose(short, row[:5] / np.linalg.norm(row[:5]), atol=1e-6)
        (raw,) = mean.rows("abc", dimensions=5, normalize=False)
        assert len(raw) == 5

    def test_tokens_do_as_well_as_texts(self, mean: Model) -> None:
        with_special = spelled("abc d")
        rows = mean.rows("abc d", with_special, with_special[1:-1])
        assert np.allclose(rows, rows[0], atol=1e-6)

    def test_no_text_is_a_text_too(self, mean: Model) -> None:
        assert mean.answer("").end.counts == [2]  # type: ignore[union-attr]

    def test_numbers_that_print_shortly(self, mean: Model) -> None:
        exact, short = mean.rows("abc d"), mean.rows("abc d", decimal=True)
        assert (short.astype(np.float32) == exact.astype(np.float32)).all()
        assert max(len(repr(float(number))) for number in short.ravel()) < 16


class TestChecks:
    LONG = "ab " * CONTEXT

    def test_what_is_too_long_is_cut_behind(self, mean: Model) -> None:
        answer = mean.answer(self.LONG)
        assert answer.end is not None
        assert answer.end.counts == [CONTEXT]
        whole = spelled(self.LONG)
        (same,) = mean.rows([*whole[: CONTEXT - 1], whole[-1]])
        assert np.allclose(answer.vectors[0], same, atol=1e-6)

    def test_or_refused_with_its_index_before_any_work(self, mean: Model) -> None:
        answer = mean.answer("a", self.LONG, "b", truncate=False)
        assert answer.vectors == {}
        assert answer.failures == {1: (400, "input length exceeds maximum context length")}

    def test_or_it_fails_alone(self, mean: Model) -> None:
        answer = mean.answer("a", self.LONG, "b", [5, 999], truncate=False, partial=True)
        assert answer.vectors.keys() == {0, 2}
        assert answer.failures.keys() == {1, 3}
        assert "token 999 is not in the vocabulary" in answer.failures[3][1]
        assert answer.end is not None
        assert answer.end.counts == [3, 0, 3, 0]

    def test_exactly_the_context_fits(self, mean: Model) -> None:
        fits = "a" * (CONTEXT - 2)
        assert mean.answer(fits, truncate=False).failures == {}
        assert mean.answer(fits + "a", truncate=False).failures.keys() == {0}

    def test_more_dimensions_than_there_are(self, mean: Model) -> None:
        with pytest.raises(Exception, match=r"dimensions must be at most 64, .*, not 65"):
            mean.reader.read(Embed(1, ["a"], dimensions=65))

    def test_ranking_is_for_models_that_rank(self, mean: Model, tmp_path: Path) -> None:
        with pytest.raises(Exception, match="does not rank"):
            mean.reader.read(Embed(1, ["a"], query="b"))
        ranker = encoder(tmp_path / "ranker.gguf", RANK)
        with pytest.raises(Exception, match="does not support embeddings"):
            ranker.reader.read(Embed(1, ["a"]))


class TestRanking:
    def test_a_cross_encoder_reads_query_and_document_together(self, tmp_path: Path) -> None:
        ranker = encoder(tmp_path / "ranker.gguf", RANK)
        first = encoder(tmp_path / "first.gguf", FIRST)
        pair = [*spelled("abc"), *spelled("d ef")[1:]]
        (vector,) = first.rows(pair, normalize=False)
        path = tmp_path / "ranker.gguf"
        rows = ranker.rows("d ef", "x", query="abc", normalize=False)
        assert rows.shape == (2, 1)
        assert np.isclose(rows[0, 0], head(path, vector), atol=1e-3)

    def test_the_file_may_say_how_a_pair_is_written(self, tmp_path: Path) -> None:
        path = write_encoder(
            tmp_path / "model.gguf", pooling=RANK, rank_template="[CLS]q {query} d {document} e"
        )
        backend = load_encoder(spec(path), lambda _: None).backend
        reader = PassageReader(backend.vocabulary, backend)
        passages = reader.read(Embed(1, ["xy", "ab " * CONTEXT], query="abc"))
        assert passages.tokens[0] == spelled("q abc d xy e")[:-1]
        long = passages.tokens[1]
        assert long is not None
        assert (len(long), long[-1]) == (CONTEXT, spelled("e")[1])

    def test_a_document_that_is_too_long_is_cut_and_the_query_is_not(self, tmp_path: Path) -> None:
        ranker = encoder(tmp_path / "ranker.gguf", RANK)
        answer = ranker.answer("ab " * CONTEXT, query="abc")
        assert answer.end is not None
        assert answer.end.counts == [CONTEXT]
        with pytest.raises(Exception, match="query: input length exceeds"):
            ranker.reader.read(Embed(1, ["a"], query="ab " * CONTEXT))


def head(path: Path, vector: npt.NDArray[np.float64]) -> float:
    """What the classifier of a file makes of a vector."""
    import gguf

    tensors = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    return float(tensors["cls.output.weight"][0] @ vector + tensors["cls.output.bias"][0])


WRITERS = {
    "attention": write_model,
    "sliding window": lambda path: write_sliding_window_model(path, window=16),
    "recurrent": write_recurrent_model,
}


class TestGenerators:
    @pytest.mark.parametrize("kind", WRITERS)
    def test_embed_by_their_last_token(self, kind: str, tmp_path: Path) -> None:
        path = WRITERS[kind](tmp_path / "model.gguf")
        model = decoder(load(spec(path, n_batch=16), lambda _: None))
        texts = ["Once upon a time", "", "there was a little girl named Lily " * 3, "x"]
        for text, row in zip(texts, model.rows(*texts, normalize=False), strict=True):
            tokens = model.reader.read(Embed(1, [text])).tokens[0]
            assert tokens is not None
            expected = evaluate(path, tokens, vectors=True)[-1]
            assert np.allclose(row, expected, atol=2e-3 * np.abs(expected).max()), text

    def test_do_not_disturb_what_is_being_written(self, tmp_path: Path) -> None:
        path = write_model(tmp_path / "model.gguf")
        alone = load(spec(path), lambda _: None).backend
        prompt = alone.vocabulary.tokenize("Once upon", add_special=True, parse_special=False)
        request = Generate(1, prompt, GREEDY, num_predict=40)
        expected = Desk(alone, n_slots=2).ask(request).text

        loaded = load(spec(path), lambda _: None)
        model = decoder(loaded)
        chat = Desk(loaded.backend, n_slots=2)
        desk = EmbeddingDesk(loaded.vectors, chat.engine.make_room)  # type: ignore[arg-type]
        texts: list[str | list[int]] = ["Once upon a time there was a dog"] * 3
        for number in range(8):
            desk.submit(model.reader.read(Embed(number, texts)))
        chat.engine.submit(request)
        while chat.engine.busy:
            chat.engine.step()
            desk.embedder.step(writing=chat.engine.writing) if desk.embedder.busy else None
        assert chat.replies[1].text == expected
        rows = [row for answer in desk.finish().values() for row in answer.vectors.values()]
        assert len(rows) == 24
        assert np.allclose(rows, model.rows(texts[0])[0], atol=1e-4)
