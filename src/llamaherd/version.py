"""The versions that llamaherd reports."""

__version__ = "0.1.0"

#: The Ollama release whose interface is matched; clients compare it.
OLLAMA_VERSION = "0.9.6"
