"""Curvature: how sharply the path of a prompt's token states turns."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch
from jaxtyping import Bool, Float, Float64, Int64
from torch import Tensor

from layerscope.metrics.metric import K_STEP, PAPER, Metric, Setting, Values, steps_of
from layerscope.metrics.sources import TokenStates
from layerscope.metrics.spectrum import Prepared
from layerscope.metrics.workers import aligned, on_one_thread, parallel_map

# Per point of a path: its squared norm, its inner product with the next point, and with the one after that.
Bands = Float64[np.ndarray, "3 _"]
# A squared step below this share of its points' squared norms, or below the floor, is mostly rounding when it is read
# from a Gram matrix; and arccos enlarges the rounding of a cosine above the last number. Both are computed exactly.
_CLOSE = 0.02
_FLOOR = 1e-20
_STRAIGHT = 0.99
# Tokens of a piece of a long path, whose whole Gram matrix would cost more than the path.
_PIECE = 128


def curvature(source: TokenStates, setting: Setting = PAPER) -> Values:
    """Mean turning angle of the path through a prompt's token states.

    v_j = z_{k(j+1)} - z_{kj}; the mean over j of the angle between v_{j+1} and v_j, with k of the variant `k-step`
    ("2-step", "3-step", ...). Single steps of float64 states are as exact as the source's precision.

    Returns `prompts` float64, radians, in [0, pi]: 0 a straight line, pi back and forth. A zero-length step has no
    angle: the two angles at it are left out of the mean (`skipped_steps` counts them). NaN with fewer than 3 points,
    with no angle left, or where a state is not finite.
    Paper: arXiv 2412.09563, eq. 2. The authors' released code takes the absolute value of the cosine, so that going
    back counts as going on, gives a zero-length step the angle 0, and ignores k.
    """
    return _curvature_and_skipped(source, setting)[:, 0]


def skipped_steps(source: TokenStates, setting: Setting = PAPER) -> Values:
    """How many steps of a prompt's path have length zero, and so no angle in `curvature`.

    The number of j with z_{k(j+1)} = z_{kj}, in the variants of `curvature`.

    Returns `prompts` float64, a count from 0 to the number of steps; NaN without tokens or where a state is not finite.
    Paper: none; the count that makes a mean over the remaining angles honest.
    """
    return _curvature_and_skipped(source, setting)[:, 1]


def curvature_reason(states: Float[Tensor, "tokens dim"], setting: Setting = PAPER) -> str:
    """Why the curvature of one prompt's states is NaN, in words; "" where it is not."""
    points = states[:: _step(setting)]
    if not states.shape[0]:
        return "no tokens"
    if not bool(points.isfinite().all()):
        return "non-finite states"
    if points.shape[0] < 3:
        return f"{points.shape[0]} points on the path: an angle needs 3"
    moved = (points[1:] != points[:-1]).any(-1)
    return "" if bool((moved[1:] & moved[:-1]).any()) else "no two neighbouring steps of non-zero length"


def _step(setting: Setting) -> int:
    step = 1 if setting.variant == "paper" else steps_of(setting.variant)
    if step is None:
        raise ValueError(f"expected the variant paper, 2-step, 3-step, ..., got {setting.variant!r}")
    return step


def _curvature_and_skipped(source: TokenStates, setting: Setting) -> Float64[Tensor, "prompts two"]:
    """Both from one pass; of single steps from the Gram matrices that the entropies use."""
    step = _step(setting)

    def compute() -> Tensor:
        paths = [z[::step] for z in source.split(source.states.detach())]
        if step > 1:
            bands = parallel_map(_path_bands, paths)
        else:
            bands = parallel_map(_bands, list(zip(paths, source.prepared("paper", source.precision), strict=True)))
        return on_one_thread(lambda: _paths_of_bands(paths, bands))

    return source.once(("curvature", step), compute)


def _bands(prompt: tuple[Float[Tensor, "tokens dim"], Prepared | None]) -> Bands:
    z, found = prompt
    return _gram_bands(found.gram) if found and found.scale == 1 and z.shape[0] <= z.shape[1] else _path_bands(z)


def _path_bands(path: Float[Tensor, "points dim"]) -> Bands:
    """The main diagonal and the two beside it of a path's Gram matrix."""
    points, dim = path.shape
    path = aligned(path, path.dtype if path.dtype == torch.float64 else torch.float32)
    if points <= dim:
        return _gram_bands(path @ path.mT)
    bands = np.zeros((3, points))
    for start in range(0, points, _PIECE):
        piece = path[start : start + _PIECE + 2]
        found = _gram_bands(piece @ piece.mT)[:, :_PIECE]
        bands[:, start : start + found.shape[1]] = found
    return bands


def _gram_bands(gram: Float[Tensor, "points points"]) -> Bands:
    """`_path_bands` of a Gram matrix that is there already: G[i, i], G[i, i + 1], G[i, i + 2], the last filled with 0."""
    side = gram.shape[0]
    flat = gram.detach().cpu().reshape(-1).numpy()
    bands = np.zeros((3, side))
    for offset in range(min(3, side)):
        bands[offset, : side - offset] = flat[offset :: side + 1][: side - offset]
    return bands


def _paths_of_bands(paths: Sequence[Float[Tensor, "_ dim"]], bands: Sequence[Bands]) -> Float64[Tensor, "paths two"]:
    """Curvature and zero-length steps of paths whose bands are known; what bands cannot tell is looked up in the paths.

    |v_i|^2 = G[i, i] + G[i + 1, i + 1] - 2 G[i, i + 1], and the inner product of two neighbouring steps likewise: the
    Gram matrix that the entropy needs holds the curvature as well.
    """
    counts = np.array([path.shape[0] for path in paths])
    stacked = np.zeros((3, len(paths), max(3, int(counts.max(initial=0)))))
    odd = []
    for row, own in enumerate(bands):
        if counts[row] and np.isfinite(own[0].sum()):
            stacked[:, row, : counts[row]] = own
        else:
            odd.append(row)
            counts[row] = 0
    norm, near, far = stacked
    square = norm[:, 1:] + norm[:, :-1] - 2 * near[:, :-1]
    product = near[:, :-2] + near[:, 1:-1] - norm[:, 1:-1] - far[:, :-2]
    moved = np.arange(1, square.shape[1] + 1) < counts[:, None]
    sound = square > np.maximum(_CLOSE * np.maximum(norm[:, 1:], norm[:, :-1]), _FLOOR)
    for row, steps in _true_places(moved & ~sound):
        moved[row, steps] = (paths[row][steps] != paths[row][steps + 1]).any(-1).cpu()
    turns = moved[:, 1:] & moved[:, :-1]
    clear = sound[:, 1:] & sound[:, :-1]
    cosine = product / np.sqrt(np.where(clear, square[:, 1:] * square[:, :-1], 1.0))
    for row, places in _true_places(turns & ~(clear & (np.abs(cosine) <= _STRAIGHT))):
        cosine[row, places] = _exact_cosines(paths[row], places)
    known = turns.sum(-1)
    angles = np.arccos(np.where(turns, cosine, 1.0))
    # Each over its own length: what longer paths add are zeros, but zeros change the order of a sum.
    total = np.array([own[: max(0, count - 2)].sum() for own, count in zip(angles, counts.tolist(), strict=True)])
    angle = total / np.where(known, known, np.nan)
    found = np.stack([angle, np.maximum(counts - 1, 0) - moved.sum(-1)], axis=-1)
    for row in odd:
        found[row] = _exact_path(aligned(paths[row].cpu(), torch.float64))
    return torch.from_numpy(found)


def _true_places(which: Bool[np.ndarray, "paths places"]) -> Iterator[tuple[int, Int64[np.ndarray, " _"]]]:
    for row in np.flatnonzero(which.any(-1)).tolist():
        yield row, np.flatnonzero(which[row])


def _exact_cosines(path: Float[Tensor, "points dim"], turns: Int64[np.ndarray, " turns"]) -> Float64[Tensor, " turns"]:
    first, middle, last = (path[turns + step].cpu().to(torch.float64) for step in range(3))
    cosines: Tensor = (_directions(middle - first) * _directions(last - middle)).sum(-1)
    return cosines.clamp(-1, 1)


def _directions(moves: Float64[Tensor, "moves dim"]) -> Float64[Tensor, "moves dim"]:
    scaled: Tensor = moves / torch.linalg.vector_norm(moves, dim=-1, keepdim=True)
    return scaled


def _exact_path(path: Float64[Tensor, "points dim"]) -> tuple[float, float]:
    if not path.shape[0] or not bool(path.isfinite().all()):
        return math.nan, math.nan
    scale = path.abs().amax()
    move = (path / scale if scale > 0 else path).diff(dim=0)
    moved = (path[1:] != path[:-1]).any(-1)
    direction = _directions(move)
    both = moved[1:] & moved[:-1]
    cosine = (direction[1:] * direction[:-1]).sum(-1)[both].clamp(-1, 1)
    return (float(torch.arccos(cosine).mean()) if cosine.shape[0] else math.nan), float((~moved).sum())


CURVATURE = Metric(
    name="curvature",
    family="curvature",
    shape="tokens dim",
    values=curvature,
    reason=curvature_reason,
    summary="mean turning angle of the path through a prompt's token states",
    unit="radians",
    range="[0, pi]",
    direction="lower: straighter path; pi: back and forth",
    variants=("paper", K_STEP),
    paper="arXiv 2412.09563, eq. 2",
)
SKIPPED_STEPS = replace(
    CURVATURE,
    name="curvature_skipped_steps",
    values=skipped_steps,
    summary="steps of length zero, which have no angle and are left out of curvature",
    unit="steps",
    range="[0, T - 1]",
    direction="0: no step was left out",
    paper="none; the count beside arXiv 2412.09563, eq. 2",
)
