"""A model that is in memory already, perhaps in the middle of its training: read as it is, and left as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.inputs.models import LoadedModel, ready_model, stack_to_run
from layerscope.inputs.weights import check_finite

_HASH_DIGITS = 16


@contextmanager
def reading(model: nn.Module, tokenizer: PreTrainedTokenizerBase, spec: ModelSpec) -> Iterator[LoadedModel]:
    """The model, ready to be measured inside the block: headless, in eval mode, without a cache.

    Nothing of it is copied, moved or converted. Afterwards every module is in the mode it was in, and no weight, buffer
    or gradient has changed.

    Args:
        model: a transformers model with or without a head, its wrapper by torch or accelerate, or a PEFT model.
        tokenizer: its tokenizer.
        spec: what the model is called, and which part of an encoder-decoder to read.

    Raises:
        UserError: not a transformers model.
        UnsupportedModelError: the one rule does not find its parts.
        RunFailedError: the weights hold NaN or infinity.
    """
    core = stack_to_run(headless(model), spec)
    check_finite(core, spec.name)
    modes = {module: module.training for module in core.modules()}
    configs = {id(config): config for config in (core.config, core.config.get_text_config())}.values()
    caches = [(config, config.use_cache) for config in configs if hasattr(config, "use_cache")]
    try:
        core.eval()
        for config, _ in caches:
            config.use_cache = False
        # Mixed precision in training is the loop's business: numbers are those of the weights as they are.
        with torch.autocast(core.device.type, enabled=False):
            yield ready_model(core, tokenizer, spec, f"sha256:{state_hash(core)[:_HASH_DIGITS]}")
    finally:
        for module, training in modes.items():
            module.training = training
        for config, use_cache in caches:
            config.use_cache = use_cache


def headless(model: nn.Module) -> PreTrainedModel:
    """The transformers model without a head inside a model and its wrappers.

    Raises:
        UserError: there is none.
    """
    inner: nn.Module = model
    # DataParallel and DistributedDataParallel, torch.compile, PEFT: each hides the model behind a name of its own.
    while not isinstance(inner, PreTrainedModel):
        names = ("module", "_orig_mod", "base_model", "model")
        found = next((child for name in names if isinstance(child := getattr(inner, name, None), nn.Module)), None)
        if found is None:
            raise UserError(f"expected a transformers model, got {type(model).__name__}: give one, or a folder's name")
        inner = found
    core: PreTrainedModel = inner.base_model
    return core


def state_hash(model: nn.Module) -> str:
    """sha256 over names, types, shapes and values of all weights and buffers, as hex."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        whole = tensor.detach().cpu().contiguous()
        digest.update(repr((key, str(whole.dtype), tuple(whole.shape))).encode())
        digest.update(whole.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
