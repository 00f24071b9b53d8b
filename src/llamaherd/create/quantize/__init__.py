"""Models get weights of a smaller type, by llama.cpp's own quantiser.

``types`` knows the names of the types and what can be quantised. ``process`` is what the server
calls: it runs ``child`` in a process of its own, which alone loads llama.cpp.
"""
