import pytest
import torch
from tests.metrics import reference
from tests.metrics.inputs import leave_out, normal, orthonormal

from layerscope.metrics.anisotropy import anisotropy
from layerscope.metrics.metric import Setting
from layerscope.metrics.sources import PooledVectors


def test_closed_forms():
    assert anisotropy(PooledVectors(orthonormal(6, 9))).item() == pytest.approx(0, abs=1e-12)
    assert anisotropy(PooledVectors(normal(1, 9).repeat(5, 1))).item() == pytest.approx(1, abs=1e-12)
    direction = normal(1, 9)
    assert anisotropy(PooledVectors(torch.cat((direction, -direction)))).item() == pytest.approx(-1, abs=1e-12)
    centered = anisotropy(PooledVectors(orthonormal(6, 9)), Setting("centered"))
    assert centered.item() == pytest.approx(-1 / 5, abs=1e-12)


@pytest.mark.parametrize("variant", ["paper", "centered"])
def test_it_agrees_with_the_reference_and_its_subsets(variant):
    pooled = normal(20, 7, dtype=torch.float32) + 1
    subsets = [torch.arange(20), *leave_out(20, 4)]
    found = anisotropy(PooledVectors(pooled, subsets), Setting(variant))
    assert found.tolist() == pytest.approx([reference.anisotropy(pooled[kept], variant) for kept in subsets], abs=1e-10)
    assert torch.equal(anisotropy(PooledVectors(pooled), Setting(variant)), found[:1])


def test_without_a_direction_or_a_pair_there_is_no_cosine():
    assert anisotropy(PooledVectors(normal(1, 5))).isnan()
    assert anisotropy(PooledVectors(torch.cat((normal(3, 5), torch.zeros(1, 5))))).isnan()
    assert anisotropy(PooledVectors(normal(1, 5).repeat(3, 1)), Setting("centered")).isnan()
    assert anisotropy(PooledVectors(torch.full((3, 5), torch.inf))).isnan()
