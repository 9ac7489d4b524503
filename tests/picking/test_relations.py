"""Relations: agreement with SciPy, what each p-value answers, and what is said where there is no answer."""

import numpy as np
import polars as pl
import pytest
from scipy import stats
from tests.picking.tables import metric_table, score_table, smooth

from layerscope.errors import UserError
from layerscope.picking.relations import AVERAGE, RELATIONS, all_signs, relate_curves
from layerscope.picking.scores import read_scores
from layerscope.statistics.intervals import benjamini_hochberg

LAYERS = 25


def relate(layers, scores, **how):
    return relate_curves(layers, read_scores(scores), **how)


@pytest.fixture(scope="module")
def related():
    rng = np.random.default_rng(0)
    curve = smooth(rng, 1, LAYERS)[0]
    scores = -curve + 0.6 * smooth(rng, 6, LAYERS, 0.5)
    layers = pl.concat([metric_table(curve), metric_table(smooth(rng, 1, LAYERS)[0], metric="curvature")])
    return curve, scores, relate(layers, score_table(scores), resamples=300)


def pick_row(table, **key):
    rows = table.filter(*(pl.col(name) == wanted for name, wanted in key.items()))
    assert len(rows) == 1
    return rows.row(0, named=True)


def test_one_row_per_curve_task_and_statistic(related):
    _, _, table = related
    assert table.schema == RELATIONS
    assert len(table) == 2 * 7 * 3
    assert set(table["task"]) == {f"task{t}" for t in range(6)} | {AVERAGE}


def test_values_are_those_of_scipy(related):
    curve, scores, table = related
    row = pick_row(table, metric="prompt_entropy", task="task2", statistic="spearman")
    assert row["value"] == pytest.approx(stats.spearmanr(curve, scores[2]).statistic)
    row = pick_row(table, metric="prompt_entropy", task=AVERAGE, statistic="kendall")
    assert row["value"] == pytest.approx(stats.kendalltau(curve, scores.mean(axis=0)).statistic)


def test_a_relation_that_is_there_is_found_and_one_that_is_not_is_not(related):
    _, _, table = related
    row = pick_row(table, metric="prompt_entropy", task=AVERAGE, statistic="spearman")
    assert row["p_shift"] == pytest.approx(1 / (2 * LAYERS))
    assert row["p_task"] == pytest.approx(2 / 2**6)
    assert row["ci_low"] < row["value"] < row["ci_high"] < 0
    other = pick_row(table, metric="curvature", task=AVERAGE, statistic="spearman")
    assert other["p_shift"] > 0.05


def test_both_p_values_are_adjusted_over_the_table(related):
    _, _, table = related
    assert table["p_shift_adjusted"].to_numpy() == pytest.approx(benjamini_hochberg(table["p_shift"].to_numpy()))
    average = table.filter(pl.col("task") == AVERAGE)
    assert average["p_task_adjusted"].to_numpy() == pytest.approx(benjamini_hochberg(average["p_task"].to_numpy()))
    assert table.filter(pl.col("task") != AVERAGE)["p_task"].null_count() == 36


def test_no_p_value_takes_layers_for_independent(related):
    _, _, table = related
    assert [name for name in table.columns if name.startswith("p_")] == [
        "p_shift",
        "p_shift_adjusted",
        "p_task",
        "p_task_adjusted",
    ]


def test_p_task_agrees_when_tasks_share_a_shape_though_the_metric_is_unrelated():
    """Why p_task alone is no evidence: it is small for nearly every metric as soon as the tasks share one shape."""
    rng = np.random.default_rng(5)
    scores = smooth(rng, 1, LAYERS) + 0.3 * rng.normal(size=(8, LAYERS))
    layers = pl.concat([metric_table(c, metric=f"noise{i}") for i, c in enumerate(smooth(rng, 20, LAYERS))])
    average = relate(layers, score_table(scores), resamples=100).filter(
        (pl.col("task") == AVERAGE) & (pl.col("statistic") == "spearman")
    )
    assert (average["p_task"] < 0.05).mean() > 0.5
    assert (average["p_shift"] < 0.05).mean() < 0.2


def test_few_tasks_have_no_task_level_answer():
    rng = np.random.default_rng(0)
    table = relate(metric_table(smooth(rng, 1, 12)[0]), score_table(smooth(rng, 3, 12)))
    row = pick_row(table, task=AVERAGE, statistic="spearman")
    assert np.isnan([row["p_task"], row["ci_low"], row["p_task_adjusted"]]).all()
    assert "3 tasks, at least 5 are needed" in row["note"]
    assert np.isfinite(row["p_shift"])


def test_few_layers_say_which_p_can_be_reached_or_refuse():
    rng = np.random.default_rng(0)
    seven = relate(metric_table(smooth(rng, 1, 7)[0]), score_table(smooth(rng, 5, 7)))
    assert seven["note"].str.contains("with 7 layers p_shift cannot be below 0.071").all()
    assert seven.filter(pl.col("task") == AVERAGE)["note"].str.contains("p_task cannot be below 0.0625").all()
    three = relate(metric_table([1, 2, 3]), score_table([[1, 2, 3]]))
    assert three["value"].is_nan().all()
    assert three["note"].str.contains("3 layers have the metric and all scores, at least 5").all()


def test_constant_curves_have_no_value_and_say_which():
    rng = np.random.default_rng(0)
    scores = np.vstack([smooth(rng, 5, 12), np.full((1, 12), 0.5)])
    layers = pl.concat([metric_table(np.ones(12), metric="infonce_chance"), metric_table(smooth(rng, 1, 12)[0])])
    table = relate(layers, score_table(scores))
    flat = table.filter(pl.col("metric") == "infonce_chance")
    assert flat["value"].is_nan().all()
    assert flat["note"].str.contains("the metric is the same at every layer").all()
    row = pick_row(table, metric="prompt_entropy", task="task5", statistic="dcor")
    assert np.isnan(row["value"])
    assert "the score is the same at every layer" in row["note"]
    assert "no p_task" in pick_row(table, metric="prompt_entropy", task=AVERAGE, statistic="dcor")["note"]


def test_layers_without_the_metric_are_left_out_and_named():
    rng = np.random.default_rng(0)
    curve = smooth(rng, 1, 12)[0]
    curve[0] = np.nan
    scores = smooth(rng, 1, 12)
    row = pick_row(relate(metric_table(curve), score_table(scores)), task="task0", statistic="spearman")
    assert row["n_layers"] == 11
    assert row["value"] == pytest.approx(stats.spearmanr(curve[1:], scores[0, 1:]).statistic)
    assert "no value at layers 0" in row["note"]


def test_a_task_with_experiments_has_an_interval():
    rng = np.random.default_rng(0)
    curve = smooth(rng, 1, 15)[0]
    single = curve + rng.normal(size=(10, 15))
    scores = score_table([single.mean(axis=0)], experiments={"task0": single})
    row = pick_row(relate(metric_table(curve), scores), task="task0", statistic="spearman")
    assert -1 <= row["ci_low"] < row["ci_high"] <= 1
    assert "no interval" not in row["note"]


def test_readouts_of_metric_and_score_are_both_named():
    rng = np.random.default_rng(0)
    curve = smooth(rng, 1, 8)[0]
    layers = pl.concat([metric_table(curve, readout=r, alpha=1.0) for r in ("raw", "hf")])
    scores = pl.concat([score_table(smooth(rng, 2, 8), readout=r) for r in ("raw", "normed")])
    table = relate(layers, scores)
    pairs = set(table.select("readout", "score_readout").iter_rows())
    assert pairs == {("raw", "raw"), ("raw", "normed"), ("hf", "raw"), ("hf", "normed")}


def test_metrics_and_scores_of_different_models_are_refused():
    with pytest.raises(UserError, match=r"metrics are of a \(r\), scores of m \(r\)"):
        relate(metric_table(np.arange(9), model="a"), score_table([np.arange(9)]))


def test_a_run_whose_tasks_all_failed_is_not_a_crash():
    table = relate(metric_table(np.arange(9)), score_table([[np.nan] * 9], note="no data"))
    assert table["value"].is_nan().all()
    assert table["note"].str.contains("no task has a score").all()


def test_sign_patterns():
    signs = all_signs(3, 0)
    assert len(np.unique(signs, axis=0)) == 8
    assert (signs[0] == 1).all()
    many = all_signs(20, 0, most=50)
    assert many.shape == (51, 20)
    assert np.array_equal(many, all_signs(20, 0, most=50))


def test_a_single_task_is_related_over_all_layers_that_it_has_itself():
    rng = np.random.default_rng(3)
    curve = smooth(rng, 1, LAYERS)[0]
    values = smooth(rng, 6, LAYERS)
    lacking = (pl.col("task") == "task1") & (pl.col("layer") < 4)
    table = relate(metric_table(curve), score_table(values).filter(~lacking), resamples=100)
    assert len(table) == 7 * 3
    rows = {row["task"]: row for row in table.filter(pl.col("statistic") == "spearman").iter_rows(named=True)}
    assert rows["task0"]["n_layers"] == LAYERS
    assert rows["task0"]["value"] == pytest.approx(stats.spearmanr(curve, values[0]).statistic)
    assert rows["task1"]["n_layers"] == rows[AVERAGE]["n_layers"] == LAYERS - 4
    assert rows["task1"]["value"] == pytest.approx(stats.spearmanr(curve[4:], values[1, 4:]).statistic)
    assert rows[AVERAGE]["value"] == pytest.approx(stats.spearmanr(curve[4:], values[:, 4:].mean(axis=0)).statistic)
