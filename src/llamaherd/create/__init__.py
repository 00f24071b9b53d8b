"""Making models: Modelfiles, create, conversion."""
