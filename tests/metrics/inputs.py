"""Inputs that metrics are tested on; every draw comes from a generator made here."""

from __future__ import annotations

import math

import torch


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def orthonormal(rows, dim, seed=0):
    return torch.linalg.qr(normal(dim, rows, seed=seed)).Q.mT.contiguous()


def with_spectrum(eigenvalues, rows, dim, seed=0):
    """A matrix whose Gram matrix has these eigenvalues and random eigenvectors."""
    k = len(eigenvalues)
    values = torch.as_tensor(eigenvalues, dtype=torch.float64).sqrt()
    return orthonormal(k, rows, seed).mT @ (values[:, None] * orthonormal(k, dim, seed + 1))


def massive(tokens, dim, ratio=168.0, seed=0):
    """States like SmolLM2's middle layers: two huge coordinates in the first token, a shared mean, decaying spectrum."""
    decay = torch.arange(1, dim + 1, dtype=torch.float64) ** -0.4
    states = normal(tokens, dim, seed=seed) * decay + 0.3 * normal(dim, seed=seed + 1)
    typical = float(states.norm(dim=-1).median())
    states[0, :2] += ratio * typical / math.sqrt(2)
    return states.float()


def ragged(lengths, dim, seed=0, garbage=math.nan):
    """A right-padded batch whose padding holds garbage, and each prompt alone."""
    alone = [normal(length, dim, seed=seed + i, dtype=torch.float32) for i, length in enumerate(lengths)]
    batch = torch.full((len(lengths), max(lengths), dim), garbage)
    for row, states in zip(batch, alone, strict=True):
        row[: len(states)] = states
    return batch, torch.tensor(lengths), alone


def elsewhere(tensor, elements):
    """The same numbers, some elements behind where a fresh tensor would begin."""
    place = torch.empty(tensor.numel() + elements, dtype=tensor.dtype)[elements:].view(tensor.shape)
    return place.copy_(tensor)


def leave_out(prompts, groups):
    return [torch.tensor([i for i in range(prompts) if i % groups != group]) for group in range(groups)]
