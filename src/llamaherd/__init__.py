"""Llamaherd: an Ollama-compatible local model server, command line and model library."""

from llamaherd.version import __version__

__all__ = ["__version__"]
