"""From finished blocks to the tables of a run: means and intervals over prompts, and the metrics of pooled vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import polars as pl
import torch

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
        for place, state in enumerate(plan.states):
            rows.extend(summary.layer_rows(position, layer, place, state))
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
    texts = texts_table((prompt.id, prompt.text, prompt.note) for prompt in prompts.prompts)
    write_table([texts], TEXTS, out / "texts.parquet")
    write_table(summary.prompt_tables(), PROMPTS, out / "prompts.parquet")
    write_table([pl.DataFrame(rows, schema=LAYERS)], LAYERS, out / "layers.parquet")
    return files, summary.warnings()


@dataclass(frozen=True)
class Summary:
    """The rows of the tables, one layer and state at a time."""

    plan: Plan
    model: LoadedModel
    prompts: PromptSet
    stored: BlockStore

    @cached_property
    def _notes(self) -> tuple[dict[tuple[int, int, int, int], str], int]:
        return self.stored.notes()

    def warnings(self) -> tuple[str, ...]:
        """What the reader of the run should know about its views."""
        unchanged = self._notes[1]
        total = len(self.prompts.prompts) * self.plan.n_views
        return (
            (f"{unchanged} of {total} views equal their prompt: no word was long enough to change",)
            if unchanged
            else ()
        )

    def layer_rows(self, position: int, layer: int, place: int, state: State) -> Iterator[Row]:
        """Rows of layers.parquet for one layer and state."""
        tokens = self.stored.tokens(position)[place].astype(np.float64)
        fixed = self._fixed(layer, state, float(tokens.mean()))
        yield from self._token_rows(position, place, fixed)
        if self.plan.pooled_keys:
            yield from self._pooled_rows(self.stored.pooled(position, place), self.plan.pooled_keys, fixed)
        if self.plan.view_keys:
            yield from self._pooled_rows(self.stored.views(position, place), self.plan.view_keys, fixed)

    def prompt_tables(self) -> Iterator[pl.DataFrame]:
        """prompts.parquet, one table a layer."""
        ids = [prompt.id for prompt in self.prompts.prompts]
        for position, layer in enumerate(self.plan.layers):
            values, tokens = self.stored.values(position), self.stored.tokens(position)
            parts = [pl.DataFrame(schema=PROMPTS)]
            for place, state in enumerate(self.plan.states):
                for number, key in enumerate(self.plan.token_keys):
                    notes = [self._notes[0].get((place, position, number, row), "") for row in range(len(ids))]
                    columns = {
                        "prompt_id": ids,
                        "n_tokens": tokens[place],
                        "value": values[place, number],
                        "note": notes,
                    }
                    fixed = {**_identity(key), "layer": layer, "readout": state.readout, "positions": state.positions}
                    part = pl.DataFrame(columns).with_columns(
                        pl.lit(value).alias(name) for name, value in fixed.items()
                    )
                    parts.append(part.select(pl.col(name).cast(kind) for name, kind in PROMPTS.items()))
            yield pl.concat(parts)

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

    def _token_rows(self, position: int, place: int, fixed: Row) -> Iterator[Row]:
        if not self.plan.token_keys:
            return
        values = self.stored.values(position)[place]
        ends = bootstrap_means(values, self.plan.spec.resamples, self.plan.spec.seed)
        for number, key in enumerate(self.plan.token_keys):
            present = np.isfinite(values[number])
            missing = [
                self._notes[0].get((place, position, number, int(row)), "not a number")
                for row in np.flatnonzero(~present)
            ]
            yield {
                **fixed,
                **_identity(key),
                "value": float(values[number][present].mean()) if present.any() else float("nan"),
                "ci_low": ends[number, 0],
                "ci_high": ends[number, 1],
                "n_prompts": int(present.sum()),
                "note": _count_reasons(missing),
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


def _count_reasons(reasons: Sequence[str]) -> str:
    return "; ".join(f"{count} prompts left out: {reason}" for reason, count in Counter(reasons).most_common())
