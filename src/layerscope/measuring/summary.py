"""From finished blocks to the tables of a run: means and intervals over prompts, and the metrics of pooled vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

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
from layerscope.states.state import State
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
        prompts: the prompts, in the order of the tables.
        stored: the blocks; the tables are written to the folder where they stand.
        report: called with ("summarising", layers done, layers).

    Returns:
        The files by their paths in the folder, and warnings for run.json.
    """
    out = stored.folder
    summary = Summary(plan, model, prompts, stored)
    files = ["texts.parquet", "prompts.parquet", "layers.parquet"]
    rows: list[Row] = []
    for position, layer in enumerate(plan.layers):
        report("summarising", float(position), float(len(plan.layers)))
        rows.extend(summary.layer_rows(position))
        for place, state in enumerate(plan.states):
            if plan.spec.keep_pooled:
                of_state = "" if len(plan.states) == 1 else f"_{state.slug}"
                files.append(f"pooled/layer_{layer:03d}{of_state}.npy")
                make_folder(inside(out, "pooled"))
                with whole_file(out / files[-1]) as temporary, temporary.open("wb") as file:
                    np.save(file, stored.pooled(position, place))
    report("summarising", float(len(plan.layers)), float(len(plan.layers)))
    if plan.spec.keep_pooled:
        files.append("pooled/prompt_ids.txt")
        write_text(out / files[-1], "".join(f"{prompt.id}\n" for prompt in prompts.prompts))
    pieces = (prompts.prompts[start : start + _PIECE] for start in range(0, len(prompts.prompts), _PIECE))
    texts = (texts_table((prompt.id, prompt.text, prompt.note) for prompt in piece) for piece in pieces)
    write_table(texts, TEXTS, out / "texts.parquet")
    names = {"prompt_id": pl.Series([prompt.id for prompt in prompts.prompts])}
    write_table(prompt_tables(plan, stored, names), PROMPTS, out / "prompts.parquet")
    write_table([pl.DataFrame(rows, schema=LAYERS)], LAYERS, out / "layers.parquet")
    return files, summary.warnings()


def prompt_tables(plan: Plan, stored: BlockStore, names: Mapping[str, pl.Series]) -> Iterator[pl.DataFrame]:
    """The values of every prompt, in tables of a layer or, of many prompts, less: memory does not grow with layers.

    Args:
        plan: what was computed.
        stored: the blocks.
        names: columns that say which prompt a value is of, in the order of the blocks' rows; they stand in front.
    """
    rest = [pl.col(name).cast(kind) for name, kind in PROMPTS.items() if name != "prompt_id"]
    for position, layer in enumerate(plan.layers if plan.token_keys else ()):
        found = stored.layer(position)
        parts = []
        for place, state in enumerate(plan.states):
            for number, key in enumerate(plan.token_keys):
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


@dataclass(frozen=True)
class Summary:
    """The rows of the tables, one layer and state at a time."""

    plan: Plan
    model: LoadedModel
    prompts: PromptSet
    stored: BlockStore

    def warnings(self) -> tuple[str, ...]:
        """What the reader of the run should know about its views."""
        unchanged = self.stored.unchanged_views() if self.plan.n_views else 0
        total = len(self.prompts.prompts) * self.plan.n_views
        return (
            (f"{unchanged} of {total} views equal their prompt: no word was long enough to change",)
            if unchanged
            else ()
        )

    def layer_rows(self, position: int) -> Iterator[Row]:
        """Rows of layers.parquet for one layer, state by state."""
        found = self.stored.layer(position)
        for place, state in enumerate(self.plan.states):
            tokens = found.tokens[place].astype(np.float64)
            fixed = self._fixed(self.plan.layers[position], state, float(tokens.mean()))
            yield from self._token_rows(found.values[place], found.reasons[place], fixed)
            if self.plan.pooled_keys:
                yield from self._pooled_rows(self.stored.pooled(position, place), self.plan.pooled_keys, fixed)
            if self.plan.view_keys:
                yield from self._pooled_rows(self.stored.views(position, place), self.plan.view_keys, fixed)

    def _fixed(self, layer: int, state: State, n_tokens: float) -> Row:
        return {
            "model": self.plan.spec.model.name,
            "revision": self.model.revision,
            "texts": self.plan.spec.texts.source,
            "layer": layer,
            "depth": layer / self.plan.depth,
            "readout": state.readout,
            "positions": state.positions,
            "n_tokens": n_tokens,
            "dim": self.model.dim,
        }

    def _token_rows(
        self, values: Float64[np.ndarray, "keys prompts"], reasons: Shaped[np.ndarray, "keys prompts"], fixed: Row
    ) -> Iterator[Row]:
        if not self.plan.token_keys:
            return
        ends = bootstrap_means(values, self.plan.spec.resamples, self.plan.spec.seed)
        for number, key in enumerate(self.plan.token_keys):
            present = np.isfinite(values[number])
            yield {
                **fixed,
                **_identity(key),
                "value": float(values[number][present].mean()) if present.any() else float("nan"),
                "ci_low": ends[number, 0],
                "ci_high": ends[number, 1],
                "n_prompts": int(present.sum()),
                "note": _count_reasons(reasons[number, ~present]),
            }

    def _pooled_rows(self, vectors: np.ndarray, keys: tuple[Key, ...], fixed: Row) -> Iterator[Row]:
        usable = np.isfinite(vectors).reshape(len(vectors), -1).all(axis=1)
        kept = torch.from_numpy(vectors if usable.all() else vectors[usable])
        n = len(kept)
        left_out = f"{len(vectors) - n} prompts left out: no finite vector" if n < len(vectors) else ""
        subsets = [torch.arange(n), *(torch.from_numpy(rows) for rows in leave_group_out(n, self.plan.spec.seed))]
        spec = self.plan.spec
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
                **fixed,
                **_identity(key),
                "pooling": spec.pooling,
                "value": full,
                "ci_low": interval.low,
                "ci_high": interval.high,
                "n_prompts": n,
                "note": "; ".join(part for part in (reason, left_out) if part),
            }


def _identity(key: Key) -> Row:
    return {
        "metric": key.metric.name,
        "variant": key.setting.variant,
        "alpha": key.setting.alpha,
        "normalization": key.setting.normalization or "none",
        "unit": unit_of(key.metric, key.setting),
    }


def _count_reasons(reasons: Iterable[str]) -> str:
    counted = Counter(reason or "not a number" for reason in reasons)
    return "; ".join(f"{count} prompts left out: {reason}" for reason, count in counted.most_common())
