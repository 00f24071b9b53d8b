"""JSON Schemas before they become grammars: what they mean, cost and lack."""
