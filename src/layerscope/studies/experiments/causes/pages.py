"""Prompts of each mode and what goes with them, in sentences."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from jaxtyping import Float

from layerscope.statistics.causes import ALL
from layerscope.studies.experiments.causes.candidates import CANDIDATES
from layerscope.studies.experiments.causes.tests import Case
from layerscope.studies.findings import number

EXAMPLES = 4
LONGEST = 160


def cut(text: str, most: int = LONGEST) -> str:
    """A text of unknown origin as one line of at most `most` characters."""
    line = " ".join(text.split())
    return line if len(line) <= most else line[: most - 1] + "…"


def example_notes(
    about: str,
    described: pl.DataFrame,
    ids: Sequence[str],
    values: Float[np.ndarray, " prompts"],
    label: Float[np.ndarray, " prompts"] | None,
) -> list[str]:
    """A few prompts of each mode, those in the middle of it; of the lowest and the highest where there are no modes.

    The middle of a mode is what is typical of it; its ends are not.
    """
    texts = dict(described.select("prompt_id", "text").iter_rows())
    known = np.flatnonzero(np.isfinite(values))
    order = known[np.argsort(values[known], kind="stable")]
    if label is None:
        groups = {"lowest entropy": order[:EXAMPLES], "highest entropy": order[::-1][:EXAMPLES]}
    else:
        groups = {}
        for words, which in (("the low-entropy mode", 0), ("the high-entropy mode", 1)):
            members = order[label[order] == which]
            start = max(0, len(members) // 2 - EXAMPLES // 2)
            groups[f"{words} (the middle of its {len(members)})"] = members[start : start + EXAMPLES]
    return [
        f"{about}, prompt of {words}, {values[row]:.3f} nats: “{cut(texts.get(ids[row], ''))}”"
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
    rows = []
    for row in splits.iter_rows(named=True):
        if np.isfinite(row["agreement"]):
            ends = f"{number(row['agreement_ci_low'])} to {number(row['agreement_ci_high'])}"
            rows.append(f"{row['change']} {number(row['agreement'])} ({ends})")
        else:
            rows.append(f"{row['change']} none (Cliff's delta between the first modes {number(row['apart'])})")
    return [
        f"{case.about}: agreement of the modes with those of the entropy as in the paper (Cohen's kappa; 1 the same prompts, "
        f"0 chance): {'; '.join(rows)}."
    ]
