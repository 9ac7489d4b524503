"""One rule that finds the blocks and the final norm of any model, and refuses the ones it does not fit; its other parts.

The blocks are the outermost list of modules that is as long as the model is deep. One tiny forward pass shows whether
they really are a chain: each called once, in order, the output of one the input of the next. The final norm is what
turns the last block's output into `last_hidden_state`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from layerscope.errors import UnsupportedModelError, UserError
from layerscope.inputs.standing import Standing

PROBE_TOKENS = 6


@dataclass(frozen=True)
class Parts:
    """The modules that hooks go on."""

    blocks: tuple[nn.Module, ...]
    final_norm: nn.Module | None
    dim: int
    beside_encoder: bool = False
    """The blocks are a decoder whose encoder reads the same prompt."""
    ask_attentions: bool = False
    """The blocks return attention weights only when the forward pass asks for them."""
    standing: Standing | None = field(default=None, repr=False, compare=False)
    """The model as it was loaded: what a pass changes in it is put back after the pass."""


def block_input(args: tuple[object, ...], kwargs: Mapping[str, object]) -> object:
    """The residual stream among the arguments a block is called with."""
    return args[0] if args else kwargs.get("hidden_states")


def block_output(output: object) -> object:
    """The residual stream among what a block returns: the first of a tuple, or the value itself."""
    return output[0] if isinstance(output, (tuple, list)) else output


def run_model(model: nn.Module, parts: Parts, input_ids: Tensor, attention_mask: Tensor) -> object:
    """Call the model on a right-padded batch; an id without an embedding is a UserError.

    Position ids are left to the model: padding on the right moves none.
    """
    inputs: dict[str, Tensor | bool] = {"input_ids": input_ids, "attention_mask": attention_mask}
    if parts.beside_encoder:
        inputs |= {"decoder_input_ids": input_ids, "decoder_attention_mask": attention_mask}
    if parts.ask_attentions:
        inputs["output_attentions"] = True
    try:
        with nullcontext() if parts.standing is None else parts.standing.one_pass():
            return model(**inputs)
    except IndexError as error:
        # Not asked beforehand: some models hash their ids into a shorter table.
        if (largest := int(input_ids.max())) < (rows := table_rows(model)):
            raise
        raise UserError(
            f"the tokenizer gave the token id {largest} and {type(model).__name__} has {rows} embeddings: the two do not "
            "belong together, so give the tokenizer that the model was trained with"
        ) from error


def probe_ids(
    vocab: int, pad_id: int | None, device: torch.device, tokens: int = PROBE_TOKENS, first: int = 0
) -> Tensor:
    """A few token ids below `vocab`, none of them the padding id, for the forward passes at loading (1, tokens).

    Another `first` gives other ids.
    """
    usable = [i for i in range(min(vocab, 64)) if i != pad_id] or [0]
    start = min(5, len(usable) - 1) + first
    picked = [usable[(start + 3 * k) % len(usable)] for k in range(tokens)]
    return torch.tensor([picked], device=device)


def find_parts(model: nn.Module, depth: int, input_ids: Tensor, *, stack: nn.Module | None = None) -> Parts:
    """The blocks and the final norm of `model`.

    Args:
        model: a headless model in eval mode.
        depth: how many blocks its config says it has.
        input_ids: tokens for the tiny forward pass (1, tokens).
        stack: the part of the model to search, for the decoder of an encoder-decoder; the whole model otherwise.

    Raises:
        UnsupportedModelError: no list of modules is a chain of `depth` blocks, or `last_hidden_state` is neither the
            last block's output nor one module applied to it.
    """
    family = type(model).__name__
    lists = list(_outermost_lists(stack or model))
    candidates = [tuple(modules) for modules in lists if len(modules) == depth]
    if not candidates:
        lengths = sorted(len(modules) for modules in lists)
        raise UnsupportedModelError(
            f"{family} is not supported: expected one list of {depth} blocks, found lists of lengths {lengths}, "
            "so blocks may be shared or called in a loop and no number per layer would be right"
        )
    reasons: list[str] = []
    found: list[Parts] = []
    bare = Parts((), None, 0, beside_encoder=stack is not None, standing=Standing(model))
    for blocks in candidates:
        parts = replace(bare, blocks=blocks)
        trace = _trace(model, parts, input_ids)
        reason = _chain_fault(trace, blocks, input_ids.shape[1])
        if reason is None:
            dim = cast(Tensor, trace.outputs[-1]).shape[-1]
            found.append(replace(parts, final_norm=_final_norm(trace, family), dim=dim))
        else:
            reasons.append(reason)
    if len(found) == 1:
        return found[0]
    reason = reasons[0] if not found else f"{len(found)} lists of {depth} modules look like its blocks"
    raise UnsupportedModelError(f"{family} is not supported: {reason}, so no number per layer would be right")


def _outermost_lists(module: nn.Module) -> Iterator[nn.ModuleList]:
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield child
        else:
            yield from _outermost_lists(child)


@dataclass
class _Trace:
    """What a forward pass did around a list of blocks."""

    entered: list[nn.Module] = field(default_factory=list)
    inputs: list[object] = field(default_factory=list)
    outputs: list[object] = field(default_factory=list)
    after: list[tuple[nn.Module, Tensor]] = field(default_factory=list)
    result: object = None


def _trace(model: nn.Module, parts: Parts, input_ids: Tensor) -> _Trace:
    trace = _Trace()
    last = len(parts.blocks) - 1

    def enter(block: nn.Module, args: tuple[object, ...], kwargs: dict[str, object]) -> None:
        trace.entered.append(block)
        trace.inputs.append(block_input(args, kwargs))

    def leave(_: nn.Module, __: object, output: object) -> None:
        trace.outputs.append(block_output(output))

    def follow(module: nn.Module, args: tuple[object, ...], output: object) -> None:
        state = trace.outputs[-1] if len(trace.outputs) > last else None
        if isinstance(state, Tensor) and args and isinstance(args[0], Tensor) and isinstance(output, Tensor):
            same_place = args[0].device == state.device
            if same_place and output.shape == state.shape and torch.equal(args[0], state):
                trace.after.append((module, output))

    inside = {module for block in parts.blocks for module in block.modules()}
    # Not inference_mode: what a module keeps from it could not take part in training afterwards.
    with ExitStack() as hooks, torch.no_grad():
        for block in parts.blocks:
            hooks.enter_context(block.register_forward_pre_hook(enter, with_kwargs=True))
            hooks.enter_context(block.register_forward_hook(leave))
        for module in model.modules():
            if module not in inside:
                hooks.enter_context(module.register_forward_hook(follow))
        trace.result = run_model(model, parts, input_ids, torch.ones_like(input_ids))
    return trace


def _chain_fault(trace: _Trace, blocks: tuple[nn.Module, ...], tokens: int) -> str | None:
    if trace.entered != list(blocks):
        return f"its {len(blocks)} blocks are not called once each, in order"
    before: Tensor | None = None
    for index, (entering, leaving) in enumerate(zip(trace.inputs, trace.outputs, strict=True), start=1):
        for name, state in (("input", entering), ("output", leaving)):
            if not isinstance(state, Tensor) or state.ndim != 3 or tuple(state.shape[:2]) != (1, tokens):
                shape = tuple(state.shape) if isinstance(state, Tensor) else type(state).__name__
                return f"the {name} of block {index} is {shape} where (1, {tokens}, dim) was expected"
            if before is not None and state.shape != before.shape:
                return f"the width changes from {before.shape[-1]} to {state.shape[-1]} at block {index}"
            if name == "input" and before is not None and not _equal(state, before):
                return f"the output of block {index - 1} is not the input of block {index}"
            before = state
    return None


def _final_norm(trace: _Trace, family: str) -> nn.Module | None:
    top = getattr(trace.result, "last_hidden_state", None)
    state = cast(Tensor, trace.outputs[-1])
    if not isinstance(top, Tensor):
        raise UnsupportedModelError(f"{family} is not supported: it returns no last_hidden_state to check layers by")
    if _equal(top, state):
        return None
    for module, output in trace.after:
        if _equal(top, output):
            return module
    raise UnsupportedModelError(
        f"{family} is not supported: its last_hidden_state {tuple(top.shape)} is neither the last block's output "
        f"{tuple(state.shape)} nor one norm applied to it, so there is no final norm to read layers with"
    )


def _equal(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.equal(a.to(b.device), b)


def probe_states(model: nn.Module, parts: Parts, input_ids: Tensor, attention_mask: Tensor) -> list[Tensor]:
    """The output of every block on a tiny batch, for the checks at loading."""
    states: list[Tensor] = []

    def leave(_: nn.Module, __: object, output: object) -> None:
        states.append(cast(Tensor, block_output(output)).float().cpu())

    with ExitStack() as hooks, torch.no_grad():
        for block in parts.blocks:
            hooks.enter_context(block.register_forward_hook(leave))
        run_model(model, parts, input_ids, attention_mask)
    return states


def silent_modules(model: nn.Module, parts: Parts, input_ids: Tensor) -> set[nn.Module]:
    """Every module of a model inside `model` that does not run when it reads a few tokens (1, tokens).

    A text does not go through these, such as those for images and sound.
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


def embedding_table(model: nn.Module) -> nn.Module:
    """The table of token vectors. transformers looks for it by its usual names; elsewhere it is the longest table."""
    try:
        table: nn.Module = model.get_input_embeddings()  # type: ignore[operator]
    except NotImplementedError:
        tables = [module for module in model.modules() if isinstance(module, nn.Embedding)]
        return max(tables, key=lambda each: each.num_embeddings, default=model)
    return table


def table_rows(model: nn.Module) -> int:
    """How many ids have an embedding: the table's rows, which the config's vocab_size may not equal."""
    table = embedding_table(model)
    rows = getattr(table, "num_embeddings", None)
    if rows is None:
        # A wrapper (PEFT's around a table of which it trains a few rows) holds the table beside parameters of its own.
        inside = [module.num_embeddings for module in table.modules() if isinstance(module, nn.Embedding)]
        rows = max(inside, default=0) or next(table.parameters()).shape[0]
    return int(rows)


def input_device(model: PreTrainedModel) -> torch.device:
    """Where the embeddings are; where accelerate keeps them off the devices, where it computes them."""
    table = embedding_table(model)
    hook = getattr(table, "_hf_hook", None)
    if hook is not None and getattr(hook, "execution_device", None) is not None:
        return torch.device(hook.execution_device)
    return next(table.parameters()).device
