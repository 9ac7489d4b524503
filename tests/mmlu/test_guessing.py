"""Guessing told from knowing: closed forms, the level of the tests, and models of which the truth is known."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from layerscope.errors import UserError
from layerscope.mmlu.guessing import count_answers, judge_answers


def answered(answer, chosen, subjects):
    table = pl.DataFrame({"subject": subjects, "answer": list(answer), "chosen": list(chosen)})
    return table.with_columns(correct=pl.col("answer") == pl.col("chosen"))


def simulate(rng, n_subjects=20, n=40, keys=(0.25,) * 4, knows=0.0, habit=(0.25,) * 4):
    """Questions of which `knows` (a share, or one a subject) are known and the rest answered out of habit."""
    share = np.repeat(np.broadcast_to(knows, n_subjects), n)
    answer = rng.choice(list("ABCD"), p=keys, size=n_subjects * n)
    guess = rng.choice(list("ABCD"), p=habit, size=n_subjects * n)
    chosen = np.where(rng.random(n_subjects * n) < share, answer, guess)
    return answered(answer, chosen, [f"s{i:02d}" for i in range(n_subjects) for _ in range(n)])


def test_what_the_letters_alone_give():
    table = answered("AABBAB", "AAAAAC", ["x"] * 4 + ["y"] * 2)
    found = count_answers(table)
    assert found.rows() == [("x", 4, 2, 2.0), ("y", 2, 1, 0.5)]


def test_one_letter_always_is_not_knowing():
    rng = np.random.default_rng(0)
    table = simulate(rng, habit=(1, 0, 0, 0))
    found = judge_answers(table, permutations=199)
    assert found.letter == "A"
    assert found.letter_share == 1
    assert found.p_letters == 1
    assert found.from_letters == pytest.approx(found.accuracy)
    assert found.r_letters == pytest.approx(1)
    assert "set by their keys: the two accuracies correlate at 1.00" in " ".join(found.sentences())
    assert not found.knows


def test_keys_that_differ_between_subjects_make_a_constant_answer_look_like_knowledge_of_some():
    rng = np.random.default_rng(0)
    shares = np.linspace(0.05, 0.6, 20)
    parts = [simulate(rng, 1, 60, (s, *((1 - s) / 3,) * 3), habit=(1, 0, 0, 0)) for s in shares]
    table = pl.concat(part.with_columns(subject=pl.lit(f"s{i:02d}")) for i, part in enumerate(parts))
    found = judge_answers(table, permutations=499)
    assert found.subjects_differ
    assert not found.knows
    assert "a correlation is about which letters are right" in found.sentences()[-1]


def test_a_model_that_knows():
    rng = np.random.default_rng(0)
    found = judge_answers(simulate(rng, knows=np.linspace(0.1, 0.9, 20)), permutations=499)
    assert found.knows
    assert found.subjects_differ
    assert found.p_letters == found.p_alike == pytest.approx(1 / 500)
    assert found.ceiling == pytest.approx(np.sqrt(found.reliability))
    assert found.ceiling > 0.9
    assert abs(found.r_letters) < 0.6
    assert "set by their keys" not in " ".join(found.sentences())
    assert not any("nothing to correlate" in sentence for sentence in found.sentences())


def test_a_model_that_guesses_has_nothing_to_correlate_with():
    found = judge_answers(simulate(np.random.default_rng(3)), permutations=499)
    assert not found.subjects_differ
    assert found.sentences()[-1].startswith("There is nothing to correlate with")


def test_levels_of_both_tests():
    rng = np.random.default_rng(0)
    found = [
        judge_answers(simulate(rng, 10, 12, habit=(0.7, 0.1, 0.1, 0.1)), permutations=99, seed=trial)
        for trial in range(150)
    ]
    # 5 % of 150 is 7.5, with a standard deviation of 2.7.
    assert sum(one.knows for one in found) <= 15
    assert sum(one.subjects_differ for one in found) <= 15
    assert np.mean([one.p_letters for one in found]) == pytest.approx(0.5, abs=0.1)


def test_whether_subjects_differ_agrees_with_the_chi_squared_test_where_that_holds():
    rng = np.random.default_rng(4)
    for trial in range(3):
        table = simulate(rng, 8, 150, knows=rng.uniform(0, 0.15, 8))
        counts = count_answers(table)
        both = np.stack([counts["n_correct"], counts["n_questions"] - counts["n_correct"]])
        expected = stats.chi2_contingency(both, correction=False).pvalue
        assert judge_answers(table, permutations=1999, seed=trial).p_alike == pytest.approx(expected, abs=0.05)


def test_the_interval_is_wilsons():
    table = simulate(np.random.default_rng(0))
    found = judge_answers(table, permutations=99)
    expected = stats.binomtest(found.n_correct, found.n_questions).proportion_ci(method="wilson")
    assert (found.ci_low, found.ci_high) == pytest.approx((expected.low, expected.high))


def test_degenerate_answers():
    right = answered("ABCD" * 3, "ABCD" * 3, ["x", "y", "z"] * 4)
    found = judge_answers(right, permutations=99)
    assert (found.accuracy, found.p_alike, found.reliability) == (1, 1, 0)
    assert np.isnan(found.r_letters)
    with pytest.raises(UserError, match="got none"):
        judge_answers(right.head(0))
