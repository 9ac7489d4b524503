"""Two Gaussians: known mixtures recovered, closed forms, and intervals that cover."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from layerscope.statistics.intervals import bootstrap_weights
from layerscope.statistics.mixtures import Mixture, distance_draws, fit_mixture


def drawn(rng, n=400, share=0.4, means=(0.0, 4.0), sds=(1.0, 0.5)):
    high = rng.random(n) < share
    return np.where(high, means[1] + sds[1] * rng.normal(size=n), means[0] + sds[0] * rng.normal(size=n))


def test_recovers_a_known_mixture():
    fitted = fit_mixture(drawn(np.random.default_rng(0), 4000))
    assert fitted.means == pytest.approx((0.0, 4.0), abs=0.1)
    assert fitted.sds == pytest.approx((1.0, 0.5), rel=0.1)
    assert fitted.weights == pytest.approx((0.6, 0.4), abs=0.03)
    assert fitted.distance == pytest.approx(4 / np.sqrt(0.6 + 0.4 * 0.25), rel=0.06)


@given(st.floats(0.1, 100), st.floats(-50, 50))
def test_distance_does_not_depend_on_unit_and_origin(scale, shift):
    values = drawn(np.random.default_rng(1), 200)
    there, here = fit_mixture(values * scale + shift), fit_mixture(values)
    assert there.distance == pytest.approx(here.distance, rel=1e-3)
    assert there.antimode() == pytest.approx(here.antimode() * scale + shift, rel=1e-2, abs=0.02 * scale)


def test_is_the_same_each_time():
    values = drawn(np.random.default_rng(1))
    assert fit_mixture(values) == fit_mixture(values.copy())


def test_does_not_fall_for_a_sliver():
    """Two nearly equal points have an unbounded likelihood; they are no mode."""
    values = np.r_[np.random.default_rng(0).normal(size=300), -3.5, -3.5000001]
    assert fit_mixture(values).distance < 2


def test_a_spike_beside_a_spread_is_two_modes():
    values = np.r_[np.zeros(150), 2 + 0.3 * np.random.default_rng(0).normal(size=150)]
    fitted = fit_mixture(values)
    assert fitted.weights == pytest.approx((0.5, 0.5), abs=0.01)
    assert 0 < fitted.antimode() < 1.4
    assert fitted.distance > 5


def test_antimode_in_closed_form():
    assert Mixture((0.5, 0.5), (-2.0, 2.0), (1.0, 1.0)).antimode() == pytest.approx(0.0, abs=0.01)
    assert Mixture((0.5, 0.5), (-2.0, 2.0), (1.0, 1.0)).distance == pytest.approx(4.0)
    # Equal Gaussians have two modes only above a distance of 2.
    assert np.isnan(Mixture((0.5, 0.5), (-0.99, 0.99), (1.0, 1.0)).antimode())
    assert np.isfinite(Mixture((0.5, 0.5), (-1.05, 1.05), (1.0, 1.0)).antimode())


def test_interval_of_the_distance_covers_it():
    truth = 4 / np.sqrt(0.6 + 0.4 * 0.25)
    hits = 0
    for trial in range(80):
        values = drawn(np.random.default_rng(trial), 250)
        draws = distance_draws(values, fit_mixture(values), bootstrap_weights(250, 150, trial))
        low, high = np.quantile(draws, [0.025, 0.975])
        hits += low <= truth <= high
    # Measured on more trials: 92 to 97 %. 65 of 80 would be a z of -3.5 from the lower of these.
    assert hits > 65
