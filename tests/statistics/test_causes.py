"""Which covariate makes the modes: on tables where it is known."""

import numpy as np
import polars as pl
import pytest

from layerscope.errors import UserError
from layerscope.statistics.causes import ALL, residuals, take_out


def table(seed=0, n=400):
    """Two modes made by `cause`; `follower` goes with the values within the modes; `noise` with nothing."""
    rng = np.random.default_rng(seed)
    cause = rng.random(n) < 0.45
    inner = rng.normal(size=n)
    values = 5.0 * cause + inner
    covariates = pl.DataFrame(
        {
            "cause": cause,
            "proxy": 2.0 * cause + rng.normal(size=n) * 0.05,
            "follower": inner + 0.5 * rng.normal(size=n),
            "noise": rng.normal(size=n),
            "coin": rng.random(n) < 0.5,
        }
    )
    return values, covariates


def test_the_cause_takes_the_modes_with_it_and_others_leave_them():
    values, covariates = table()
    found = {row["covariate"]: row for row in take_out(values, covariates, resamples=100).iter_rows(named=True)}
    assert found["noise"]["p_before"] < 0.001
    for name in ("cause", "proxy", ALL):
        assert found[name]["p_adjusted"] > 0.5, name
    for name in ("follower", "noise", "coin"):
        assert found[name]["p_adjusted"] < 0.001, name
    assert found["cause"]["explained"] == pytest.approx(25 * 0.2475 / (25 * 0.2475 + 1), abs=0.03)


def test_a_covariate_that_goes_with_one_mode_is_not_a_cause_of_two():
    """In a single mode everything that goes with the values differs between its halves; no modes come or go."""
    rng = np.random.default_rng(3)
    values = rng.normal(size=400)
    found = take_out(values, pl.DataFrame({"x": values + 0.3 * rng.normal(size=400)}), resamples=50)
    assert found["explained"][0] > 0.8
    assert found["p_before"][0] > 0.05
    assert found["p"][0] > 0.05


def test_explained_is_unbiased_and_covered_under_the_null():
    shares, covered = [], []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        row = take_out(rng.normal(size=200), pl.DataFrame({"x": rng.normal(size=200)}), resamples=60).row(0, named=True)
        shares.append(row["explained"])
        covered.append(row["explained_ci_low"] <= 0 <= row["explained_ci_high"])
    assert abs(np.mean(shares)) < 0.008
    assert np.mean(covered) >= 0.9


def test_a_bent_relation_is_taken_out():
    rng = np.random.default_rng(4)
    x = rng.uniform(-2, 2, size=500)
    left = residuals(x**2 + 0.1 * rng.normal(size=500), x[:, None])
    assert left.std() == pytest.approx(0.1, rel=0.15)
    assert left.mean() == pytest.approx(0, abs=1e-12)


def test_residuals_do_not_depend_on_scale_or_copies():
    rng = np.random.default_rng(5)
    values, x = rng.normal(size=300), rng.normal(size=300)
    once = residuals(values, x[:, None])
    assert residuals(values, 1e6 * x[:, None] + 3) == pytest.approx(once, abs=1e-6)
    assert residuals(values, np.column_stack([x, x])) == pytest.approx(once, abs=1e-8)


def test_what_has_no_value_says_why():
    values, _ = table()
    covariates = pl.DataFrame({"same": [1.0] * 400, "few": [1.0, 2.0] * 60 + [None] * 280})
    found = take_out(values, covariates, resamples=20)
    assert found["note"].to_list() == [
        "no value: the same for every prompt",
        "no value: 120 prompts have it, at least 200 are needed",
    ]
    assert found["explained"].is_nan().all()
    with pytest.raises(UserError, match="expected one value a prompt"):
        take_out(values[:-1], covariates)
    with pytest.raises(UserError, match="expected numbers or booleans in 'kind'"):
        take_out(values, pl.DataFrame({"kind": ["a"] * 400}))
