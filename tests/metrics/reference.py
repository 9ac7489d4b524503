"""Every metric once more, in float64 NumPy with plain loops, written from METRICS' formulas and sharing no code."""

from __future__ import annotations

import itertools
import math

import numpy as np
from scipy.special import logsumexp


def numbers(data):
    return np.asarray(data.double() if hasattr(data, "double") else data, dtype=np.float64)


def vary(rows, variant):
    rows = numbers(rows)
    if variant.startswith("centered") or variant == "released":
        rows = rows - sum(rows) / len(rows)
    if variant.endswith("unit") or variant == "released":
        rows = np.array([row / math.sqrt(float(row @ row)) for row in rows])
    return rows


def singular_values(rows, variant="paper"):
    return np.linalg.svd(vary(rows, variant), compute_uv=False)


def distribution(rows, variant="paper"):
    if variant == "released":
        z = vary(rows, variant)
        gram = z @ z.T if len(z) <= z.shape[1] else z.T @ z
        gram[gram < 0] = 0
        values = np.clip(np.linalg.eigvalsh(gram), 0, None)
    else:
        values = singular_values(rows, variant) ** 2
    return values / values.sum()


def entropy(p, alpha):
    p = [float(x) for x in p if x > 0]
    if alpha == math.inf:
        return -math.log(max(p))
    if alpha == 1:
        return -sum(x * math.log(x) for x in p)
    return math.log(sum(x**alpha for x in p)) / (1 - alpha)


def normalized(value, rows, dim, normalization):
    return {
        "none": value,
        "max": value / math.log(min(rows, dim)),
        "logN": value / math.log(rows),
        "logD": value / math.log(dim),
        "logNlogD": value / math.log(rows) / math.log(dim),
    }[normalization]


def prompt_entropy(rows, alpha=1.0, variant="paper", normalization="none"):
    return normalized(entropy(distribution(rows, variant), alpha), *np.shape(rows), normalization)


def logdet_entropy(rows, variant="paper", ridge=1e-8):
    values = singular_values(rows, variant) ** 2
    r = ridge * values.sum() / len(values)
    return sum(math.log(value + r) for value in values) - math.log(2)


def effective_rank(rows, variant="paper"):
    sigma = singular_values(rows, variant)
    return math.exp(entropy(sigma / sigma.sum(), 1))


def rankme(rows, variant="paper"):
    sigma = singular_values(rows, variant)
    return math.exp(-sum(q * math.log(q) for q in sigma / sigma.sum() + 1e-7))


def alpha_req(rows, first=11, last=100):
    rows = numbers(rows)
    values = np.sort(np.linalg.eigvalsh(np.cov(rows.T, bias=True)))[::-1]
    last = min(last, len(rows) - 1, rows.shape[1])
    ranks = np.arange(first, last + 1)
    slope, _ = np.polyfit(np.log(ranks), np.log(values[ranks - 1]), 1, w=np.sqrt(1 / ranks))
    return -slope


def anisotropy(rows, variant="paper"):
    units = vary(vary(rows, variant), "unit")
    pairs = [units[i] @ units[j] for i in range(len(units)) for j in range(len(units)) if i != j]
    return sum(pairs) / len(pairs)


def curvature(rows, steps=1):
    path = numbers(rows)[::steps]
    moves = [path[i + 1] - path[i] for i in range(len(path) - 1)]
    angles = []
    for here, there in itertools.pairwise(moves):
        if here.any() and there.any():
            one, two = here / np.linalg.norm(here), there / np.linalg.norm(there)
            angles.append(2 * math.atan2(np.linalg.norm(one - two), np.linalg.norm(one + two)))
    return sum(angles) / len(angles), sum(not move.any() for move in moves)


def norm_ratio(rows):
    norms = [math.sqrt(sum(float(x) ** 2 for x in row)) for row in numbers(rows)]
    return max(norms) / float(np.median(norms)), norms[0]


def sink_rate(attentions):
    heads, tokens, _ = attentions.shape
    return sum(float(attentions[h, i, 0]) for h in range(heads) for i in range(tokens)) / heads / tokens


def _vary_views(views, variant):
    views = numbers(views)
    if variant.startswith("centered"):
        views = views - views.mean(0)
    if variant.endswith("unit"):
        views = views / np.linalg.norm(views, axis=-1, keepdims=True)
    return views


def infonce(views, temperature=0.1, variant="paper"):
    views = _vary_views(views, variant)[:, :2]
    vectors = [x / np.linalg.norm(x) for x in np.concatenate((views[:, 0], views[:, 1]))]
    count, losses = len(vectors) // 2, []
    for i, vector in enumerate(vectors):
        other = (i + count) % (2 * count)
        against = [float(vector @ vectors[k]) / temperature for k in range(2 * count) if k != i]
        losses.append(logsumexp(against) - float(vector @ vectors[other]) / temperature)
    return sum(losses) / len(losses)


def dime(views, permutations, alpha=1.0, variant="paper"):
    views = _vary_views(views, variant)
    first, second = (vary(views[:, view], "unit") for view in (0, 1))
    k1, k2 = first @ first.T, second @ second.T

    def joint(order):
        values = np.clip(np.linalg.eigvalsh(k1 * k2[np.ix_(order, order)]), 0, None)
        return entropy(values / values.sum(), alpha)

    random = [joint(order) for order in permutations]
    error = math.sqrt(sum((x - np.mean(random)) ** 2 for x in random) / (len(random) - 1) / len(random))
    return np.mean(random) - joint(np.arange(len(views))), error


def lidar(views, variant="paper", delta=1e-4):
    views = _vary_views(views, variant)
    prompts, count, dim = views.shape
    between, within = np.zeros((dim, dim)), np.zeros((dim, dim))
    grand = views.mean((0, 1))
    for prompt in views:
        mean = prompt.mean(0)
        between += np.outer(mean - grand, mean - grand) / prompts
        for view in prompt:
            within += np.outer(view - mean, view - mean) / (prompts * count)
    values, vectors = np.linalg.eigh(within + delta * np.eye(dim))
    root = vectors @ np.diag(values**-0.5) @ vectors.T
    spectrum = np.clip(np.linalg.eigvalsh(root @ between @ root), 0, None)
    return entropy(spectrum / spectrum.sum(), 1)
