"""Adjusting p-values for the number of tests that were done together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy import stats


def benjamini_hochberg(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """P-values adjusted so that rejecting those below q keeps the expected share of false rejections below q.

    p̃_(i) = min over j ≥ i of p_(j) · m / j, at most 1, with m the number of tests that gave a p-value: in [0, 1], never
    below `p`. NaN, where a test could not be done, stays NaN and does not count as one. Raises ValueError where a value
    is outside [0, 1]. Paper: Benjamini & Hochberg 1995, section 3.1.
    """
    tested = np.isfinite(p)
    adjusted = np.full(p.shape, np.nan)
    adjusted[tested] = stats.false_discovery_control(p[tested])
    return adjusted


def add_adjusted(rows: Sequence[dict[str, Any]], name: str = "p") -> None:
    """Give every row the p-value of that name adjusted over all rows, as `p_adjusted`; None where it has None."""
    for row, adjusted in zip(rows, benjamini_hochberg(np.array([row[name] for row in rows], float)), strict=True):
        row[f"{name}_adjusted"] = None if row[name] is None else float(adjusted)
