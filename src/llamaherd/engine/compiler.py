"""From what a reply must be to an automaton over a model's tokens; llguidance does the work."""

from __future__ import annotations

import json
import logging
from collections import OrderedDict
from collections.abc import Iterable
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from llamaherd.engine.gbnf import plain
from llamaherd.engine.lark import LarkWriter
from llamaherd.engine.schemas.narrowing import narrow
from llamaherd.engine.schemas.parts import Schema
from llamaherd.engine.schemas.reading import check_multiples, locate, read_schema
from llamaherd.errors import FormatError
from llamaherd.grammar import Form, Grammar
from llamaherd.llama.backend import Backend, TokenTable

# llguidance is imported where it is first used: most runners never need it.
if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer
    from llguidance._lib import JsonCompileOptions

logger = logging.getLogger(__name__)

#: Compiled grammars to remember, a few megabytes each at most.
_REMEMBERED: Final = 32

#: Strings may have any character as ``\uXXXX``, never half of a surrogate pair.
_STRINGS: Final[JsonCompileOptions] = {"json_allow_general_unicode_escapes": True}

#: Lenient compilation turns what isn't supported into warnings, and so tells it apart.
_LENIENT: Final[JsonCompileOptions] = {"lenient": True}

#: JSON on one line, as Python writes it: all but the values is then forced.
_ONE_LINE: Final[JsonCompileOptions] = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
}

#: JSON as the model likes to lay it out, within bounds: a model that has nothing to say would
#: write white space forever.
_LAID_OUT: Final[JsonCompileOptions] = {"whitespace_pattern": r" ?|\n[ \t]{0,32}"}

_ANY_OBJECT: Final[Schema] = {"type": "object"}

#: What llguidance ignores and may be ignored: JSON Schema has unknown formats as annotations.
_HARMLESS: Final = "Unknown format"

#: What llguidance says of a ``oneOf`` that it could only take for an ``anyOf``.
_OVERLAPPING: Final = "oneOf not fully supported"

#: Follows what llguidance says of limits that it hasn't foreseen.
_BACKTRACE: Final = "<backtrace>"

#: llguidance's parser of JSON takes about a hundred levels.
_TOO_DEEP: Final = "recursion limit"


class Compiler:
    """Compiles forms for one model; belongs to one thread."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._compiled: OrderedDict[Form, LLMatcher] = OrderedDict()

    def matcher(self, form: Form) -> LLMatcher:
        """A matcher at the beginning of a reply. Raises ``FormatError``."""
        compiled = self._compiled.pop(form, None) or self._compile(form)
        self._compiled[form] = compiled
        if len(self._compiled) > _REMEMBERED:
            self._compiled.popitem(last=False)
        return compiled.deep_copy()

    @cached_property
    def _table(self) -> TokenTable:
        return self._backend.token_table()

    @cached_property
    def _tokenizer(self) -> LLTokenizer:
        return _build_tokenizer(self._table)

    @cached_property
    def _special(self) -> dict[str, int]:
        """The special tokens by their texts, without those that end a reply."""
        table = self._table
        return {
            table.pieces[token].decode("utf-8", "replace"): token
            for token in sorted(table.special - set(table.ends))
            if table.pieces[token]
        }

    def _compile(self, form: Form) -> LLMatcher:
        if not isinstance(form, Grammar):
            return self._compile_form(form)
        if form.kind == "json":
            return self._try_schema(_ANY_OBJECT, _LAID_OUT)[0]
        if form.kind == "schema":
            return self._compile_schema(form)[1]
        return self._compile_lark(_as_lark(form.text))

    def _compile_form(self, form: Form) -> LLMatcher:
        grammars = LarkWriter(self._special, self._leaf).write(form)
        check_multiples("\n".join(grammars.values()))
        named = [{"name": name, "lark_grammar": text} for name, text in grammars.items()]
        matcher = self._new_matcher(json.dumps({"grammars": named}))
        if problem := matcher.get_error():
            raise FormatError(f"the reply's form can't be kept: {_worded([problem])}")
        return matcher

    def _leaf(self, grammar: Grammar) -> Schema | str:
        """What stands for a grammar in another's Lark."""
        if grammar.kind == "json":
            return _with_settings(_ANY_OBJECT, _LAID_OUT)
        if grammar.kind == "schema":
            return _with_settings(self._usable_schema(grammar), _ONE_LINE)
        text = _as_lark(grammar.text)
        self._compile_lark(text)
        return text

    def _usable_schema(self, grammar: Grammar) -> Schema:
        if not grammar.relaxed:
            return self._compile_schema(grammar)[0]
        try:
            schema = read_schema(grammar.text)
        except FormatError:
            return _ANY_OBJECT
        matcher, _ = self._try_schema(schema, _ONE_LINE)
        return _ANY_OBJECT if matcher.get_error() else self._narrowed(schema, matcher)[0]

    def _compile_schema(self, grammar: Grammar) -> tuple[Schema, LLMatcher]:
        try:
            schema = read_schema(grammar.text)
            matcher, problem = self._try_schema(schema, _ONE_LINE)
        except FormatError as error:
            raise FormatError(f"invalid JSON schema in {grammar.field}: {error.message}") from error
        if problem:
            where, why = locate(schema, problem, lambda part: self._try_schema(part, _ONE_LINE)[1])
            raise FormatError(f"invalid JSON schema in {grammar.field}: {where}: {why}")
        return self._narrowed(schema, matcher)

    def _narrowed(self, schema: Schema, matcher: LLMatcher) -> tuple[Schema, LLMatcher]:
        """What is meant by the schema that was compiled to ``matcher``."""
        narrowed = narrow(schema)
        if narrowed == schema:
            return schema, matcher
        narrow_matcher, problem = self._try_schema(narrowed, _ONE_LINE)
        return (schema, matcher) if problem else (narrowed, narrow_matcher)

    def _try_schema(self, schema: Schema, layout: JsonCompileOptions) -> tuple[LLMatcher, str]:
        """Also what is wrong with the schema, or what of it couldn't be guaranteed."""
        from llguidance import LLMatcher

        options: JsonCompileOptions = {**layout, **_STRINGS, **_LENIENT}
        matcher = self._new_matcher(LLMatcher.grammar_from_json_schema(schema, overrides=options))
        warnings = (
            text for text in matcher.get_grammar_warnings() if not text.startswith(_HARMLESS)
        )
        problem = _worded([matcher.get_error(), *warnings])
        if problem.startswith(_TOO_DEEP):
            raise FormatError("it is nested too deeply")
        return matcher, problem

    def _compile_lark(self, text: str) -> LLMatcher:
        from llguidance import LLMatcher

        check_multiples(text)
        matcher = self._new_matcher(LLMatcher.grammar_from_lark(text))
        if problem := matcher.get_error():
            shown = problem.partition(_BACKTRACE)[0].strip()
            raise FormatError(f"invalid grammar in format: {shown}")
        return matcher

    def _new_matcher(self, grammar: str) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        limits = LLParserLimits(verbose_errors=False)
        return LLMatcher(self._tokenizer, grammar, log_level=0, limits=limits)


def _with_settings(schema: Schema, layout: JsonCompileOptions) -> Schema:
    return {**schema, "x-guidance": {**layout, **_STRINGS, **_LENIENT}}


def _worded(problems: Iterable[str]) -> str:
    """The first problem that isn't empty, on one line."""
    problem = next(filter(None, problems), "")
    if problem.startswith(_OVERLAPPING):
        return "the alternatives of oneOf can't be told apart"
    first, _, rest = problem.partition("\n")
    # Of a regular expression it shows the place on several lines, and then says what is wrong.
    reason = rest.rpartition("error: ")[2] if first.endswith("regex parse error:") else ""
    return f"{first} {reason}".rstrip()


def _as_lark(text: str) -> str:
    """Lark as it is, GBNF (which alone has ``::=``) translated."""
    if "::=" not in text:
        return text
    from llguidance.gbnf_to_lark import gbnf_to_lark

    try:
        return gbnf_to_lark(plain(text))
    except RecursionError:
        raise FormatError("invalid grammar in format: it is nested too deeply") from None
    except FormatError:
        raise
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
