"""The figure of `mode-causes`: what goes with the entropy, and in what the modes differ."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.figures.forest import FOREST, plot_forest
from layerscope.statistics.intervals import SIGNIFICANCE
from layerscope.studies.experiments.causes.candidates import CANDIDATES
from layerscope.studies.experiments.causes.questions import Case, effects

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw_forest(case: Case, found: Mapping[str, pl.DataFrame]) -> tuple[Figure, pl.DataFrame]:
    """The effects of all candidates of one model, the modes' differences only where there are modes; and their rows."""
    differences = {row["covariate"]: row for row in effects(found["differences"]).iter_rows(named=True)}
    shares = {row["covariate"]: row for row in found["without"].iter_rows(named=True)}
    panels = (
        ("high- minus low-entropy mode (Cliff's delta; phi for yes / no)", differences, ("value", "ci_low", "ci_high")),
        ("share of the entropy's variance", shares, ("explained", "explained_ci_low", "explained_ci_high")),
    )
    drawn = []
    for panel, rows, names in panels:
        for one in CANDIDATES if rows else ():
            row = rows[one.name]
            value, low, high = (row[name] for name in names)
            known = one.name not in case.reasons and np.isfinite(value)
            sure = known and (low > 0 or (high < 0 and rows is differences))
            if rows is differences:
                sure = sure and row["p_adjusted"] < SIGNIFICANCE
            why = "" if known else _cut(case.reasons.get(one.name, row["note"]))
            drawn.append((panel, one.words, *((value, low, high) if known else [None] * 3), bool(sure), why))
    data = pl.DataFrame(drawn, schema=FOREST, orient="row")
    filled = "adjusted p below .05" if case.label is not None else f"interval off 0; {case.why_no_modes}"
    about = f"{len(case.ids)} prompts; bars: 95 % interval over prompts; filled: {filled}"
    return plot_forest(data, f"What goes with prompt entropy: {case.about}", about), data


def _cut(words: str, most: int = 44) -> str:
    words = words.removeprefix("no value: ")
    return words if len(words) <= most else f"{words[: most - 1]}…"
