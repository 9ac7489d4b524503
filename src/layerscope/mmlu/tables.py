"""The tables of a run of questions: the answers, the metrics of every prompt at every layer, and what is made of both."""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from layerscope.mmlu.forward import as_prompt
from layerscope.mmlu.guessing import count_answers
from layerscope.mmlu.harness import Asked, Letters
from layerscope.mmlu.questions import LETTERS
from layerscope.mmlu.record import MmluRecord
from layerscope.mmlu.subjects import ACCURACY, SUBJECT_RELATIONS, relate_subjects, subject_accuracies
from layerscope.results.tables import PROMPTS

IDENTITY = ("metric", "variant", "alpha", "readout", "positions", "normalization")
"""What tells apart the numbers of one layer."""

QUESTIONS = pl.Schema(
    dict.fromkeys(("question_id", "subject", "answer", "chosen"), pl.String())
    | {"correct": pl.Boolean()}
    | {f"loglik_{letter}": pl.Float64() for letter in LETTERS}
    | {"n_tokens": pl.Int32(), "note": pl.String()}
)
ENTROPIES = pl.Schema(
    {"question_id": pl.String(), "subject": pl.String()}
    | {name: kind for name, kind in PROMPTS.items() if name != "prompt_id"}
)
SCORES = pl.Schema({**ACCURACY, "from_letters": pl.Float64(), "n_tokens": pl.Float64()})
RELATIONS = pl.Schema(
    {name: PROMPTS[name] for name in IDENTITY} | {"depth": pl.Float64(), "mean": pl.Float64(), **SUBJECT_RELATIONS}
)
TABLES = {"questions": QUESTIONS, "entropies": ENTROPIES, "scores": SCORES, "relations": RELATIONS}
MADE_OF_TABLES = ("scores", "relations")
"""Made of the other two, so that they can be had again at any time."""


def file_of(name: str) -> str:
    """Where a table stands in the run's folder."""
    return f"mmlu/{name}.parquet"


def question_table(
    asked: Sequence[Asked], letters: Letters, correct: Sequence[bool], context: int | None
) -> pl.DataFrame:
    """One row a question. `chosen` is the letter with the largest log-likelihood, the first of equal ones."""
    prompts = [as_prompt(one, context) for one in asked]
    columns = {
        "question_id": [prompt.id for prompt in prompts],
        "subject": [one.subject for one in asked],
        "answer": [LETTERS[one.question.answer] for one in asked],
        "chosen": [LETTERS[place] for place in letters[:, :, 0].argmax(axis=1)],
        "correct": list(correct),
        **{f"loglik_{letter}": letters[:, place, 0] for place, letter in enumerate(LETTERS)},
        "n_tokens": [len(prompt.tokens) for prompt in prompts],
        "note": [prompt.note for prompt in prompts],
    }
    return pl.DataFrame(columns, schema=QUESTIONS)


def tables_of(record: MmluRecord, questions: pl.DataFrame, entropies: pl.DataFrame) -> dict[str, pl.DataFrame]:
    """`scores` and `relations`: a row a subject, and a row a layer, number and statistic."""
    spec = record.spec
    counts = count_answers(questions)
    lengths = questions.group_by("subject").agg(value=pl.col("n_tokens").mean())
    expected = counts.select("subject", pl.col("from_letters") / pl.col("n_questions"))
    scores = subject_accuracies(counts).join(expected, on="subject")
    scores = scores.join(lengths.rename({"value": "n_tokens"}), on="subject").sort("subject").cast(SCORES)
    parts = []
    for key, part in entropies.group_by(IDENTITY, maintain_order=True):
        finite = pl.col("value").filter(pl.col("value").is_finite())
        # A subject's entropy is the mean over the prompts that have one, as a run's value is.
        means = part.group_by("subject", "layer", maintain_order=True).agg(value=finite.mean())
        found = relate_subjects(
            counts, means, lengths=lengths, resamples=spec.resamples, permutations=spec.permutations, seed=spec.seed
        )
        overall = part.group_by("layer").agg(mean=finite.mean())
        found = found.join(overall, on="layer", how="left", maintain_order="left").with_columns(
            (pl.col("layer") / max(1, record.resolved.n_layers)).alias("depth"),
            *(pl.lit(value).alias(name) for name, value in zip(IDENTITY, key, strict=True)),
        )
        parts.append(found.select(pl.col(name).cast(kind) for name, kind in RELATIONS.items()))
    return {"scores": scores, "relations": pl.concat(parts)}
