"""Curvature: how sharply the path of a prompt's token states turns."""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor

from layerscope.metrics.prompts import split_prompts
from layerscope.metrics.workers import parallel_map

# Where float32 is enough: squared lengths in range (else the prompt is computed in float64), and cosines whose arccos
# does not enlarge their rounding (else the cosine is).
_SAFE = (1e-15, 1e15)
_STRAIGHT = 0.99
# Numbers of a piece of work that fits a core's own cache (1 MiB of float32).
_CACHED = 2**18


def curvature(
    states: Float[Tensor, "*prompts tokens dim"], lengths: Int[Tensor, "*prompts"] | None = None, *, steps: int = 1
) -> Float64[Tensor, "*prompts"]:
    """Mean turning angle of the path through a prompt's token states.

    v_j = z_{k(j+1)} - z_{kj}; the mean over j of the angle between v_{j+1} and v_j, k = `steps`.

    Args:
        states: `*prompts tokens dim`; rows past a prompt's length are padding and never read.
        lengths: real tokens of each prompt; all rows where it is None.
        steps: k, every how many tokens a point of the path is taken (the `k-step` variant).

    Returns:
        `*prompts` float64, radians, in [0, pi]: 0 a straight line, pi back and forth. A zero-length step has no angle:
        the two angles at it are left out of the mean (`skipped_steps` counts them). NaN with fewer than 3 points, with
        no angle left, or where a state is not finite.

    Raises:
        ValueError: steps is below 1, or a length is out of range.

    Paper: arXiv 2412.09563, eq. 2. The authors' released code takes the absolute value of the cosine, so that going
    back counts as going on, gives a zero-length step the angle 0, and ignores k.
    """
    return _column(curvature_and_skipped(states, lengths, steps=steps), 0)


def skipped_steps(
    states: Float[Tensor, "*prompts tokens dim"], lengths: Int[Tensor, "*prompts"] | None = None, *, steps: int = 1
) -> Float64[Tensor, "*prompts"]:
    """How many steps of a prompt's path have length zero, and so no angle in `curvature`.

    The number of j with z_{k(j+1)} = z_{kj}.

    Args:
        states: `*prompts tokens dim`; rows past a prompt's length are padding and never read.
        lengths: real tokens of each prompt; all rows where it is None.
        steps: k, as in `curvature`.

    Returns:
        `*prompts` float64, a count from 0 to the number of steps; NaN without tokens or where a state is not finite.

    Raises:
        ValueError: steps is below 1, or a length is out of range.

    Paper: none; the count that makes a mean over the remaining angles honest.
    """
    return _column(curvature_and_skipped(states, lengths, steps=steps), 1)


def curvature_and_skipped(
    states: Float[Tensor, "*prompts tokens dim"], lengths: Int[Tensor, "*prompts"] | None = None, *, steps: int = 1
) -> Float64[Tensor, "*prompts two"]:
    """`curvature` and `skipped_steps` from one pass, in the last dimension."""
    if steps < 1:
        raise ValueError(f"expected a curvature over 1 or more steps, got {steps}")
    prompts = split_prompts(states, lengths)
    if states.dtype == torch.float64 or states.device.type != "cpu":
        pairs = parallel_map(lambda z: _exact_path(z[::steps].cpu().to(torch.float64)), prompts)
        return torch.tensor(pairs, dtype=torch.float64).reshape(*states.shape[:-2], 2)
    points = states.reshape(len(prompts), *states.shape[-2:])[:, ::steps]
    counts = torch.tensor([(z.shape[0] + steps - 1) // steps for z in prompts])
    found, safe = _plain_paths(points, counts)
    for index in torch.nonzero(~safe).flatten().tolist():
        found[index] = torch.tensor(_exact_path(prompts[index][::steps].to(torch.float64)), dtype=torch.float64)
    return found.reshape(*states.shape[:-2], 2)


def _plain_paths(
    points: Float[Tensor, "prompts points dim"], counts: Int[Tensor, " prompts"]
) -> tuple[Float64[Tensor, "prompts two"], Bool[Tensor, " prompts"]]:
    """Curvature and zero-length steps of all prompts in float32, and which of them float32 is enough for."""
    # A few prompts at a time, so that their steps stay in the cache: six times faster than all at once.
    together = max(1, _CACHED // max(1, points.shape[1] * points.shape[2]))
    parts = [_steps(part.to(torch.float32)) for part in torch.split(points, together)]
    length, product = (torch.cat(pieces) for pieces in zip(*parts, strict=True))
    step = torch.arange(length.shape[1])
    real_step = step < (counts - 1)[:, None]
    moved = (length > 0) & real_step
    both = moved[:, 1:] & moved[:, :-1]
    inside = (length > _SAFE[0]) & (length < _SAFE[1])
    # A zero length may be a step too small to square, so prompts that have one are looked at exactly.
    safe = (inside | ~real_step).all(-1) & (counts >= 3)
    cosine = product.to(torch.float64) / length[:, 1:] / length[:, :-1]
    straight = (both & (cosine.abs() > _STRAIGHT) & safe[:, None]).nonzero(as_tuple=True)
    cosine[straight] = _exact_cosines(points, *straight)
    turns = both.sum(-1)
    angle = torch.arccos(cosine.where(both, 0.0)).where(both, 0.0).sum(-1) / turns
    skipped = (real_step & ~moved).sum(-1)
    return torch.stack([angle, skipped.to(torch.float64)], dim=-1), safe


def _steps(
    path: Float[Tensor, "prompts points dim"],
) -> tuple[Float[Tensor, "prompts steps"], Float[Tensor, "prompts turns"]]:
    """Lengths of the steps, and inner products of neighbouring ones."""
    move = path[:, 1:] - path[:, :-1]
    return torch.linalg.vector_norm(move, dim=-1), (move[:, 1:] * move[:, :-1]).sum(-1)


def _exact_cosines(
    points: Float[Tensor, "prompts points dim"], prompts: Int[Tensor, " turns"], turns: Int[Tensor, " turns"]
) -> Float64[Tensor, " turns"]:
    first, middle, last = (points[prompts, turns + step].to(torch.float64) for step in range(3))
    cosine: Tensor = torch.nn.functional.cosine_similarity(last - middle, middle - first, dim=-1)
    return cosine.clamp(-1, 1)


def _exact_path(path: Float64[Tensor, "points dim"]) -> tuple[float, float]:
    if not path.shape[0] or not bool(path.isfinite().all()):
        return math.nan, math.nan
    scale = path.abs().amax()
    move = (path / scale if scale > 0 else path).diff(dim=0)
    moved = (path[1:] != path[:-1]).any(-1)
    direction = move / torch.linalg.vector_norm(move, dim=-1, keepdim=True)
    both = moved[1:] & moved[:-1]
    cosine = (direction[1:] * direction[:-1]).sum(-1)[both].clamp(-1, 1)
    return (float(torch.arccos(cosine).mean()) if cosine.shape[0] else math.nan), float((~moved).sum())


def _column(pairs: Float64[Tensor, "*prompts two"], index: int) -> Float64[Tensor, "*prompts"]:
    return pairs[..., index].clone()


def curvature_reason(states: Float[Tensor, "tokens dim"], *, steps: int = 1) -> str:
    """Why the curvature of one prompt's states is NaN, in words; "" where it is not."""
    points = states[::steps]
    if not states.shape[0]:
        return "no tokens"
    if not bool(points.isfinite().all()):
        return "non-finite states"
    if points.shape[0] < 3:
        return f"{points.shape[0]} points on the path: an angle needs 3"
    moved = (points[1:] != points[:-1]).any(-1)
    return "" if bool((moved[1:] & moved[:-1]).any()) else "no two neighbouring steps of non-zero length"
