"""Models on disk, in Ollama's layout."""
