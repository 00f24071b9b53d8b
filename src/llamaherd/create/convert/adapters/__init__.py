"""LoRA adapters in safetensors become GGUF adapters, as llama.cpp's ``convert_lora_to_gguf.py``
makes them.

An adapter adds ``scale * B @ A`` to some of a model's matrices. ``config`` reads how the scale is
reckoned, ``pairs`` finds A and B of each module, ``base`` knows the model that the adapter is for,
and ``conversion`` puts them together.
"""
