"""Subjects: Wilson intervals, agreement with SciPy, adjustment over layers, reliability, refusals."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from layerscope.errors import UserError
from layerscope.mmlu.subjects import SUBJECT_RELATIONS, relate_subjects, subject_accuracies

QUICK = {"resamples": 300, "permutations": 999}


def tables(accuracy, entropy, questions=200):
    names = [f"s{i:02d}" for i in range(len(accuracy))]
    counts = pl.DataFrame(
        {"subject": names, "n_questions": questions, "n_correct": np.round(np.array(accuracy) * questions).astype(int)}
    )
    rows = [(s, k, float(v)) for k, layer in enumerate(entropy) for s, v in zip(names, layer, strict=True)]
    return counts, pl.DataFrame(rows, schema=["subject", "layer", "value"], orient="row")


def row(table, layer, statistic):
    return table.filter((pl.col("layer") == layer) & (pl.col("statistic") == statistic)).row(0, named=True)


@pytest.fixture(scope="module")
def example():
    rng = np.random.default_rng(0)
    accuracy = rng.uniform(0.2, 0.9, 40).round(2)
    entropy = np.stack([rng.normal(size=40), -accuracy + 0.1 * rng.normal(size=40), rng.normal(size=40)])
    return accuracy, entropy, relate_subjects(*tables(accuracy, entropy), **QUICK)


def test_wilson_intervals_agree_with_scipy():
    counts, _ = tables([0.0, 0.25, 1.0], np.zeros((1, 3)), questions=20)
    found = subject_accuracies(counts)
    for k, low, high in found.select("n_correct", "ci_low", "ci_high").iter_rows():
        expected = stats.binomtest(k, 20).proportion_ci(method="wilson")
        assert (low, high) == pytest.approx((expected.low, expected.high), abs=1e-12)


def test_values_are_those_of_scipy(example):
    accuracy, entropy, table = example
    assert table.schema == SUBJECT_RELATIONS
    for layer in range(3):
        expected = stats.spearmanr(accuracy, entropy[layer])
        assert row(table, layer, "spearman")["value"] == pytest.approx(expected.statistic)
        assert row(table, layer, "spearman")["p"] == pytest.approx(expected.pvalue, abs=0.06)
        expected = stats.pearsonr(accuracy, entropy[layer])
        assert row(table, layer, "pearson")["value"] == pytest.approx(expected.statistic)
        assert row(table, layer, "pearson")["p"] == pytest.approx(expected.pvalue, abs=0.06)


def test_the_layer_with_a_relation_is_found_after_adjustment(example):
    real = row(example[2], 1, "spearman")
    assert real["p"] == real["p_max"] == pytest.approx(1 / 1000)
    assert real["ci_low"] < real["value"] < real["ci_high"] < 0
    assert real["p_adjusted"] == pytest.approx(3 / 1000)
    assert row(example[2], 0, "spearman")["p_max"] > 0.05


def test_the_maximum_adjustment_costs_nothing_for_layers_that_repeat_each_other():
    rng = np.random.default_rng(1)
    accuracy, one = rng.uniform(0.2, 0.9, 20).round(2), rng.normal(size=20)
    table = relate_subjects(*tables(accuracy, np.tile(one, (5, 1))), **QUICK)
    assert table["p_max"].to_numpy() == pytest.approx(table["p"].to_numpy())


def test_family_wise_level_over_layers():
    rng = np.random.default_rng(0)
    rejected = 0
    for trial in range(100):
        drift = rng.normal(size=(8, 15)).cumsum(axis=0)
        table = relate_subjects(*tables(rng.uniform(0.2, 0.9, 15), drift), resamples=20, permutations=199, seed=trial)
        rejected += (table.filter(pl.col("statistic") == "pearson")["p_max"] <= 0.05).any()
    assert rejected <= 14


def test_reliability_of_a_model_that_guesses_and_of_one_that_knows():
    rng = np.random.default_rng(0)
    guessed = rng.binomial(100, 0.25, 57) / 100
    weak = relate_subjects(*tables(guessed, rng.normal(size=(1, 57)), 100), **QUICK)
    assert weak["reliability"][0] < 0.4
    knows = relate_subjects(*tables(rng.uniform(0.2, 0.9, 57).round(2), rng.normal(size=(1, 57)), 100), **QUICK)
    assert knows["reliability"][0] > 0.85
    flat = relate_subjects(*tables(np.tile([0.25, 0.26], 10), rng.normal(size=(1, 20)), 100), **QUICK)
    assert flat["reliability"][0] == 0
    assert "no more than chance" in flat["note"][0]


def test_reliability_matches_the_known_share():
    rng = np.random.default_rng(0)
    got = []
    for _ in range(40):
        truth = 0.5 + 0.1 * rng.normal(size=200)
        counts = rng.binomial(50, truth) / 50
        got.append(relate_subjects(*tables(counts, rng.normal(size=(1, 200)), 50), resamples=2, permutations=1))
    # Variance of the truth 0.01, of chance (0.25 - 0.01) / 50.
    assert np.mean([table["reliability"][0] for table in got]) == pytest.approx(0.01 / (0.01 + 0.0048), abs=0.03)


def test_fewer_than_five_subjects_are_refused():
    with pytest.raises(UserError, match="at least 5 subjects with accuracy and entropy, got 4"):
        relate_subjects(*tables([0.1, 0.2, 0.3, 0.4], np.zeros((1, 4))))
    counts, entropies = tables(np.linspace(0.1, 0.9, 8), np.zeros((1, 8)))
    with pytest.raises(UserError, match="got 3"):
        relate_subjects(counts, entropies.filter(pl.col("subject") < "s03"))


def test_subjects_without_an_entropy_at_a_layer_are_left_out_there():
    rng = np.random.default_rng(0)
    accuracy, entropy = rng.uniform(0.2, 0.9, 10).round(2), rng.normal(size=(2, 10))
    entropy[1, :3] = np.nan
    table = relate_subjects(*tables(accuracy, entropy), **QUICK)
    part = row(table, 1, "pearson")
    assert part["n_subjects"] == 7
    assert part["value"] == pytest.approx(stats.pearsonr(accuracy[3:], entropy[1, 3:]).statistic)
    assert "3 subjects without an entropy left out" in part["note"]
    entropy[1, :6] = np.nan
    few = row(relate_subjects(*tables(accuracy, entropy), **QUICK), 1, "pearson")
    assert np.isnan([few["value"], few["p"], few["p_max"]]).all()
    assert "4 subjects have an entropy" in few["note"]


def test_constants_have_no_correlation():
    rng = np.random.default_rng(0)
    table = relate_subjects(*tables(np.full(8, 0.5), rng.normal(size=(1, 8))), **QUICK)
    assert table["value"].is_nan().all()
    assert table["note"].str.contains("accuracy is the same for all subjects").all()
    table = relate_subjects(*tables(np.linspace(0.1, 0.9, 8), np.ones((1, 8))), **QUICK)
    assert table["note"].str.contains("entropy is the same for all subjects").all()


def test_bad_counts_are_refused():
    counts, entropies = tables(np.linspace(0.1, 0.9, 8), np.zeros((1, 8)))
    with pytest.raises(UserError, match="got 300 of 200 in 's02'"):
        subject_accuracies(counts.with_columns(n_correct=pl.when(pl.col("subject") == "s02").then(300).otherwise(1)))
    with pytest.raises(UserError, match="one row a subject"):
        subject_accuracies(pl.concat([counts, counts]))
    with pytest.raises(UserError, match="average over prompts first"):
        relate_subjects(counts, pl.concat([entropies, entropies]))


def with_lengths(accuracy, entropy, lengths, **options):
    counts, entropies = tables(accuracy, entropy)
    held = pl.DataFrame({"subject": counts["subject"], "value": lengths})
    return relate_subjects(counts, entropies, lengths=held, **QUICK | options)


def test_partial_is_the_closed_form_and_leaves_the_others_alone():
    rng = np.random.default_rng(0)
    accuracy, lengths = rng.uniform(0.2, 0.9, 30).round(2), rng.normal(size=30)
    entropy = (lengths + rng.normal(size=30))[None]
    table = with_lengths(accuracy, entropy, lengths)
    ab, ac, bc = (
        stats.spearmanr(x, y).statistic for x, y in ((entropy[0], accuracy), (entropy[0], lengths), (accuracy, lengths))
    )
    expected = (ab - ac * bc) / np.sqrt((1 - ac**2) * (1 - bc**2))
    found = row(table, 0, "partial")
    assert found["value"] == pytest.approx(expected)
    assert found["ci_low"] < expected < found["ci_high"]
    plain = relate_subjects(*tables(accuracy, entropy), **QUICK)
    assert table.filter(pl.col("statistic") != "partial").equals(plain)


def test_a_relation_that_is_only_length_goes_away():
    rng = np.random.default_rng(1)
    lengths = rng.normal(size=40)
    accuracy = np.clip(0.5 + 0.1 * lengths + 0.05 * rng.normal(size=40), 0, 1).round(2)
    table = with_lengths(accuracy, (lengths + 0.3 * rng.normal(size=40))[None], lengths)
    assert row(table, 0, "spearman")["p"] == pytest.approx(1 / 1000)
    assert row(table, 0, "partial")["p"] > 0.05


def test_level_of_partial_where_length_drives_both():
    rejected = 0
    rng = np.random.default_rng(2)
    for trial in range(100):
        lengths = rng.normal(size=20)
        accuracy = np.clip(0.5 + 0.1 * lengths + 0.1 * rng.normal(size=20), 0, 1).round(2)
        options = {"resamples": 10, "permutations": 199, "seed": trial}
        table = with_lengths(accuracy, (lengths + rng.normal(size=20))[None], lengths, **options)
        rejected += row(table, 0, "partial")["p"] <= 0.05
    assert rejected <= 12


def test_lengths_that_do_not_fit():
    accuracy = np.linspace(0.1, 0.9, 8)
    counts, entropies = tables(accuracy, np.random.default_rng(0).normal(size=(1, 8)))
    with pytest.raises(UserError, match="expected a length for every subject, got none for 's07'"):
        relate_subjects(counts, entropies, lengths=pl.DataFrame({"subject": counts["subject"][:7], "value": [1.0] * 7}))
    values = np.random.default_rng(0).normal(size=(1, 8))
    for lengths, reason in ((np.ones(8), "prompt length is the same"), (values[0], "entropy has the order of prompt")):
        found = row(with_lengths(accuracy, values, lengths), 0, "partial")
        assert np.isnan([found["value"], found["p"], found["p_max"]]).all()
        assert reason in found["note"]


def test_no_reliability_of_single_questions():
    counts, entropies = tables([0, 1, 0, 1, 0, 1], np.random.default_rng(0).normal(size=(1, 6)), questions=1)
    assert relate_subjects(counts, entropies, **QUICK)["reliability"].is_nan().all()
