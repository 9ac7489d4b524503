"""The figure of `mode-causes`: what goes with the entropy, and in what the modes differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.figures.forest import FOREST, plot_forest
from layerscope.statistics.intervals import SIGNIFICANCE
from layerscope.studies.experiments.causes.candidates import CANDIDATES
from layerscope.studies.experiments.causes.tests import Case, Look

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def forest_data(case: Case, found: Look) -> pl.DataFrame:
    """The effects of all candidates as rows of a forest plot; the modes' differences only where there are modes."""
    differences, without = found.tables["differences"], found.tables["without"]
    effects = {
        row["covariate"]: row
        for row in differences.filter(pl.col("effect").is_in(["cliffs_delta", "phi"])).iter_rows(named=True)
    }
    shares = {row["covariate"]: row for row in without.iter_rows(named=True)}
    rows = []
    panels = (
        ("high- minus low-entropy mode (Cliff's delta; phi for yes / no)", effects, "value", "ci_low", "ci_high"),
        ("share of the entropy's variance", shares, "explained", "explained_ci_low", "explained_ci_high"),
    )
    for panel, rows_of, value, low, high in panels:
        if not rows_of:
            continue
        for one in CANDIDATES:
            row = rows_of.get(one.name, {})
            known = one.name not in case.reasons and np.isfinite(row.get(value, float("nan")))
            sure = known and (row[low] > 0 or (row[high] < 0 and rows_of is effects))
            if rows_of is effects:
                sure = sure and row["p_adjusted"] < SIGNIFICANCE
            rows.append(
                {
                    "panel": panel,
                    "name": one.words,
                    "value": row[value] if known else None,
                    "low": row[low] if known else None,
                    "high": row[high] if known else None,
                    "marked": bool(sure),
                    "words": "" if known else _cut(case.reasons.get(one.name, row.get("note", ""))),
                }
            )
    return pl.DataFrame(rows, schema=FOREST)


def _cut(words: str, most: int = 44) -> str:
    words = words.removeprefix("no value: ")
    return words if len(words) <= most else f"{words[: most - 1]}…"


def draw_forest(case: Case, data: pl.DataFrame) -> Figure:
    """The forest plot of one model."""
    return plot_forest(
        data,
        f"What goes with prompt entropy: {case.about}",
        f"{len(case.ids)} prompts; bars: 95 % interval over prompts; filled: "
        + ("adjusted p below .05" if case.label is not None else f"interval off 0; {case.why_no_modes}"),
    )
