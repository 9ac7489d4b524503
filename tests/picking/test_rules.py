"""Rules without labels: what they choose, what that would have scored, and the verdict against the middle layer."""

import numpy as np
import polars as pl
import pytest
from tests.picking.tables import drawn, metric_table, score_table

from layerscope.metrics.catalogue import METRICS
from layerscope.picking.answers import answer_by_metrics
from layerscope.picking.rules import RULE_TABLE, RULES, apply_rules

PEAK = np.array([0.1, 0.9, 0.6, 0.5, 0.4, 0.3, 0.2])


def rule(table, name, **more):
    rows = table.filter(pl.col("rule") == name, *(pl.col(k) == v for k, v in more.items()))
    assert len(rows) == 1
    return rows.row(0, named=True)


def noisy(tasks):
    return PEAK + 0.01 * np.random.default_rng(0).normal(size=(tasks, 7))


def metrics():
    return pl.concat([metric_table(-PEAK, metric="dime", alpha=1.0), metric_table(PEAK, metric="infonce")])


def test_each_rule_takes_its_end_of_the_curve():
    table = apply_rules(metrics())
    assert table.schema == RULE_TABLE
    assert rule(table, "min dime")["layer"] == 1
    assert rule(table, "max dime")["layer"] == 0
    assert rule(table, "min infonce")["layer"] == 0
    assert rule(table, "last")["layer"] == 6
    assert rule(table, "middle")["layer"] == 3
    assert set(table["rule"]) == {"last", "middle", "random", *RULES}


def test_every_rule_reads_a_metric_that_can_be_measured():
    assert all(one.variant in METRICS[one.metric].variants for one in RULES.values())


def test_without_scores_there_is_a_choice_but_no_verdict():
    row = rule(apply_rules(metrics()), "min dime")
    assert row["average"] is None
    assert row["verdict"] is None
    assert row["note"] == "no scores"


def test_a_metric_that_was_not_measured_is_said():
    assert "not measured" in rule(apply_rules(metrics(), drawn(score_table(noisy(6)))), "max lidar")["note"]


def test_what_a_choice_would_have_scored():
    values = noisy(6)
    table = apply_rules(metrics(), drawn(score_table(values), 300))
    row = rule(table, "min dime")
    assert row["average"] == pytest.approx(values[:, 1].mean())
    assert row["minus_middle"] == pytest.approx((values[:, 1] - values[:, 3]).mean())
    assert row["ci_low"] < row["average"] < row["ci_high"]
    assert rule(table, "random")["average"] == pytest.approx(values.mean())


def test_verdicts():
    table = apply_rules(metrics(), drawn(score_table(noisy(6)), 300))
    assert rule(table, "min dime")["verdict"] == "better than the middle layer"
    assert rule(table, "min infonce")["verdict"] == "worse than the middle layer"
    assert rule(table, "middle")["verdict"] is None
    few = apply_rules(metrics(), drawn(score_table(noisy(3)), 300))
    assert rule(few, "min dime")["verdict"] == "cannot be told (3 tasks)"
    assert (
        rule(apply_rules(metrics(), drawn(score_table(noisy(1)))), "min dime")["verdict"] == "cannot be told (1 task)"
    )


def test_a_rule_that_chooses_the_middle_is_not_better():
    middle = np.where(np.arange(7) == 3, 0.0, 1.0)
    table = apply_rules(metric_table(middle, metric="curvature"), drawn(score_table(noisy(6))))
    row = rule(table, "min curvature")
    assert (row["layer"], row["minus_middle"], row["verdict"]) == (3, 0.0, "not better")


def test_noise_is_seldom_called_better():
    rng = np.random.default_rng(0)
    called = 0
    for trial in range(60):
        layers = pl.concat([metric_table(rng.normal(size=9), metric=RULES[name].metric) for name in list(RULES)[:7:2]])
        table = apply_rules(layers, drawn(score_table(rng.normal(size=(8, 9))), 100, trial))
        called += (table["verdict"] == "better than the middle layer").sum() > 0
    # One-sided 2.5 % for the whole family of a table; 9 of 60 would be a z over 6.
    assert called <= 6


def test_readouts_of_the_metric_are_rows_of_their_own():
    layers = pl.concat([metric_table(PEAK, metric="curvature", readout=r) for r in ("raw", "hf")])
    table = apply_rules(layers, drawn(score_table(noisy(5)), 100))
    assert rule(table, "min curvature", metric_readout="hf")["layer"] == 0
    assert table.filter(pl.col("rule") == "min curvature").height == 2


def test_only_alpha_one_without_normalisation_counts():
    layers = pl.concat(
        [
            metric_table(-PEAK, metric="dataset_entropy", alpha=2.0, normalization="none"),
            metric_table(-PEAK, metric="dataset_entropy", alpha=1.0, normalization="max"),
            metric_table(PEAK, metric="dataset_entropy", alpha=1.0, normalization="none"),
        ]
    )
    assert rule(apply_rules(layers), "min dataset_entropy")["layer"] == 0


def test_values_that_are_missing_are_not_chosen():
    curve = np.where(np.arange(7) == 0, np.nan, PEAK)
    assert rule(apply_rules(metric_table(curve, metric="infonce")), "min infonce")["layer"] == 6
    nothing = metric_table(np.full(7, np.nan), metric="infonce", note="one prompt")
    assert rule(apply_rules(nothing), "min infonce")["note"] == "no layer has a value: one prompt; no scores"


def test_a_chosen_layer_without_scores_is_said():
    table = score_table(noisy(5)).filter((pl.col("task") != "task0") | (pl.col("layer") != 1))
    row = rule(apply_rules(metrics(), drawn(table, 100)), "min dime")
    assert np.isnan(row["average"])
    assert "not every task has one at layer 1" in row["note"]
    assert row["verdict"] == "cannot be told (5 tasks)"


def test_runs_of_several_models_get_their_own_scores():
    layers = pl.concat([metrics(), metrics().with_columns(model=pl.lit("other"))])
    table = apply_rules(layers, drawn(score_table(noisy(5)), 100))
    assert rule(table, "min dime", model="m")["average"] is not None
    assert rule(table, "min dime", model="other")["note"] == "no scores"


def test_tasks_that_all_failed():
    row = rule(apply_rules(metrics(), drawn(score_table([[np.nan] * 7], note="failed"))), "min dime")
    assert "no score" in row["note"]
    assert row["verdict"] == "cannot be told (0 tasks)"


def test_where_the_middle_layer_has_no_score_no_rule_is_said_not_to_beat_it():
    scores = score_table(noisy(6)).filter(pl.col("layer") != 3)
    table = apply_rules(
        metric_table(np.where(np.arange(7) == 3, -1.0, 0.0), metric="dime", alpha=1.0), drawn(scores, 300)
    )
    assert rule(table, "min dime")["layer"] == 3
    assert rule(table, "min dime")["verdict"] == "cannot be told (6 tasks)"
    layer, answer = answer_by_metrics(table)
    assert layer == 3
    assert "as long as it has no scores itself. It is a guess" in answer
