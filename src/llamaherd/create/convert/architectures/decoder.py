"""What most text generators have in common."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from llamaherd.create.convert.architectures.rope import rope_metadata, rope_parameters
from llamaherd.create.convert.config import Config
from llamaherd.create.convert.plan import Wanted
from llamaherd.create.convert.writer import Value

#: More tokens than any vocabulary has; a bound for what a hostile number can make us allocate.
MAX_VOCABULARY: Final = 1 << 22


@dataclass(frozen=True, slots=True)
class Widths:
    """Sizes in elements and counts. ``query`` and ``key`` are those of all heads together."""

    layers: int
    embedding: int
    heads: int
    key_heads: int
    head: int
    feed_forward: int
    vocabulary: int

    @classmethod
    def of(cls, config: Config) -> Widths:
        """Raises ``BadRequest`` for numbers that don't go together."""
        embedding = config.count("hidden_size")
        heads = config.count("num_attention_heads")
        key_heads = config.count("num_key_value_heads", default=heads)
        if heads % key_heads:
            raise config.wrong("num_key_value_heads", f"a divisor of {heads} heads", key_heads)
        if config.get("head_dim") is None and embedding % heads:
            raise config.wrong("hidden_size", f"a multiple of {heads} heads", embedding)
        head = config.count("head_dim", default=max(embedding // heads, 1))
        if head % 2:
            raise config.wrong("head_dim", "an even number", head)
        return cls(
            config.count("num_hidden_layers"),
            embedding,
            heads,
            key_heads,
            head,
            config.count("intermediate_size"),
            vocabulary_size(config),
        )

    @property
    def query(self) -> int:
        return self.heads * self.head

    @property
    def key(self) -> int:
        return self.key_heads * self.head


def vocabulary_size(config: Config) -> int:
    size = config.count("vocab_size")
    if size > MAX_VOCABULARY:
        raise config.wrong("vocab_size", f"at most {MAX_VOCABULARY}", size)
    return size


def decoder_metadata(
    config: Config, architecture: str, rope: Config | None = None, *, theta: float = 10_000.0
) -> dict[str, Value]:
    """``rope`` are the rotary parameters, if not those that the configuration has, and ``theta``
    is the base for configurations that don't name one."""
    widths = Widths.of(config)
    rope = rope_parameters(config) if rope is None else rope
    return {
        f"{architecture}.{key}": value
        for key, value in (
            ("block_count", widths.layers),
            ("context_length", config.count("max_position_embeddings")),
            ("embedding_length", widths.embedding),
            ("feed_forward_length", widths.feed_forward),
            ("attention.head_count", widths.heads),
            ("attention.head_count_kv", widths.key_heads),
            ("attention.key_length", widths.head),
            ("attention.value_length", widths.head),
            ("attention.layer_norm_rms_epsilon", config.number("rms_norm_eps", default=1e-6)),
            ("rope.dimension_count", widths.head),
            ("vocab_size", widths.vocabulary),
        )
    } | rope_metadata(config, rope, architecture, theta)


def embeddings(
    config: Config, widths: Widths, *, tied: bool = False, plus: float = 0.0
) -> Iterator[Wanted]:
    """The first and the last tensors; ``tied`` is what holds if the configuration doesn't say.

    Tied models have one matrix for both ends, which may be stored as either.
    """
    shape = (widths.vocabulary, widths.embedding)
    tied = config.flag("tie_word_embeddings", default=tied)
    yield Wanted(
        "token_embd.weight",
        ("model.embed_tokens.weight",),
        shape,
        otherwise="lm_head.weight" if tied else "",
    )
    yield Wanted("output_norm.weight", ("model.norm.weight",), (widths.embedding,), plus=plus)
    if not tied:
        yield Wanted("output.weight", ("lm_head.weight",), shape)


def linear(
    target: str, source: str, rows: int, columns: int, *, heads: int = 0, bias: bool | None = None
) -> Iterator[Wanted]:
    """A matrix and its bias: there, not there, or there if it is stored."""
    yield Wanted(f"{target}.weight", (f"{source}.weight",), (rows, columns), heads=heads)
    if bias is not False:
        yield Wanted(
            f"{target}.bias", (f"{source}.bias",), (rows,), heads=heads, optional=bias is None
        )


def attention(
    target: str, source: str, widths: Widths, *, bias: bool | None = False, interleave: bool = False
) -> Iterator[Wanted]:
    """Queries, keys and values; ``interleave`` for architectures that rotate neighbours."""
    heads, key_heads = (widths.heads, widths.key_heads) if interleave else (0, 0)
    yield from linear(
        f"{target}.attn_q",
        f"{source}.q_proj",
        widths.query,
        widths.embedding,
        heads=heads,
        bias=bias,
    )
    yield from linear(
        f"{target}.attn_k",
        f"{source}.k_proj",
        widths.key,
        widths.embedding,
        heads=key_heads,
        bias=bias,
    )
    yield from linear(
        f"{target}.attn_v", f"{source}.v_proj", widths.key, widths.embedding, bias=bias
    )


def gated_feed_forward(
    target: str, source: str, widths: Widths, *, bias: bool | None = False
) -> Iterator[Wanted]:
    for name, rows, columns in (
        ("gate", widths.feed_forward, widths.embedding),
        ("up", widths.feed_forward, widths.embedding),
        ("down", widths.embedding, widths.feed_forward),
    ):
        yield from linear(f"{target}.ffn_{name}", f"{source}.{name}_proj", rows, columns, bias=bias)


def norms(
    target: str, source: str, width: int, names: dict[str, str], plus: float = 0.0
) -> Iterator[Wanted]:
    """Norms without bias: llama.cpp's name to Hugging Face's."""
    for own, theirs in names.items():
        yield Wanted(f"{target}.{own}.weight", (f"{source}.{theirs}.weight",), (width,), plus=plus)
