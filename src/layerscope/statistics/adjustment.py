"""Adjusting p-values for the number of tests that were done together."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float


def benjamini_hochberg(p: Float[np.ndarray, " tests"]) -> Float[np.ndarray, " tests"]:
    """P-values adjusted so that rejecting those below q keeps the expected share of false rejections below q.

    p̃_(i) = min over j ≥ i of p_(j) · m / j, at most 1, with m the number of tests that gave a p-value.

    Args:
        p: p-values in [0, 1]; NaN where a test could not be done.

    Returns:
        Adjusted p-values in [0, 1], never below `p`. NaN stays NaN and does not count as a test.

    Raises:
        ValueError: a value is outside [0, 1].

    Paper: Benjamini & Hochberg 1995, section 3.1.
    """
    tested = np.flatnonzero(np.isfinite(p))
    adjusted = np.full(p.shape, np.nan)
    values = p[tested]
    if ((values < 0) | (values > 1)).any():
        raise ValueError("expected p-values in [0, 1]")
    order = np.argsort(values)
    m = len(values)
    scaled = values[order] * (m / np.arange(1, m + 1))
    smallest_above = np.minimum.accumulate(scaled[::-1])[::-1]
    adjusted[tested[order]] = np.minimum(smallest_above, 1.0)
    return adjusted
