"""Differences between two modes: effect sizes against other computations, levels, and what has no answer."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from layerscope.errors import UserError
from layerscope.statistics.differences import DIFFERENCES, JOINT, compare_groups, fit_jointly
from layerscope.statistics.intervals import benjamini_hochberg

QUICK = {"resamples": 200, "permutations": 499}


def row(table, covariate, effect=None):
    found = table.filter(pl.col("covariate") == covariate)
    return (found if effect is None else found.filter(pl.col("effect") == effect)).row(0, named=True)


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(0)
    label = np.r_[np.zeros(70), np.ones(50)]
    table = pl.DataFrame(
        {
            "length": rng.normal(size=120).round(1) + label,
            "noise": rng.normal(size=120),
            "sink": rng.random(120) < 0.2 + 0.5 * label,
            "constant": np.full(120, 3.0),
        }
    )
    return label, table, compare_groups(label, table, **QUICK)


def test_numeric_effects(example):
    label, table, found = example
    a, b = table["length"].to_numpy()[label == 1], table["length"].to_numpy()[label == 0]
    pooled = np.sqrt((69 * b.var(ddof=1) + 49 * a.var(ddof=1)) / 118)
    assert row(found, "length", "cohens_d")["value"] == pytest.approx((a.mean() - b.mean()) / pooled)
    delta = np.sign(a[:, None] - b[None]).mean()
    assert row(found, "length", "cliffs_delta")["value"] == pytest.approx(delta)
    u = stats.mannwhitneyu(a, b).statistic
    assert delta == pytest.approx(2 * u / (50 * 70) - 1)


def test_binary_effects(example):
    label, table, found = example
    sink = table["sink"].to_numpy()
    assert row(found, "sink", "phi")["value"] == pytest.approx(np.corrcoef(sink, label)[0, 1])
    cells = [np.sum((sink == s) & (label == k)) + 0.5 for s, k in ((1, 1), (0, 0), (0, 1), (1, 0))]
    expected = np.log(cells[0] * cells[1] / cells[2] / cells[3])
    assert row(found, "sink", "log_odds_ratio")["value"] == pytest.approx(expected)
    assert row(found, "sink", "phi")["kind"] == "binary"


def test_intervals_and_p_values(example):
    _, _, found = example
    assert found.schema == DIFFERENCES
    for covariate, effect in (("length", "cohens_d"), ("length", "cliffs_delta"), ("sink", "phi")):
        real = row(found, covariate, effect)
        assert real["p"] == pytest.approx(1 / 500)
        assert 0 < real["ci_low"] < real["value"] < real["ci_high"]
    assert row(found, "noise", "cohens_d")["p"] > 0.05
    assert found["p_adjusted"].to_numpy() == pytest.approx(benjamini_hochberg(found["p"].to_numpy()), nan_ok=True)


def test_constants_have_no_effect(example):
    constant = row(example[2], "constant")
    assert np.isnan([constant["value"], constant["p"], constant["p_adjusted"]]).all()
    assert constant["note"] == "no value: the same for every prompt"


def test_permutation_p_agrees_with_scipy():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=20) + 0.6, rng.normal(size=25)
    label = np.r_[np.ones(20), np.zeros(25)]
    found = compare_groups(label, pl.DataFrame({"x": np.r_[a, b]}), resamples=50, permutations=9999)
    assert row(found, "x", "cohens_d")["p"] == pytest.approx(stats.ttest_ind(a, b).pvalue, abs=0.015)
    assert row(found, "x", "cliffs_delta")["p"] == pytest.approx(stats.mannwhitneyu(a, b).pvalue, abs=0.015)


def test_level_and_coverage():
    rng = np.random.default_rng(0)
    label = np.r_[np.zeros(60), np.ones(60)]
    p, covered = [], []
    for trial in range(10):
        table = pl.DataFrame({f"x{i}": rng.gamma(2.0, size=120) for i in range(15)})
        found = compare_groups(label, table, resamples=199, permutations=199, seed=trial)
        p += found["p"].to_list()
        covered += ((found["ci_low"] <= 0) & (found["ci_high"] >= 0)).to_list()
    # Two effects of 150 covariates: standard errors of about 0.016.
    assert np.mean(np.array(p) <= 0.05) == pytest.approx(0.05, abs=0.045)
    assert np.mean(covered) == pytest.approx(0.95, abs=0.045)


def test_missing_values_and_labels_are_left_out_of_their_column():
    label = np.r_[np.zeros(10), np.ones(10), np.nan]
    table = pl.DataFrame({"x": [None, *range(20)], "y": [float(i % 3) for i in range(21)]})
    found = compare_groups(label, table, **QUICK)
    assert (row(found, "x")["n_0"], row(found, "x")["n_1"]) == (9, 10)
    assert (row(found, "y")["n_0"], row(found, "y")["n_1"]) == (10, 10)


def test_a_group_that_is_too_small_has_no_effect():
    found = compare_groups(np.r_[np.zeros(30), np.ones(3)], pl.DataFrame({"x": np.arange(33.0)}), **QUICK)
    assert found["value"].is_nan().all()
    assert "30 prompts of mode 0 and 3 of mode 1" in found["note"][0]


def test_a_cause_that_determines_the_mode_keeps_finite_numbers():
    label = np.r_[np.zeros(20), np.ones(20)]
    found = compare_groups(label, pl.DataFrame({"x": label}), **QUICK)
    assert row(found, "x", "phi")["value"] == pytest.approx(1.0)
    assert np.isfinite(row(found, "x", "log_odds_ratio")["value"])
    joint = fit_jointly(label, pl.DataFrame({"x": label}))
    assert "without error" in row(joint, "x")["note"]
    assert np.isfinite(row(joint, "x")["coefficient"])


def test_joint_regression_tells_a_cause_from_its_companion():
    rng = np.random.default_rng(0)
    cause = rng.normal(size=1500)
    label = (rng.random(1500) < 1 / (1 + np.exp(-2 * cause))).astype(float)
    table = pl.DataFrame({"cause": cause, "companion": cause + 0.7 * rng.normal(size=1500), "constant": np.ones(1500)})
    alone = compare_groups(label, table.select("companion"), **QUICK)
    assert row(alone, "companion", "cohens_d")["p_adjusted"] < 0.05
    joint = fit_jointly(label, table)
    assert joint.schema == JOINT
    assert row(joint, "cause")["p_adjusted"] < 1e-6
    assert row(joint, "companion")["p_adjusted"] > 0.01
    assert np.isnan(row(joint, "constant")["coefficient"])
    assert "the same for every prompt" in row(joint, "constant")["note"]
    assert row(joint, "cause")["odds_ratio"] == pytest.approx(np.exp(row(joint, "cause")["coefficient"]))


def test_joint_regression_with_too_few_prompts():
    label = np.r_[np.zeros(30), np.ones(3)]
    table = pl.DataFrame({"x": np.arange(33.0)})
    assert "3 prompts in the smaller mode" in row(fit_jointly(label, table), "x")["note"]
    some = np.r_[np.zeros(30), np.ones(8)]
    joint = fit_jointly(some, pl.DataFrame({"x": np.sin(np.arange(38.0))}))
    assert "unreliable" in row(joint, "x")["note"]


def test_a_column_that_is_missing_for_all_does_not_cost_the_others_their_prompts():
    rng = np.random.default_rng(0)
    table = pl.DataFrame({"x": rng.normal(size=60), "gone": np.full(60, np.nan)})
    joint = fit_jointly(np.arange(60) % 2.0, table)
    assert np.isfinite(row(joint, "x")["coefficient"])
    assert np.isnan(row(joint, "gone")["coefficient"])


@pytest.mark.parametrize(
    ("label", "table", "message"),
    [
        ([0.0, 1.0], {"x": [1.0]}, "1 prompts have covariates, 2 a label"),
        ([0.0, 2.0], {"x": [1.0, 2.0]}, "expected labels 0 and 1"),
        ([0.0, 1.0], {"x": ["a", "b"]}, "turn categories into 0/1 columns"),
    ],
)
def test_refusals(label, table, message):
    with pytest.raises(UserError, match=message):
        compare_groups(np.array(label), pl.DataFrame(table))
