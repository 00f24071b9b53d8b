"""The HTTP server: routes, dialects, streaming."""
