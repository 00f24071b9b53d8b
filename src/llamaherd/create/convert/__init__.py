"""Safetensors folders, as Hugging Face has them, become GGUF files; so do shards of GGUF files.

``process`` is what the server calls: it runs ``child`` in a process of its own, which alone imports
numpy. There ``checkpoint`` reads the tensors, ``architectures`` say what becomes of them,
``tokenizers`` do the same for the vocabulary, and ``writer`` writes one tensor after the other.
``adapters`` does for LoRA what ``convert`` does for whole models, and ``merge`` joins shards.

The files come from strangers: every length and offset is checked, and what isn't understood is
refused with the name of the file and what was expected there.
"""
