"""The same modes, other modes, no modes: agreement by hand and on samples of which it is known."""

import numpy as np
import pytest

from layerscope.statistics.splits import cohens_kappa, compare_splits


def test_kappa_by_hand():
    # 20 both 0, 15 both 1, 5 and 10 apart: observed .7, expected .5 (Cohen 1960's kind of table).
    one = np.r_[np.zeros(25), np.ones(25)]
    two = np.r_[np.zeros(20), np.ones(5), np.zeros(10), np.ones(15)]
    assert cohens_kappa(one, two) == pytest.approx(0.4)
    assert cohens_kappa(one, one) == 1
    assert cohens_kappa(one, 1 - one) == pytest.approx(-1)
    assert np.isnan(cohens_kappa(np.ones(5), np.ones(5)))


def test_changes_to_a_measurement():
    rng = np.random.default_rng(0)
    label = (rng.random(400) < 0.5).astype(float)
    other = (rng.random(400) < 0.5).astype(float)
    noise = rng.normal(size=400)
    found = compare_splits(
        label,
        {
            "same": 6 * label + noise,
            "turned": -6 * label + noise,
            "others": 6 * other + noise,
            "none": noise,
            "blurred": 1.5 * label + noise,
        },
        resamples=100,
    )
    rows = {row["change"]: row for row in found.iter_rows(named=True)}
    assert rows["same"]["agreement"] > 0.95
    assert rows["same"]["agreement_ci_low"] > 0.9
    assert rows["same"]["apart"] > 0.99
    assert rows["turned"]["agreement"] < -0.95
    assert abs(rows["others"]["agreement"]) < 0.15
    assert rows["others"]["p_adjusted"] < 0.001
    for name in ("none", "blurred"):
        assert np.isnan(rows[name]["agreement"])
        assert "no modes to compare" in rows[name]["note"]
    assert abs(rows["none"]["apart"]) < 0.12
    # Overlapping groups are no modes, and still lie apart: Cliff's delta of two Gaussians is 2 Φ(d / √2) − 1.
    assert rows["blurred"]["apart"] == pytest.approx(0.711, abs=0.08)
    assert rows["blurred"]["apart_ci_low"] < rows["blurred"]["apart"] < rows["blurred"]["apart_ci_high"]


def test_few_prompts_and_missing_values():
    label = np.r_[np.zeros(60), np.ones(60)]
    values = np.r_[np.arange(119.0), np.nan]
    (row,) = compare_splits(label, {"x": values}, resamples=50).iter_rows(named=True)
    assert row["n"] == 119
    assert "119 prompts (1 without a value), at least 200 are needed" in row["note"]
    assert np.isnan(row["dip"])
    assert row["apart"] == 1
