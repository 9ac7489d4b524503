"""How probable a model finds a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerscope.config import ModelSpec
from layerscope.errors import UnsupportedModelError
from layerscope.inputs.checkpoints import find_checkpoint
from layerscope.inputs.lengths import Lengths, known_lengths
from layerscope.inputs.processor import choose_device, choose_dtype
from layerscope.inputs.quiet import quiet_libraries, said_as
from layerscope.inputs.standing import Standing, set_plain_pass
from layerscope.inputs.weights import check_finite
from layerscope.states.batches import make_batches

BATCH_TOKENS = 1024
_SEEN = 1e-3


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model in eval mode, with its next-token head."""

    model: nn.Module
    device: torch.device
    lengths: Lengths
    """Which prompts may share a batch."""
    standing: Standing = field(repr=False, compare=False)
    """The model as it was loaded."""

    def logits(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Next-token logits (prompts, tokens, vocabulary) of a right-padded batch, in the model's precision."""
        mask = None if attention_mask is None else attention_mask.to(self.device)
        with torch.no_grad(), self.standing.one_pass():
            found: Tensor = self.model(input_ids=input_ids.to(self.device), attention_mask=mask).logits
        return found


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
    checkpoint, device = find_checkpoint(spec), choose_device(spec.device)

    def say(text: str, _: BaseException) -> UnsupportedModelError:
        return UnsupportedModelError(f"{spec.name!r} does not load as a causal language model: {text[:200]}")

    with said_as(say), quiet_libraries(), torch.random.fork_rng(devices=[]):
        from transformers import AutoConfig, AutoModelForCausalLM

        trusted = {**checkpoint.options, "trust_remote_code": spec.trust_remote_code}
        config = AutoConfig.from_pretrained(checkpoint.source, **trusted)
        named = ", ".join(config.architectures or ())
        if "MaskedLM" in named or getattr(config, "is_encoder_decoder", False):
            raise UnsupportedModelError(f"{named or config.model_type} predicts no next token")
        options = checkpoint.loading(spec, choose_dtype(spec.dtype, device))
        model, info = AutoModelForCausalLM.from_pretrained(checkpoint.source, **options)
    if missing := sorted(info["missing_keys"]):
        raise UnsupportedModelError(
            f"the checkpoint of {spec.name!r} holds no next-token head ({missing[0]} is missing and would be random)"
        )
    check_finite(model, spec.name)
    set_plain_pass(model)
    if spec.device_map is None:
        model.to(device)
    model.eval().requires_grad_(False)
    table = model.get_input_embeddings().weight
    loaded = LanguageModel(model, table.device, known_lengths(model.config.get_text_config()), Standing(model))
    ids = torch.arange(6)[None] % len(table)
    other = ids.clone()
    other[0, -1] = (ids[0, -1] + 1) % len(table)
    one, two = (loaded.logits(each)[0, 0].float() for each in (ids, other))
    if bool((one - two).norm() > _SEEN * one.norm()):
        raise UnsupportedModelError(f"{spec.name!r} sees later tokens, so its head gives no next-token probabilities")
    return loaded


def token_losses(
    model: LanguageModel, prompts: Sequence[Sequence[int]], pad_id: int, done: Callable[[float], None] = lambda _: None
) -> Float[np.ndarray, " prompts"]:
    """Mean negative log-likelihood of each prompt's tokens from the second on; its exponential is the perplexity.

    −1 / (T − 1) · Σ_t log p(token_t | tokens before t).

    Args:
        model: from `load_language_model`.
        prompts: token ids of each prompt.
        pad_id: what stands where there is no token.
        done: called with the share of the prompts that are through.

    Returns:
        Nats a token in [0, inf); NaN for a prompt of one token.
    """
    losses = np.full(len(prompts), np.nan)
    through = 0
    for batch in make_batches(prompts, BATCH_TOKENS, pad_id, lengths=model.lengths):
        logits = model.logits(batch.input_ids, batch.attention_mask)
        for place, row in enumerate(batch.rows):
            length = int(batch.lengths[place])
            if length > 1:
                # float32 a prompt at a time: the logits of a batch are the largest tensor there is.
                target = batch.input_ids[place, 1:length].to(logits.device)
                losses[row] = float(nn.functional.cross_entropy(logits[place, : length - 1].float(), target))
        through += len(batch.rows)
        done(through / len(prompts))
    return losses
