"""Cria, the small model that comes with the package: its files, and how they get into a store."""
