"""What each way to choose a layer is worth: choose by a few tasks of many, and look at the loss on all of them.

    python -m benchmarks.advice SCORES.csv      # a table (csv, parquet) with the columns model, task, layer, score
    python -m benchmarks.advice SCORES.csv --blocks MODEL=32    # where the table ends before the model's last layer
    python -m benchmarks.advice runs/*          # folders of `layerscope tasks`; with `measure` in them the rules as well

For every model and number of tasks k, k tasks are drawn, a layer is chosen by them alone, and its loss is the average of
the best layer over all tasks minus its own. Printed is the mean over models / the worst model, averaged over draws. What
is chosen among are the layers that all tasks have; the last and the middle layer are compared on the tasks that have them.
Then how often a way that takes an earlier layer than the best observed loses more than the margin by it, and how often
the recommended layer loses more than `pick` says it may. Writes runs/bench_advice.json.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from scipy import stats

from layerscope.errors import UserError
from layerscope.picking.best import BestSet, Choice, choose
from layerscope.picking.folder import read_evidence
from layerscope.picking.resampling import Resampling, at_layer, resample
from layerscope.picking.rules import apply_rules
from layerscope.picking.scores import TaskScores, read_scores
from layerscope.picking.spec import MARGIN
from layerscope.statistics.intervals import LEVEL
from layerscope.tasks.scores import SCORES

NEEDED = ("model", "task", "layer", "score")
TOO_MUCH = "{}: earlier than the best observed, and loses more than the margin"
EARLIER = "recommended: earlier than the best observed"
BEYOND = "recommended: loses more than `pick` says it may"


@dataclass(frozen=True)
class Model:
    """One model: its scores on all tasks, the loss at every layer, and what is chosen without scores."""

    name: str
    scores: TaskScores
    loss: Mapping[int, float]
    unscored: Mapping[str, float]


@dataclass(frozen=True)
class Draw:
    """What some of the tasks say."""

    scores: TaskScores
    resampling: Resampling
    choice: Choice
    found: BestSet


def earliest_of_set(drawn: Draw) -> int:
    """The rule of version 0.1.0: the earliest that cannot be told from the best, from five tasks on."""
    few = len(drawn.scores.tasks) < 5
    return drawn.choice.best if few else drawn.found.members[0]


def earliest_near_best_observed(drawn: Draw) -> int:
    """The earliest whose one-sided bound against the best observed layer, and no other, is within the margin."""
    choice, n = drawn.choice, drawn.resampling.units
    if n < 2:
        return choice.best
    shorter = stats.t.ppf(LEVEL, n - 1) / stats.t.ppf((1 + LEVEL) / 2, n - 1)
    for layer in (layer for layer in drawn.scores.layers if layer < choice.best):
        behind = at_layer(drawn.scores, choice.best) - at_layer(drawn.scores, layer)
        estimate = drawn.resampling.estimate(behind)
        if estimate.value + shorter * (estimate.high - estimate.value) <= choice.margin:
            return layer
    return choice.best


def highest(read: Callable[[np.ndarray], np.ndarray]) -> Callable[[Draw], int]:
    """The layer where the scores, read in another way than as their mean over tasks, are highest."""
    return lambda drawn: drawn.scores.layers[int(read(drawn.scores.values).argmax())]


def standardised(values: np.ndarray) -> np.ndarray:
    """Every task's scores in standard deviations over its layers, averaged."""
    spread = values.std(axis=1, keepdims=True)
    return np.asarray(((values - values.mean(axis=1, keepdims=True)) / np.maximum(spread, 1e-9)).mean(axis=0))


def smoothed(values: np.ndarray) -> np.ndarray:
    """The average, each layer with a quarter of both its neighbours."""
    padded = np.pad(values.mean(axis=0), 1, mode="edge")
    return np.asarray(padded[:-2] / 4 + padded[1:-1] / 2 + padded[2:] / 4)


BY_SCORES: dict[str, Callable[[Draw], int]] = {
    "median over tasks": highest(lambda values: np.median(values, axis=0)),
    "mean rank": highest(lambda values: stats.rankdata(values, axis=1).mean(axis=0)),
    "standardised within tasks": highest(standardised),
    "smoothed over layers": highest(smoothed),
    "earliest not told from the best (0.1.0)": earliest_of_set,
    "earliest near the best observed": earliest_near_best_observed,
    "best observed": lambda drawn: drawn.choice.best,
    "recommended": lambda drawn: drawn.choice.recommended,
}
EARLIER_BY_RULE = ("earliest not told from the best (0.1.0)", "earliest near the best observed", "recommended")


def read_models(path: Path, blocks: Mapping[str, int]) -> Iterator[Model]:
    """The models of a table or a run's folder; `blocks` as `read_table` takes them.

    Raises:
        UserError: it is neither.
    """
    layers = None
    if path.is_dir():
        evidence = read_evidence(path)
        settings, layers = evidence.need_scores(), evidence.layers
    else:
        settings = read_scores(read_table(path, blocks))
    for scores in settings:
        if not scores.layers:
            continue
        state = "/".join(word for word in (scores.readout, scores.positions) if word)
        # A run of several states is several models here: each has a best layer of its own.
        yield make_model(f"{scores.model} {state}".strip(), scores, layers)


def read_table(path: Path, blocks: Mapping[str, int]) -> pl.DataFrame:
    """A table of main scores with the columns that `layerscope tasks` writes.

    `blocks` says how many blocks a model has; of others the highest layer in the table is taken for the last.
    """
    raw = pl.read_parquet(path) if path.suffix == ".parquet" else pl.read_csv(path)
    missing = [name for name in NEEDED if name not in raw.columns]
    if missing:
        raise UserError(f"{path}: expected the columns {', '.join(NEEDED)}; it lacks {', '.join(missing)}")
    unknown = blocks.keys() - set(raw["model"])
    if unknown:
        raise UserError(f"--blocks names {', '.join(sorted(unknown))}, and {path} has {', '.join(set(raw['model']))}")
    known = pl.col("model").replace_strict(blocks, default=None, return_dtype=pl.Int64)
    depth = pl.col("layer") / pl.coalesce(known, pl.col("layer").max().over("model"))
    return raw.select(
        *(pl.col(name).cast(SCORES[name]) for name in NEEDED),
        depth.alias("depth"),
        *(pl.lit(None, kind).alias(name) for name, kind in SCORES.items() if name not in (*NEEDED, "depth")),
    )


def make_model(name: str, scores: TaskScores, metrics: pl.DataFrame | None) -> Model:
    """The losses of the layers that all tasks have, and of the choices that need no scores."""
    means = scores.values.mean(axis=0)
    loss = dict(zip(scores.layers, (means.max() - means).tolist(), strict=True))
    best = scores.layers[int(means.argmax())]

    def loss_at(layer: int) -> float:
        if layer in loss:
            return loss[layer]
        behind = np.array([own.at(best) - own.at(layer) for own in scores.own])
        return float(np.nanmean(behind)) if np.isfinite(behind).any() else math.nan

    unscored = {
        "last": loss_at(scores.n_blocks),
        "middle": loss_at(scores.middle),
        "random": float(np.mean(list(loss.values()))),
    }
    if metrics is not None:
        for row in apply_rules(metrics).iter_rows(named=True):
            if row["metric"] is not None and row["layer"] is not None:
                unscored[f"{row['rule']}, {row['metric_readout']}"] = loss_at(row["layer"])
    return Model(name, scores, loss, unscored)


def choose_by(model: Model, k: int, given: argparse.Namespace) -> Iterator[Draw]:
    """Draw k tasks again and again and choose by them, as `pick` chooses."""
    rng = np.random.default_rng([given.seed, k])
    for number in range(given.draws):
        some = model.scores.of_tasks(rng.choice(len(model.scores.tasks), k, replace=False).tolist())
        resampling = resample(some, given.resamples, given.seed + number)
        yield Draw(some, resampling, *choose(resampling, given.margin))


def measure(model: Model, k: int, given: argparse.Namespace) -> tuple[dict[str, float], dict[str, float]]:
    """Mean losses of the ways that read scores, and shares of draws."""
    losses: dict[str, list[float]] = {}
    shares: dict[str, list[bool]] = {}
    for drawn in choose_by(model, k, given):
        for name, way in BY_SCORES.items():
            layer = way(drawn)
            losses.setdefault(name, []).append(model.loss[layer])
            if name in EARLIER_BY_RULE:
                too_much = layer < drawn.choice.best and model.loss[layer] > given.margin
                shares.setdefault(TOO_MUCH.format(name), []).append(too_much)
        shares.setdefault(EARLIER, []).append(drawn.choice.recommended < drawn.choice.best)
        shares.setdefault(BEYOND, []).append(losses["recommended"][-1] > drawn.choice.most_lost)
    return _means(losses), _means(shares)


def _means(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    return {name: float(np.mean(values)) for name, values in found.items()}


def table_of(found: Mapping[str, Mapping[int, Sequence[float]]], tasks: Sequence[int]) -> str:
    """Markdown: a row a way, a column a k, mean / worst over models."""
    rows = [["", *(f"k = {k}" for k in tasks)], ["---"] * (len(tasks) + 1)]
    rows += [[way, *(_cell(by_k[k]) for k in tasks)] for way, by_k in found.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _cell(values: Sequence[float]) -> str:
    known = [value for value in values if math.isfinite(value)]
    if not known:
        return ""
    few = f" ({len(known)} of {len(values)})" if len(known) < len(values) else ""
    return f"{np.mean(known):.4f} / {max(known):.4f}{few}"


def _blocks(words: str) -> tuple[str, int]:
    name, _, number = words.rpartition("=")
    return name, int(number)


def main() -> None:
    """Choose, compare, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scores", nargs="+", type=Path, help="tables (csv, parquet) or folders of runs")
    parser.add_argument("--tasks", type=int, nargs="+", default=[1, 2, 3, 5, 8, 12], help="how many tasks choose")
    parser.add_argument("--draws", type=int, default=200, help="draws of tasks for each model and k")
    parser.add_argument(
        "--blocks",
        type=_blocks,
        nargs="+",
        default=[],
        metavar="MODEL=N",
        help="how many blocks models in a table have",
    )
    parser.add_argument("--margin", type=float, default=MARGIN)
    parser.add_argument("--resamples", type=int, default=500, help="bootstrap samples of a choice")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/bench_advice.json"))
    given = parser.parse_args()
    models = [model for path in given.scores for model in read_models(path, dict(given.blocks))]
    losses: dict[str, dict[int, list[float]]] = {}
    shares: dict[str, dict[int, list[float]]] = {}
    for model in models:
        n = len(model.scores.tasks)
        print(f"{model.name}: {n} tasks, {len(model.scores.layers)} layers that all of them have", flush=True)
        for k in given.tasks:
            if k >= n:
                raise SystemExit(f"{model.name} has {n} tasks, so {k} leave none to check on: give smaller --tasks")
            by_scores, said = measure(model, k, given)
            for found, values in ((losses, {**model.unscored, **by_scores}), (shares, said)):
                for way, value in values.items():
                    found.setdefault(way, {}).setdefault(k, []).append(value)
    print("\nLoss against the best layer on all tasks, mean over models / worst model:\n")
    print(table_of(losses, given.tasks))
    print(f"\nShare of draws (margin {given.margin:g}), mean over models / worst model:\n")
    print(table_of(shares, given.tasks))
    content = {"models": [model.name for model in models], "losses": losses, "shares": shares}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps({**content, **_asked(given)}, indent=2) + "\n", encoding="utf-8")
    print(f"\nwritten to {given.out}")


def _asked(given: argparse.Namespace) -> dict[str, float]:
    return {name: getattr(given, name) for name in ("draws", "margin", "resamples", "seed")}


if __name__ == "__main__":
    main()
