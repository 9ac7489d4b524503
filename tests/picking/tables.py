"""Small tables like a run's, for the tests of the analysis."""

import numpy as np
import polars as pl

from layerscope.picking.resampling import resample
from layerscope.picking.scores import read_scores
from layerscope.results.tables import LAYERS
from layerscope.tasks.scores import SCORES


def metric_table(values, metric="prompt_entropy", **other):
    """A layers table of one curve; `other` sets further columns."""
    top = max(len(values) - 1, 1)
    fixed = {
        "model": "m",
        "revision": "r",
        "texts": "wiki",
        "metric": metric,
        "variant": "paper",
        "alpha": None,
        "readout": "raw",
        "positions": "all",
        "pooling": None,
        "normalization": None,
        "ci_low": None,
        "ci_high": None,
        "unit": "nats",
        "n_prompts": 64,
        "n_tokens": 100.0,
        "dim": 32,
        "note": "",
    } | other
    rows = [{**fixed, "layer": k, "depth": k / top, "value": float(v)} for k, v in enumerate(values)]
    return pl.DataFrame(rows, schema=LAYERS)


def score_table(values, tasks=None, experiments=None, **other):
    """A scores table from tasks x layers; `experiments[task]` is experiments x layers."""
    values = np.asarray(values, dtype=float)
    tasks = tasks or [f"task{t}" for t in range(len(values))]
    top = max(values.shape[1] - 1, 1)
    fixed = {
        "model": "m",
        "revision": "r",
        "readout": "normed",
        "positions": "all",
        "pooling": "mean",
        "task_type": "STS",
        "split": "test",
        "subset": "default",
        "experiment": None,
        "score_name": "main",
        "n_samples": 100,
        "note": "",
    } | other
    rows = []
    for task, curve in zip(tasks, values, strict=True):
        rows += [{**fixed, "task": task, "layer": k, "depth": k / top, "score": v} for k, v in enumerate(curve)]
        for e, single in enumerate((experiments or {}).get(task, [])):
            rows += [
                {**fixed, "task": task, "layer": k, "depth": k / top, "score": float(v), "experiment": e}
                for k, v in enumerate(single)
            ]
    return pl.DataFrame(rows, schema=SCORES)


def drawn(table, resamples=2000, seed=0):
    """The draws of every setting of a scores table."""
    return [resample(one, resamples, seed) for one in read_scores(table)]


def smooth(rng, n, layers, phi=0.89):
    """Stationary AR(1) curves, as smooth as metric curves over layers are."""
    noise = rng.normal(size=(n, layers))
    curves = np.empty_like(noise)
    curves[:, 0] = noise[:, 0] / np.sqrt(1 - phi**2)
    for k in range(1, layers):
        curves[:, k] = phi * curves[:, k - 1] + noise[:, k]
    return curves
