"""Training of Cria, the small model that comes with the package; see ``docs/cria.md``."""
