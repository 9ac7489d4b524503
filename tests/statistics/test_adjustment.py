"""Benjamini-Hochberg: its formula in plain loops, and what it promises where a test could not be done."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats

from layerscope.statistics.adjustment import add_adjusted, benjamini_hochberg


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)))
def test_agrees_with_the_formula(p):
    order, m = np.argsort(p), len(p)
    expected = np.empty(m)
    for place, row in enumerate(order, 1):
        expected[row] = min(1.0, *(p[order[j - 1]] * m / j for j in range(place, m + 1)))
    assert benjamini_hochberg(p) == pytest.approx(expected, abs=1e-15)


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1)))
def test_is_never_below_p_and_keeps_the_order(p):
    adjusted = benjamini_hochberg(p)
    assert (adjusted >= p).all()
    assert (np.diff(adjusted[np.argsort(p, kind="stable")]) >= 0).all()


def test_a_test_that_could_not_be_done_does_not_count():
    adjusted = benjamini_hochberg(np.array([0.01, np.nan, 0.04]))
    assert adjusted[[0, 2]] == pytest.approx([0.02, 0.04])
    assert np.isnan(adjusted[1])
    assert np.isnan(benjamini_hochberg(np.array([np.nan, np.nan]))).all()


def test_one_test_is_not_adjusted():
    assert benjamini_hochberg(np.array([0.03])) == pytest.approx([0.03])


def test_false_discoveries_stay_below_the_level():
    rng = np.random.default_rng(0)
    shares = []
    for _ in range(600):
        effects = np.r_[np.zeros(30), np.full(10, 3.0)]
        adjusted = benjamini_hochberg(stats.norm.sf(rng.normal(size=40) + effects))
        rejected = adjusted < 0.1
        shares.append(rejected[:30].sum() / max(rejected.sum(), 1))
    # The procedure's own level is 0.1 * 30 / 40 = 0.075; 600 trials have a standard error of about 0.003.
    assert np.mean(shares) == pytest.approx(0.075, abs=0.013)


def test_no_test_at_all():
    assert benjamini_hochberg(np.array([])).shape == (0,)
    rows = [{"p": 0.01}, {"p": np.nan}, {"p": 0.04}]
    add_adjusted(rows)
    assert [row["p_adjusted"] for row in rows] == pytest.approx([0.02, np.nan, 0.04], nan_ok=True)


def test_refuses_what_is_no_p_value():
    with pytest.raises(ValueError, match="between 0 and 1"):
        benjamini_hochberg(np.array([0.5, 1.5]))
