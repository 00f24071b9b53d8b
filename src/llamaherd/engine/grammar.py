"""Replies that follow a grammar: which tokens may come next, and which must.

llguidance does the work. Its masks are computed in threads of their own, beside the evaluation of
the model: the engine asks for the next one as soon as a token is chosen and needs it a step later.
A form that can't be kept is found out while the prompt is being read.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Iterable
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from llamaherd.engine.sampling import Mask
from llamaherd.engine.schema import Schema, check_multiples, locate, read_schema
from llamaherd.errors import FormatError
from llamaherd.llama.backend import Backend, TokenTable
from llamaherd.runner.protocol import Grammar

# llguidance is imported where it is first used: most runners never need it.
if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

logger = logging.getLogger(__name__)

#: Compiled grammars to remember, a few megabytes each at most.
_REMEMBERED: Final = 32

#: Masks are short work, but a hostile grammar's may take a second: it mustn't hold up the others.
_MASK_THREADS: Final = 4

#: Strings may have any character as ``\\uXXXX``, never half of a surrogate pair.
_STRINGS: Final[JsonCompileOptions] = {"json_allow_general_unicode_escapes": True}

#: JSON on one line, as Python writes it: all but the values is then forced.
_ONE_LINE: Final[JsonCompileOptions] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}

#: JSON as the model likes to lay it out, within bounds: a model that has nothing to say would
#: write white space forever.
_LAID_OUT: Final[JsonCompileOptions] = {"whitespace_pattern": r" ?|\n[ \t]{0,32}"}

#: What llguidance ignores and may be ignored: JSON Schema has unknown formats as annotations.
_HARMLESS: Final = "Unknown format"

#: llguidance's parser of JSON takes about a hundred levels.
_TOO_DEEP: Final = "recursion limit"

#: llguidance's word for: no token is allowed, and the grammar isn't satisfied yet.
_DEAD_END: Final = "NoExtension"
_UNSPELLABLE: Final = "forced bytes"


class Grammars:
    """Makes the constraints of a model's replies; its tokenizer is built when first needed."""

    def __init__(self, backend: Backend) -> None:
        self._compiler = ThreadPoolExecutor(1, "grammar")
        self._masks = ThreadPoolExecutor(_MASK_THREADS, "mask")
        self._compile = _Compiler(backend)
        self._n_vocab = backend.n_vocab

    def constraint(self, grammar: Grammar) -> Constraint:
        """A new reply's constraint; it becomes ready in the background."""
        compiling = self._compiler.submit(self._compile.matcher, grammar)
        return Constraint(compiling, self._masks, self._n_vocab)


class Constraint:
    """What a reply's grammar says about its next token. Belongs to one thread.

    ``opening``, ``mask`` and ``accept`` may be called while ``is_ready``, which is true again some
    time after each ``accept``. They raise ``FormatError`` where the grammar can't be kept.
    """

    def __init__(
        self, compiling: Future[LLMatcher], threads: ThreadPoolExecutor, n_vocab: int
    ) -> None:
        self._compiling = compiling
        self._threads = threads
        self._n_vocab = n_vocab
        self._started = False
        self._next: Future[Mask] | None = None
        #: Whether the reply is complete, so that nothing can follow.
        self.complete = False

    def is_ready(self) -> bool:
        """Whether the next tokens are known."""
        return self._pending.done()

    @property
    def failure(self) -> BaseException | None:
        """Why there is no grammar, as far as that is known by now."""
        return self._compiling.exception() if self._compiling.done() else None

    @property
    def _pending(self) -> Future[Any]:
        return self._next if self._next is not None else self._compiling

    def opening(self) -> list[int]:
        """The tokens that every reply begins with; nothing when asked again."""
        if self._started:
            return []
        self._started = True
        return self._proceed(self._compiling.result())

    def mask(self) -> Mask:
        """The tokens that may come next."""
        assert self._next is not None, "there is an opening to be taken first"
        return self._next.result()

    def accept(self, token: int) -> list[int]:
        """Go on after ``token``, which the mask allows; the tokens that must follow it."""
        matcher = self._compiling.result()
        matcher.consume_token(token)
        return self._proceed(matcher)

    def close(self) -> None:
        self._pending.cancel()

    def _proceed(self, matcher: LLMatcher) -> list[int]:
        forced = [] if matcher.is_stopped() else matcher.compute_ff_tokens()
        if forced:
            matcher.consume_tokens(forced)
        _check(matcher)
        self.complete = matcher.is_stopped()
        if not self.complete:
            self._next = self._threads.submit(_mask, matcher, self._n_vocab)
        return forced


def wait_for_any(constraints: Iterable[Constraint], seconds: float) -> None:
    """Until one of them is ready, at most so long."""
    wait([constraint._pending for constraint in constraints], seconds, FIRST_COMPLETED)


def _mask(matcher: LLMatcher, n_vocab: int) -> Mask:
    bits = np.frombuffer(matcher.compute_bitmask(), np.uint8)
    _check(matcher)
    return Mask.from_bits(bits, n_vocab)


def _check(matcher: LLMatcher) -> None:
    if not matcher.is_error():
        return
    reason = _first_line(matcher.get_error())
    if reason.startswith(_DEAD_END) or _UNSPELLABLE in reason:
        reason = "no token of the model can go on from here"
    raise FormatError(f"the reply can't follow its format: {reason}")


def _first_line(text: str) -> str:
    return text.partition("\n")[0]


class _Compiler:
    """Compiles grammars for one model; belongs to one thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._tokenizer: LLTokenizer | None = None
        self._compiled: OrderedDict[Grammar, LLMatcher] = OrderedDict()

    def matcher(self, grammar: Grammar) -> LLMatcher:
        """A matcher at the beginning of a reply. Raises ``FormatError``."""
        compiled = self._compiled.pop(grammar, None) or self._compile(grammar)
        self._compiled[grammar] = compiled
        if len(self._compiled) > _REMEMBERED:
            self._compiled.popitem(last=False)
        return compiled.deep_copy()

    def _compile(self, grammar: Grammar) -> LLMatcher:
        if self._tokenizer is None:
            self._tokenizer = _build_tokenizer(self._backend.token_table())
        if grammar.kind == "json":
            return self._compile_schema({"type": "object"}, _LAID_OUT)
        if grammar.kind == "schema":
            return self._compile_schema(read_schema(grammar.text), _ONE_LINE)
        return self._compile_grammar(grammar.text)

    def _compile_schema(self, schema: Schema, layout: JsonCompileOptions) -> LLMatcher:
        matcher, problem = self._try_schema(schema, layout)
        if problem:
            where, why = locate(schema, problem, lambda part: self._try_schema(part, layout)[1])
            raise FormatError(f"invalid JSON schema in format: {where}: {why}")
        return matcher

    def _try_schema(self, schema: Schema, layout: JsonCompileOptions) -> tuple[LLMatcher, str]:
        """Also what is wrong with the schema, or what of it couldn't be guaranteed."""
        from llguidance import LLMatcher

        # Lenient compilation turns what isn't supported into warnings, and so tells it apart.
        options: JsonCompileOptions = {**layout, **_STRINGS, "lenient": True}
        matcher = self._new_matcher(LLMatcher.grammar_from_json_schema(schema, overrides=options))
        problems = [
            matcher.get_error(),
            *(text for text in matcher.get_grammar_warnings() if not text.startswith(_HARMLESS)),
        ]
        problem = next(filter(None, map(_first_line, problems)), "")
        if problem.startswith(_TOO_DEEP):
            raise FormatError("the schema in format is nested too deeply")
        return matcher, problem

    def _compile_grammar(self, text: str) -> LLMatcher:
        from llguidance import LLMatcher

        check_multiples(text)
        matcher = self._new_matcher(LLMatcher.grammar_from_lark(_as_lark(text)))
        if problem := matcher.get_error():
            raise FormatError(f"invalid grammar in format: {problem.strip()}")
        return matcher

    def _new_matcher(self, grammar: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        assert self._tokenizer is not None
        limits = LLParserLimits(verbose_errors=False)
        return LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)


def _as_lark(text: str) -> str:
    """Lark as it is, GBNF (which alone has ``::=``) translated."""
    if "::=" not in text:
        return text
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        return gbnf_to_lark(text)
    except RecursionError:
        raise FormatError("invalid grammar in format: it is nested too deeply") from None
    except Exception as error:
        # The translator has no class of its own for all its complaints.
        raise FormatError(f"invalid grammar in format: {error}") from error


def _build_tokenizer(table: TokenTable) -> LLTokenizer:
    from llguidance import LLTokenizer

    ends = list(table.ends)
    if not ends:
        raise FormatError("the model has no token that ends a reply, so it can't keep to a format")
    if table.tokenizer is not None:
        vocabulary, tokenize = table.tokenizer
        marked = [
            b"\xff" + piece if token in table.special else piece
            for token, piece in enumerate(table.pieces)
        ]
        try:
            # Missing in the library's stub.
            return LLTokenizer.from_llamacpp(  # type: ignore[attr-defined, no-any-return]
                tokens=marked, vocab_ptr=vocabulary, tokenize_fptr=tokenize, eos_token=ends
            )
        except ValueError as error:
            # It needs a rare character that is a token of its own.
            logger.info("forced text will be tokenized greedily: %s", error)
    greedy: Any = _GreedyTokenizer(table)
    tokenizer = LLTokenizer(greedy, eos_token=ends)
    greedy.tokenizer = tokenizer
    return tokenizer


class _GreedyTokenizer:
    """What ``LLTokenizer`` asks of a tokenizer; texts are cut into the longest tokens.

    For vocabularies whose own tokenizer can't be called from there.
    """

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, table: TokenTable) -> None:
        self.tokenizer: LLTokenizer | None = None
        self.eos_token_id = table.ends[0]
        self.tokens = list(table.pieces)
        self.special_token_ids = sorted(table.special)

    def __call__(self, text: str) -> list[int]:
        assert self.tokenizer is not None
        return self.tokenizer.greedy_tokenize(text)
