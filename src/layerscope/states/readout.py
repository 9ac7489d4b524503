"""The model's own last norm, applied to the states of any layer."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from layerscope.inputs.models import LoadedModel


def final_normed(
    model: LoadedModel, states: Float[Tensor, "prompts tokens dim"]
) -> Float[Tensor, "prompts tokens dim"]:
    """The `normed` readout: final_norm(h), what a model cut after this layer would return.

    Args:
        model: the model the states came from.
        states: residual stream of one layer as `capture` gives it, in the model's own dtype (prompts, tokens, dim).

    Returns:
        The normed states; `states` themselves for families without a final norm (post-LN encoders), whose blocks end
        in one.
    """
    norm = model.parts.final_norm
    if norm is None:
        return states
    weight = next(norm.parameters(), None)
    if weight is not None and not weight.is_meta and weight.device != states.device:
        states = states.to(weight.device)
    with torch.no_grad():
        normed: Tensor = norm(states)
    return normed
