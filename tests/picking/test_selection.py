"""Selections: the set, the recommendation, the estimate on left-out tasks, and what cannot be told."""

import numpy as np
import polars as pl
import pytest
from tests.picking.tables import drawn, score_table

from layerscope.picking.selection import select_layer

HUMP = 0.6 - 1.2 * (np.linspace(0, 1, 13) - 0.4) ** 2


def noisy(tasks, seed=0, noise=0.02, truth=HUMP):
    rng = np.random.default_rng(seed)
    return truth + noise * rng.normal(size=(tasks, len(truth))) + 0.2 * rng.normal(size=(tasks, 1))


def select_layers(table, margin=0.01, **how):
    return [select_layer(one, margin) for one in drawn(table, **how)]


def choice(selection, name):
    return selection.choices.row(by_predicate=pl.col("choice") == name, named=True)


def test_the_recommendation_is_the_earliest_layer_shown_to_lose_at_most_the_margin():
    (selection,) = select_layers(score_table(noisy(30)), margin=0.05, resamples=500)
    lost = dict(selection.layers.select("layer", "most_lost").iter_rows())
    shown = [layer for layer, most in lost.items() if most <= 0.05]
    assert selection.recommended == min(shown) < selection.best
    assert selection.shown
    assert selection.most_lost == lost[selection.recommended] <= 0.05
    assert min(selection.indistinguishable) <= selection.best


def test_where_nothing_is_shown_it_is_the_best_observed_and_says_what_may_be_lost():
    (selection,) = select_layers(score_table(noisy(5)), margin=0.001, resamples=500)
    assert selection.recommended == selection.best
    assert not selection.shown
    lost = dict(selection.layers.select("layer", "most_lost").iter_rows())
    assert selection.most_lost == lost[selection.best] > 0.001


def test_a_layer_that_is_only_not_told_from_the_best_is_not_recommended():
    """Layer 0 may be the best for all that five tasks say, and is seen to lose .06: it is no layer to use."""
    rng = np.random.default_rng(5)
    values = np.array([0.50, 0.53, 0.56]) + 0.05 * rng.normal(size=(5, 3))
    (selection,) = select_layers(score_table(values), resamples=500)
    assert selection.indistinguishable[0] == 0
    assert selection.recommended == selection.best == values.mean(axis=0).argmax()
    assert any("no evidence that they are as good" in note for note in selection.notes)


def test_one_task_of_ones_own_is_not_answered_with_a_layer_that_its_interval_shows_to_be_worse():
    rng = np.random.default_rng(2)
    truth = np.array([0.764, 0.77, 0.78, 0.785, 0.785, 0.79, 0.79, 0.793, 0.78])
    single = truth + 0.02 * rng.normal(size=(10, 9))
    table = score_table([single.mean(axis=0)], experiments={"task0": single})
    (selection,) = select_layers(table, resamples=500)
    behind = selection.layers.row(0, named=True)
    assert behind["behind_best_ci_low"] > 0
    assert selection.recommended == selection.best


def test_a_margin_of_everything_takes_the_first_layer_and_of_nothing_the_best():
    table = score_table(noisy(5))
    assert select_layers(table, margin=10, resamples=200)[0].recommended == 0
    (exact,) = select_layers(table, margin=0, resamples=200)
    assert exact.recommended == exact.best


@pytest.mark.parametrize("tasks", [2, 5, 12])
def test_what_is_said_to_be_shown_is_false_in_few_draws_though_the_earliest_of_many_is_taken(tasks):
    # Every layer before the last loses a little more than the margin: the hardest case for "the earliest that is shown".
    truth = np.append(np.full(12, -0.0102), 0.0)
    rng = np.random.default_rng(7)
    wrong = 0
    for trial in range(100):
        walk = rng.normal(size=(tasks, 13))
        for k in range(1, 13):
            walk[:, k] = 0.9 * walk[:, k - 1] + 0.44 * walk[:, k]
        (selection,) = select_layers(score_table(truth + 0.03 * walk), resamples=60, seed=trial)
        wrong += selection.recommended < selection.best
    # 5 % nominal; above 12 of 100 draws would be a z of 3.
    assert wrong <= 12


def test_the_layer_table_agrees_with_the_scores():
    values = noisy(8)
    (selection,) = select_layers(score_table(values), resamples=500)
    table = selection.layers
    assert table["average"].to_numpy() == pytest.approx(values.mean(axis=0))
    assert table.filter(pl.col("in_set"))["layer"].to_list() == list(selection.indistinguishable)
    assert (table["behind_best"] >= 0).all()
    best = table.filter(pl.col("layer") == selection.best)
    assert best["behind_best_ci_high"].item() == 0
    assert (table["ci_low"] <= table["average"]).all()
    assert table["depth"].to_list() == pytest.approx(np.arange(13) / 12)


def test_left_out_tasks_are_scored_at_the_layer_chosen_on_the_others():
    values = noisy(6, noise=0.2)
    (selection,) = select_layers(score_table(values), resamples=300)
    expected = np.mean([values[t, np.delete(values, t, axis=0).mean(axis=0).argmax()] for t in range(6)])
    left_out = choice(selection, "best, left-out task")
    assert left_out["average"] == pytest.approx(expected)
    assert left_out["average"] <= choice(selection, "best")["average"]
    assert choice(selection, "best")["average"] <= choice(selection, "oracle")["average"]
    assert left_out["minus_oracle"] == pytest.approx(expected - values.max(axis=1).mean())
    assert left_out["minus_last"] == pytest.approx(expected - values[:, -1].mean())
    assert "layers chosen" in left_out["note"]


def test_left_out_estimate_is_honest_where_no_layer_is_better():
    """Chosen and scored on the same tasks, noise looks like a gain; on left-out tasks it does not."""
    rng = np.random.default_rng(0)
    same, left_out = [], []
    for _ in range(60):
        (selection,) = select_layers(score_table(rng.normal(size=(5, 8))), resamples=60)
        same.append(choice(selection, "best")["average"])
        left_out.append(choice(selection, "best, left-out task")["average"])
    error = np.std(left_out) / np.sqrt(60)
    assert np.mean(same) > 0.3
    assert abs(np.mean(left_out)) < 4 * error


def test_last_middle_and_random_are_baselines():
    values = noisy(5)
    (selection,) = select_layers(score_table(values), resamples=300)
    assert choice(selection, "last")["average"] == pytest.approx(values[:, 12].mean())
    assert choice(selection, "last")["minus_last"] == 0
    assert choice(selection, "middle")["layer"] == 6
    assert choice(selection, "random")["average"] == pytest.approx(values.mean())


def test_readouts_are_chosen_apart():
    rising = np.tile(np.linspace(0, 1, 6), (6, 1)) + 0.01 * np.random.default_rng(0).normal(size=(6, 6))
    table = pl.concat([score_table(rising, readout="raw"), score_table(rising[:, ::-1], readout="normed")])
    assert [(s.readout, s.recommended) for s in select_layers(table, resamples=300)] == [
        ("raw", 5),
        ("normed", 0),
    ]


def test_one_task_without_experiments_says_what_it_cannot_tell():
    (selection,) = select_layers(score_table([[0.1, 0.5, 0.3]]))
    assert (selection.best, selection.recommended, selection.indistinguishable) == (1, 1, ())
    text = " ".join(selection.notes)
    assert "task0 alone" in text
    assert "unknown" in text
    assert selection.layers["in_set"].null_count() == 3
    assert np.isnan(choice(selection, "best, left-out task")["average"])
    assert "no other to choose on" in choice(selection, "best, left-out task")["note"]


def test_one_task_with_experiments_is_told_by_them():
    rng = np.random.default_rng(0)
    single = HUMP + 0.01 * rng.normal(size=(10, 13))
    (selection,) = select_layers(score_table([single.mean(axis=0)], experiments={"task0": single}), resamples=500)
    assert selection.indistinguishable
    assert {0, 12}.isdisjoint(selection.indistinguishable)
    assert "task0 alone" in selection.notes[0]


def test_few_tasks_recommend_the_best_observed_not_the_cheapest():
    (selection,) = select_layers(score_table(noisy(2, noise=0.1)), resamples=300)
    assert selection.recommended == selection.best
    assert "2 tasks cannot tell" in selection.notes[0]


def test_the_oracle_reads_every_task_at_its_own_layers():
    values = noisy(4)
    values[1, 3] = 2.0
    table = score_table(values).filter((pl.col("task") != "task0") | (pl.col("layer") != 3))
    (selection,) = select_layers(table, resamples=100)
    expected = (np.delete(values[0], 3).max() + values[1:].max(axis=1).sum()) / 4
    assert choice(selection, "oracle")["average"] == pytest.approx(expected)
    assert choice(selection, "best")["minus_oracle"] == pytest.approx(choice(selection, "best")["average"] - expected)
    assert any("1 of 4 tasks are best at another" in note for note in selection.notes)


def test_one_layer_leaves_nothing_to_choose():
    (selection,) = select_layers(score_table(np.ones((5, 1)) * 0.5))
    assert selection.recommended == 0
    assert any("nothing to choose between" in note for note in selection.notes)


def test_tasks_that_cannot_tell_any_layer_say_so():
    rng = np.random.default_rng(3)
    (selection,) = select_layers(score_table(rng.normal(size=(5, 4))), resamples=500)
    assert len(selection.indistinguishable) == 4
    assert selection.notes[0].startswith("5 tasks cannot tell any layer from the best")


def test_no_scores_at_all():
    (selection,) = select_layers(score_table([[np.nan, np.nan]], note="no data"))
    assert (selection.best, selection.recommended) == (None, None)
    assert selection.layers.is_empty()
    assert selection.notes == ("task0 left out: no data", "nothing can be chosen: no task has a score")


def test_no_layer_that_all_tasks_have():
    table = score_table([[1, 2], [3, 4]]).filter((pl.col("task") == "task0") == (pl.col("layer") == 0))
    (selection,) = select_layers(table)
    assert selection.recommended is None
    assert "no layer that all tasks have" in selection.notes[-1]


def test_without_the_last_layer_there_is_no_comparison_with_it():
    table = score_table(noisy(5)).filter((pl.col("task") != "task1") | (pl.col("layer") != 12))
    (selection,) = select_layers(table, resamples=300)
    assert np.isnan(choice(selection, "last")["average"])
    assert "not every task has a score at layer 12" in choice(selection, "last")["note"]
    assert np.isnan(choice(selection, "best")["minus_last"])
    assert "layer 12 left out for all tasks: task1" in selection.notes[0]


def test_equal_seeds_give_equal_results():
    first, second = (select_layers(score_table(noisy(6)), resamples=200, seed=4)[0] for _ in range(2))
    assert first.layers.equals(second.layers)
    assert first.choices.equals(second.choices)


def test_a_layer_without_scores_is_not_said_to_be_worse():
    table = score_table(noisy(30, noise=0.001, truth=np.array([0.2, 0.3, 0.8, 0.4, 0.1]))).filter(pl.col("layer") != 3)
    (selection,) = select_layers(table, resamples=200)
    answer = selection.answer
    assert "the highest average of 30 tasks among the 4 of 5 layers compared, and at 95 % no other of them is" in answer
    assert "30 tasks tell layer 2 from every other of the 4 layers compared" in selection.notes
    earlier = select_layers(table, margin=0.55, resamples=200)[0].answer
    assert "The highest average is at layer 2; 4 of 5 layers are compared." in earlier
