"""The candidate causes of two modes, as columns of numbers, and what each is called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from layerscope.inputs.text_features import DIVERSITY_WINDOW
from layerscope.results.run import Run
from layerscope.states.readout import SINK_RATIO
from layerscope.studies.experiments.causes.descriptions import Descriptions
from layerscope.studies.grid import READOUT

PAPER = "arXiv 2412.09563, appendix A"
OURS = "not in the papers; our own candidate"


@dataclass(frozen=True)
class Candidate:
    """A possible cause. `joint` candidates stand in the joint model; others nearly repeat one that does."""

    name: str
    words: str
    source: str
    joint: bool = True


CANDIDATES: tuple[Candidate, ...] = (
    Candidate("tokens", "log number of tokens", PAPER),
    Candidate("characters", "log number of characters", PAPER, joint=False),
    Candidate("lexical_diversity", f"lexical diversity (MATTR, {DIVERSITY_WINDOW} words)", PAPER),
    Candidate("readability", "readability index (ARI)", PAPER),
    Candidate("loss", "log perplexity under the model", PAPER),
    Candidate("rare_tokens", "share of rare tokens", OURS),
    Candidate("overlap", "overlap with the reference (BM25)", PAPER),
    Candidate("english", "language is English", OURS),
    Candidate("massive", f"a massive token (norm ratio > {SINK_RATIO:g})", OURS),
    Candidate("massive_tokens", "number of massive tokens", OURS, joint=False),
    Candidate("norm_ratio", "log max / median token norm", OURS),
    Candidate("bos", "begins with a BOS token", OURS),
    Candidate("first_capital", "first word has a capital", OURS),
    Candidate("first_digit", "first token is a digit", OURS),
    Candidate("first_other", "first token is punctuation", OURS),
    Candidate("first_frequency", "log frequency of the first token", OURS),
)


def candidate_table(described: Descriptions, run: Run, layer: int, ids: Sequence[str]) -> pl.DataFrame:
    """One column a candidate, rows in the order of the prompt ids; what is not there is null.

    Norms are those of the layer that is looked at.
    """
    rows = pl.DataFrame({"prompt_id": list(ids)})
    norms = run.prompts.filter(metric="norm_ratio", layer=layer, readout=READOUT)
    mine = norms.filter(positions="all").select("prompt_id", "value", "n_tokens")
    left = norms.filter(positions="no-sink").select("prompt_id", n_left="n_tokens")
    for other in (described.table, mine, left):
        rows = rows.join(other, on="prompt_id", how="left", maintain_order="left")
    return rows.select(
        pl.col("tokens", "characters").log(),
        pl.col("lexical_diversity", "readability", "loss", "rare_tokens", "overlap"),
        (pl.col("language") == "en").alias("english"),
        (pl.col("value") > SINK_RATIO).alias("massive"),
        (pl.col("n_tokens") - pl.col("n_left")).cast(pl.Float64).alias("massive_tokens"),
        pl.col("value").log().alias("norm_ratio"),
        "bos",
        *((pl.col("first_kind") == kind).alias(f"first_{kind}") for kind in ("capital", "digit", "other")),
        "first_frequency",
    )


def reasons_without(described: Descriptions, table: pl.DataFrame) -> dict[str, str]:
    """Why a candidate cannot be looked at, for those that cannot."""
    reasons = {one.name: described.reasons.get(one.name) or _constant(table[one.name]) for one in CANDIDATES}
    return {name: reason for name, reason in reasons.items() if reason}


def _constant(column: pl.Series) -> str:
    values = column.cast(pl.Float64).fill_null(float("nan")).to_numpy()
    known = values[np.isfinite(values)]
    if not len(known):
        return "no prompt has a value"
    if np.ptp(known) > 0:
        return ""
    if column.dtype == pl.Boolean():
        return "true of every prompt" if known[0] else "true of no prompt"
    return "the same for every prompt"
