"""Whether the answers to questions of several choices say anything: against chance, and against favourite letters."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int

from layerscope.errors import UserError
from layerscope.mmlu.subjects import reliability_of, subject_accuracies
from layerscope.statistics.association import is_flat
from layerscope.statistics.intervals import SIGNIFICANCE

CHANCE = 0.25
HABIT = 0.7
"""Correlation above which half of what tells the subjects apart is how often their keys are the favourite letters."""


@dataclass(frozen=True)
class Guessing:
    """What the answers to all questions say together.

    `letter` is the letter chosen most often and `letter_share` how often. `from_letters` is the accuracy that choosing
    each letter as often as it was, but at random within each subject, has on average; `p_letters` is whether more was
    right than that gives (one-sided), and `r_letters` how the two accuracies correlate over subjects, in [-1, 1]; NaN
    where one is the same everywhere. `p_alike` is whether the subjects' accuracies differ more than those of equally
    easy subjects would. `reliability` is the share of their variance that is not chance, and `ceiling` its square root:
    the largest correlation with the accuracies that can be expected of anything.
    """

    n_questions: int
    n_correct: int
    accuracy: float
    ci_low: float
    ci_high: float
    letter: str
    letter_share: float
    from_letters: float
    p_letters: float
    r_letters: float
    p_alike: float
    reliability: float
    ceiling: float

    @property
    def knows(self) -> bool:
        """Whether more answers are right than the letters' frequencies give."""
        return self.p_letters < SIGNIFICANCE

    @property
    def subjects_differ(self) -> bool:
        """Whether the subjects' accuracies differ more than chance."""
        return self.p_alike < SIGNIFICANCE

    def sentences(self) -> tuple[str, ...]:
        """The same in words, with what it means for a correlation over subjects."""
        more = "more often" if self.knows else "no more often"
        differ = "more than" if self.subjects_differ else "no more than"
        habit = (
            f"Which subjects it is good at is set by their keys: the two accuracies correlate at {self.r_letters:.2f} "
            "over subjects."
        )
        said = [
            f"Accuracy {self.accuracy:.1%} [{self.ci_low:.1%}, {self.ci_high:.1%}] on {self.n_questions:,} questions; "
            f"chance is {CHANCE:.0%}.",
            f"{self.letter} is chosen in {self.letter_share:.0%} of cases. Choosing the letters as often, but blindly, "
            f"would be right in {self.from_letters:.1%}: the model is right {more} than that (p = {self.p_letters:.2g}).",
            *([habit] if self.r_letters > HABIT else []),
            f"Accuracies differ between subjects by {differ} chance (p = {self.p_alike:.2g}); {self.reliability:.0%} of "
            f"their variance is not chance, so no correlation above {self.ceiling:.2f} can be expected.",
        ]
        if not self.subjects_differ:
            said.append("There is nothing to correlate with: what follows about layers is about chance.")
        elif not self.knows:
            said.append(
                "The subjects differ in their keys, not in what the model knows: a correlation is about which letters "
                "are right."
            )
        return tuple(said)


def judge_answers(questions: pl.DataFrame, *, permutations: int = 9999, seed: int = 0) -> Guessing:
    """Whether a model's answers are better than its habit of choosing some letters, and differ between subjects.

    A model that always answers A is right as often as A is the key: its accuracies differ between subjects, and the
    difference is the test's, not the model's. So the keys are permuted within each subject, which keeps how often each
    letter was chosen and was right. Whether subjects differ is tested by permuting right and wrong over all questions
    (exact, also for few questions a subject), with Pearson's chi-squared as the statistic.

    Args:
        questions: subject, answer (the key), chosen, correct.
        permutations: of both tests; p is at least 1 / (permutations + 1).
        seed: of both.

    Returns:
        The judgement; p-values in (0, 1], shares in [0, 1].

    Raises:
        UserError: there are no questions.

    Papers: Fisher 1935 (permutation); Wilson 1927 (the interval).
    """
    if questions.is_empty():
        raise UserError("expected answered questions, got none")
    rng = np.random.default_rng(np.random.SeedSequence([seed, len(questions), 7]))
    counts = count_answers(questions)
    right = int(counts["n_correct"].sum())
    whole = subject_accuracies(counts.select(pl.lit("all").alias("subject"), pl.sum("n_questions", "n_correct")))
    blind = np.zeros(permutations, dtype=np.int64)
    for _, part in questions.group_by("subject", maintain_order=True):
        blind += _blind_matches(part, permutations, rng)
    chosen = questions["chosen"].value_counts(sort=True).sort(["count", "chosen"], descending=[True, False])
    accuracies = subject_accuracies(counts)
    both = np.array([accuracies["accuracy"], counts["from_letters"] / counts["n_questions"]])
    reliability = reliability_of(accuracies)
    return Guessing(
        n_questions=len(questions),
        n_correct=right,
        accuracy=right / len(questions),
        ci_low=whole["ci_low"][0],
        ci_high=whole["ci_high"][0],
        letter=chosen["chosen"][0],
        letter_share=chosen["count"][0] / len(questions),
        from_letters=float(counts["from_letters"].sum()) / len(questions),
        p_letters=float((1 + (blind >= right).sum()) / (1 + permutations)),
        r_letters=float("nan") if is_flat(both).any() else float(np.corrcoef(both)[0, 1]),
        p_alike=_alike(counts, permutations, rng),
        reliability=reliability,
        ceiling=float(np.sqrt(reliability)),
    )


def count_answers(questions: pl.DataFrame) -> pl.DataFrame:
    """Questions and right answers of each subject, and how many would be right by its letters' frequencies alone.

    Args:
        questions: subject, answer, chosen, correct.

    Returns:
        subject, n_questions, n_correct, from_letters (a mean count in [0, n_questions]), sorted by subject.
    """
    rows = []
    for (subject,), part in questions.sort("subject").group_by(["subject"], maintain_order=True):
        keys = dict(part["answer"].value_counts().iter_rows())
        meets = sum(count * keys.get(letter, 0) for letter, count in part["chosen"].value_counts().iter_rows())
        rows.append((subject, len(part), int(part["correct"].sum()), meets / len(part)))
    return pl.DataFrame(rows, schema=["subject", "n_questions", "n_correct", "from_letters"], orient="row")


def _blind_matches(part: pl.DataFrame, permutations: int, rng: np.random.Generator) -> Int[np.ndarray, " permutations"]:
    chosen = part["chosen"].to_numpy()
    if len(set(chosen.tolist())) == 1:
        # Whatever the order of the keys, one letter meets as many.
        return np.full(permutations, int((part["answer"].to_numpy() == chosen[0]).sum()))
    _, places = np.unique(part.select("answer", "chosen").to_numpy().astype(str), return_inverse=True)
    keys, given = places.reshape(-1, 2).T.astype(np.int8)
    return np.asarray((rng.permuted(np.tile(keys, (permutations, 1)), axis=1) == given).sum(axis=1))


def _alike(counts: pl.DataFrame, permutations: int, rng: np.random.Generator) -> float:
    n, k = counts["n_questions"].to_numpy(), counts["n_correct"].to_numpy()
    share = k.sum() / n.sum()
    if share in (0, 1) or len(n) < 2:
        return 1.0

    def spread(right: Int[np.ndarray, "... subjects"]) -> np.ndarray:
        return np.asarray(((right - n * share) ** 2 / (n * share * (1 - share))).sum(axis=-1))

    drawn = spread(rng.multivariate_hypergeometric(n, int(k.sum()), size=permutations))
    return float((1 + (drawn >= spread(k) * (1 - 1e-12)).sum()) / (1 + permutations))
