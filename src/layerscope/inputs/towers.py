"""The models inside a model that a text does not go through, such as those for images and sound."""

from __future__ import annotations

from contextlib import ExitStack

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerscope.inputs.parts import Parts, run_model


def silent_modules(model: nn.Module, parts: Parts, input_ids: Tensor) -> set[nn.Module]:
    """Every module of a model inside `model` that did not run when it read a few tokens.

    Args:
        model: a headless model in eval mode.
        parts: how to run it.
        input_ids: the tokens (1, tokens).
    """
    towers = [module for module in model.modules() if isinstance(module, PreTrainedModel) and module is not model]
    ran: set[nn.Module] = set()
    if towers:
        with ExitStack() as hooks, torch.no_grad():
            for module in model.modules():
                hooks.enter_context(module.register_forward_pre_hook(lambda module, _: ran.add(module)))
            run_model(model, parts, input_ids, torch.ones_like(input_ids))
    # One that is called part by part did not run itself, though its parts did.
    silent = [tower for tower in towers if ran.isdisjoint(tower.modules())]
    return {module for tower in silent for module in tower.modules()}
