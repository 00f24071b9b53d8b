"""Which models are loaded, who waits, who goes."""
