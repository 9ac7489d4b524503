"""Logistic regression: agreement with a general optimiser, known coefficients, separation, level."""

import numpy as np
import pytest
from scipy import optimize

from layerscope.statistics.logistic import fit_logistic


def drawn(rng, n, slopes):
    x = rng.normal(size=(n, len(slopes)))
    return x, (rng.random(n) < 1 / (1 + np.exp(-(x @ slopes - 0.3)))).astype(float)


def test_agrees_with_a_general_optimiser():
    x, y = drawn(np.random.default_rng(0), 200, [1.0, -0.5, 0.0])
    scaled = (x - x.mean(axis=0)) / x.std(axis=0)

    def loss(beta):
        odds = beta[0] + scaled @ beta[1:]
        return np.logaddexp(0, odds).sum() - y @ odds + 0.5 * 2.0 * beta[1:] @ beta[1:]

    expected = optimize.minimize(loss, np.zeros(4), method="BFGS", options={"gtol": 1e-8}).x
    fit = fit_logistic(x, y, ridge=2.0)
    assert np.r_[fit.intercept, fit.coefficients] == pytest.approx(expected, abs=1e-5)


def test_recovers_known_coefficients_and_separates_a_cause_from_its_companion():
    rng = np.random.default_rng(1)
    cause = rng.normal(size=4000)
    companion = cause + 0.5 * rng.normal(size=4000)
    label = (rng.random(4000) < 1 / (1 + np.exp(-1.5 * cause))).astype(float)
    fit = fit_logistic(np.column_stack([cause, companion]), label)
    assert fit.coefficients[0] == pytest.approx(1.5, abs=0.25)
    assert fit.p[0] < 1e-6
    assert fit.p[1] > 0.01


def test_does_not_depend_on_the_unit():
    x, y = drawn(np.random.default_rng(0), 100, [1.0, 0.5])
    assert fit_logistic(x * [1e4, 1e-4] + 7, y).coefficients == pytest.approx(fit_logistic(x, y).coefficients, rel=1e-6)


def test_separated_labels_stay_finite_and_are_named():
    x = np.linspace(-1, 1, 40)[:, None]
    fit = fit_logistic(x, (x[:, 0] > 0).astype(float))
    assert fit.separated
    assert np.isfinite([*fit.coefficients, *fit.low, *fit.high]).all()
    assert fit.coefficients[0] > 1
    _, noise = drawn(np.random.default_rng(0), 40, [0.0])
    assert not fit_logistic(x, noise).separated


def test_level_of_the_p_values():
    rng = np.random.default_rng(0)
    rejected = [(fit_logistic(rng.normal(size=(150, 3)), np.arange(150) % 2.0).p < 0.05).mean() for _ in range(200)]
    assert np.mean(rejected) == pytest.approx(0.05, abs=0.03)
