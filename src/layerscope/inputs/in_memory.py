"""A model that is in memory already, perhaps in the middle of its training: read as it is, and left as it was."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import cast

import torch
from torch import nn
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from layerscope.config import ModelSpec
from layerscope.errors import UserError
from layerscope.inputs.adapters import kind_of
from layerscope.inputs.models import LoadedModel, ready_model, stack_to_run
from layerscope.inputs.parts import PROBE_TOKENS, input_device, table_rows
from layerscope.inputs.quiet import refusing
from layerscope.inputs.standing import Before, set_plain_pass
from layerscope.inputs.weights import as_revision, check_finite


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
        UserError: not a transformers model, or inside a wrapper that changes what it computes.
        UnsupportedModelError: the one rule does not find its parts.
        RunFailedError: the weights hold NaN or infinity.
    """
    core = stack_to_run(headless(model), spec)
    check_finite(core, spec.name)
    modes = {module: module.training for module in (*model.modules(), *core.modules())}
    settings: Before = []
    try:
        model.eval()
        core.eval()
        settings = set_plain_pass(core)
        # Mixed precision in training is the loop's business: numbers are those of the weights as they are.
        with torch.autocast(core.device.type, enabled=False):
            check_wrapper(model)
            revision = as_revision(state_hash(core))
            yield replace(ready_model(core, tokenizer, spec, revision), weights=revision)
    finally:
        for module, training in modes.items():
            module.training = training
        for holder, name, value in settings:
            setattr(holder, name, value)


def headless(model: nn.Module) -> PreTrainedModel:
    """The transformers model without a head inside a model and its wrappers; a UserError where there is none."""
    core: PreTrainedModel = _transformers_model(model).base_model
    return core


def _transformers_model(model: nn.Module) -> PreTrainedModel:
    inner: nn.Module = model
    # DataParallel and DistributedDataParallel, torch.compile, PEFT: each hides the model behind a name of its own.
    while not isinstance(inner, PreTrainedModel):
        names = ("module", "_orig_mod", "base_model", "model")
        # Its own parts, not its attributes: PEFT's wrappers pass those of the model inside on as theirs.
        found = next((child for name in names if (child := inner._modules.get(name)) is not None), None)
        if found is None:
            raise UserError(f"expected a transformers model, got {type(model).__name__}: give one, or a folder's name")
        inner = found
    return inner


@torch.no_grad()
def check_wrapper(model: nn.Module) -> None:
    """Prove by two tiny forward passes that what is around a transformers model leaves what it computes as it is.

    LoRA and its kin live in the model's own modules and pass; learned prompts and prefixes are given to it from outside.

    Raises:
        UserError: the wrapper changes it, or cannot be tried.
    """
    outer = model
    # What torch puts around a model only spreads or compiles it; to try that here would take its time or its processes.
    while isinstance(outer, (nn.DataParallel, nn.parallel.DistributedDataParallel)) or hasattr(outer, "_orig_mod"):
        outer = cast(nn.Module, outer._orig_mod if hasattr(outer, "_orig_mod") else outer.module)
    inner = _transformers_model(outer)
    if inner is outer:
        return
    configs = list((getattr(outer, "peft_config", None) or {}).values())
    # Different ids, so that the head of a classifier finds no padding behind them; then those behind which PEFT's activated
    # LoRA begins to do something.
    awaited = (token for one in configs for token in getattr(one, "alora_invocation_tokens", None) or ())
    ids = torch.tensor([[*range(PROBE_TOKENS), *awaited]], device=input_device(inner)) % table_rows(inner)
    given = {"input_ids": ids, "attention_mask": torch.ones_like(ids)}
    if getattr(inner.config, "is_encoder_decoder", False) and inner.get_decoder() is not inner:
        given["decoder_input_ids"] = ids
    # The first tensor that a pass returns: logits, or states.
    plain = inner(**given)[0]
    around = f"{type(outer).__name__} around {type(inner).__name__} cannot be tried on {PROBE_TOKENS} tokens"
    with refusing(around, "give the transformers model inside it"):
        wrapped = outer(**given)
        wrapped = wrapped if isinstance(wrapped, torch.Tensor) else wrapped[0]
    if wrapped.shape != plain.shape or not torch.allclose(wrapped, plain, rtol=1e-4, atol=1e-5, equal_nan=True):
        kinds = f" ({', '.join(sorted({kind_of(one) for one in configs}))})" if configs else ""
        raise UserError(
            f"{type(outer).__name__} changes what {type(inner).__name__} computes{kinds}: the model inside it would be "
            "measured without that, so it is not measured"
        )


def state_hash(model: nn.Module) -> str:
    """sha256 over names, types, shapes and values of all weights and buffers, as hex."""
    digest = hashlib.sha256()
    for key, tensor in sorted(model.state_dict().items()):
        whole = tensor.detach().cpu().contiguous()
        digest.update(repr((key, str(whole.dtype), tuple(whole.shape))).encode())
        digest.update(whole.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
