"""Evidence for one mode and for two, on samples of which it is known."""

import numpy as np
import pytest

from layerscope.errors import UserError
from layerscope.statistics.dips import critical_dip, dips_of_two_modes, weigh_dip


def two_modes(rng, n, distance, share=0.4):
    return rng.normal(size=n) + distance * (rng.random(n) >= share)


def test_the_critical_dip_is_that_of_the_published_table():
    # Hartigan & Hartigan 1985, table 1: n = 200, 95 %.
    assert critical_dip(200) == pytest.approx(0.0370, abs=0.0015)


def test_two_clear_modes_are_found_and_one_is_refuted():
    rng = np.random.default_rng(0)
    found = weigh_dip(two_modes(rng, 400, 5))
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
    clear = [weigh_dip(two_modes(rng, 200, 4)) for _ in range(120)]
    assert np.mean([one.p < 0.05 and one.excess > 0 for one in uniform]) <= 0.08
    assert np.mean([one.p < 0.05 and one.excess < 0 for one in clear]) <= 0.08
    assert np.mean([one.p < 0.05 and one.excess > 0 for one in clear]) > 0.5


def test_draws_are_seeded():
    assert critical_dip(211, 3) == critical_dip.__wrapped__(211, 3)
    assert (dips_of_two_modes(211, 3) == dips_of_two_modes.__wrapped__(211, 3)).all()


def test_what_cannot_be_tested_is_said():
    with pytest.raises(UserError, match="at least 200 prompts with a value, got 199"):
        weigh_dip(np.r_[np.arange(199.0), np.nan])
    with pytest.raises(UserError, match="all prompts have the same"):
        weigh_dip(np.ones(300))
