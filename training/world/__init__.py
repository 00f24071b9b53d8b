"""The world of the model: everything that it is taught, made up by grammar from a seed."""
