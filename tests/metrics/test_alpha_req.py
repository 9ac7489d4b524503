import pytest
import torch
from tests.metrics import reference
from tests.metrics.inputs import leave_out, normal

from layerscope.metrics.alpha_req import alpha_req, decay
from layerscope.metrics.sources import PooledVectors


@pytest.mark.parametrize("alpha", [0.0, 0.7, 1.0, 2.5])
def test_a_power_law_has_its_exponent(alpha):
    spectrum = torch.arange(1, 81, dtype=torch.float64) ** -alpha
    assert decay(spectrum * 7).item() == pytest.approx(alpha, abs=1e-12)


@pytest.mark.parametrize("shape", [(60, 40), (150, 130), (40, 60)])
def test_it_agrees_with_the_reference(shape):
    pooled = (normal(*shape) * torch.arange(1, shape[1] + 1) ** -0.5 + normal(shape[1], seed=2)).float()
    subsets = [torch.arange(shape[0]), *leave_out(shape[0], 5)]
    found = alpha_req(PooledVectors(pooled, subsets))
    assert found.tolist() == pytest.approx([reference.alpha_req(pooled[kept]) for kept in subsets], rel=1e-8)
    assert torch.equal(alpha_req(PooledVectors(pooled)), found[:1])
    narrow = alpha_req(PooledVectors(pooled), fit_range=(2, 20)).item()
    assert narrow == pytest.approx(reference.alpha_req(pooled, 2, 20), rel=1e-8)


def test_too_few_eigenvalues_give_nan():
    assert alpha_req(PooledVectors(normal(15, 40))).isnan()  # ranks 11 to 14
    assert not alpha_req(PooledVectors(normal(16, 40))).isnan()
    assert alpha_req(PooledVectors(normal(8, 40).repeat(4, 1))).isnan()  # ranks 8 and above are zero


def test_a_range_that_holds_no_line_is_refused():
    with pytest.raises(ValueError, match=r"expected a fit range of ranks 1 <= first < last, got \(5, 5\)"):
        alpha_req(PooledVectors(normal(40, 40)), fit_range=(5, 5))
