"""What is read from a layer: raw, normed, hf."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor

from layerscope.config import Readout
from layerscope.inputs.models import LoadedModel
from layerscope.states.positions import select_positions
from layerscope.states.state import State


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
