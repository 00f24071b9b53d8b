"""Models that see: a language model as elsewhere, and a projector for llama.cpp's libmtmd.

The keys and tensors of a projector are those that ``tools/mtmd/clip.cpp`` of llama.cpp reads. What
its code fixes (the size of a window, how pixels are rescaled) is checked in the configuration,
which is refused where it says otherwise.
"""
