"""Tool calls in a model's text: one small module for each family's way of writing them."""
