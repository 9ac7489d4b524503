"""What is shown of a case: the effects of all candidates in a figure, and prompts of each mode and what goes with them in words."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl

from layerscope.figures.forest import FOREST, plot_forest
from layerscope.statistics.causes import ALL
from layerscope.statistics.intervals import SIGNIFICANCE
from layerscope.studies.experiments.causes.candidates import CANDIDATES
from layerscope.studies.experiments.causes.questions import Case, effects
from layerscope.studies.findings import number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EXAMPLES = 4
LONGEST, LONGEST_REASON = 160, 44


def draw_forest(case: Case, found: Mapping[str, pl.DataFrame]) -> tuple[Figure, pl.DataFrame]:
    """The effects of all candidates of one model, the modes' differences only where there are modes; and their rows."""
    differences, shares = (
        {row["covariate"]: row for row in table.iter_rows(named=True)}
        for table in (effects(found["differences"]), found["without"])
    )
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
            why = case.reasons.get(one.name, row["note"]).removeprefix("no value: ")
            numbers, why = ((value, low, high), "") if known else ([None] * 3, cut(why, LONGEST_REASON))
            drawn.append((panel, one.words, *numbers, bool(sure), why))
    data = pl.DataFrame(drawn, schema=FOREST, orient="row")
    filled = "adjusted p below .05" if case.label is not None else f"interval off 0; {case.why_no_modes}"
    about = f"{len(case.ids)} prompts; bars: 95 % interval over prompts; filled: {filled}"
    return plot_forest(data, f"What goes with prompt entropy: {case.about}", about), data


def cut(text: str, most: int = LONGEST) -> str:
    """A text of unknown origin as one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def example_notes(case: Case, described: pl.DataFrame) -> list[str]:
    """A few prompts of each mode, those in the middle of it; of the lowest and the highest where there are no modes.

    The middle of a mode is what is typical of it; its ends are not.
    """
    texts = dict(described.select("prompt_id", "text").iter_rows())
    known = np.flatnonzero(np.isfinite(case.values))
    order = known[np.argsort(case.values[known], kind="stable")]
    if case.label is None:
        groups = {"lowest entropy": order[:EXAMPLES], "highest entropy": order[::-1][:EXAMPLES]}
    else:
        groups = {}
        for which, words in enumerate(("the low-entropy mode", "the high-entropy mode")):
            members = order[case.label[order] == which]
            start = max(0, len(members) // 2 - EXAMPLES // 2)
            groups[f"{words} (the middle of its {len(members)})"] = members[start : start + EXAMPLES]
    return [
        f"{case.about}, prompt of {words}, {case.values[row]:.3f} nats: “{cut(texts.get(case.ids[row], ''))}”"
        for words, rows in groups.items()
        for row in rows
    ]


def explained_words(case: Case, without: pl.DataFrame) -> str:
    """What goes with the entropy most, in a sentence."""
    known = without.filter(pl.col("explained").is_not_nan())
    each = known.filter(pl.col("covariate") != ALL).sort("explained", descending=True).head(3)
    names = {one.name: one.words for one in CANDIDATES}
    parts = [
        f"{names[row['covariate']]} {row['explained']:.0%} ({row['explained_ci_low']:.0%} to {row['explained_ci_high']:.0%})"
        for row in each.iter_rows(named=True)
    ]
    total = known.filter(pl.col("covariate") == ALL)
    together = f"; all together {total['explained'][0]:.0%}" if total.height else ""
    return f"{case.about}: share of the entropy's variance that goes with a candidate: {', '.join(parts) or 'none'}{together}."


def split_words(case: Case, splits: pl.DataFrame) -> list[str]:
    """How far the modes agree with those under another measurement, in a sentence."""
    parts = []
    for row in splits.iter_rows(named=True):
        kappa, low, high = (number(row[name]) for name in ("agreement", "agreement_ci_low", "agreement_ci_high"))
        delta = f"Cliff's delta between the first modes {number(row['apart'])}"
        parts.append(f"{row['change']} {kappa} ({f'{low} to {high}' if np.isfinite(row['agreement']) else delta})")
    return [
        f"{case.about}: agreement of the modes with those of the entropy as in the paper (Cohen's kappa; 1 the same prompts, "
        f"0 chance): {'; '.join(parts)}."
    ]
