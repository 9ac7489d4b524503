from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from layerscope.statistics.intervals import LEVEL
from layerscope.studies.estimates import (
    bounded_contrast,
    difference,
    interval_estimate,
    mean_estimate,
    paired_t,
    weaker,
)


def test_mean_has_its_interval_and_a_small_p_where_it_is_far_from_zero():
    values = np.random.default_rng(0).normal(1.0, 0.5, 60)
    estimate = mean_estimate(values, unit="nats")
    assert estimate.value == pytest.approx(values.mean())
    theory = stats.t.interval(LEVEL, 59, values.mean(), values.std(ddof=1) / np.sqrt(60))
    assert (estimate.low, estimate.high) == pytest.approx(theory, abs=0.03)
    assert estimate.p == 1 / 10_000
    assert (estimate.n, estimate.unit, estimate.over) == (60, "nats", "prompts")


def test_p_is_even_where_nothing_is_there():
    p = [mean_estimate(np.random.default_rng(seed).normal(size=20)).p for seed in range(60)]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) < 0.1) < 0.25


def test_values_that_are_missing_are_left_out_and_too_few_give_none():
    values = np.array([1.0, np.nan, 2.0, 3.0, 4.0, 5.0])
    assert mean_estimate(values).n == 5
    few = mean_estimate(values[:4])
    assert np.isnan([few.value, few.low, few.high, few.p]).all()
    assert few.note == "3 prompts have a value, at least 5 are needed"


def test_a_few_tasks_have_students_interval():
    values = [1.0, 2.0, 4.0]
    estimate = paired_t(values)
    assert estimate.p == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    assert (estimate.low, estimate.high) == pytest.approx(stats.ttest_1samp(values, 0).confidence_interval(LEVEL))
    assert paired_t([1.0]).note == "1 tasks have a value, at least 2 are needed"
    again = interval_estimate(estimate.value, estimate.low, estimate.high, n=3, over="tasks")
    assert again.p == pytest.approx(estimate.p)


def test_a_contrast_of_layers_is_never_surer_than_any_correlation_allows():
    value, half = np.array([1.0, 3.0, 2.0]), np.array([0.1, 0.2, 0.3])
    estimate = bounded_contrast(value, value - half, value + half, np.array([-1.0, 1.0, 0.0]), n=40)
    assert estimate.value == 2.0
    assert (estimate.low, estimate.high) == pytest.approx((2 - 0.3, 2 + 0.3))
    gap = bounded_contrast(value, np.array([np.nan] * 3), value, np.ones(3), n=40)
    assert np.isnan(gap.value)
    twice = difference(estimate, estimate)
    assert twice.value == 0.0
    assert twice.high == pytest.approx(0.6)


def test_all_of_a_sign_is_as_sure_as_the_least_of_them():
    strong, weak = mean_estimate(np.linspace(2, 3, 12)), mean_estimate(np.linspace(-0.5, 1.5, 12))
    assert weaker([strong, weak], 1) == weak
    against = weaker([strong, weak], -1)
    assert against.value == strong.value
    assert against.p == 2 * strong.p
    assert np.isnan(weaker([strong, mean_estimate(np.ones(2))], 1).value)
