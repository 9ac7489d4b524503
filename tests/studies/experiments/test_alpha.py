from __future__ import annotations

import math

import numpy as np
import pytest

from layerscope.studies.experiments.alpha import ALIKE, ALPHAS, MISFIT, exponents, power_law_entropy
from layerscope.studies.findings import CLAIMS


@pytest.mark.parametrize("beta", [0.0, 0.5, 1.0, 2.0])
@pytest.mark.parametrize("order", ALPHAS)
def test_entropy_of_a_power_law_is_that_of_its_shares(beta, order):
    p = np.arange(1, 101.0) ** -beta
    p /= p.sum()
    if order == 1:
        expected = -(p * np.log(p)).sum()
    elif math.isinf(order):
        expected = -np.log(p.max())
    else:
        expected = np.log((p**order).sum()) / (1 - order)
    assert power_law_entropy(beta, 100, order) == pytest.approx(expected, abs=1e-9)


def test_a_power_law_is_recognised_by_its_first_entropy():
    first = np.array([power_law_entropy(beta, 64, 1.0) for beta in (0.3, 1.0, 2.5)])
    second = [power_law_entropy(beta, 64, 2.0) for beta in (0.3, 1.0, 2.5)]
    assert exponents(first, 64) == pytest.approx(second, abs=1e-3)
    assert np.isnan(exponents(np.array([math.log(64) + 0.1]), 64)).all()


def test_the_claims_state_the_margins():
    assert CLAIMS["order-keeps-shape"].quantity.endswith(f"minus {ALIKE}")
    assert CLAIMS["power-law"].quantity.endswith(f"minus {MISFIT}")
