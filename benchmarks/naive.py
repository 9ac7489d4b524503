"""The papers' way of measuring: a pass over the model per metric, one prompt at a time, every hidden state kept.

Passes: 1 for prompt entropy, 1 for curvature, 1 for dataset entropy, 2 for InfoNCE, 2 for DiME and 16 for LiDAR.
Eigenvalues are float64 per prompt and layer, LiDAR's scatter matrices are summed in loops. It computes the same
quantities as layerscope (so its numbers can be compared), only the work is organised as in the released scripts.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch

from layerscope.inputs.models import LoadedModel

Tokens = Sequence[tuple[int, ...]]


def hidden_states(model: LoadedModel, tokens: tuple[int, ...]) -> list[np.ndarray]:
    """All hidden states of one prompt, kept, as the library returns them."""
    with torch.inference_mode():
        ids = torch.tensor([tokens], device=model.device)
        output = model.model(input_ids=ids, output_hidden_states=True)
    return [state[0].float().cpu().numpy().astype(np.float64) for state in output.hidden_states]


def pooled(model: LoadedModel, prompts: Tokens) -> list[np.ndarray]:
    """Mean-pooled states of every prompt at every layer: one array of prompts x dim a layer."""
    rows = [[state.mean(axis=0) for state in hidden_states(model, tokens)] for tokens in prompts]
    return [np.stack(layer) for layer in zip(*rows, strict=True)]


def entropy(gram: np.ndarray) -> float:
    """Von Neumann entropy of a Gram matrix, from float64 eigenvalues."""
    share = np.linalg.eigvalsh(gram)
    share = np.clip(share, 0, None)
    share = share[share > 0] / share.sum()
    return float(-(share * np.log(share)).sum())


def prompt_entropy(model: LoadedModel, prompts: Tokens) -> list[float]:
    """One pass: entropy of each prompt's token states, averaged."""
    values = [[entropy(state @ state.T) for state in hidden_states(model, tokens)] for tokens in prompts]
    return list(np.mean(values, axis=0))


def curvature(model: LoadedModel, prompts: Tokens) -> list[float]:
    """One pass: mean turning angle of each prompt's token states, averaged."""
    values = [[_turning(state) for state in hidden_states(model, tokens)] for tokens in prompts]
    return list(np.mean(values, axis=0))


def _turning(states: np.ndarray) -> float:
    steps = np.diff(states, axis=0)
    angles = []
    with np.errstate(invalid="ignore"):  # a repeated token is 0 / 0 at the embeddings: their code's NaN as well
        for first, second in pairwise(steps):
            cosine = first @ second / (np.linalg.norm(first) * np.linalg.norm(second))
            angles.append(np.arccos(np.clip(cosine, -1, 1)))
    return float(np.mean(angles))


def dataset_entropy(model: LoadedModel, prompts: Tokens) -> list[float]:
    """One pass: entropy of the pooled vectors."""
    return [entropy(layer @ layer.T) for layer in pooled(model, prompts)]


def infonce(model: LoadedModel, views: Sequence[Tokens]) -> list[float]:
    """Two passes: NT-Xent loss between two views, temperature 0.1."""
    first, second = (pooled(model, view) for view in views[:2])
    return [_nt_xent(a, b) for a, b in zip(first, second, strict=True)]


def _nt_xent(first: np.ndarray, second: np.ndarray, temperature: float = 0.1) -> float:
    rows = np.concatenate([first, second])
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    logits = rows @ rows.T / temperature
    np.fill_diagonal(logits, -np.inf)
    n = len(first)
    positive = logits[np.arange(2 * n), np.roll(np.arange(2 * n), n)]
    return float(np.mean(np.log(np.exp(logits).sum(axis=1)) - positive))


def dime(model: LoadedModel, views: Sequence[Tokens], permutations: int = 10) -> list[float]:
    """Two passes: joint entropy of two views against that of shuffled pairings."""
    rng = np.random.default_rng(0)
    values = []
    for first, second in zip(*(pooled(model, view) for view in views[:2]), strict=True):
        one, two = (_unit_gram(rows) for rows in (first, second))
        shuffled = []
        for _ in range(permutations):
            order = rng.permutation(len(first))
            shuffled.append(entropy(one * two[np.ix_(order, order)]))
        values.append(float(np.mean(shuffled)) - entropy(one * two))
    return values


def _unit_gram(rows: np.ndarray) -> np.ndarray:
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    return rows @ rows.T


def lidar(model: LoadedModel, views: Sequence[Tokens], delta: float = 1e-4) -> list[float]:
    """Sixteen passes: entropy of the between-prompt scatter whitened by the within-prompt scatter, by loops."""
    layers = zip(*(pooled(model, view) for view in views), strict=True)
    return [_lidar(np.stack(layer, axis=1), delta) for layer in layers]


def _lidar(vectors: np.ndarray, delta: float) -> float:
    n, j, dim = vectors.shape
    means = vectors.mean(axis=1)
    centre = means.mean(axis=0)
    between, within = np.zeros((dim, dim)), np.zeros((dim, dim))
    for prompt in range(n):
        step = means[prompt] - centre
        between += np.outer(step, step) / n
        for view in range(j):
            step = vectors[prompt, view] - means[prompt]
            within += np.outer(step, step) / (n * j)
    values, basis = np.linalg.eigh(within + delta * np.eye(dim))
    whiten = basis @ np.diag(values**-0.5) @ basis.T
    return entropy(whiten @ between @ whiten)


def every_metric(model: LoadedModel, prompts: Tokens, views: Sequence[Tokens]) -> Iterator[tuple[str, list[float]]]:
    """All of it, a pass (or several) per metric: 23 passes over the prompts."""
    yield "prompt_entropy", prompt_entropy(model, prompts)
    yield "curvature", curvature(model, prompts)
    yield "dataset_entropy", dataset_entropy(model, prompts)
    yield "infonce", infonce(model, views)
    yield "dime", dime(model, views)
    yield "lidar", lidar(model, views)
