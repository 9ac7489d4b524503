"""`layerscope mmlu`: accuracy per subject, entropy per subject and layer on the same prompts, and how they go together."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import polars as pl

from layerscope.cli.options import Quiet, build, output_folder, unset, with_options
from layerscope.cli.show import console, frame_table, progress_bars, say, say_notes
from layerscope.config import ModelSpec
from layerscope.mmlu.spec import MmluSpec
from layerscope.wording import counted

if TYPE_CHECKING:
    from layerscope.mmlu.run import MmluRun


@with_options(ModelSpec, MmluSpec)
def mmlu(
    given: dict[str, Any],
    out: Annotated[Path | None, unset("--out", "Folder of the run. \\[runs/MODEL-mmlu]")] = None,
    quiet: Quiet = False,
) -> None:
    """Ask MODEL questions of four choices and relate its accuracy per subject to the entropy of the same prompts.

    lm-eval builds and scores the prompts; one forward pass gives the answers and every layer's entropy. The same
    command again goes on after an interruption, and only reads where the run is done.
    """
    from layerscope.mmlu.run import mmlu_spec

    model = build(ModelSpec, given)
    spec = build(MmluSpec, given, model=model)
    with progress_bars(quiet=quiet) as report:
        run = mmlu_spec(spec, output_folder(out, model.name, "-mmlu"), report)
    if not quiet:
        _show(run)
    say_notes(run.notes)


def _show(run: MmluRun) -> None:
    from layerscope.mmlu.tables import IDENTITY

    screen = console()
    resolved = run.record.resolved
    scores = [
        {
            "subject": row["subject"],
            "questions": row["n_questions"],
            "accuracy": f"{row['accuracy']:.0%} [{row['ci_low']:.0%}, {row['ci_high']:.0%}]",
            "by letters": f"{row['from_letters']:.0%}",
            "tokens": round(row["n_tokens"]),
        }
        for row in run.scores.sort("accuracy", "subject", descending=[True, False]).iter_rows(named=True)
    ]
    screen.print(frame_table(pl.DataFrame(scores)))
    for _, part in run.relations.group_by(IDENTITY, maintain_order=True):
        say(screen, "", f"Accuracy and {_title(part)}")
        screen.print(frame_table(_shown_relations(part)))
        say(screen, _verdict(part))
    say(
        screen,
        "",
        "[ ]: 95 %; by letters: each letter as often, but blindly; mean: over prompts; p: by permutation; "
        "adj.: adjusted over the layers of a table; partial: spearman with prompt length taken out",
        *run.guessing.sentences(),
        *(f"note: {warning}" for warning in run.record.warnings),
    )
    shots = f"{resolved.shots}-shot" + (f" (examples: {resolved.examples})" if resolved.shots else "")
    asked = f"{counted(resolved.n_questions, 'question')}, {counted(resolved.n_subjects, 'subject')}, {shots}"
    say(screen, f"{asked}; written to {run.path}")


def _shown_relations(part: pl.DataFrame) -> pl.DataFrame:
    rows: dict[int, dict[str, object]] = {}
    for row in part.sort("layer", maintain_order=True).iter_rows(named=True):
        shown = rows.setdefault(row["layer"], {"layer": row["layer"], "mean": f"{row['mean']:.3f}"})
        if row["statistic"] != "pearson":
            # The header has to tell the columns of two statistics apart.
            mark = "" if row["statistic"] == "spearman" else " "
            values = (_with_interval(row), _number(row["p"]), _number(row["p_max"]))
            shown |= zip((row["statistic"], f"p{mark}", f"adj.{mark}"), values, strict=True)
    return pl.DataFrame(list(rows.values()))


def _with_interval(row: dict[str, Any]) -> str:
    if math.isnan(row["value"]):
        return "-"
    return f"{row['value']:+.2f} [{row['ci_low']:+.2f}, {row['ci_high']:+.2f}]"


def _number(p: float) -> str:
    return "-" if math.isnan(p) else f"{p:.4f}" if p < 0.001 else f"{p:.3f}"


def _title(part: pl.DataFrame) -> str:
    row = part.row(0, named=True)
    order = [] if row["alpha"] is None else [f"alpha {row['alpha']:g}"]
    scale = [] if row["normalization"] == "none" else [f"normalised by {row['normalization']}"]
    words = [row["metric"].replace("_", " "), row["variant"], *order, *scale]
    return ", ".join([*words, f"readout {row['readout']}", f"positions {row['positions']}"])


def _verdict(part: pl.DataFrame) -> str:
    """What the layers of one table say, at the layer where the correlation is the least likely to be chance."""
    ranked = part.filter((pl.col("statistic") == "spearman") & pl.col("value").is_not_nan())
    if ranked.is_empty():
        return f"No correlation could be computed: {part['note'][0]}."
    best = ranked.sort("p_max", "p", "layer").row(0, named=True)
    where = f"layer {best['layer']} ({_with_interval(best)}, adjusted p = {_number(best['p_max'])})"
    if best["p_max"] >= 0.05:
        return f"At no layer do the two go together beyond chance; the closest is {where}."
    held = part.filter((pl.col("statistic") == "partial") & (pl.col("layer") == best["layer"])).row(0, named=True)
    still = "also" if held["p_max"] < 0.05 else "but not"
    beside = f"({_with_interval(held)}, adjusted p = {_number(held['p_max'])})"
    return f"The two go together at {where}, {still} with prompt length taken out {beside}."
