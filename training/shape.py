"""How large the model is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True)
class Shape:
    vocabulary: int = 1536
    width: int = 256
    layers: int = 6
    heads: int = 4
    feed_forward: int = 640
    context: int = 2048
    theta: float = 10_000.0
    epsilon: float = 1e-5

    @property
    def head(self) -> int:
        return self.width // self.heads

    def config(self) -> dict[str, Any]:
        """``config.json`` of transformers."""
        return {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_act": "silu",
            "hidden_size": self.width,
            "intermediate_size": self.feed_forward,
            "max_position_embeddings": self.context,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.heads,
            "num_hidden_layers": self.layers,
            "rms_norm_eps": self.epsilon,
            "rope_theta": self.theta,
            "tie_word_embeddings": True,
            "vocab_size": self.vocabulary,
            "torch_dtype": "float32",
        }


#: The model that is shipped.
SHAPE: Final = Shape()
