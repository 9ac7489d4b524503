"""THE forward pass: every layer's states are read inside hooks and nothing is kept."""

from __future__ import annotations

from collections.abc import Callable, Collection
from contextlib import ExitStack, suppress
from functools import partial
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn

from layerscope.errors import UserError
from layerscope.inputs.attention import watch_attentions
from layerscope.inputs.models import LoadedModel
from layerscope.inputs.parts import block_input, block_output, run_model
from layerscope.inputs.processor import matmul_precision
from layerscope.states.batches import Batch

Reader = Callable[[int, Float[Tensor, "prompts tokens dim"]], None]
AttentionReader = Callable[[int, Float[Tensor, "prompts heads tokens tokens"]], None]


class _LastLayerRead(Exception):  # noqa: N818  (not an error: it ends a forward pass that has nothing left to say)
    """Raised in the hook of the last wanted layer; later blocks, norm and head are never computed."""


def capture(
    model: LoadedModel,
    batch: Batch,
    read: Reader,
    *,
    layers: Collection[int] | None = None,
    read_attentions: AttentionReader | None = None,
) -> None:
    """Run the model once and hand the residual stream of each wanted layer to `read`, in order.

    Layer 0 is the input of the first block; layer i = 1..L is what block i returns, before any final norm. The tensor
    given to `read` is the model's own: it lives on the block's device in the model's dtype, rows past a prompt's
    length hold whatever the model put there, and it must not be changed. The forward pass stops after the last
    wanted layer.

    Args:
        model: from `load_model`.
        batch: right-padded prompts.
        read: called as read(layer, states) with states (prompts, tokens, dim).
        layers: the layers wanted, each in 0..L; all by default.
        read_attentions: called as read_attentions(layer, weights) for each wanted layer from 1 on, before its states,
            with weights (prompts, heads, tokens, tokens); needs a model loaded with attentions=True.

    Raises:
        UserError: a layer the model does not have, attentions of a model loaded without them, or a token without an
            embedding.
    """
    wanted = sorted(set(range(model.n_layers + 1) if layers is None else layers))
    if not wanted:
        return
    if not 0 <= wanted[0] <= wanted[-1] <= model.n_layers:
        raise UserError(f"expected layers from 0 to {model.n_layers} (the model's depth), got {wanted}")
    if read_attentions is not None and not model.attentions:
        raise UserError("attention weights need a model loaded with attentions=True, got one without: load it again")
    blocks = model.parts.blocks
    outer_precision = torch.get_float32_matmul_precision()

    def deliver(layer: int, states: object) -> None:
        # Readers get the caller's precision: the fast products are for the model's forward pass alone.
        with matmul_precision(outer_precision):
            read(layer, cast(Tensor, states))
        if layer == wanted[-1]:
            raise _LastLayerRead

    def before_first(_: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        deliver(0, block_input(args, kwargs))

    def after(layer: int, _: nn.Module, __: object, output: object) -> None:
        deliver(layer, block_output(output))

    highest = int(batch.input_ids.max())
    if highest >= model.vocab:
        raise UserError(
            f"the tokenizer gives the id {highest} ({model.tokenizer.convert_ids_to_tokens(highest)!r}) and "
            f"{model.spec.name!r} has embeddings for ids up to {model.vocab - 1}: resize its embeddings to the tokenizer, "
            "or use the tokenizer it was trained with"
        )
    device = model.device
    with ExitStack() as stack:
        for layer in wanted:
            if layer == 0:
                stack.enter_context(blocks[0].register_forward_pre_hook(before_first, with_kwargs=True))
                continue
            if read_attentions is not None:
                watch_attentions(stack, blocks[layer - 1], layer, read_attentions)
            stack.enter_context(blocks[layer - 1].register_forward_hook(partial(after, layer)))
        stack.enter_context(torch.no_grad())
        if model.fast_matmul:
            stack.enter_context(matmul_precision("medium"))
        with suppress(_LastLayerRead):
            run_model(model.model, model.parts, batch.input_ids.to(device), batch.attention_mask.to(device))
