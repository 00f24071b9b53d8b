"""Figures for Prometheus: what was observed, and what is so at the time of asking.

Labels are bounded: models are named only once they were found in the store, paths are the patterns
of our routes, methods those that we serve.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from llamaherd.duration import SECOND
from llamaherd.scheduler.loop import LoadedModel
from llamaherd.telemetry import (
    Generated,
    LoadEnded,
    Observation,
    RequestBegan,
    RequestEnded,
    RunnerEnded,
    TextBegan,
    TextsEmbedded,
    TransferEnded,
    Waited,
)
from llamaherd.version import OLLAMA_VERSION, __version__

#: Limits of the histograms, in seconds: from a cached answer to a long reply of a slow model.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600)

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})

#: The label of what a client can make up at will.
_OTHER: Final = "other"


@dataclass(frozen=True, slots=True)
class Now:
    """What is so at this moment: ``waiting`` requests, ``loaded`` models."""

    waiting: int
    loaded: list[LoadedModel]


class Metrics:
    """All figures of one server, in a registry of their own.

    ``now`` is asked each time that the figures are.
    """

    def __init__(self, now: Callable[[], Now]) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(_Momentary(now))
        ProcessCollector(registry=self._registry)
        self._info = Info("llamaherd_build", "The version that runs", registry=self._registry)
        self._info.info({"version": __version__, "ollama_version": OLLAMA_VERSION})
        self._add_http()
        self._add_models()
        self._add_generations()
        self._add_embeddings()
        self._transfers = self._counter(
            "transfers", "Models pulled and pushed", "direction", "outcome"
        )

    def observe(self, observation: Observation) -> None:
        """Count what happened: the ``telemetry.Observer`` of the server."""
        match observation:
            case RequestBegan():
                self._in_flight.inc()
            case RequestEnded():
                self._end_request(observation)
            case Waited(model, duration):
                self._waits.labels(model).observe(duration / SECOND)
            case LoadEnded(model, outcome, duration):
                self._loads.labels(model, outcome).inc()
                if outcome == "loaded":
                    self._load_durations.labels(model).observe(duration / SECOND)
            case RunnerEnded(model, crashed):
                (self._crashes if crashed else self._unloads).labels(model).inc()
            case TextBegan(model, duration):
                self._first_texts.labels(model).observe(duration / SECOND)
            case Generated():
                self._end_generation(observation)
            case TextsEmbedded(model, count, token_count, duration):
                self._embedded.labels(model).inc(count)
                self._prompt_tokens.labels(model).inc(token_count)
                self._embedding_durations.labels(model).observe(duration / SECOND)
            case TransferEnded(direction, outcome):
                self._transfers.labels(direction, outcome).inc()

    def exposition(self, accept: str) -> tuple[bytes, str]:
        """The figures and their media type, in the text format that ``accept`` asks for."""
        encode, media_type = choose_encoder(accept)
        return encode(self._registry), media_type

    # --- what there is ----------------------------------------------------------------------

    def _add_http(self) -> None:
        self._requests = self._counter("http_requests", "Requests", "route", "method", "status")
        self._durations = self._histogram(
            "http_request_duration_seconds", "Until the last byte of the answer", "route", "method"
        )
        self._in_flight = Gauge(
            "llamaherd_http_requests_in_flight",
            "Requests that are being answered",
            registry=self._registry,
        )

    def _add_models(self) -> None:
        self._waits = self._histogram(
            "queue_wait_seconds", "Until a request got a runner, loading included", "model"
        )
        self._loads = self._counter("model_loads", "Models loaded, or not", "model", "outcome")
        self._load_durations = self._histogram(
            "model_load_duration_seconds", "Loading a model", "model"
        )
        self._unloads = self._counter("model_unloads", "Models unloaded", "model")
        self._crashes = self._counter("runner_crashes", "Runners that died", "model")

    def _add_generations(self) -> None:
        self._generations = self._counter("generations", "Replies that ended", "model", "reason")
        self._prompt_tokens = self._counter(
            "prompt_tokens", "Tokens of prompts, and of texts that were embedded", "model"
        )
        self._cached_tokens = self._counter(
            "prompt_tokens_cached", "Tokens of prompts that were in the cache", "model"
        )
        self._dropped_tokens = self._counter(
            "prompt_tokens_dropped", "Tokens that prompts lost to fit the context", "model"
        )
        self._generated_tokens = self._counter("generated_tokens", "Tokens of replies", "model")
        self._first_texts = self._histogram(
            "time_to_first_token_seconds",
            "Until the first text of a reply, waiting included",
            "model",
        )
        self._prompt_seconds = self._counter(
            "prompt_evaluation_seconds", "Time spent reading prompts", "model"
        )
        self._writing_seconds = self._counter("writing_seconds", "Time spent on replies", "model")
        self._generation_durations = self._histogram(
            "generation_duration_seconds", "Whole replies, waiting included", "model"
        )

    def _add_embeddings(self) -> None:
        self._embedded = self._counter("embedded_texts", "Texts that became vectors", "model")
        self._embedding_durations = self._histogram(
            "embedding_duration_seconds", "Whole requests for embeddings, waiting included", "model"
        )

    def _counter(self, name: str, text: str, *labels: str) -> Counter:
        """``_total`` comes after the name."""
        return Counter(f"llamaherd_{name}", text, labels, registry=self._registry)

    def _histogram(self, name: str, text: str, *labels: str) -> Histogram:
        return Histogram(
            f"llamaherd_{name}", text, labels, buckets=_BUCKETS, registry=self._registry
        )

    # --- counting ---------------------------------------------------------------------------

    def _end_request(self, ended: RequestEnded) -> None:
        route = ended.route or _OTHER
        method = ended.method if ended.method in _METHODS else _OTHER
        self._in_flight.dec()
        self._requests.labels(route, method, str(ended.status)).inc()
        self._durations.labels(route, method).observe(ended.duration / SECOND)

    def _end_generation(self, ended: Generated) -> None:
        model = ended.model
        self._generations.labels(model, ended.reason).inc()
        self._prompt_tokens.labels(model).inc(ended.prompt_count)
        self._cached_tokens.labels(model).inc(ended.cached_count)
        self._dropped_tokens.labels(model).inc(ended.dropped_count)
        self._generated_tokens.labels(model).inc(ended.eval_count)
        self._prompt_seconds.labels(model).inc(ended.prompt_duration / SECOND)
        self._writing_seconds.labels(model).inc(ended.eval_duration / SECOND)
        self._generation_durations.labels(model).observe(ended.duration / SECOND)


class _Momentary(Collector):
    """What isn't counted but looked at."""

    def __init__(self, now: Callable[[], Now]) -> None:
        self._now = now

    def collect(self) -> Iterator[Metric]:
        now = self._now()
        yield _gauge("queue_length", "Requests that wait for a runner", [((), now.waiting)])
        yield _gauge("loaded_models", "Models in memory", [((), len(now.loaded))])
        sizes: list[tuple[tuple[str, ...], int]] = [((m.name,), m.size) for m in now.loaded]
        yield _gauge("model_memory_bytes", "Memory of a loaded model", sizes, "model")
        sizes = [((m.name,), m.size_vram) for m in now.loaded]
        yield _gauge("model_vram_bytes", "The part of it on accelerators", sizes, "model")


def _gauge(
    name: str, text: str, values: Iterable[tuple[tuple[str, ...], int]], *labels: str
) -> GaugeMetricFamily:
    family: Any = GaugeMetricFamily(f"llamaherd_{name}", text, labels=labels)
    for of, value in values:
        family.add_metric(of, value)
    return family  # type: ignore[no-any-return]
