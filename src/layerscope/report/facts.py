"""What a run was: its record in rows a reader can compare between runs, and its most and least even prompts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from layerscope.figures.curves import phrases, short_name, word
from layerscope.results.run import Run
from layerscope.results.tables import TEXTS

EXAMPLES = 3
EXAMPLE_KEYS = ["variant", "alpha", "readout", "positions"]


def run_facts(runs: Sequence[Run]) -> dict[str, list[str]]:
    """The rows of the comparison, a value a run; rows that say nothing for any run are left out."""
    columns = [_facts_of(run) for run in runs]
    names = dict.fromkeys(name for column in columns for name in column)
    rows = {name: [column.get(name, "") for column in columns] for name in names}
    return {name: values for name, values in rows.items() if any(values)}


def example_prompts(prompts: pl.DataFrame, texts: pl.DataFrame | None) -> tuple[list[dict[str, Any]], ...]:
    """The prompts with the lowest and the highest prompt entropy, averaged over the layers.

    Args:
        prompts: table with the columns of prompts.parquet.
        texts: table with the columns of texts.parquet, which hold what was measured; None where it was not kept.

    Returns:
        Lowest first and highest first; both empty where the run has no prompt entropy. No prompt is in both. A prompt has
        a prompt_id, n_tokens, mean (nats), course (its values over the layers), text and note (None where not kept).
    """
    rows = _prompt_entropy(prompts)
    # One set of conditions, the first: a mean over several would be of nothing in particular.
    rows = rows.join(rows.select(EXAMPLE_KEYS).head(1), on=EXAMPLE_KEYS, nulls_equal=True).sort("layer")
    value = pl.col("value").fill_null(float("nan"))
    found = (
        rows.group_by("prompt_id")
        .agg(value.filter(value.is_finite()).mean().alias("mean"), pl.col("n_tokens").first(), value.alias("course"))
        .filter(pl.col("mean").is_not_null())
        .sort("mean", "prompt_id")
        .join(pl.DataFrame(schema=TEXTS) if texts is None else texts, on="prompt_id", how="left", maintain_order="left")
        .to_dicts()
    )
    most = min(EXAMPLES, len(found) // 2 or len(found))
    return found[:most], found[::-1][: min(EXAMPLES, len(found) - most)]


def example_conditions(prompts: pl.DataFrame) -> str:
    """What the prompt entropy of the examples was taken with, in words; empty where there is none."""
    first = _prompt_entropy(prompts).select(EXAMPLE_KEYS).head(1).to_dicts()
    return phrases((name, word(value)) for name, value in first[0].items() if value is not None) if first else ""


def _prompt_entropy(prompts: pl.DataFrame) -> pl.DataFrame:
    plain = pl.col("normalization").fill_null("none") == "none"
    return prompts.filter((pl.col("metric") == "prompt_entropy") & plain)


def _facts_of(run: Run) -> dict[str, str]:
    record, spec, resolved = run.record, run.record.spec, run.record.resolved
    lengths = run.prompts.unique("prompt_id")["n_tokens"].drop_nulls().to_list()
    stages = ", ".join(f"{name.replace('_', ' ')} {duration(seconds)}" for name, seconds in record.timings.items())
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
        "tokens a prompt": f"mean {sum(lengths) / len(lengths):.0f}, {min(lengths)} to {max(lengths)}"
        if lengths
        else "",
        "readouts": ", ".join(spec.readouts),
        "positions": ", ".join(spec.positions),
        "pooling": spec.pooling,
        "forward pass": f"{resolved.dtype} on {resolved.device}",
        "eigenvalues": spec.precision,
        "seeds": f"sampling {spec.texts.sample_seed}, views {spec.views.view_seed}, resampling {spec.seed}",
        "time": f"{duration(sum(record.timings.values()))} ({stages})" if stages else "",
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
