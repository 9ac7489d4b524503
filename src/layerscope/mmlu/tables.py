"""The tables of a run of questions: the answers, and the metrics of every prompt at every layer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import polars as pl

from layerscope.measuring.blocks import BlockStore
from layerscope.measuring.plan import Plan
from layerscope.mmlu.forward import Letters, as_prompt
from layerscope.mmlu.harness import Asked
from layerscope.results.tables import PROMPTS

QUESTIONS = pl.Schema(
    {
        "question_id": pl.String(),
        "subject": pl.String(),
        "answer": pl.String(),
        "chosen": pl.String(),
        "correct": pl.Boolean(),
        "loglik_A": pl.Float64(),
        "loglik_B": pl.Float64(),
        "loglik_C": pl.Float64(),
        "loglik_D": pl.Float64(),
        "n_tokens": pl.Int32(),
        "note": pl.String(),
    }
)
ENTROPIES = pl.Schema(
    {"question_id": pl.String(), "subject": pl.String()}
    | {name: kind for name, kind in PROMPTS.items() if name != "prompt_id"}
)
LETTERS = "ABCD"


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


def entropy_tables(plan: Plan, stored: BlockStore, asked: Sequence[Asked]) -> Iterator[pl.DataFrame]:
    """The metrics of every prompt, one table a layer."""
    ids = [f"{one.subject}/{one.question.id}" for one in asked]
    subjects = [one.subject for one in asked]
    reasons = stored.notes()[0]
    for position, layer in enumerate(plan.layers):
        values, tokens = stored.values(position), stored.tokens(position)
        for place, state in enumerate(plan.states):
            for number, key in enumerate(plan.token_keys):
                columns = {
                    "question_id": ids,
                    "subject": subjects,
                    "n_tokens": tokens[place],
                    "value": values[place, number],
                    "note": [reasons.get((place, position, number, row), "") for row in range(len(ids))],
                }
                fixed = {
                    "layer": layer,
                    "metric": key.metric.name,
                    "variant": key.setting.variant,
                    "alpha": key.setting.alpha,
                    "readout": state.readout,
                    "positions": state.positions,
                    "normalization": key.setting.normalization or "none",
                }
                part = pl.DataFrame(columns).with_columns(pl.lit(value).alias(name) for name, value in fixed.items())
                yield part.select(pl.col(name).cast(kind) for name, kind in ENTROPIES.items())
