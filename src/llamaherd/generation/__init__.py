"""Text from models: what every dialect of the API runs."""
