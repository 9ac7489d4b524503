"""Token states become one vector a prompt."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from layerscope.config import Pooling


def pool(
    states: Float[Tensor, "prompts tokens dim"], lengths: Int[Tensor, " prompts"], pooling: Pooling
) -> Float32[Tensor, "prompts dim"]:
    """One vector a prompt: the mean over its tokens, its last token, or its first.

    Args:
        states: token states (prompts, tokens, dim), right-padded; what stands in the padding does not matter.
        lengths: real tokens of each prompt.
        pooling: mean, last or first.

    Returns:
        float32 vectors (prompts, dim); NaN for a prompt of 0 tokens.
    """
    lengths = lengths.to(states.device)
    if pooling == "mean" and states.device.type == "cpu":
        # A prompt at a time: a product's last bits would depend on how much padding the prompts beside it bring.
        sums = [own[:length].sum(0, dtype=torch.float32) for own, length in zip(states, lengths.tolist(), strict=True)]
        return torch.stack(sums) / lengths[:, None]
    if pooling == "mean":
        real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
        # A product with 0/1 weights reads the states once and copies nothing, but 0 * NaN is NaN: look for that afterwards.
        total = torch.bmm(real.float()[:, None], states.float()).squeeze(1)
        if not math.isfinite(float(total.sum())):
            total = torch.where(real[..., None], states.float(), 0.0).sum(1)
        return total / lengths[:, None]
    if states.shape[1] == 0:
        return states.new_full((states.shape[0], states.shape[2]), torch.nan, dtype=torch.float32)
    last = (lengths - 1).clamp_min(0) if pooling == "last" else torch.zeros_like(lengths)
    picked = states[torch.arange(len(states), device=states.device), last]
    return picked.float().masked_fill((lengths == 0)[:, None], torch.nan)
