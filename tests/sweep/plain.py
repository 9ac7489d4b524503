"""States as plain transformers gives them: one prompt at a time, float32, from the model in memory, by no code of ours."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

_NORM = re.compile(r"(.*norm.*|ln_?\w*|layernorm\w*)", re.IGNORECASE)
_TOWERS = ("text_model", "language_model", "text_encoder", "text", "text_decoder")


@dataclass
class PlainStates:
    """What one forward pass on one prompt gave."""

    tuple_: list[Tensor]
    """Hugging Face's `hidden_states`, each (tokens, dim)."""
    top: Tensor
    """`last_hidden_state` (tokens, dim)."""
    raw_top: Tensor
    """What the final norm was given; `top` where there is no final norm."""
    norm: nn.Module | None


def plain_states(model: nn.Module, ids: Sequence[int], part: str | None) -> PlainStates:
    """Run the model, with its head or without, on one prompt."""
    core: Any = getattr(model, "base_model", model)
    input_ids = torch.tensor([list(ids)])
    seen: list[tuple[nn.Module, Tensor, Tensor]] = []

    def note(module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        if args and isinstance(args[0], Tensor) and isinstance(output, Tensor) and args[0].shape == output.shape:
            seen.append((module, args[0], output))

    with ExitStack() as hooks, torch.no_grad():
        for name, module in core.named_modules():
            inside_a_block = any(piece.isdigit() for piece in name.split("."))
            if _NORM.fullmatch(name.rsplit(".", 1)[-1]) and not inside_a_block:
                hooks.enter_context(module.register_forward_hook(note))
        output = _run(core, input_ids, part)
    states, top = _read(output, part)
    found = [(module, given) for module, given, made in seen if made.shape == top.shape and torch.equal(made, top)]
    norm, raw = found[-1] if found else (None, top)
    return PlainStates([state[0].float() for state in states], top[0].float(), raw[0].float(), norm)


def _run(core: Any, input_ids: Tensor, part: str | None) -> Any:
    inputs: dict[str, Any] = {"input_ids": input_ids, "attention_mask": torch.ones_like(input_ids)}
    inputs["output_hidden_states"] = True
    if part is not None:
        inputs["decoder_input_ids"] = input_ids
    if "use_cache" in inspect.signature(core.forward).parameters:
        inputs["use_cache"] = False
    if "attention_mask" not in inspect.signature(core.forward).parameters:
        del inputs["attention_mask"]
    try:
        return core(**inputs)
    except Exception:
        if part == "encoder":
            del inputs["decoder_input_ids"]
            return core.get_encoder()(**inputs)
        for name in _TOWERS:
            tower = getattr(core, name, None)
            if isinstance(tower, nn.Module):
                return tower(**inputs)
        raise


def _read(output: Any, part: str | None) -> tuple[list[Tensor], Tensor]:
    if part == "encoder" and hasattr(output, "encoder_last_hidden_state"):
        states, top = output.encoder_hidden_states, output.encoder_last_hidden_state
    elif part == "decoder":
        states, top = output.decoder_hidden_states, getattr(output, "last_hidden_state", None)
    else:
        for name in ("text_model_output", "text_output"):
            output = getattr(output, name, None) or output
        states, top = getattr(output, "hidden_states", None), getattr(output, "last_hidden_state", None)
    states = list(states or ())
    if not states and top is None:
        raise LookupError(f"{type(output).__name__} gives no hidden states")
    return states, states[-1] if top is None else top


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Relative error of a prompt's states."""
    if ours.shape != theirs.shape:
        return float("inf")
    error = float((ours.float() - theirs.float()).norm() / theirs.float().norm().clamp_min(1e-30))
    return error if math.isfinite(error) else math.inf


def expected_layers(plain: PlainStates, ours: Sequence[Tensor]) -> tuple[list[Tensor | None], str]:
    """Plain transformers' states of each of our layers, and how its tuple was read.

    Families fill `hidden_states` in two ways: from the embeddings on, or (the Mamba kind) from the first block's output
    on. Which of the two it is is told by the first entry; every other entry is then evidence.
    """
    depth = len(ours) - 1
    given = plain.tuple_
    if len(given) in (depth, depth + 1):
        if len(given) == depth + 1 and difference(ours[0], given[0]) < 1e-3:
            return [*given[:depth], plain.raw_top], "tuple"
        if difference(ours[1], given[0]) < 1e-3:
            return [None, *given[: depth - 1], plain.raw_top], "tuple from block 1 on"
    if len(given) == depth + 1:
        return [*given[:depth], plain.raw_top], "tuple"
    return [*[None] * depth, plain.raw_top], f"last state alone ({len(given)} in the tuple)"
