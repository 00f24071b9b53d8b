"""Ollama's model files as llama.cpp wants them.

Ollama's own engine has the language model and what sees images in one GGUF file, names some tensors
and keys differently, and leaves out keys that llama.cpp needs. What each family needs was taken
from Ollama's converters (``convert/``), its models (``model/models/``) and its own translation for
llama.cpp (``llama/compat/``), and from llama.cpp's ``conversion/``, ``src/models/`` and
``tools/mtmd/clip.cpp``. It was verified with files that the tests write after those sources, not
with files of Ollama's registry.

Everything here is computed from headers; ``llama.derived`` reads the data.
"""

from llamaherd.compat.derived import DerivedFile, DerivedTensor, Span
from llamaherd.compat.translate import Parts, parts_in, projector_of, text_of

__all__ = [
    "DerivedFile",
    "DerivedTensor",
    "Parts",
    "Span",
    "parts_in",
    "projector_of",
    "text_of",
]
