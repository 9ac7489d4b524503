"""One block of prompts through the model: values per prompt and pooled vectors, at every layer, from one pass."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from jaxtyping import Float
from torch import Tensor

from layerscope.inputs.augmentations import make_views
from layerscope.inputs.models import LoadedModel
from layerscope.inputs.prompts import Prompt, tokenize
from layerscope.measuring.blocks import Block
from layerscope.measuring.plan import Plan
from layerscope.metrics.sources import TokenStates
from layerscope.states.batches import Batch, make_batches
from layerscope.states.capture import capture
from layerscope.states.passes import Work, run_passes, shares_cores
from layerscope.states.readout import pool, read_states

# On a CPU the budget of tokens is cut into this many batches, which cores share evenly and their caches hold better
# (SmolLM2: 14 % faster at 1,024 tokens than at 4,096). Fixed, so that numbers do not depend on how many cores there are.
PIECES = 4

TopReader = Callable[[Batch, Float[Tensor, "prompts tokens dim"]], None]


def split_blocks(lengths: Sequence[int], block_size: int) -> list[tuple[int, ...]]:
    """Prompts of about the same length together, longest first: little padding, and what cannot fit fails early.

    Returns:
        Row numbers of the `block_size` prompts of each block; every row once; prompts of one length keep their order.
    """
    order = sorted(range(len(lengths)), key=lambda row: -lengths[row])
    return [tuple(order[start : start + block_size]) for start in range(0, len(order), block_size)]


def measure_block(
    plan: Plan,
    model: LoadedModel,
    prompts: Sequence[Prompt],
    done: Callable[[float], None],
    *,
    read_top: TopReader | None = None,
) -> Block:
    """Run the prompts, and their views where a metric needs them, and take everything the plan with its layers asks for.

    Args:
        plan, model, prompts: what to compute, by which model, of the prompts of one block.
        done: called with the share of the block's tokens that are through.
        read_top: called with every batch of the prompts and its raw states at the last layer, from the same pass.

    Returns:
        The block, rows in the order of `prompts`.
    """
    views, unchanged = _tokenized_views(plan, model, prompts)
    grid, n = (len(plan.states), len(plan.layers)), len(prompts)
    n_pooled, n_viewed = (n if plan.pools else 0, n if plan.n_views else 0)
    block = Block(
        values=np.full((*grid, len(plan.token_keys), n), np.nan),
        tokens=np.zeros((*grid, n), dtype=np.int32),
        pooled=np.full((*grid, n_pooled, model.dim), np.nan, dtype=np.float32),
        views=np.full((*grid, n_viewed, plan.n_views, model.dim), np.nan, dtype=np.float32),
        unchanged_views=unchanged,
    )
    works: list[Work] = []
    sizes: list[int] = []
    takes = ((partial(_measure_batch, read_top), [prompt.tokens for prompt in prompts]), (_pool_views, views))
    for take, tokens in takes:
        for batch in plan_batches(model, tokens, plan.spec.batch_tokens):
            works.append(partial(take, plan, batch, block))
            sizes.append(int(batch.lengths.sum()))
    through = 0
    for index in run_passes(model, works):
        through += sizes[index]
        done(through / sum(sizes))
    # In one order, whichever batch ended first.
    block.reasons = dict(sorted(block.reasons.items()))
    return block


def plan_batches(model: LoadedModel, tokens: Sequence[Sequence[int]], batch_tokens: int) -> list[Batch]:
    """`make_batches` as the model's device likes it: one budget on an accelerator, pieces of it on a CPU."""
    if not shares_cores(model):
        return make_batches(tokens, batch_tokens, model.pad_id, lengths=model.lengths)
    budget = max(1, batch_tokens // PIECES)
    return make_batches(tokens, budget, model.pad_id, multiple=PIECES, lengths=model.lengths)


def _tokenized_views(plan: Plan, model: LoadedModel, prompts: Sequence[Prompt]) -> tuple[list[tuple[int, ...]], int]:
    if not plan.n_views:
        return [], 0
    spec = plan.spec.views.model_copy(update={"views": plan.n_views})
    made = [make_views(prompt.text, prompt.id, spec) for prompt in prompts]
    unchanged = sum(view == prompt.text for prompt, views in zip(prompts, made, strict=True) for view in views)
    context = min((c for c in (model.context, plan.spec.texts.context) if c is not None), default=None)
    return tokenize([view for views in made for view in views], model.tokenizer, context), unchanged


def _measure_batch(read_top: TopReader | None, plan: Plan, batch: Batch, block: Block, model: LoadedModel) -> None:
    attentions: list[Tensor] = []

    def keep(_: int, weights: Float[Tensor, "prompts heads tokens tokens"]) -> None:
        attentions[:] = [weights]

    def read(layer: int, raw: Float[Tensor, "prompts tokens dim"]) -> None:
        if read_top is not None and layer == model.n_layers:
            read_top(batch, raw)
        if layer not in plan.layers:
            return
        seen = attentions.pop() if attentions else None
        for states, kept, lengths in read_states(model, layer, raw, batch.lengths, plan.states):
            where = ([plan.states.index(state) for state in states], [plan.layers.index(layer)], batch.rows)
            block.tokens[np.ix_(*where)] = lengths.cpu().numpy()
            if plan.pools:
                block.pooled[np.ix_(*where)] = pool(kept, lengths, plan.spec.pooling).cpu().numpy()
            source = TokenStates(kept, lengths, precision=plan.spec.precision, attentions=seen)
            _take_values(plan, source, block, where)

    layers = plan.layers if read_top is None else {*plan.layers, model.n_layers}
    capture(model, batch, read, layers=layers, read_attentions=keep if plan.attentions else None)


def _take_values(
    plan: Plan, source: TokenStates, block: Block, where: tuple[list[int], list[int], tuple[int, ...]]
) -> None:
    """The values of the token metrics, and why some are missing, of some states, a layer and some prompts."""
    (first, *_), (position,), rows = where
    for number, key in enumerate(plan.token_keys):
        if key.metric.needs_first_token and plan.states[first].positions != "all":
            reasons = dict.fromkeys(rows, "it is about the first token: only with positions=all")
        elif key.metric.needs == "attentions" and plan.layers[position] == 0:
            reasons = dict.fromkeys(rows, "the embeddings have no attention")
        else:
            values = key.metric.values(source, key.setting).numpy()
            block.values[np.ix_(where[0], [position], [number], rows)] = values
            missing = {row: source.states[row, : int(source.lengths[row])] for row in np.flatnonzero(np.isnan(values))}
            reasons = {rows[n]: key.metric.reason(one, key.setting) or "not a number" for n, one in missing.items()}
        for place in where[0]:
            block.reasons.update({(place, position, number, row): why for row, why in reasons.items()})


def _pool_views(plan: Plan, batch: Batch, block: Block, model: LoadedModel) -> None:
    prompts, views = np.divmod(np.asarray(batch.rows), plan.n_views)

    def read(layer: int, raw: Float[Tensor, "prompts tokens dim"]) -> None:
        for states, kept, lengths in read_states(model, layer, raw, batch.lengths, plan.states):
            vectors = pool(kept, lengths, plan.spec.pooling).cpu().numpy()
            for state in states:
                block.views[plan.states.index(state), plan.layers.index(layer), prompts, views] = vectors

    capture(model, batch, read, layers=plan.layers)
