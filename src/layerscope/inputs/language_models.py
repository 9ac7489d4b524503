"""A model with its head, for what only a head can say: how probable a prompt is."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import nn
from transformers import PreTrainedModel

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.inputs.checkpoints import find_checkpoint
from layerscope.inputs.lengths import Lengths, known_lengths
from layerscope.inputs.library_errors import said_as
from layerscope.inputs.plain_pass import set_plain_pass
from layerscope.inputs.processor import choose_device, choose_dtype
from layerscope.inputs.quiet import quiet_libraries
from layerscope.inputs.standing import Standing
from layerscope.inputs.weights import check_finite

_SEEN = 1e-3


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in eval mode: ids to next-token logits."""

    model: nn.Module
    device: torch.device
    lengths: Lengths
    """Which prompts may share a batch."""
    standing: Standing = field(repr=False, compare=False)
    """The model as it was loaded."""


def load_language_model(spec: ModelSpec) -> LanguageModel:
    """Load a model with its next-token head.

    Args:
        spec: which model, and how. Adapters, full attention and stacks of encoder-decoders are refused: no next-token
            head was trained for them, or it is not known how.

    Raises:
        UnsupportedModelError: the model is no causal language model, its checkpoint holds no head, or a token's logits
            depend on later tokens.
        UserError: no such model, or it cannot be loaded.
        RunFailedError: the weights hold NaN or infinity.
    """
    for name, given in (("an adapter", spec.adapter), ("full attention", spec.bidirectional), ("part", spec.part)):
        if given:
            raise UnsupportedModelError(f"no next-token probabilities with {name}: there is no head made for it")
    checkpoint = find_checkpoint(spec)
    device = choose_device(spec.device)

    def say(text: str, _: BaseException) -> UnsupportedModelError:
        return UnsupportedModelError(f"{spec.name!r} does not load as a causal language model: {text[:200]}")

    with said_as(say), quiet_libraries(), torch.random.fork_rng(devices=[]):
        from transformers import AutoConfig, AutoModelForCausalLM

        options = {**checkpoint.options, "trust_remote_code": spec.trust_remote_code}
        config = AutoConfig.from_pretrained(checkpoint.source, **options)
        named = ", ".join(config.architectures or ())
        if "MaskedLM" in named or getattr(config, "is_encoder_decoder", False):
            raise UnsupportedModelError(f"{named or config.model_type} predicts no next token")
        model, info = AutoModelForCausalLM.from_pretrained(
            checkpoint.source,
            **options,
            dtype=choose_dtype(spec.dtype, device),
            use_safetensors=None if spec.allow_pickle else True,
            output_loading_info=True,
            **({} if spec.device_map is None else {"device_map": spec.device_map}),
        )
    missing = sorted(key for key in info["missing_keys"])
    if missing:
        raise UnsupportedModelError(
            f"the checkpoint of {spec.name!r} holds no next-token head ({missing[0]} is missing and would be random)"
        )
    check_finite(model, spec.name)
    set_plain_pass(model)
    if spec.device_map is None:
        model.to(device)
    model.eval().requires_grad_(False)
    standing = Standing(model)
    if _sees_later_tokens(model, standing):
        raise UnsupportedModelError(f"{spec.name!r} sees later tokens, so its head gives no next-token probabilities")
    lengths = known_lengths(model.config.get_text_config())
    return LanguageModel(model, model.get_input_embeddings().weight.device, lengths, standing)


def _sees_later_tokens(model: PreTrainedModel, standing: Standing) -> bool:
    device = model.get_input_embeddings().weight.device
    size = model.get_input_embeddings().weight.shape[0]
    ids = torch.arange(6, device=device)[None] % size
    other = ids.clone()
    other[0, -1] = (int(ids[0, -1]) + 1) % size
    firsts = []
    for each in (ids, other):
        with torch.no_grad(), standing.one_pass():
            firsts.append(model(input_ids=each).logits[0, 0].float())
    one, two = firsts
    return bool((one - two).norm() > _SEEN * one.norm())
