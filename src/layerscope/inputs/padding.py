"""What is proved of a model before prompts share a batch: padding and batch mates do not reach a prompt's tokens.

Two shapes run two kernels, and in half precision their states differ by more than a leak might. So what stands in the
padding, and in the other prompts, is changed under one shape, where equal bits prove that none of it is read. Only
whether the padded LENGTH changes the arithmetic needs two shapes; that comparison is made in float32.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from layerscope.errors import UnsupportedModelError
from layerscope.inputs.lengths import ANY_LENGTHS, Lengths, known_lengths, named_windows
from layerscope.inputs.parts import PROBE_TOKENS, Parts, probe_ids, probe_states
from layerscope.inputs.processor import in_float32, keeps_precision

LEAK_ERROR = 1e-4
"""Relative error in float32 up to which other bits are rounding: experts multiply another number of rows."""
LENGTH_ERROR = 1e-3
"""Relative error in float32 up to which a prompt alone and the same prompt padded are the same."""
_HALF_ULPS = 16
"""In half precision the bound is so many units in the last place: seen are 3 to 6 at 32 blocks of width 4,096."""
_OPERATIONS = {"cpu": 5e11}
_OPERATIONS_ELSEWHERE = 2e13
"""What probing one window may cost at loading: a few seconds."""


@dataclass(frozen=True)
class Probe:
    """A model and ids to try it with.

    Ids below `vocab` are in the table, `context` is the most tokens the model reads, and `float32` says whether a model
    of half precision is tried in float32 where two shapes are compared.
    """

    model: nn.Module
    parts: Parts
    vocab: int
    pad_id: int
    device: torch.device
    context: int | None = None
    float32: bool = True

    def ids(self, tokens: int, first: int = 0) -> list[int]:
        """Ids that are not the padding's; another `first` gives other ones."""
        return probe_ids(self.vocab, self.pad_id, self.device, tokens, first)[0].tolist()

    def states(
        self, rows: Sequence[Sequence[int]], filler: Sequence[int] = (), *, width: int = 0, exact: bool = False
    ) -> list[list[Tensor]]:
        """Every block's output at each prompt's tokens, of one batch that `filler` and then `pad_id` pad to `width` or more."""
        width = max(width, *map(len, rows))
        fill = [*filler, *[self.pad_id] * width]
        ids = torch.tensor([[*row, *fill[: width - len(row)]] for row in rows], device=self.device)
        lengths = torch.tensor([[len(row)] for row in rows], device=self.device)
        mask = (torch.arange(width, device=self.device) < lengths).long()
        widened = exact and self.exact() and self.model_dtype() != torch.float32
        with in_float32(self.model, self.parts.blocks) if widened else nullcontext():
            found = probe_states(self.model, self.parts, ids, mask)
        return [[layer[place : place + 1, : len(row)] for layer in found] for place, row in enumerate(rows)]

    def exact(self) -> bool:
        """Whether states can be had in float32."""
        return self.model_dtype() == torch.float32 or (self.float32 and not keeps_precision(self.model))

    def bound(self, float32: float) -> float:
        """A bound for the precision that `states(exact=True)` has."""
        return float32 if self.exact() else _HALF_ULPS * torch.finfo(self.model_dtype()).eps

    def model_dtype(self) -> torch.dtype:
        """The precision of the model's weights."""
        kinds = [tensor.dtype for tensor in self.model.parameters() if tensor.is_floating_point()]
        return min(kinds, key=lambda dtype: -torch.finfo(dtype).eps, default=torch.float32)


def prove_batches(probe: Probe) -> tuple[Lengths, list[str]]:
    """`check_padding` and `find_lengths`, in float32 where the model's code computes in it."""
    try:
        check_padding(probe)
        return find_lengths(probe)
    except RuntimeError:
        dtype = probe.model_dtype()
        if dtype == torch.float32 or not probe.exact():
            raise
    # Code that names a half precision itself fails on wider states; the bound of that precision is what is left.
    lengths, notes = prove_batches(replace(probe, float32=False))
    name = str(dtype).removeprefix("torch.")
    return lengths, [*notes, f"padding was checked in {name} alone: the model's code does not compute in float32"]


def check_padding(probe: Probe) -> None:
    """Refuse a model in which padding, or another prompt of the batch, reaches a prompt's tokens.

    An UnsupportedModelError where other content there gives the prompt other states.
    """
    long, short = probe.ids(PROBE_TOKENS), probe.ids(PROBE_TOKENS - 2, 1)
    other = probe.ids(PROBE_TOKENS, 2)
    fillers = probe.ids(2, 3)
    if _worst(probe.states([long, short])[1], probe.states([other, short], fillers)[1])[1] == 0:
        return
    before = probe.states([long, short], exact=True)[1]
    for what, rows, fill in (
        ("padding on the right changes the states of real tokens", [long, short], fillers),
        ("the other prompts of a batch change a prompt's states", [other, short], ()),
    ):
        layer, error = _worst(before, probe.states(rows, fill, exact=True)[1])
        if not error <= probe.bound(LEAK_ERROR):
            raise UnsupportedModelError(
                f"{type(probe.model).__name__} is not supported: {what} (relative error {error:.1g} at layer {layer}), so "
                "batched numbers would be wrong"
            )


def find_lengths(probe: Probe) -> tuple[Lengths, list[str]]:
    """Which prompts may share a batch, from what the config says and by trying, and a note where not all may.

    Each window that the config names is tried with prompts shorter and longer than it, where that is cheap. Where it is
    not, prompts beyond the window share a batch only with prompts of their own length: nothing is padded there, so
    nothing has to be proved.
    """
    config = probe.model.config
    config = config.get_text_config() if hasattr(config, "get_text_config") else config  # type: ignore[operator]
    lengths = known_lengths(config)
    if lengths == ANY_LENGTHS and not _padded_equals_alone(probe, [PROBE_TOKENS - 2], PROBE_TOKENS)[0]:
        lengths = lengths.equal_above(0)
    for window in named_windows(config):
        beyond = probe.context is None or window < probe.context
        if beyond and lengths.longest(window) == lengths.longest(window + 1):
            lengths = _try_window(probe, window, lengths)
    changed = probe.parts.standing.switched if probe.parts.standing is not None else set()
    switched = sorted({name.rpartition(".")[2] for name in changed})
    if switched and lengths == ANY_LENGTHS:
        lengths = lengths.equal_above(0)
    return lengths, _notes(lengths, switched, probe.context)


def _try_window(probe: Probe, window: int, lengths: Lengths) -> Lengths:
    width = 2 * window + 3 if probe.context is None else min(2 * window + 3, probe.context)
    short, long = max(1, window - 1), window + 1
    cost = 2 * sum(tensor.numel() for tensor in probe.model.parameters()) * (short + long + 2 * width)
    if cost > _OPERATIONS.get(probe.device.type, _OPERATIONS_ELSEWHERE) or long >= width:
        return lengths.equal_above(window)
    below, above = _padded_equals_alone(probe, [short, long], width)
    if not above:
        return lengths.equal_above(window)
    return lengths if below else lengths.cut_at(window)


def _padded_equals_alone(probe: Probe, sizes: Sequence[int], width: int) -> list[bool]:
    """For prompts of so many tokens: whether padding to `width` leaves their states what they are alone."""
    rows = [probe.ids(size, place) for place, size in enumerate(sizes)]
    together = probe.states(rows, width=width, exact=True)
    alone = (probe.states([row], exact=True)[0] for row in rows)
    return [error <= probe.bound(LENGTH_ERROR) for _, error in map(_worst, alone, together)]


def _notes(lengths: Lengths, switched: Sequence[str], context: int | None) -> list[str]:
    why = f" (a pass changes its {', '.join(switched[:3])})" if switched else ""
    notes = [
        f"prompts of up to {end} tokens and longer ones may not share a batch: beyond it the model computes in another way{why}"
        for end in lengths.ends
        if context is None or end < context
    ]
    if lengths.above is not None and (context is None or lengths.above < context):
        beyond = f" beyond {lengths.above} tokens" if lengths.above else ""
        equal = "equally long prompts" if lengths.step == 1 else f"prompts of equally many blocks of {lengths.step}"
        notes.append(f"only {equal} may share a batch{beyond}: states depend on how long a batch is{why}")
    return notes


def _worst(ours: Sequence[Tensor], theirs: Sequence[Tensor]) -> tuple[int, float]:
    """The layer with the largest relative error, and that error; NaN in one of the two counts as infinite."""
    errors = []
    for one, other in zip(ours, theirs, strict=True):
        same = bool(((one == other) | (one.isnan() & other.isnan())).all())
        error = 0.0 if same else float((one - other).norm() / one.norm().clamp_min(torch.finfo(one.dtype).tiny))
        errors.append(math.inf if math.isnan(error) else error)
    layer = max(range(len(errors)), key=errors.__getitem__)
    return layer + 1, errors[layer]
