"""Models from and to registries: Docker's registry protocol, version 2, as Ollama speaks it."""
