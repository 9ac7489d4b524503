"""Modes: level and power of the dip test, the recovered distance and split, and what is refused."""

import diptest
import numpy as np
import polars as pl
import pytest

from layerscope.errors import UserError
from layerscope.statistics.intervals import benjamini_hochberg
from layerscope.statistics.modes import (
    MODES,
    assign_modes,
    critical_dip,
    dips_of_two_modes,
    find_modes,
    weigh_dip,
)


def prompts(layers, **other):
    """A prompts table; `layers` holds the values of each layer."""
    fixed = {"metric": "prompt_entropy", "variant": "paper", "alpha": 1.0, "readout": "raw", "positions": "all"}
    fixed |= {"normalization": "none", "note": ""} | other
    rows = [
        {**fixed, "prompt_id": str(i), "layer": k, "value": float(v)}
        for k, values in enumerate(layers)
        for i, v in enumerate(values)
    ]
    return pl.DataFrame(rows, schema_overrides={"layer": pl.Int32(), "alpha": pl.Float64()})


def two_modes(rng, n=300, apart=5.0):
    return rng.normal(size=n) + np.where(np.arange(n) < 0.4 * n, apart, 0.0)


def test_agrees_with_the_dip_and_adjusts_over_layers():
    rng = np.random.default_rng(0)
    values = [rng.normal(size=250), two_modes(rng, 250), rng.uniform(size=250)]
    table = find_modes(prompts(values), resamples=50)
    assert table.schema == MODES
    assert table["dip"].to_list() == pytest.approx([diptest.diptest(v)[0] for v in values])
    expected = np.maximum([diptest.diptest(v)[1] for v in values], 1e-6)
    assert table["p"].to_numpy() == pytest.approx(expected)
    assert table["p_adjusted"].to_numpy() == pytest.approx(benjamini_hochberg(expected))


def test_level_on_the_uniform_and_power_on_two_modes():
    rng = np.random.default_rng(0)
    level = np.mean([diptest.diptest(rng.uniform(size=200))[1] < 0.05 for _ in range(1000)])
    assert level == pytest.approx(0.05, abs=0.025)
    power = np.mean([diptest.diptest(two_modes(rng, 200, 5.0))[1] < 0.05 for _ in range(100)])
    assert power > 0.9


def test_recovers_distance_and_split():
    rng = np.random.default_rng(0)
    row = find_modes(prompts([two_modes(rng, 2000)]), resamples=50).row(0, named=True)
    assert row["distance"] == pytest.approx(5.0, abs=0.3)
    assert row["distance_ci_low"] < 5.0 < row["distance_ci_high"]
    assert row["split"] == pytest.approx(2.6, abs=0.4)
    assert row["low_share"] == pytest.approx(0.6, abs=0.02)
    assert row["low_mean"] < row["split"] < row["high_mean"]


def test_fewer_than_200_prompts_are_refused():
    rng = np.random.default_rng(0)
    table = find_modes(prompts([two_modes(rng, 199)]))
    row = table.row(0, named=True)
    assert np.isnan([row["dip"], row["p"], row["p_adjusted"], row["distance"], row["split"]]).all()
    assert row["note"] == "no dip test: 199 prompts, at least 200 are needed"


def test_prompts_without_a_value_do_not_count():
    values = np.r_[two_modes(np.random.default_rng(0), 210), [np.nan] * 15]
    row = find_modes(prompts([values]), resamples=50).row(0, named=True)
    assert row["n_prompts"] == 210
    assert "15 prompts without a value" in row["note"]
    few = find_modes(prompts([values[5:]]), resamples=50).row(0, named=True)
    assert np.isfinite(few["dip"])
    assert "15 without a value" in find_modes(prompts([values[50:]])).row(0, named=True)["note"]


def test_equal_values_have_no_modes():
    row = find_modes(prompts([np.full(200, 0.3)])).row(0, named=True)
    assert np.isnan(row["dip"])
    assert row["note"] == "no dip test: all prompts have the same value"


def test_one_group_has_no_split():
    row = find_modes(prompts([np.random.default_rng(0).normal(size=300)]), resamples=50).row(0, named=True)
    assert np.isnan(row["split"])
    assert "no split" in row["note"]


def test_curves_are_tested_apart():
    rng = np.random.default_rng(0)
    table = pl.concat([prompts([two_modes(rng)]), prompts([rng.normal(size=300)], positions="no-first")])
    found = find_modes(table, resamples=50).filter(pl.col("p_adjusted") < 0.05)
    assert found.select("positions", "layer").rows() == [("all", 0)]


def test_assign_modes():
    modes = assign_modes(np.array([1.0, 3.0, 2.0, np.nan]), 2.0)
    assert modes[:3].tolist() == [0.0, 1.0, 1.0]
    assert np.isnan(modes[3])


def mixed(rng, n, distance, share=0.4):
    return rng.normal(size=n) + distance * (rng.random(n) >= share)


def test_the_critical_dip_is_that_of_the_published_table():
    # Hartigan & Hartigan 1985, table 1: n = 200, 95 %.
    assert critical_dip(200) == pytest.approx(0.0370, abs=0.0015)


def test_two_clear_modes_are_found_and_one_is_refuted():
    rng = np.random.default_rng(0)
    found = weigh_dip(mixed(rng, 400, 5))
    assert found.excess > 0
    assert found.low > 0
    assert found.p < 0.01
    assert found.p_two_modes > 0.2


def test_one_mode_refutes_two_clear_ones():
    found = weigh_dip(np.random.default_rng(1).normal(size=400))
    assert found.excess < 0
    assert found.high < 0
    assert found.p < 0.01
    assert found.p_one_mode > 0.5


def test_level_of_both_sides():
    """One mode is called two, and two clear ones are called one, in no more than 5 % of samples."""
    rng = np.random.default_rng(2)
    uniform = [weigh_dip(rng.random(200)) for _ in range(120)]
    clear = [weigh_dip(mixed(rng, 200, 4)) for _ in range(120)]
    assert np.mean([one.p < 0.05 and one.excess > 0 for one in uniform]) <= 0.08
    assert np.mean([one.p < 0.05 and one.excess < 0 for one in clear]) <= 0.08
    assert np.mean([one.p < 0.05 and one.excess > 0 for one in clear]) > 0.5


def test_draws_of_the_weighed_dip_are_seeded():
    assert critical_dip(211, 3) == critical_dip.__wrapped__(211, 3)
    assert (dips_of_two_modes(211, 3) == dips_of_two_modes.__wrapped__(211, 3)).all()


def test_what_cannot_be_weighed_is_said():
    with pytest.raises(UserError, match="at least 200 prompts with a value, got 199"):
        weigh_dip(np.r_[np.arange(199.0), np.nan])
    with pytest.raises(UserError, match="all prompts have the same"):
        weigh_dip(np.ones(300))
