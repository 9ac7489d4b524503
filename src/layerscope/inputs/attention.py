"""Which tokens a model attends to: the switch to full attention, its proof by probing, and where the weights are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerscope.errors import UnsupportedModelError, UserError
from layerscope.inputs.parts import Parts, probe_states, run_model
from layerscope.inputs.standing import Standing

_SEEN = 1e-6


def attend_both_ways(model: PreTrainedModel, parts: Parts, input_ids: Tensor) -> tuple[Parts, list[str]]:
    """Switch a decoder to full attention, and prove that its first token then sees the last one.

    Returns:
        The parts of the model as it stands now, and a note where nothing had to be switched.

    Raises:
        UnsupportedModelError: full attention did not come about; or some blocks are no attention, or attend in chunks, and
            would stay as they are.
    """
    if first_token_sees_last(model, parts, input_ids):
        return parts, ["bidirectional changed nothing: this model attends to all tokens anyway"]
    lift_causal_mask(model)
    parts = replace(parts, standing=Standing(model))
    if not first_token_sees_last(model, parts, input_ids):
        raise UnsupportedModelError(
            f"{type(model).__name__} has no switch to full attention: with bidirectional on, changing the last token "
            "left the first token's states as they were; measure this family without bidirectional"
        )
    return parts, []


def lift_causal_mask(model: PreTrainedModel) -> None:
    """Ask a decoder for full attention. Only the config's switch reaches the mask; `is_causal` of a module does not.

    A sliding window would still hide far tokens. It is removed, or, where blocks of both kinds need it set to build
    their masks (Gemma 2 and 3), made as wide as the longest input.
    """
    config = model.config
    kinds = set(getattr(config, "layer_types", None) or ())
    if others := ", ".join(sorted(kinds - {"full_attention", "sliding_attention"})):
        raise UnsupportedModelError(
            f"{type(model).__name__} has no switch to full attention: it has blocks of kind {others}; measure this family "
            "without bidirectional"
        )
    config.is_causal = False
    if getattr(config, "sliding_window", None) is not None:
        config.sliding_window = config.max_position_embeddings if "sliding_attention" in kinds else None
    for module in model.modules():
        for name, value in (("sliding_window", None), ("is_causal", False)):
            if hasattr(module, name):
                setattr(module, name, value)


def first_token_sees_last(model: nn.Module, parts: Parts, input_ids: Tensor) -> bool:
    """Whether the first token's state changes, at any block, when only the last token is another."""
    changed = input_ids.clone()
    changed[0, -1] = input_ids[0, 0]
    mask = torch.ones_like(input_ids)
    pairs = zip(probe_states(model, parts, input_ids, mask), probe_states(model, parts, changed, mask), strict=True)
    return any(float((a[0, 0] - b[0, 0]).norm() / a[0, 0].norm()) > _SEEN for a, b in pairs)


def attention_weights(output: object) -> Tensor | None:
    """The attention weights in what a module returned: a 4-D (prompts, heads, tokens, tokens) tensor of distributions.

    T5 returns its position bias in the same shape, so the first row is tested: weights are not negative and sum to 1.
    """
    for value in output if isinstance(output, (tuple, list)) else ():
        if isinstance(value, Tensor) and value.ndim == 4 and value.shape[-1] == value.shape[-2]:
            row = value[0, 0, 0].float()
            if bool((row >= 0).all()) and abs(float(row.sum()) - 1) < 2e-2:
                return value
    return None


def with_attentions(model: nn.Module, parts: Parts, input_ids: Tensor) -> Parts:
    """The parts, told to ask for attention weights where blocks do not return them unasked (MPNet, DeBERTa).

    A block without attention weights is a UserError.
    """
    seen: set[int] = set()
    for asked in (parts, replace(parts, ask_attentions=True)):
        seen.clear()
        with ExitStack() as hooks, torch.inference_mode():
            for index, block in enumerate(parts.blocks):
                watch_attentions(hooks, block, index, lambda index, _: seen.add(index))
            run_model(model, asked, input_ids, torch.ones_like(input_ids))
        if len(seen) == len(parts.blocks):
            return asked
    first = min(set(range(len(parts.blocks))) - seen)
    raise UserError(
        f"{type(model).__name__} gives no attention weights at block {first + 1} of {len(parts.blocks)}: leave out the "
        "metrics that need attentions for this family"
    )


def watch_attentions(stack: ExitStack, block: nn.Module, layer: int, read: Callable[[int, Tensor], None]) -> None:
    """Hooks that hand over the layer and the first attention weights that a module of the block returns, once."""
    done = False

    def hook(_: nn.Module, __: object, output: object) -> None:
        nonlocal done
        weights = None if done else attention_weights(output)
        if weights is not None:
            done = True
            read(layer, weights)

    for module in block.modules():
        stack.enter_context(module.register_forward_hook(hook))
