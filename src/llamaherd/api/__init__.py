"""Wire types of the HTTP dialects and their pure translations."""
