"""Templates of the models that the tests make."""

from __future__ import annotations

from typing import Final

#: With tools and thinking; calls are written as Hermes does.
TOOL_TEMPLATE: Final = """{{ if .Tools }}{{ .Tools }}{{ end }}{{ range .Messages }}<|{{ .Role }}|>
{{ if .Thinking }}<think>{{ .Thinking }}</think>{{ end }}{{ .Content }}{{ range .ToolCalls }}
<tool_call>
{"name": "{{ .Function.Name }}", "arguments": {{ .Function.Arguments }}}
</tool_call>{{ end }}
{{ end }}<|assistant|>
"""
