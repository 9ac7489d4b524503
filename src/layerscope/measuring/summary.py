"""From finished blocks to the tables of a run: means and intervals over prompts, and the metrics of pooled vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import product

import numpy as np
import polars as pl
import torch
from jaxtyping import Float64, Shaped

from layerscope.files.writing import inside, make_folder, whole_file, write_text
from layerscope.inputs.models import LoadedModel
from layerscope.inputs.prompts import PromptSet
from layerscope.measuring.blocks import BlockStore
from layerscope.measuring.plan import Key, Plan
from layerscope.measuring.progress import Report
from layerscope.metrics.metric import unit_of
from layerscope.metrics.sources import PooledVectors, ViewOptions, ViewVectors
from layerscope.results.tables import LAYERS, PROMPTS, TEXTS, texts_table, write_table
from layerscope.statistics.intervals import bootstrap_means, jackknife_interval, leave_group_out

Row = dict[str, object]
_PIECE = 1 << 16  # rows of a table that are in memory at once, or little more


def write_tables(
    plan: Plan, model: LoadedModel, prompts: PromptSet, stored: BlockStore, report: Report
) -> tuple[list[str], tuple[str, ...]]:
    """Write layers.parquet, prompts.parquet, texts.parquet and, where asked for, pooled/, from the blocks of a run.

    Args:
        plan: what was computed.
        model: for the columns that say what the numbers are of.
        prompts: in the order of the tables.
        stored: the blocks; the tables are written to the folder where they stand.
        report: called with ("summarising", layers done, layers).

    Returns:
        The files by their paths in the folder, and warnings for run.json.
    """
    out, given = stored.folder, prompts.prompts
    files = ["texts.parquet", "prompts.parquet", "layers.parquet"]
    rows: list[Row] = []
    for position, layer in enumerate(plan.layers):
        report("summarising", float(position), float(len(plan.layers)))
        rows.extend(_layer_rows(plan, model, stored, position))
        for place, state in enumerate(plan.states if plan.spec.keep_pooled else ()):
            of_state = "" if len(plan.states) == 1 else f"_{state.slug}"
            files.append(f"pooled/layer_{layer:03d}{of_state}.npy")
            make_folder(inside(out, "pooled"))
            with whole_file(out / files[-1]) as temporary, temporary.open("wb") as file:
                np.save(file, stored.vectors("pooled", position, place))
    report("summarising", float(len(plan.layers)), float(len(plan.layers)))
    if plan.spec.keep_pooled:
        files.append("pooled/prompt_ids.txt")
        write_text(out / files[-1], "".join(f"{prompt.id}\n" for prompt in given))
    pieces = (given[start : start + _PIECE] for start in range(0, len(given), _PIECE))
    texts = (texts_table((prompt.id, prompt.text, prompt.note) for prompt in piece) for piece in pieces)
    write_table(texts, TEXTS, out / "texts.parquet")
    names = {"prompt_id": pl.Series([prompt.id for prompt in given])}
    write_table(prompt_tables(plan, stored, names), PROMPTS, out / "prompts.parquet")
    write_table([pl.DataFrame(rows, schema=LAYERS)], LAYERS, out / "layers.parquet")
    unchanged = stored.unchanged_views() if plan.n_views else 0
    said = f"{unchanged} of {len(given) * plan.n_views} views equal their prompt: no word was long enough to change"
    return files, (said,) if unchanged else ()


def prompt_tables(plan: Plan, stored: BlockStore, names: Mapping[str, pl.Series]) -> Iterator[pl.DataFrame]:
    """The values of every prompt, in tables of a layer or, of many prompts, less: memory does not grow with layers.

    `names` are the columns that say which prompt a value is of, in the order of the blocks' rows; they stand in front.
    """
    rest = [pl.col(name).cast(kind) for name, kind in PROMPTS.items() if name != "prompt_id"]
    for position, layer in enumerate(plan.layers if plan.token_keys else ()):
        found = stored.layer(position)
        parts = []
        for (place, state), (number, key) in product(enumerate(plan.states), enumerate(plan.token_keys)):
            fixed = {**_identity(key), "layer": layer, "readout": state.readout, "positions": state.positions}
            of_prompts = {
                **names,
                "n_tokens": found.tokens[place],
                "value": found.values[place, number],
                "note": found.reasons[place, number].tolist(),
            }
            part = pl.DataFrame(of_prompts).with_columns(pl.lit(value).alias(name) for name, value in fixed.items())
            parts.append(part.select(*names, *rest))
            if sum(map(len, parts)) > _PIECE:
                yield pl.concat(parts)
                parts = []
        if parts:
            yield pl.concat(parts)


def _layer_rows(plan: Plan, model: LoadedModel, stored: BlockStore, position: int) -> Iterator[Row]:
    """Rows of layers.parquet for one layer, state by state."""
    found = stored.layer(position)
    for place, state in enumerate(plan.states):
        fixed: Row = {
            "model": plan.spec.model.name,
            "revision": model.revision,
            "texts": plan.spec.texts.source,
            "layer": plan.layers[position],
            "depth": plan.layers[position] / plan.depth,
            "readout": state.readout,
            "positions": state.positions,
            "n_tokens": float(found.tokens[place].astype(np.float64).mean()),
            "dim": model.dim,
        }
        rows = list(_token_rows(plan, found.values[place], found.reasons[place])) if plan.token_keys else []
        if plan.pooled_keys:
            rows += _pooled_rows(plan, stored.vectors("pooled", position, place), plan.pooled_keys)
        if plan.view_keys:
            rows += _pooled_rows(plan, stored.vectors("views", position, place), plan.view_keys)
        yield from ({**fixed, **row} for row in rows)


def _token_rows(
    plan: Plan, values: Float64[np.ndarray, "keys prompts"], reasons: Shaped[np.ndarray, "keys prompts"]
) -> Iterator[Row]:
    ends = bootstrap_means(values, plan.spec.resamples, plan.spec.seed)
    for number, key in enumerate(plan.token_keys):
        present = np.isfinite(values[number])
        counted = Counter(reason or "not a number" for reason in reasons[number, ~present])
        yield {
            **_identity(key),
            "value": float(values[number][present].mean()) if present.any() else float("nan"),
            "ci_low": ends[number, 0],
            "ci_high": ends[number, 1],
            "n_prompts": int(present.sum()),
            "note": "; ".join(f"{count} prompts left out: {reason}" for reason, count in counted.most_common()),
        }


def _pooled_rows(plan: Plan, vectors: np.ndarray, keys: tuple[Key, ...]) -> Iterator[Row]:
    usable = np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)
    kept = torch.from_numpy(vectors if usable.all() else vectors[usable])
    n, spec = len(kept), plan.spec
    left_out = f"{len(vectors) - n} prompts left out: no finite vector" if n < len(vectors) else ""
    subsets = [torch.arange(n), *(torch.from_numpy(rows) for rows in leave_group_out(n, spec.seed))]
    source: PooledVectors | ViewVectors = (
        PooledVectors(kept, subsets)
        if kept.ndim == 2
        else ViewVectors(kept, subsets, ViewOptions(spec.temperature, spec.permutations, spec.seed))
    )
    for key in keys:
        values = key.metric.values(source, key.setting).numpy()
        full = float(values[0])
        interval = jackknife_interval(full, values[1:] if key.metric.has_interval else np.array([]))
        reason = "" if np.isfinite(full) else key.metric.reason(kept, key.setting) or "not a number"
        yield {
            **_identity(key),
            "pooling": spec.pooling,
            "value": full,
            "ci_low": interval.low,
            "ci_high": interval.high,
            "n_prompts": n,
            "note": "; ".join(filter(None, (reason, left_out))),
        }


def _identity(key: Key) -> Row:
    return {
        "metric": key.metric.name,
        "variant": key.setting.variant,
        "alpha": key.setting.alpha,
        "normalization": key.setting.normalization or "none",
        "unit": unit_of(key.metric, key.setting),
    }
