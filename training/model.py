"""A small Llama, as transformers has it: the names of its weights are transformers' own."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from training.shape import Shape


class Norm(nn.Module):
    """RMSNorm, https://arxiv.org/abs/1910.07467, in few passes over the data."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(shape.width))
        self.epsilon = shape.epsilon

    def forward(self, hidden: Tensor) -> Tensor:
        squares = torch.linalg.vecdot(hidden, hidden).float().unsqueeze(-1) / hidden.shape[-1]
        inverse = torch.rsqrt(squares + self.epsilon).to(hidden.dtype)
        return hidden * inverse * self.weight.to(hidden.dtype)


class Attention(nn.Module):
    """Written out: on a CPU this is several times faster backwards than torch's own."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.heads = shape.heads
        self.scale = shape.head**-0.5
        self.q_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.k_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.v_proj = nn.Linear(shape.width, shape.width, bias=False)
        self.o_proj = nn.Linear(shape.width, shape.width, bias=False)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        rows, length, width = hidden.shape
        together = torch.cat([each.weight for each in (self.q_proj, self.k_proj, self.v_proj)])
        projected = functional.linear(hidden, together).view(rows, length, 3 * self.heads, -1)
        projected = projected.transpose(1, 2)
        turned, value = projected.split((2 * self.heads, self.heads), 1)
        turned = turned * cosine + _rotated(turned) * sine
        query, key = (each.flatten(0, 1) for each in turned.chunk(2, 1))
        scores = torch.baddbmm(mask, query, key.transpose(1, 2), alpha=self.scale)
        weights = scores.softmax(-1).view(rows, self.heads, length, length)
        mixed = (weights @ value).transpose(1, 2).reshape(rows, length, width)
        result: Tensor = self.o_proj(mixed)
        return result


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.up_proj = nn.Linear(shape.width, shape.feed_forward, bias=False)
        self.down_proj = nn.Linear(shape.feed_forward, shape.width, bias=False)

    def forward(self, hidden: Tensor) -> Tensor:
        together = torch.cat((self.gate_proj.weight, self.up_proj.weight))
        gate, up = functional.linear(hidden, together).chunk(2, -1)
        result: Tensor = self.down_proj(functional.silu(gate) * up)
        return result


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = Norm(shape)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = Norm(shape)
        self.mlp = FeedForward(shape)

    def forward(self, hidden: Tensor, cosine: Tensor, sine: Tensor, mask: Tensor) -> Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), cosine, sine, mask)
        result: Tensor = hidden + self.mlp(self.post_attention_layernorm(hidden))
        return result


class Llama(nn.Module):
    """From tokens to the weighted loss of the tokens that follow them."""

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = Norm(shape)
        self._initialise()

    def _initialise(self) -> None:
        for name, weights in self.named_parameters():
            if weights.ndim == 2:
                scale = 0.02
                if name.endswith(("o_proj.weight", "down_proj.weight")):
                    scale /= (2 * self.shape.layers) ** 0.5
                nn.init.normal_(weights, std=scale)

    def forward(
        self,
        tokens: Tensor,
        targets: Tensor,
        weights: Tensor,
        cosine: Tensor,
        sine: Tensor,
        mask: Tensor,
    ) -> Tensor:
        """The sum over all targets of loss times weight; all three have shape (rows, length)."""
        hidden = self.embed_tokens(tokens).to(cosine.dtype)
        for layer in self.layers:
            hidden = layer(hidden, cosine, sine, mask)
        logits = functional.linear(self.norm(hidden), self.embed_tokens.weight).float()
        losses = functional.cross_entropy(
            logits.view(-1, self.shape.vocabulary), targets.view(-1), reduction="none"
        )
        return (losses * weights.view(-1)).sum()

    def weights(self) -> dict[str, Tensor]:
        """By transformers' names; the output matrix is the embeddings, so it is not among them."""
        return {f"model.{name}": weights.detach() for name, weights in self.named_parameters()}


def rotation(shape: Shape, length: int) -> tuple[Tensor, Tensor]:
    """Cosines and sines of the rotary embedding, (length, head), https://arxiv.org/abs/2104.09864;
    the halves of a head are rotated against each other, as in transformers."""
    frequencies = shape.theta ** -(torch.arange(0, shape.head, 2).float() / shape.head)
    angles = torch.outer(torch.arange(length).float(), frequencies).repeat(1, 2)
    return angles.cos(), angles.sin()


def causal_mask(length: int) -> Tensor:
    """What is added to the scores: nothing, or minus infinity for what comes later."""
    return torch.full((length, length), float("-inf")).triu(1)


def _rotated(heads: Tensor) -> Tensor:
    first, second = heads.chunk(2, -1)
    return torch.cat((-second, first), -1)
