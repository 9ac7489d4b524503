"""Association: agreement with SciPy, dcor and brute force, and the level of the shift test by simulation."""

import dcor
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from tests.picking.tables import smooth

from layerscope.statistics.association import (
    STATISTICS,
    correlate_rows,
    embed,
    mirrored_shifts,
    read_cosine,
    shift_test,
    without_line,
)

LAYERS = 25


def value(a, b, statistic):
    return float(read_cosine(embed(a[None], statistic) @ embed(b[None], statistic).T, statistic)[0, 0])


@given(arrays(np.float64, (2, 9), elements=st.integers(-3, 3).map(float)))
def test_agrees_with_scipy_and_dcor_with_ties(pair):
    a, b = pair
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(value(a, b, "spearman"))
        return
    assert value(a, b, "spearman") == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
    assert value(a, b, "kendall") == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)
    assert value(a, b, "dcor") == pytest.approx(float(dcor.distance_correlation(a, b)), abs=1e-6)


def test_rows_agree_with_scipy_and_a_constant_one_has_no_correlation():
    a, b = np.random.default_rng(0).integers(0, 6, size=(2, 40, 12)).astype(float)
    a[7] = 3.0
    for row, (pearson, spearman) in enumerate(zip(correlate_rows(a, b), correlate_rows(a, b, ranks=True), strict=True)):
        if row == 7:
            assert np.isnan([pearson, spearman]).all()
            continue
        assert pearson == pytest.approx(stats.pearsonr(a[row], b[row]).statistic, abs=1e-12)
        assert spearman == pytest.approx(stats.spearmanr(a[row], b[row]).statistic, abs=1e-12)


def test_agrees_with_dcor_on_reals():
    rng = np.random.default_rng(0)
    for _ in range(20):
        a, b = rng.normal(size=(2, 30))
        assert value(a, b, "dcor") == pytest.approx(float(dcor.distance_correlation(a, b)), abs=1e-12)


@pytest.mark.parametrize("statistic", STATISTICS)
def test_a_curve_goes_fully_with_itself_and_a_constant_with_nothing(statistic):
    curve = np.random.default_rng(0).normal(size=12)
    assert value(curve, curve, statistic) == pytest.approx(1.0)
    assert value(curve, -curve, statistic) == pytest.approx(1.0 if statistic == "dcor" else -1.0)
    assert np.isnan(value(curve, np.full(12, 0.1 + 0.2), statistic))
    # Equal up to rounding is constant too.
    assert np.isnan(value(curve, 0.3 + np.resize([0.0, 1e-17, 5e-17], 12), statistic))


def test_mirrored_shifts_of_three_layers():
    assert mirrored_shifts(np.array([1.0, 2.0, 3.0])).tolist() == [
        [2, 3, 3],
        [3, 3, 2],
        [3, 2, 1],
        [2, 1, 1],
        [1, 1, 2],
    ]


def test_mirrored_shifts_make_no_jump():
    curve = np.linspace(0.0, 5.0, 20)
    assert np.abs(np.diff(mirrored_shifts(curve), axis=1)).max() == pytest.approx(np.abs(np.diff(curve)).max())


def test_without_line_leaves_nothing_of_a_line_and_is_orthogonal_to_it():
    line = np.linspace(-1, 4, 11)
    assert (without_line(np.stack([line, 7 - 2 * line])) == 0).all()
    rest = without_line(np.random.default_rng(0).normal(size=(3, 11)))
    assert rest @ np.stack([np.ones(11), line]).T == pytest.approx(np.zeros((3, 2)), abs=1e-12)


def brute_p(curve, target, statistic):
    def one(x, y):
        observed = abs(value(x, y, statistic))
        null = [abs(value(shift, y, statistic)) for shift in mirrored_shifts(x)]
        return (1 + sum(not n < observed - 1e-12 for n in null)) / (2 * len(x))

    return max(one(curve, target), one(without_line(curve[None])[0], without_line(target[None])[0]))


@pytest.mark.parametrize("statistic", STATISTICS)
def test_p_agrees_with_brute_force(statistic):
    rng = np.random.default_rng(1)
    curves, targets = smooth(rng, 3, 14), smooth(rng, 4, 14)
    p = shift_test(curves, targets, statistic).p
    for c in range(3):
        for t in range(4):
            assert p[c, t] == pytest.approx(brute_p(curves[c], targets[t], statistic))


def test_smallest_p_is_one_over_twice_the_layers():
    curve = smooth(np.random.default_rng(3), 1, LAYERS)
    assert shift_test(curve, curve, "spearman").p[0, 0] == pytest.approx(1 / (2 * LAYERS))


def test_two_straight_lines_are_no_evidence():
    lines = np.stack([np.arange(25.0), 3 - 0.2 * np.arange(25.0)])
    test = shift_test(lines[:1], lines[1:], "kendall")
    assert test.value[0, 0] == pytest.approx(-1.0)
    assert test.p[0, 0] == 1.0


def test_constant_curves_have_no_p():
    test = shift_test(np.ones((1, 10)), smooth(np.random.default_rng(0), 2, 10), "spearman")
    assert np.isnan(test.p).all()
    assert np.isnan(test.null_q95).all()


def unrelated(kind, rng, n):
    if kind == "smooth":
        return smooth(rng, n, LAYERS)
    if kind == "random walk":
        return rng.normal(size=(n, LAYERS)).cumsum(axis=1)
    if kind == "trend":
        return smooth(rng, n, LAYERS, 0.7) + rng.choice([-1, 1], (n, 1)) * np.linspace(-3, 3, LAYERS)
    bumps = (np.arange(LAYERS) / (LAYERS - 1) - rng.uniform(0.2, 0.8, (n, 1))) ** 2
    return smooth(rng, n, LAYERS, 0.7) / 2 + 8 * rng.choice([-1, 1], (n, 1)) * bumps


@pytest.mark.parametrize("kind", ["smooth", "random walk", "trend", "bump"])
def test_level_on_unrelated_curves(kind):
    rng = np.random.default_rng(11)
    curves, targets = unrelated(kind, rng, 20), unrelated(kind, rng, 20)
    naive = stats.spearmanr(curves, targets, axis=1).pvalue[:20, 20:]
    assert (naive < 0.05).mean() > 0.25
    for statistic in STATISTICS:
        # 20 x 20 pairs are not independent: twice the nominal level is allowed for, measured are 1 to 2.5 %.
        assert (shift_test(curves, targets, statistic).p <= 0.05).mean() <= 0.06


@pytest.mark.parametrize("statistic", STATISTICS)
def test_power_on_related_curves(statistic):
    rng = np.random.default_rng(2)
    found = 0
    for _ in range(60):
        curve = smooth(rng, 1, LAYERS)
        noise = smooth(rng, 1, LAYERS, 0.7)
        target = 0.95 * curve / curve.std() + 0.31 * noise / noise.std()
        found += shift_test(curve, target, statistic).p[0, 0] <= 0.05
    assert found / 60 >= 0.9


def test_dcor_sees_what_a_rank_correlation_cannot():
    curve = smooth(np.random.default_rng(4), 1, 40, 0.3)
    test = shift_test(curve, curve**2, "dcor")
    assert test.p[0, 0] <= 0.05
    assert test.value[0, 0] > test.null_q95[0, 0] > test.null_mean[0, 0]
    assert shift_test(curve, curve**2, "spearman").p[0, 0] > 0.2
