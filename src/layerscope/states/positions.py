"""Which of a prompt's tokens count."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layerscope.config import Positions

SINK_RATIO = 10.0
"""A token whose norm is over this many times its prompt's median norm is a sink."""


def select_positions(
    states: Float[Tensor, "prompts tokens dim"], lengths: Int[Tensor, " prompts"], positions: Positions
) -> tuple[Float[Tensor, "prompts kept dim"], Int[Tensor, " prompts"]]:
    """The states of the tokens that count, moved together and padded on the right, and how many each prompt has left.

    Args:
        states: token states of one layer (prompts, tokens, dim), right-padded.
        lengths: real tokens of each prompt.
        positions: `all`; `no-first` (position 0 left out); `no-sink` (tokens whose norm is over 10x the median norm of
            their prompt's tokens at this layer left out).

    Returns:
        states (prompts, kept, dim) and lengths, on the states' device. A prompt can have 0 tokens left. Where nothing
        is left out the states are the ones given, not a copy, so their padding is whatever it was.
    """
    lengths = lengths.to(states.device)
    if positions == "all":
        return states, lengths
    if positions == "no-first":
        return states[:, 1:], (lengths - 1).clamp_min(0)
    return _drop_sinks(states, lengths)


def _drop_sinks(
    states: Float[Tensor, "prompts tokens dim"], lengths: Int[Tensor, " prompts"]
) -> tuple[Float[Tensor, "prompts kept dim"], Int[Tensor, " prompts"]]:
    real = torch.arange(states.shape[1], device=states.device) < lengths[:, None]
    norms = torch.linalg.vector_norm(states, dim=-1, dtype=torch.float32)
    # Padding sorts last as infinity, so the median of each row is read off at its own length.
    ordered = norms.masked_fill(~real, torch.inf).sort(dim=1).values
    middle = torch.stack([(lengths - 1).clamp_min(0) // 2, lengths // 2], dim=1).clamp_max(states.shape[1] - 1)
    median = ordered.gather(1, middle).mean(dim=1, keepdim=True)
    sink = (norms > SINK_RATIO * median) & real
    if not bool(sink.any()):
        return states, lengths
    kept = lengths - sink.sum(1)
    # A stable sort of "left out" moves the kept tokens to the front without changing their order.
    order = (sink | ~real).to(torch.uint8).sort(dim=1, stable=True).indices[:, : int(kept.max())]
    moved = states.gather(1, order[..., None].expand(-1, -1, states.shape[2]))
    padding = torch.arange(moved.shape[1], device=states.device) >= kept[:, None]
    return moved.masked_fill_(padding[..., None], 0), kept
