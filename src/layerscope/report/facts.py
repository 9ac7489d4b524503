"""What a run was: its record in rows a reader can compare between runs, and what was left out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import polars as pl

from layerscope.figures.curves import phrases, short_name, word
from layerscope.report.charts import spark_path
from layerscope.results.measurement import RunRecord

MOST_SKIPPED = 50
EXAMPLES = 3
EXAMPLE_KEYS = ["variant", "alpha", "readout", "positions"]


class RunLike(Protocol):
    """What the report needs of a run."""

    path: Path
    record: RunRecord

    @property
    def layers(self) -> pl.DataFrame:
        """The columns of layers.parquet."""

    @property
    def prompts(self) -> pl.DataFrame:
        """The columns of prompts.parquet."""

    @property
    def texts(self) -> pl.DataFrame | None:
        """The columns of texts.parquet; None where the run kept no texts."""


@dataclass(frozen=True)
class Fact:
    """One row of the comparison: a value a run."""

    name: str
    values: tuple[str, ...]

    @property
    def differs(self) -> bool:
        """Whether the runs are not all alike in this."""
        return len(set(self.values)) > 1


@dataclass(frozen=True)
class Example:
    """A prompt at the end of the order by prompt entropy."""

    prompt_id: str
    n_tokens: int
    value: float
    spark: str
    text: str
    note: str


@dataclass(frozen=True)
class LeftOut:
    """The prompts a run left out: how many for each reason, and the first of them."""

    reasons: tuple[tuple[str, int], ...]
    first: tuple[tuple[str, int, str], ...]
    total: int


def run_facts(runs: Sequence[RunLike]) -> tuple[Fact, ...]:
    """The rows of the comparison; rows that say nothing for any run are left out."""
    columns = [_facts_of(run) for run in runs]
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = (Fact(name, tuple(column.get(name, "") for column in columns)) for name in names)
    return tuple(row for row in rows if any(row.values))


def left_out(record: RunRecord) -> LeftOut:
    """Which prompts a run left out, and why."""
    reasons = Counter(skipped.reason for skipped in record.skipped)
    first = tuple((one.prompt_id, one.n_tokens, one.reason) for one in record.skipped[:MOST_SKIPPED])
    return LeftOut(reasons=tuple(reasons.most_common()), first=first, total=len(record.skipped))


def example_prompts(
    prompts: pl.DataFrame, texts: pl.DataFrame | None
) -> tuple[tuple[Example, ...], tuple[Example, ...]]:
    """The prompts with the lowest and the highest prompt entropy, averaged over the layers.

    Args:
        prompts: table with the columns of prompts.parquet.
        texts: table with the columns of texts.parquet, which hold what was measured; None where it was not kept.

    Returns:
        Lowest first and highest first; both empty where the run has no prompt entropy. No prompt is in both.
    """
    rows = _prompt_entropy(prompts)
    if rows.is_empty():
        return (), ()
    # One set of conditions, the first: a mean over several would be of nothing in particular.
    rows = rows.join(rows.select(EXAMPLE_KEYS).head(1), on=EXAMPLE_KEYS, nulls_equal=True).sort("layer")
    ranked = (
        rows.filter(pl.col("value").is_finite())
        .group_by("prompt_id")
        .agg(pl.col("value").mean().alias("mean"), pl.col("n_tokens").first())
        .sort("mean", "prompt_id")
    )
    found = list(ranked.iter_rows())
    kept = {} if texts is None else {row["prompt_id"]: row for row in texts.iter_rows(named=True)}
    most = min(EXAMPLES, len(found) // 2 or len(found))
    low, high = found[:most], found[::-1][: min(EXAMPLES, len(found) - most)]

    def example(prompt_id: str, mean: float, n_tokens: int) -> Example:
        values = rows.filter(pl.col("prompt_id") == prompt_id)["value"].fill_null(float("nan")).to_numpy()
        known = kept.get(prompt_id, {})
        return Example(prompt_id, n_tokens, mean, spark_path(values), known.get("text", ""), known.get("note", ""))

    return tuple(example(*one) for one in low), tuple(example(*one) for one in high)


def example_conditions(prompts: pl.DataFrame) -> str:
    """What the prompt entropy of the examples was taken with, in words; empty where there is none."""
    first = _prompt_entropy(prompts).select(EXAMPLE_KEYS).head(1).to_dicts()
    return phrases((name, word(value)) for name, value in first[0].items() if value is not None) if first else ""


def _prompt_entropy(prompts: pl.DataFrame) -> pl.DataFrame:
    plain = pl.col("normalization").fill_null("none") == "none"
    return prompts.filter((pl.col("metric") == "prompt_entropy") & plain)


def _facts_of(run: RunLike) -> dict[str, str]:
    record, spec, resolved = run.record, run.record.spec, run.record.resolved
    seconds = sum(record.timings.values())
    return {
        "status": record.status + (f": {record.reason}" if record.reason else ""),
        "model": spec.model.name,
        "adapter": spec.model.adapter or "",
        "revision": short_name(resolved.model_revision),
        "size": f"{resolved.n_layers} layers × {resolved.dim} dimensions",
        "attention": "bidirectional" if spec.model.bidirectional else "",
        "texts": spec.texts.source,
        "text revision": short_name(resolved.texts_revision),
        "filters": "; ".join(record.filters),
        "perturbation": spec.texts.perturbation or "",
        "prompts measured": f"{resolved.n_prompts:,}",
        "prompts counted": ", ".join(f"{name.replace('_', ' ')} {count:,}" for name, count in record.counts.items()),
        "tokens a prompt": _token_words(run.prompts),
        "readouts": ", ".join(spec.readouts),
        "positions": ", ".join(spec.positions),
        "pooling": spec.pooling,
        "forward pass": f"{resolved.dtype} on {resolved.device}",
        "eigenvalues": spec.precision,
        "seeds": f"sampling {spec.texts.sample_seed}, views {spec.views.view_seed}, resampling {spec.seed}",
        "time": f"{duration(seconds)} ({_stages(record)})" if record.timings else "",
        "started": record.started,
        "machine": record.machine,
        "commit": record.commit or "",
        "versions": ", ".join(f"{name} {version}" for name, version in record.packages.items()),
    }


def duration(seconds: float) -> str:
    """Seconds in words: 8.2 s, 3 min 20 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _stages(record: RunRecord) -> str:
    return ", ".join(f"{name.replace('_', ' ')} {duration(seconds)}" for name, seconds in record.timings.items())


def _token_words(prompts: pl.DataFrame) -> str:
    lengths = prompts.unique("prompt_id")["n_tokens"].drop_nulls().to_list()
    if not lengths:
        return ""
    return f"mean {sum(lengths) / len(lengths):.0f}, {min(lengths)} to {max(lengths)}"
