"""ask_mmlu(): from a spec to accuracy per subject, entropy per subject and layer, and how the two go together."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl
from pydantic import ValidationError

from layerscope.config import ModelSpec
from layerscope.errors import DamagedError, UserError
from layerscope.files.locks import locked
from layerscope.files.reading import sums_of
from layerscope.measuring.progress import Report, silent
from layerscope.mmlu.guessing import Guessing, count_answers, judge_answers
from layerscope.mmlu.record import TABLES, MmluRecord
from layerscope.mmlu.run import AskedRun, ask_questions, open_questions
from layerscope.mmlu.spec import MmluSpec
from layerscope.mmlu.subjects import ACCURACY, MIN_SUBJECTS, SUBJECT_RELATIONS, relate_subjects, subject_accuracies
from layerscope.results.record import Keeper
from layerscope.results.tables import read_table, write_table

IDENTITY = ("metric", "variant", "alpha", "readout", "positions", "normalization")
"""What tells apart the numbers of one layer."""

SCORES = pl.Schema({**ACCURACY, "from_letters": pl.Float64(), "n_tokens": pl.Float64()})
RELATIONS = pl.Schema(
    {
        "metric": pl.String(),
        "variant": pl.String(),
        "alpha": pl.Float64(),
        "readout": pl.String(),
        "positions": pl.String(),
        "normalization": pl.String(),
        "depth": pl.Float64(),
        "mean": pl.Float64(),
        **SUBJECT_RELATIONS,
    }
)


MADE_OF_TABLES = (f"{TABLES}/scores.parquet", f"{TABLES}/relations.parquet")
_AGAIN = "run the same `layerscope mmlu` command again, which makes it again"


@dataclass
class MmluRun:
    """A finished run.

    `scores`: a row a subject: accuracy with its interval, `from_letters` (what choosing each letter as often, but
    blindly, gives) and mean prompt length. `questions`: a row a question. `entropies`: a row a question, layer and
    number. `relations`: a row a layer, number and statistic (spearman, pearson, partial). `guessing`: whether the
    accuracies can be related to anything. `notes`: what was found when it was opened, such as questions that are not
    there any more.
    """

    path: Path
    record: MmluRecord
    scores: pl.DataFrame
    questions: pl.DataFrame
    entropies: pl.DataFrame
    relations: pl.DataFrame
    guessing: Guessing
    notes: tuple[str, ...] = ()


def ask_mmlu(
    model: str | ModelSpec,
    questions: str = "mmlu",
    *,
    out: str | Path | None = None,
    report: Report = silent,
    **options: object,
) -> MmluRun:
    """Ask a model MMLU's questions and relate its accuracy per subject to the entropy of the prompts at every layer.

    Args:
        model: a model name (see `layerscope models`), hub id, folder or .gguf file, or a ModelSpec.
        questions: mmlu, lm-eval-dev, or a .jsonl, .csv or .parquet file.
        out: the run's folder; the same call goes on after an interruption and only reads what is done. None: a
            temporary folder that lives as long as what is returned.
        report: called with (stage, done, total) as the work proceeds.
        **options: the other fields of MmluSpec: subjects, shots, limit, readouts, positions, ...

    Returns:
        The tables and the judgement.

    Raises:
        UserError: something asked for does not exist or does not fit; the message says what to do.
        RunFailedError: the machine or the disk stood in the way; the finished blocks are kept.
    """
    try:
        spec = MmluSpec.model_validate(
            {"model": ModelSpec(name=model) if isinstance(model, str) else model, "questions": questions, **options}
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {first['msg']}, got {first['input']!r}") from error
    if out is not None:
        return mmlu_spec(spec, Path(out), report)
    folder = Path(tempfile.mkdtemp(prefix="layerscope-"))
    run = mmlu_spec(spec, folder, report)
    weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
    return run


def mmlu_spec(spec: MmluSpec, out: Path, report: Report = silent) -> MmluRun:
    """`mmlu` for a spec that is ready. Raises what `mmlu` raises."""
    asked = ask_questions(spec, out, report, fewest_subjects=MIN_SUBJECTS)
    # Computed from the run's own tables, so they can be had again at any time.
    if not all(_is_whole(asked, name) for name in MADE_OF_TABLES):
        report("relating", 0.0, 1.0)
        with locked(out):
            write_table([_scores(asked)], SCORES, out / MADE_OF_TABLES[0])
            write_table([_relations(asked)], RELATIONS, out / MADE_OF_TABLES[1])
            Keeper(asked.record, out).update(files={**asked.record.files, **sums_of(out, MADE_OF_TABLES)})
        report("relating", 1.0, 1.0)
    return replace(open_mmlu(out), notes=asked.notes)


def open_mmlu(path: str | Path) -> MmluRun:
    """Open the folder of a finished run.

    Raises:
        UserError: it holds none, or it is not done.
        RunFailedError: its files are damaged.
    """
    asked = open_questions(path)
    spec = asked.record.spec
    scores, relations = (asked.record.check(asked.path, name, _AGAIN) for name in MADE_OF_TABLES)
    return MmluRun(
        path=asked.path,
        record=asked.record,
        scores=read_table(scores, SCORES, _AGAIN),
        questions=asked.questions,
        entropies=asked.entropies,
        relations=read_table(relations, RELATIONS, _AGAIN),
        guessing=judge_answers(asked.questions, permutations=spec.permutations, seed=spec.seed),
    )


def _is_whole(asked: AskedRun, name: str) -> bool:
    try:
        return asked.record.check(asked.path, name).exists()
    except DamagedError:
        return False


def _scores(asked: AskedRun) -> pl.DataFrame:
    counts = count_answers(asked.questions)
    lengths = asked.questions.group_by("subject").agg(pl.col("n_tokens").mean())
    expected = counts.select("subject", pl.col("from_letters") / pl.col("n_questions"))
    return (
        subject_accuracies(counts).join(expected, on="subject").join(lengths, on="subject").sort("subject").cast(SCORES)
    )


def _relations(asked: AskedRun) -> pl.DataFrame:
    spec, resolved = asked.record.spec, asked.record.resolved
    counts = count_answers(asked.questions)
    lengths = asked.questions.group_by("subject").agg(value=pl.col("n_tokens").mean())
    parts = []
    for key, part in asked.entropies.group_by(list(IDENTITY), maintain_order=True):
        finite = pl.col("value").filter(pl.col("value").is_finite())
        # A subject's entropy is the mean over the prompts that have one, as a run's value is.
        means = part.group_by("subject", "layer", maintain_order=True).agg(value=finite.mean())
        found = relate_subjects(
            counts, means, lengths=lengths, resamples=spec.resamples, permutations=spec.permutations, seed=spec.seed
        )
        overall = part.group_by("layer").agg(mean=finite.mean())
        found = found.join(overall, on="layer", how="left", maintain_order="left").with_columns(
            (pl.col("layer") / max(1, resolved.n_layers)).alias("depth"),
            *(pl.lit(value).alias(name) for name, value in zip(IDENTITY, key, strict=True)),
        )
        parts.append(found.select(pl.col(name).cast(kind) for name, kind in RELATIONS.items()))
    return pl.concat(parts)
