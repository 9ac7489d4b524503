"""Curvature: how sharply the path of a prompt's token states turns."""

from __future__ import annotations

import math

import torch
from jaxtyping import Float, Float64, Int
from torch import Tensor

from layerscope.metrics.prompts import split_prompts
from layerscope.metrics.workers import parallel_map

# Where float32 is enough: squared lengths in range, and cosines whose arccos does not enlarge their rounding. A prompt
# with anything else is computed in float64, four times slower.
_SAFE = (1e-15, 1e15)
_STRAIGHT = 0.99


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
    pairs = parallel_map(lambda z: _path(z[::steps]), split_prompts(states, lengths))
    return torch.tensor(pairs, dtype=torch.float64).reshape(*states.shape[:-2], 2)


def _path(points: Float[Tensor, "points dim"]) -> tuple[float, float]:
    if points.dtype == torch.float64 or points.device.type != "cpu":
        return _exact_path(points.to("cpu", torch.float64))
    path = points.to(torch.float32)
    if path.shape[0] < 3:
        return _exact_path(path.to(torch.float64))
    move = path[1:] - path[:-1]
    length = torch.linalg.vector_norm(move, dim=-1)
    moved = length > 0
    shortest, longest = length.where(moved, 1.0).aminmax()
    if not _SAFE[0] < float(shortest) <= float(longest) < _SAFE[1] or bool(move[~moved].any()):
        return _exact_path(path.to(torch.float64))
    both = moved[1:] & moved[:-1]
    product = (move[1:] * move[:-1]).sum(-1)[both].to(torch.float64)
    cosine = product / length[1:][both] / length[:-1][both]
    if bool((cosine.abs() > _STRAIGHT).any()):
        return _exact_path(path.to(torch.float64))
    skipped = float((~moved).sum())
    return (float(torch.arccos(cosine).mean()) if cosine.shape[0] else math.nan), skipped


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
