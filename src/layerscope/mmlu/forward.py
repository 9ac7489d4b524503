"""One forward pass over a block of questions: the metrics of every layer, and the log-likelihood of every letter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from layerscope.inputs.models import LoadedModel
from layerscope.inputs.prompts import Prompt
from layerscope.measuring.blocks import Block
from layerscope.measuring.forward import measure_block
from layerscope.measuring.plan import Plan
from layerscope.mmlu.harness import Asked, Ids
from layerscope.mmlu.head import Head
from layerscope.states.batches import Batch, make_batches
from layerscope.states.capture import capture
from layerscope.states.passes import run_passes
from layerscope.states.readout import read_out


def as_prompt(asked: Asked, context: int | None) -> Prompt:
    """The tokens that lm-eval would run for the question; a beginning that does not fit is cut off, as lm-eval does."""
    kept = asked.tokens if context is None else asked.tokens[-context:]
    note = "" if kept == asked.tokens else f"cut from {len(asked.tokens)} to {len(kept)} tokens, at the beginning"
    return Prompt(f"{asked.subject}/{asked.question.id}", asked.text, kept, note)


def ask_block(
    plan: Plan, model: LoadedModel, head: Head, asked: Sequence[Asked], done: Callable[[float], None]
) -> Block:
    """Measure the prompts of some questions and read the letters off the same pass.

    A letter of several tokens needs passes of its own, one for each such letter.

    Args:
        plan: what to measure, with its layers.
        model: the model that `head` belongs to.
        head: the head.
        asked: the questions of one block.
        done: called with the share of the block that is through.

    Returns:
        The block as `measure_block` gives it, with the letters, in the order of `asked`.
    """
    context = plan.spec.texts.context
    letters = np.zeros((len(asked), len(asked[0].letters), 2))
    several = [(row, place) for row, one in enumerate(asked) for place, ids in enumerate(one.letters) if len(ids) > 1]

    def read_top(batch: Batch, raw: Float[Tensor, "prompts tokens dim"]) -> None:
        at = batch.lengths.to(raw.device) - 1
        scores = _scores(model, head, raw[torch.arange(len(batch.rows), device=raw.device), at])
        for row, line in zip(batch.rows, scores, strict=True):
            for place, ids in enumerate(asked[row].letters):
                if len(ids) == 1:
                    letters[row, place] = _of_tokens(line[None], ids)

    share = len(asked) / (len(asked) + len(several))
    prompts = [as_prompt(one, context) for one in asked]
    block = measure_block(plan, model, prompts, lambda part: done(part * share), read_top=read_top)

    def ask_in_full(batch: Batch, mine: LoadedModel) -> None:
        def read(_: int, raw: Float[Tensor, "prompts tokens dim"]) -> None:
            for place, pair in enumerate(batch.rows):
                row, letter = several[pair]
                ids, end = asked[row].letters[letter], int(batch.lengths[place])
                letters[row, letter] = _of_tokens(_scores(mine, head, raw[place, end - len(ids) : end]), ids)

        capture(mine, batch, read, layers=[mine.n_layers])

    whole: list[Ids] = [asked[row].tokens + asked[row].letters[place] for row, place in several]
    inputs = [ids[:-1] if context is None else ids[-(context + 1) :][:-1] for ids in whole]
    batches = make_batches(inputs, plan.spec.batch_tokens, model.pad_id, lengths=model.lengths)
    for _ in run_passes(model, [partial(ask_in_full, batch) for batch in batches]):
        pass
    done(1.0)
    block.letters = letters
    return block


def _scores(model: LoadedModel, head: Head, raw: Float[Tensor, "rows dim"]) -> Float[Tensor, "rows vocabulary"]:
    return head.log_probabilities(read_out(model, model.n_layers, raw[:, None], "normed")[:, 0])


def _of_tokens(scores: Float[Tensor, "tokens vocabulary"], ids: Ids) -> tuple[float, float]:
    wanted = torch.tensor(ids, device=scores.device)[:, None]
    greedy = bool((scores.argmax(-1, keepdim=True) == wanted).all())
    return float(scores.gather(1, wanted).sum()), float(greedy)
