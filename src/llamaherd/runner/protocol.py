"""The messages between the server and a runner, and their frames.

One frame is a 4-byte little-endian length and that many bytes of msgpack. Each message is a map
with its tag in ``t``. The server sends ``ServerMessage`` (first of all one ``Load``), the runner
``RunnerMessage`` (first ``Loading``…, then one ``Ready`` or ``LoadFailed``). Requests carry an
``id`` chosen by the server; every answer repeats it. Many requests run at the same time.

This is a seam: an engine of another kind, or a runner on another machine, sits behind the same
messages. Fields are only ever added, with defaults; ``VERSION`` changes when that isn't enough.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

import msgspec
from msgspec import Struct, field

from llamaherd.events import ReadToken, WrittenToken
from llamaherd.grammar import Form

VERSION: Final = 4

#: The largest frame that a reader accepts, in bytes.
MAX_FRAME: Final = 1 << 30

_HEADER: Final = struct.Struct("<I")
HEADER_SIZE: Final = _HEADER.size


class ProtocolError(Exception):
    """The other side sent something that isn't this protocol."""


class _Message(Struct, tag_field="t", omit_defaults=True):
    pass


# --- server to runner -----------------------------------------------------------------------


class Load(_Message, tag="load"):
    """Load a model; sizes in tokens, ``gpu_layers`` -1 is all that fit.

    ``n_ctx`` is the context of one sequence; the cache holds ``n_ctx * n_slots`` tokens, shared by
    all. ``flash_attention`` is "auto", "on" or "off". ``extra_buffers`` False keeps the weights in
    their plain layout (see the fallback in ``llama``). Of a batch the logits of up to ``n_outputs``
    tokens can be had at once, and of one for each sequence in any case.

    The model sees images by its ``projector``, if it has one.

    ``n_embed`` more sequences are there for embeddings; those that are computed together share
    ``n_ctx`` tokens. With ``pools`` the model does nothing else: it looks at a text as a whole, in
    one batch, and ``n_slots`` is only how many requests it takes at a time.
    """

    model: str
    n_ctx: int
    n_slots: int = 1
    n_batch: int = 512
    adapters: list[str] = field(default_factory=list)
    threads: int = 0
    gpu_layers: int = -1
    main_gpu: int = 0
    use_mmap: bool = True
    use_mlock: bool = False
    numa: bool = False
    flash_attention: Literal["auto", "on", "off"] = "auto"
    kv_cache_type: str = "f16"
    extra_buffers: bool = True
    version: int = VERSION
    n_embed: int = 0
    pools: bool = False
    n_outputs: int = 0
    projector: str = ""


class Placed(Struct, frozen=True):
    """An image, the bytes of its file, that stands before the prompt's token at index ``at``."""

    at: int
    image: bytes


class Sampling(Struct, frozen=True, omit_defaults=True):
    """How the next token is chosen; names, meanings and defaults are those of the documentation.

    ``seed`` -1 draws a new seed. ``temperature`` 0 takes the most likely token.
    ``logit_bias`` adds to single logits; -inf masks a token.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.9
    min_p: float = 0.0
    typical_p: float = 1.0
    repeat_last_n: int = 64
    repeat_penalty: float = 1.1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    penalize_newline: bool = True
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    seed: int = -1
    logit_bias: dict[int, float] = field(default_factory=dict)


class Generate(_Message, tag="generate"):
    """Write on from ``prompt`` (tokens, BOS included where the model wants one).

    ``images`` stand in it, in the order of their places.

    ``num_predict`` -1 writes until the model stops, -2 until the context is full. ``num_keep``
    tokens (-1: the whole prompt) stay when the context shifts. ``truncate`` False makes a prompt
    longer than the context an error; ``shift`` False ends with "length" when the context is full.
    A ``grammar`` is what the reply must be; one that can't be kept is answered by ``Failed``.
    ``top_logprobs`` asks for the log-probabilities of the reply's tokens and of so many of the
    likeliest at the place of each, with ``tell_end`` of the token too that ends the reply. With
    ``score_prompt`` the same is told of all tokens of the prompt, by ``Scored`` messages before any
    other.
    """

    id: int
    prompt: list[int]
    sampling: Sampling = field(default_factory=Sampling)
    num_predict: int = -1
    num_keep: int = 4
    stop: list[str] = field(default_factory=list)
    truncate: bool = True
    shift: bool = True
    grammar: Form | None = None
    top_logprobs: int | None = None
    score_prompt: bool = False
    tell_end: bool = False
    images: list[Placed] = field(default_factory=list)


class Look(_Message, tag="look"):
    """How many tokens does an image take, the bytes of whose file these are?"""

    id: int
    image: bytes


class Embed(_Message, tag="embed"):
    """A vector for each of ``inputs``, texts or tokens.

    Special tokens are put around an input where the vocabulary wants them and they aren't there.
    ``truncate`` cuts what is longer than the context; otherwise that input fails. One that fails
    ends the request before any work, unless ``partial``, which goes on with the others.

    ``dimensions`` other than 0 keeps so many numbers of each vector, ``normalize`` makes it of
    length 1. With ``query``, inputs are documents, and a model that ranks gives each its scores.
    ``decimal`` asks for numbers that print as shortly as numbers of 4 bytes do; see ``Vectors``.
    """

    id: int
    inputs: list[str | list[int]]
    query: str | None = None
    truncate: bool = True
    partial: bool = False
    normalize: bool = True
    dimensions: int = 0
    decimal: bool = False


class Tokenize(_Message, tag="tokenize"):
    """``add_special`` adds BOS/EOS as the vocabulary asks, ``parse_special`` reads special tokens.

    ``with_pieces`` asks for the bytes of each token too.
    """

    id: int
    text: str
    add_special: bool = True
    parse_special: bool = True
    with_pieces: bool = False


class Detokenize(_Message, tag="detokenize"):
    id: int
    tokens: list[int]


class Cancel(_Message, tag="cancel"):
    """Forget the request within one step; nothing more comes for this id."""

    id: int


class Conclude(_Message, tag="conclude"):
    """End a reply where it is: its ``Finished`` follows, perhaps after chunks under way."""

    id: int


class Shutdown(_Message, tag="shutdown"):
    """End the process."""


ServerMessage = (
    Load | Generate | Look | Embed | Tokenize | Detokenize | Cancel | Conclude | Shutdown
)

# --- runner to server -----------------------------------------------------------------------


class Loading(_Message, tag="loading"):
    """Progress of loading, 0 to 1."""

    progress: float


class Ready(_Message, tag="ready"):
    """The model is loaded. Sizes in bytes; ``vram`` is the part of the total on accelerators."""

    n_ctx: int
    n_slots: int
    n_ctx_train: int
    n_vocab: int
    model_bytes: int
    cache_bytes: int
    compute_bytes: int
    vram_bytes: int = 0
    system_info: str = ""
    version: int = VERSION


class LoadFailed(_Message, tag="load_failed"):
    message: str


class Scored(_Message, tag="scored"):
    """The next tokens of a prompt, of which the first has no log-probability.

    ``is_last`` says that these end it.
    """

    id: int
    tokens: list[ReadToken]
    is_last: bool = False


class Chunk(_Message, tag="chunk"):
    """Text that is final: whole UTF-8, past no possible stop string.

    ``logprobs``, if they were asked for, are the tokens whose text has come whole with this.
    ``count`` is how many tokens of the reply were written for it; they follow the last chunk's.
    """

    id: int
    text: str
    logprobs: list[WrittenToken] = field(default_factory=list)
    count: int = 0


class Finished(_Message, tag="finished"):
    """The last message of a ``Generate``. Counts in tokens, durations in nanoseconds.

    ``prompt_count`` is the whole prompt as evaluated or reused, ``cached_count`` the part taken
    from the prefix cache, ``dropped_count`` what truncation cut. ``tokens`` is the reply. ``stop``
    is the stop string that ended it, "" if none did.
    """

    id: int
    reason: Literal["stop", "length"]
    prompt_count: int
    prompt_duration: int
    eval_count: int
    eval_duration: int
    cached_count: int = 0
    dropped_count: int = 0
    tokens: list[int] = field(default_factory=list)
    stop: str = ""


class Vectors(_Message, tag="vectors"):
    """The vectors of some inputs of an ``Embed``, one after the other in the order of ``indexes``.

    Little-endian floating-point numbers of 4 bytes. If they were asked for as ``decimal``, of 8
    bytes: the shortest decimal fraction that is nearest to the same number of 4 bytes.
    """

    id: int
    indexes: list[int]
    data: bytes


class InputFailure(Struct, frozen=True, omit_defaults=True):
    """Why an input has no vector; ``status`` is the HTTP status that fits."""

    index: int
    message: str
    status: int = 400


class Embedded(_Message, tag="embedded"):
    """The last message of an ``Embed``, after its ``Vectors``.

    Each has ``width`` numbers. ``counts`` are the tokens of each input, as they were evaluated.
    """

    id: int
    width: int
    counts: list[int]
    failures: list[InputFailure] = field(default_factory=list)


class Seen(_Message, tag="seen"):
    """The image takes ``count`` cells of the context, tokens around it included."""

    id: int
    count: int


class Tokens(_Message, tag="tokens"):
    """``pieces`` are empty unless they were asked for."""

    id: int
    tokens: list[int]
    pieces: list[bytes] = field(default_factory=list)


class Detokenized(_Message, tag="detokenized"):
    id: int
    text: str


class Failed(_Message, tag="failed"):
    """One request failed; ``status`` is the HTTP status that fits."""

    id: int
    message: str
    status: int = 500


RunnerMessage = (
    Loading
    | Ready
    | LoadFailed
    | Scored
    | Chunk
    | Finished
    | Vectors
    | Embedded
    | Seen
    | Tokens
    | Detokenized
    | Failed
)

_encoder = msgspec.msgpack.Encoder()
_from_server: msgspec.msgpack.Decoder[ServerMessage] = msgspec.msgpack.Decoder(ServerMessage)
_from_runner: msgspec.msgpack.Decoder[RunnerMessage] = msgspec.msgpack.Decoder(RunnerMessage)


def encode(message: ServerMessage | RunnerMessage) -> bytes:
    """The whole frame, header included."""
    body = _encoder.encode(message)
    return _HEADER.pack(len(body)) + body


def frame_length(header: bytes) -> int:
    """Bytes that follow this header; raises ``ProtocolError`` beyond ``MAX_FRAME``."""
    (length,) = _HEADER.unpack(header)
    if length > MAX_FRAME:
        raise ProtocolError(f"frame of {length} bytes, at most {MAX_FRAME} are allowed")
    return int(length)


def decode_server_message(body: bytes) -> ServerMessage:
    try:
        return _from_server.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(str(error)) from error


def decode_runner_message(body: bytes) -> RunnerMessage:
    try:
        return _from_runner.decode(body)
    except msgspec.MsgspecError as error:
        raise ProtocolError(str(error)) from error
