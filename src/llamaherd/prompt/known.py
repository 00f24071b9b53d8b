"""Well-known chat formats: from a GGUF's Jinja template to an equal one in Go's language.

A model without a TEMPLATE of its own is best described by a Go template: people can read it in
``show``, change it in a Modelfile, and continue an unfinished reply with it. A Jinja template
counts as known when it behaves the same: it renders a few probing conversations to the very text
that our template does. Its wording doesn't matter then; and a template that does more, such as
calling tools or adding a system message of its own, is not mistaken for a simpler one.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, Final

from msgspec import Struct

from llamaherd.errors import TemplateError
from llamaherd.messages import Message
from llamaherd.prompt.jinja import JinjaTemplate
from llamaherd.prompt.template import (
    USUAL_TOKENS,
    GoTemplate,
    PromptTemplate,
    SpecialTokens,
    Values,
)


class KnownTemplate(Struct, frozen=True):
    """A recognised format: its name in Ollama's library, Go template and model parameters."""

    name: str
    text: str
    parameters: dict[str, Any]


class Format(Struct, frozen=True):
    """``marks`` all occur in a Jinja template of this format, so that few need be compared.

    In ``text``, ``[[bos]]`` and ``[[eos]]`` stand for the model's own first and last token. What
    parts a reply from the mark before it is in the condition on ``.Response``, because a prompt
    must not end with a space.
    """

    name: str
    marks: tuple[str, ...]
    text: str
    stop: tuple[str, ...]


FORMATS: Final = (
    Format(
        "chatml",
        ("<|im_start|>", "<|im_end|>"),
        "{{ if .System }}<|im_start|>system\n{{ .System }}<|im_end|>\n{{ end }}"
        "{{ if .Prompt }}<|im_start|>user\n{{ .Prompt }}<|im_end|>\n{{ end }}"
        "<|im_start|>assistant\n{{ .Response }}<|im_end|>\n",
        ("<|im_start|>", "<|im_end|>"),
    ),
    Format(
        "phi-4",
        ("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
        "{{ if .System }}<|im_start|>system<|im_sep|>{{ .System }}<|im_end|>{{ end }}"
        "{{ if .Prompt }}<|im_start|>user<|im_sep|>{{ .Prompt }}<|im_end|>{{ end }}"
        "<|im_start|>assistant<|im_sep|>{{ .Response }}<|im_end|>",
        ("<|im_start|>", "<|im_sep|>", "<|im_end|>"),
    ),
    Format(
        "llama3-instruct",
        ("<|start_header_id|>", "<|eot_id|>"),
        "{{ if .System }}<|start_header_id|>system<|end_header_id|>\n\n"
        "{{ .System }}<|eot_id|>{{ end }}"
        "{{ if .Prompt }}<|start_header_id|>user<|end_header_id|>\n\n"
        "{{ .Prompt }}<|eot_id|>{{ end }}"
        "<|start_header_id|>assistant<|end_header_id|>\n\n{{ .Response }}<|eot_id|>",
        ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    ),
    *(
        Format(
            "llama2-chat",
            ("[INST]", "<<SYS>>"),
            "[INST] {{ if .System }}<<SYS>>\n{{ .System }}\n<</SYS>>\n\n{{ end }}"
            "{{ .Prompt }} [/INST]{{ if .Response }} {{ .Response }} " + end + "{{ end }}",
            ("[INST]", "[/INST]", "<<SYS>>", "<</SYS>>"),
        )
        for end in ("[[eos]][[bos]]", "[[eos]]")
    ),
    *(
        Format(
            "mistral-instruct",
            ("[INST]", "[/INST]"),
            opening + "{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}" + closing,
            ("[INST]", "[/INST]"),
        )
        for opening, closing in (
            ("[INST] ", " [/INST]{{ .Response }}[[eos]]"),
            ("[INST] ", " [/INST]{{ if .Response }}{{ .Response }}[[eos]] {{ end }}"),
            ("[INST] ", "[/INST]{{ if .Response }} {{ .Response }}[[eos]]{{ end }}"),
            (" [INST] ", " [/INST]{{ if .Response }} {{ .Response }}[[eos]]{{ end }}"),
        )
    ),
    Format(
        "mistral-instruct",
        ("[SYSTEM_PROMPT]", "[INST]"),
        "{{ if .System }}[SYSTEM_PROMPT] {{ .System }}[/SYSTEM_PROMPT]{{ end }}"
        "{{ if .Prompt }}[INST] {{ .Prompt }}[/INST]{{ end }}"
        "{{ if .Response }} {{ .Response }}[[eos]]{{ end }}",
        ("[INST]", "[/INST]", "[SYSTEM_PROMPT]", "[/SYSTEM_PROMPT]"),
    ),
    Format(
        "gemma-instruct",
        ("<start_of_turn>", "<end_of_turn>"),
        "{{ if or .System .Prompt }}<start_of_turn>user\n"
        "{{ if .System }}{{ .System }}\n\n{{ end }}{{ .Prompt }}<end_of_turn>\n{{ end }}"
        "<start_of_turn>model\n{{ .Response }}<end_of_turn>\n",
        ("<start_of_turn>", "<end_of_turn>"),
    ),
    Format(
        "phi-3",
        ("<|assistant|>", "<|end|>"),
        "{{ if .System }}<|system|>\n{{ .System }}<|end|>\n{{ end }}"
        "{{ if .Prompt }}<|user|>\n{{ .Prompt }}<|end|>\n{{ end }}"
        "<|assistant|>\n{{ .Response }}<|end|>\n",
        ("<|end|>", "<|system|>", "<|user|>", "<|assistant|>"),
    ),
    Format(
        "zephyr",
        ("<|assistant|>", "<|user|>", "eos_token"),
        "{{ if .System }}<|system|>\n{{ .System }}[[eos]]\n{{ end }}"
        "{{ if .Prompt }}<|user|>\n{{ .Prompt }}[[eos]]\n{{ end }}"
        "<|assistant|>\n{{ .Response }}[[eos]]\n",
        ("<|system|>", "<|user|>", "<|assistant|>"),
    ),
    *(
        Format(
            "vicuna",
            ("USER: ", "ASSISTANT:"),
            "{{ if .System }}{{ .System }}" + after_system + "{{ end }}"
            "{{ if .Prompt }}USER: {{ .Prompt }}" + after_prompt + "{{ end }}"
            "ASSISTANT:{{ if .Response }} {{ .Response }}" + after_response + "{{ end }}",
            ("USER:", "ASSISTANT:"),
        )
        for after_system, after_prompt, after_response in (
            (" ", " ", "[[eos]]"),
            ("\n\n", "\n", "[[eos]]\n"),
        )
    ),
    *(
        Format(
            "alpaca",
            ("### Instruction:", "### Response:"),
            "{{ if .System }}{{ .System }}\n\n{{ end }}"
            "{{ if .Prompt }}### Instruction:\n{{ .Prompt }}\n\n{{ end }}"
            "### Response:\n{{ .Response }}" + end,
            ("### Instruction:", "### Response:"),
        )
        for end in ("\n\n", "[[eos]]\n\n", "[[eos]]")
    ),
    Format(
        "command-r",
        ("<|START_OF_TURN_TOKEN|>", "<|CHATBOT_TOKEN|>"),
        "{{ if .System }}<|START_OF_TURN_TOKEN|><|SYSTEM_TOKEN|>"
        "{{ .System }}<|END_OF_TURN_TOKEN|>{{ end }}"
        "{{ if .Prompt }}<|START_OF_TURN_TOKEN|><|USER_TOKEN|>"
        "{{ .Prompt }}<|END_OF_TURN_TOKEN|>{{ end }}"
        "<|START_OF_TURN_TOKEN|><|CHATBOT_TOKEN|>{{ .Response }}<|END_OF_TURN_TOKEN|>",
        ("<|START_OF_TURN_TOKEN|>", "<|END_OF_TURN_TOKEN|>"),
    ),
    Format(
        "granite-3",
        ("<|start_of_role|>", "<|end_of_text|>"),
        "{{ if .System }}<|start_of_role|>system<|end_of_role|>"
        "{{ .System }}<|end_of_text|>\n{{ end }}"
        "{{ if .Prompt }}<|start_of_role|>user<|end_of_role|>"
        "{{ .Prompt }}<|end_of_text|>\n{{ end }}"
        "<|start_of_role|>assistant<|end_of_role|>{{ .Response }}<|end_of_text|>\n",
        ("<|start_of_role|>", "<|end_of_role|>", "<|end_of_text|>"),
    ),
    Format(
        "granite-instruct",
        ("Question:", "Answer:"),
        "{{ if .System }}System:\n{{ .System }}\n\n{{ end }}"
        "{{ if .Prompt }}Question:\n{{ .Prompt }}\n\n{{ end }}"
        "Answer:\n{{ .Response }}\n\n",
        ("Question:", "Answer:", "System:"),
    ),
    Format(
        "openchat",
        ("GPT4 Correct ", "<|end_of_turn|>"),
        "{{ if .System }}GPT4 Correct System: {{ .System }}<|end_of_turn|>{{ end }}"
        "{{ if .Prompt }}GPT4 Correct User: {{ .Prompt }}<|end_of_turn|>{{ end }}"
        "GPT4 Correct Assistant:{{ if .Response }} {{ .Response }}<|end_of_turn|>{{ end }}",
        ("<|end_of_turn|>",),
    ),
    *(
        Format(
            "solar-instruct",
            ("### User:", "### Assistant:"),
            "{{ if .System }}### System:\n{{ .System }}\n\n{{ end }}"
            "{{ if .Prompt }}### User:\n{{ .Prompt }}\n\n{{ end }}"
            "### Assistant:\n{{ .Response }}" + end,
            ("### System:", "### User:", "### Assistant:"),
        )
        for end in ("", "\n\n")
    ),
    Format(
        "falcon-instruct",
        ("User:", "Falcon:"),
        "{{ if .System }}System: {{ .System }}\n{{ end }}"
        "{{ if .Prompt }}User: {{ .Prompt }}\n{{ end }}"
        "Falcon:{{ if .Response }} {{ .Response }}\n{{ end }}",
        ("User:", "Falcon:"),
    ),
    Format(
        "deepseek",
        ("User: ", "Assistant:"),
        "{{ if .System }}{{ .System }}\n\n{{ end }}"
        "{{ if .Prompt }}User: {{ .Prompt }}\n\n{{ end }}"
        "Assistant:{{ if .Response }} {{ .Response }}[[eos]]{{ end }}",
        ("User:", "Assistant:"),
    ),
    Format(
        "deepseek",
        ("<｜User｜>", "<｜Assistant｜>"),
        "{{ .System }}{{ if .Prompt }}<｜User｜>{{ .Prompt }}{{ end }}"
        "<｜Assistant｜>{{ .Response }}[[eos]]",
        ("<｜User｜>", "<｜Assistant｜>"),
    ),
)


def _dialogue(*roles: str) -> Values:
    """Turns whose texts differ, have no spaces at their ends and more than one line."""
    return Values(
        messages=[
            Message(role=role, content=f"{role} {number},\nline two")
            for number, role in enumerate(roles)
        ]
    )


_QUESTION: Final = _dialogue("user")
_DIALOGUE: Final = _dialogue("user", "assistant", "user", "assistant", "user")
_SYSTEM_QUESTION: Final = Values(
    messages=[Message(role="system", content="be brief,\nplease"), *_QUESTION.messages]
)
_SYSTEM_DIALOGUE: Final = Values(
    messages=[Message(role="system", content="be brief,\nplease"), *_DIALOGUE.messages]
)


@lru_cache(maxsize=64)
def recognise(chat_template: str, special: SpecialTokens = USUAL_TOKENS) -> KnownTemplate | None:
    """The known format that ``chat_template`` has in a model with these special tokens, if any."""
    candidates = [form for form in FORMATS if all(mark in chat_template for mark in form.marks)]
    if not candidates:
        return None
    try:
        jinja = JinjaTemplate(chat_template, special)
        probes = list(_probes(jinja))
    except TemplateError:
        return None
    for form in candidates:
        text = form.text.replace("[[bos]]", special.bos).replace("[[eos]]", special.eos)
        if _agrees(text, jinja, probes):
            return KnownTemplate(form.name, text, {"stop": list(form.stop)})
    return None


def _probes(jinja: PromptTemplate) -> Iterator[tuple[Values, str]]:
    """Conversations and what the template makes of them.

    A system message is no probe for a template that refuses or ignores it.
    """
    question = jinja.render(_QUESTION)
    yield _QUESTION, question
    yield _DIALOGUE, jinja.render(_DIALOGUE)
    try:
        with_system = jinja.render(_SYSTEM_QUESTION)
    except TemplateError:
        return
    if with_system != question:
        yield _SYSTEM_QUESTION, with_system
        yield _SYSTEM_DIALOGUE, jinja.render(_SYSTEM_DIALOGUE)


def _agrees(text: str, jinja: PromptTemplate, probes: list[tuple[Values, str]]) -> bool:
    try:
        template = GoTemplate(text)
        return jinja.capabilities <= template.capabilities and all(
            template.render(values) == prompt for values, prompt in probes
        )
    # The special tokens in the text are the model's; they might read as template language.
    except TemplateError:
        return False
