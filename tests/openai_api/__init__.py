"""The package ``openai`` against the real server, by what it is asked for."""
