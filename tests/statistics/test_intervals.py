"""Intervals and adjusted p-values: closed forms, agreement with SciPy, and coverage of the truth on simulated data."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from threadpoolctl import threadpool_limits

from layerscope.statistics import intervals
from layerscope.statistics.intervals import (
    add_adjusted,
    benjamini_hochberg,
    bootstrap_means,
    bootstrap_weights,
    drawn_items,
    jackknife_interval,
    leave_group_out,
    percentile_interval,
)


def test_bootstrap_weights_draw_n_items_and_repeat_with_the_seed():
    weights = bootstrap_weights(7, 50, seed=3)
    assert (weights.sum(axis=1) == 7).all()
    assert np.array_equal(weights, bootstrap_weights(7, 50, seed=3))
    assert not np.array_equal(weights, bootstrap_weights(7, 50, seed=4))


def test_a_constant_has_an_interval_of_width_zero():
    ends = bootstrap_means(np.full((1, 9), 2.5), 200, 0)
    assert ends == pytest.approx(np.array([[2.5, 2.5]]))


def test_bootstrap_agrees_with_scipy():
    values = np.random.default_rng(0).gamma(2.0, size=80)
    ours = bootstrap_means(values[None], 4000, 1)[0]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=4000, method="percentile", rng=2).confidence_interval
    error = values.std() / np.sqrt(80)
    assert ours == pytest.approx([theirs.low, theirs.high], abs=0.15 * error)


@pytest.mark.arithmetic
def test_an_interval_has_the_same_bits_alone_and_beside_others_on_any_number_of_threads():
    values = np.random.default_rng(0).normal(size=(40, 301))
    values[3, 5] = np.nan
    alone = np.concatenate([bootstrap_means(row[None], 1000, 0) for row in values])
    for number in (1, 2, 4):
        with threadpool_limits(limits=number):
            assert np.array_equal(bootstrap_means(values, 1000, 0), alone)


@pytest.mark.parametrize("piece", [1, 40, 999, 5000])
def test_samples_are_the_same_in_pieces_of_any_size(monkeypatch, piece):
    values = np.random.default_rng(0).normal(size=(3, 37))
    whole, ends = bootstrap_weights(37, 200, 5), bootstrap_means(values, 200, 5)
    totals = np.einsum("in,jn->ij", values, whole)
    assert np.array_equal(ends, np.nanquantile(totals / 37, [(1 - 0.95) / 2, 1 - (1 - 0.95) / 2], axis=1).T)
    monkeypatch.setattr(intervals, "PIECE", piece)
    assert np.array_equal(bootstrap_weights(37, 200, 5), whole)
    assert np.array_equal(bootstrap_means(values, 200, 5), ends)


def test_nan_items_stay_out_of_the_mean_and_of_the_samples():
    values = np.array([[1.0, 2.0, np.nan, 3.0, 4.0]])
    low, high = bootstrap_means(values, 2000, 0)[0]
    assert 1.0 <= low < 2.5 < high <= 4.0


@pytest.mark.parametrize("values", [[np.nan, np.nan, np.nan], [np.nan, 1.0, np.nan]])
def test_fewer_than_two_finite_items_have_no_interval(values):
    assert np.isnan(bootstrap_means(np.array([values]), 100, 0)).all()


@given(st.integers(3, 200), st.integers(0, 5))
def test_each_item_is_left_out_exactly_once(n, seed):
    kept = leave_group_out(n, seed)
    assert len(kept) == min(20, n)
    left_out = np.concatenate([np.setdiff1d(np.arange(n), rows) for rows in kept])
    assert np.array_equal(np.sort(left_out), np.arange(n))


def test_too_few_items_for_a_jackknife():
    assert leave_group_out(2, 0) == []
    assert np.isnan(jackknife_interval(1.0, np.array([])).low)


def test_jackknife_of_a_mean_is_its_t_interval():
    values = np.random.default_rng(1).normal(size=12)
    left_out = np.array([values[rows].mean() for rows in leave_group_out(12, 0)])
    interval = jackknife_interval(values.mean(), left_out)
    expected = stats.t.interval(0.95, 11, loc=values.mean(), scale=stats.sem(values))
    assert (interval.low, interval.high) == pytest.approx(expected)


def entropy(rows):
    share = np.linalg.eigvalsh(rows.T @ rows)
    share = share[share > 0] / share.sum()
    return float(-(share * np.log(share)).sum())


def test_jackknife_of_a_dataset_entropy_covers_its_expectation_at_the_same_size():
    rng = np.random.default_rng(0)
    scale = np.arange(1, 31) ** -0.7
    truth = np.mean([entropy(rng.normal(size=(80, 30)) * scale) for _ in range(400)])
    hits = 0
    for trial in range(200):
        rows = rng.normal(size=(80, 30)) * scale
        interval = jackknife_interval(
            entropy(rows), np.array([entropy(rows[kept]) for kept in leave_group_out(80, trial)])
        )
        hits += interval.low <= truth <= interval.high
    # 95 % nominal; below 89 % of 200 trials would be a z of -4.
    assert hits / 200 >= 0.89


def test_drawn_items_are_those_that_were_counted():
    weights = bootstrap_weights(7, 50, 0)
    drawn = drawn_items(weights)
    assert drawn.shape == weights.shape
    assert all((np.bincount(row, minlength=7) == counts).all() for row, counts in zip(drawn, weights, strict=True))


def test_draws_without_a_value_are_left_out_of_the_interval():
    draws = np.r_[np.arange(101.0), np.nan, np.inf]
    assert (percentile_interval(draws).low, percentile_interval(draws).high) == pytest.approx((2.5, 97.5))
    assert np.isnan(percentile_interval(np.array([np.nan])).low)


@given(arrays(np.float64, st.integers(1, 40), elements=st.floats(0, 1)))
def test_benjamini_hochberg_agrees_with_the_formula(p):
    order, m = np.argsort(p), len(p)
    expected = np.empty(m)
    for place, row in enumerate(order, 1):
        expected[row] = min(1.0, *(p[order[j - 1]] * m / j for j in range(place, m + 1)))
    assert benjamini_hochberg(p) == pytest.approx(expected, abs=1e-15)


@given(arrays(np.float64, st.integers(1, 20), elements=st.floats(0, 1)))
def test_an_adjusted_p_is_never_below_p_and_keeps_the_order(p):
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
