"""How probable a model finds a prompt."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from jaxtyping import Float

from layerscope.inputs.language_models import LanguageModel
from layerscope.states.batches import make_batches

BATCH_TOKENS = 1024


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
        ids = batch.input_ids.to(model.device)
        with torch.no_grad(), model.standing.one_pass():
            logits = model.model(input_ids=ids, attention_mask=batch.attention_mask.to(model.device)).logits
            for place, row in enumerate(batch.rows):
                length = int(batch.lengths[place])
                if length > 1:
                    # float32 a prompt at a time: the logits of a batch are the largest tensor there is.
                    scores = logits[place, : length - 1].float()
                    target = ids[place, 1:length].to(scores.device)
                    losses[row] = float(torch.nn.functional.cross_entropy(scores, target))
        through += len(batch.rows)
        done(through / len(prompts))
    return losses
