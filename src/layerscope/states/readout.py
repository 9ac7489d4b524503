"""What is read from a layer: raw, normed or hf, of which of a prompt's tokens, and the one vector they may become."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Float32, Int
from torch import Tensor

from layerscope.config import Pooling, Positions, Readout
from layerscope.inputs.models import LoadedModel
from layerscope.states.state import State

SINK_RATIO = 10.0
"""A token whose norm is over this many times its prompt's median norm is a sink."""


def read_out(
    model: LoadedModel, layer: int, raw: Float[Tensor, "prompts tokens dim"], readout: Readout
) -> Float[Tensor, "prompts tokens dim"]:
    """The vectors of a readout: the one rule of raw, normed and hf.

    Args:
        model: the model the states came from.
        layer: the layer they came from.
        raw: its residual stream as `capture` gives it, in the model's own dtype (prompts, tokens, dim).
        readout: `raw`, the stream itself; `normed`, the model's own last norm applied to it, which is what a model cut
            after this layer would return; `hf`, what output_hidden_states returns: raw below the top, normed at the top.

    Returns:
        The vectors, in the shape of `raw`; `raw` itself where the rule asks for no norm, and for families without one
        (post-LN encoders), whose blocks end in one.
    """
    norm = model.parts.final_norm if _is_normed(model, layer, readout) else None
    if norm is None:
        return raw
    weight = next(norm.parameters(), None)
    if weight is not None and not weight.is_meta and weight.device != raw.device:
        raw = raw.to(weight.device)
    with torch.no_grad():
        normed: Tensor = norm(raw)
    return normed


def read_states(
    model: LoadedModel,
    layer: int,
    raw: Float[Tensor, "prompts tokens dim"],
    lengths: Int[Tensor, " prompts"],
    states: Sequence[State],
) -> Iterator[tuple[list[State], Float[Tensor, "prompts kept dim"], Int[Tensor, " prompts"]]]:
    """The vectors of each state, computed once for those that share them; `lengths` are the real tokens of each prompt.

    Yields:
        Those of the states that are the same at this layer, their vectors, and how many each prompt has, both as
        `select_positions` gives them from what `read_out` reads.
    """
    for normed in (False, True):
        group = [state for state in states if _is_normed(model, layer, state.readout) == normed]
        if not group:
            continue
        vectors = read_out(model, layer, raw, group[0].readout)
        for positions in dict.fromkeys(state.positions for state in group):
            same = [state for state in group if state.positions == positions]
            yield same, *select_positions(vectors, lengths, positions)


def _is_normed(model: LoadedModel, layer: int, readout: Readout) -> bool:
    wanted = readout == "normed" or (readout == "hf" and layer == model.n_layers)
    return wanted and model.parts.final_norm is not None


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
