"""Spectra of many vectors: those of the rows themselves, however the rows are shared out over subsets and pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from layerscope.metrics import subsets as door
from layerscope.metrics.sources import PooledVectors
from layerscope.statistics.intervals import leave_group_out

N, DIM = 600, 12
VARIANTS = ("paper", "unit", "centered", "centered-unit", "released")


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    monkeypatch.setattr(door, "MANY", 64)
    monkeypatch.setattr(door, "_ROWS", 50)


def rows_of(kind: str) -> torch.Tensor:
    draw = torch.Generator().manual_seed(3)
    rows = torch.randn(N, DIM, generator=draw, dtype=torch.float64)
    return {
        "plain": rows,
        "far from the origin": rows + 1e4,
        "graded": rows * torch.logspace(0, -12, DIM, dtype=torch.float64),
        "some rows are zero": rows * (torch.arange(N) % 3 > 0)[:, None],
    }[kind]


def spectrum(rows: np.ndarray, variant: str) -> np.ndarray:
    """By NumPy's singular values of the rows themselves."""
    if variant not in ("paper", "unit"):
        rows = rows - rows.mean(0)
    if variant not in ("paper", "centered"):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        rows = rows / np.where(norms > 0, norms, 1)
    if variant == "released":
        return np.clip(np.linalg.eigvalsh(np.clip(rows.T @ rows, 0, None))[::-1], 0, None)
    return np.linalg.svd(rows, compute_uv=False) ** 2


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("kind", ["plain", "far from the origin", "graded", "some rows are zero"])
def test_they_are_the_squared_singular_values_of_each_subset(kind, variant):
    rows = rows_of(kind)
    subsets = [torch.arange(N), *map(torch.from_numpy, leave_group_out(N, seed=0)), torch.arange(0, N, 7)]
    for kept, values in zip(subsets, door.tall_spectra(rows, subsets, variant), strict=True):
        expected = spectrum(rows[kept].numpy(), variant)
        assert values.shape == (DIM,)
        within = 1e-14 * float(rows.abs().amax()) * N
        if variant == "released":  # of a Gram matrix whose entries were changed there are no singular values
            np.testing.assert_allclose(values.numpy(), expected, rtol=0, atol=within * expected[0])
        else:
            np.testing.assert_allclose(np.sqrt(values.numpy()), np.sqrt(expected), rtol=0, atol=within)


@pytest.mark.parametrize("variant", ["centered", "centered-unit", "released"])
def test_nothing_is_left_of_identical_rows_also_where_others_differ(variant):
    rows = torch.full((N, DIM), 0.1, dtype=torch.float64)
    rows[: N // 2] = torch.randn(N // 2, DIM, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    whole, same = door.tall_spectra(rows, [torch.arange(N), torch.arange(N // 2, N)], variant)
    assert not same.any()
    assert (whole > 0).all()


@pytest.mark.parametrize("variant", VARIANTS)
def test_many_vectors_take_this_way_and_few_do_not(variant, monkeypatch):
    rows, subsets = rows_of("plain").to(torch.float32), [torch.arange(N), torch.arange(1, N)]
    many = PooledVectors(rows, subsets).spectra(variant)
    monkeypatch.setattr(door, "MANY", N)
    few = PooledVectors(rows, subsets).spectra(variant)
    for one, other in zip(many, few, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-11)


def test_vectors_that_are_not_finite_have_no_spectrum():
    rows = rows_of("plain")
    rows[5, 2] = torch.nan
    whole, without = PooledVectors(rows, [torch.arange(N), torch.arange(6, N)]).spectra("paper")
    assert not len(whole)
    np.testing.assert_allclose(without.numpy(), spectrum(rows[6:].numpy(), "paper"), rtol=1e-12)
