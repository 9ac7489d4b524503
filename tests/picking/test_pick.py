"""pick and relate on folders: the layer, the words, and what is said where there is nothing to choose by."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
from tests.picking.folders import peaked_metrics, peaked_scores, write_metrics, write_scores
from tests.picking.tables import score_table

import layerscope as ls
from layerscope.errors import UserError


@pytest.fixture
def both(tmp_path):
    return write_scores(write_metrics(tmp_path / "both", peaked_metrics()), peaked_scores())


def test_by_scores(both):
    picked = ls.pick(both)
    assert (picked.by, picked.model, picked.layer) == ("scores", "m", 2)
    assert picked.answer.startswith(
        "Use layer 2: it has the highest average of 6 tasks, and at 95 % no other layer is better. It scores 0.9"
    )
    assert "6 tasks tell layer 2 from every other layer" in picked.notes
    assert "the last layer (11) 0.1" in picked.answer
    assert "the layer chosen in this way on the others scores 0.9" in picked.answer
    assert picked.selection.indistinguishable == (2,)
    assert picked.table1["best_not_last"].to_list() == [6]
    rule = picked.rules.filter(pl.col("rule") == "min dime").row(0, named=True)
    assert (rule["layer"], rule["verdict"]) == (2, "better than the middle layer")


def test_by_metrics_with_scores_names_the_rule_that_was_shown_to_be_better(both):
    picked = ls.pick(both, by="metrics")
    assert picked.layer == 2
    assert picked.answer.startswith("Use layer 2, the choice of min dime: it scores 0.60")
    assert "2 of 4 rules are shown to beat it" in picked.answer


def test_by_metrics_where_no_rule_is_better(tmp_path):
    middle = [0.9 if k == 6 else 0.5 + 0.01 * k for k in range(12)]
    scores = score_table([[v + 0.001 * ((t + k) % 3) for k, v in enumerate(middle)] for t in range(6)])
    folder = write_scores(write_metrics(tmp_path, peaked_metrics()), scores)
    picked = ls.pick(folder, by="metrics")
    assert picked.layer == 6
    assert "the middle one: no rule is shown to beat it" in picked.answer
    assert set(picked.rules["verdict"].drop_nulls()) == {"worse than the middle layer"}


def test_without_scores_the_middle_and_every_rule(tmp_path):
    picked = ls.pick(write_metrics(tmp_path, peaked_metrics()))
    assert (picked.by, picked.layer, picked.selection) == ("metrics", 6, None)
    assert "as long as there are no scores" in picked.answer
    assert "the rules choose layers 0, 2" in picked.answer
    assert picked.rules.filter(pl.col("rule") == "last")["layer"].to_list() == [11]
    assert picked.table1.is_empty()


def test_scores_alone_say_how_to_get_rules(tmp_path):
    picked = ls.pick(write_scores(tmp_path, peaked_scores()))
    assert picked.layer == 2
    assert picked.rules.is_empty()
    assert any("`layerscope measure MODEL" in note for note in picked.notes)


def test_by_what_is_not_there(tmp_path):
    metrics, scores = (
        write_metrics(tmp_path / "a", peaked_metrics()),
        write_scores(tmp_path / "b", peaked_scores()),
    )
    with pytest.raises(UserError, match="holds no scores"):
        ls.pick(metrics, by="scores")
    with pytest.raises(UserError, match="holds no metrics"):
        ls.pick(scores, by="metrics")
    with pytest.raises(UserError, match="by: Input should be 'scores' or 'metrics', got 'score'"):
        ls.pick(scores, by="score")


def test_one_task(tmp_path):
    picked = ls.pick(write_scores(tmp_path, peaked_scores(1)))
    assert picked.layer == 2
    assert picked.answer.startswith("Use layer 2: it has the highest score of task0. What may be lost is not known")
    assert "left out" not in picked.answer


def test_one_layer(tmp_path):
    picked = ls.pick(write_scores(tmp_path, peaked_scores().filter(pl.col("layer") == 3)))
    assert picked.layer == 3
    assert "it is the only one with scores" in picked.answer


def test_scores_that_are_all_nan(tmp_path):
    picked = ls.pick(write_scores(tmp_path, score_table([[math.nan] * 3], note="no data offline")))
    assert picked.layer is None
    assert picked.answer == "No layer can be chosen: no task has a score."
    assert "task0 left out: no data offline" in picked.notes


def test_the_answer_says_what_may_be_lost_where_nothing_is_shown(tmp_path):
    rng = np.random.default_rng(1)
    values = 0.5 + 0.02 * np.arange(4) + 0.05 * rng.normal(size=(5, 4))
    picked = ls.pick(write_scores(tmp_path, score_table(values)))
    best = int(values.mean(axis=0).argmax())
    lost = picked.selection.most_lost
    assert picked.layer == best
    assert (
        f"Use layer {best}: it has the highest average of 5 tasks, and neither it nor an earlier layer is shown to lose at "
        f"most 0.01 against the best. At 95 % it may lose up to {lost:.3f} against the layer that is best for tasks like "
        "these."
    ) in picked.answer


def test_the_answer_says_when_the_best_observed_is_itself_shown_to_be_within_the_margin(tmp_path):
    rng = np.random.default_rng(0)
    values = np.array([0.4, 0.5, 0.5]) + 0.005 * rng.normal(size=(8, 3))
    picked = ls.pick(write_scores(tmp_path, score_table(values)))
    assert picked.layer == picked.selection.best
    lost = picked.selection.most_lost
    assert (
        f"shown to lose at most 0.01 against the best (at most {lost:.3f} at 95 %); no earlier layer is."
        in picked.answer
    )


def test_the_answer_names_the_margin_where_an_earlier_layer_is_shown_to_be_within_it(tmp_path):
    picked = ls.pick(write_scores(tmp_path, peaked_scores()), margin=0.5)
    assert picked.layer == 1
    assert picked.answer.startswith(
        "Use layer 1: the earliest that 6 tasks show to lose at most 0.5 against the best (at"
    )
    assert "The highest average is at layer 2." in picked.answer


def test_by_metrics_says_what_the_scores_say(both):
    middle = ls.pick(both, by="metrics", margin=0.5)
    assert middle.layer == 2
    assert "by its scores the layer to use is 1 (`layerscope pick --by scores`)" in middle.notes


def test_a_margin_below_nothing_is_refused(both):
    with pytest.raises(UserError, match=r"margin: Input should be greater than or equal to 0, got -0\.1"):
        ls.pick(both, margin=-0.1)


def test_of_several_states_the_one_whose_choice_is_worth_most(tmp_path):
    low = peaked_scores(readout="raw").with_columns(pl.col("score") - 0.2)
    picked = ls.pick(write_scores(tmp_path, pl.concat([low, peaked_scores()])))
    assert picked.selection.readout == "normed"
    assert [one.readout for one in picked.selections] == ["raw", "normed"]
    assert any("normed/all/mean 0.9" in note and "raw/all/mean 0.7" in note for note in picked.notes)
    assert len(picked.table1) == 2


def test_states_that_were_not_scored_on_the_same_tasks_cannot_be_compared(tmp_path):
    picked = ls.pick(write_scores(tmp_path, pl.concat([peaked_scores(5, readout="raw"), peaked_scores(6)])))
    assert any("they are not of the same tasks, so which is worth most is not known" in note for note in picked.notes)


def test_scores_of_another_model_score_no_rule(tmp_path):
    metrics = write_metrics(tmp_path / "a", peaked_metrics())
    scores = write_scores(tmp_path / "b", peaked_scores(model="other", revision="s"))
    picked = ls.pick(metrics, scores=scores, by="metrics")
    assert picked.layer == 6
    assert any("of another model than the metrics" in note for note in picked.notes)


def test_the_same_weights_under_two_names_are_one_model(tmp_path):
    weights = pl.lit("sha256:0123")
    metrics = write_metrics(tmp_path / "a", peaked_metrics().with_columns(revision=weights))
    scores = write_scores(tmp_path / "b", peaked_scores(model="org/m").with_columns(revision=weights))
    assert ls.pick(metrics, scores=scores, by="metrics").layer == 2
    assert ls.relate(metrics, scores=scores)["n_tasks"].max() == 6


def test_relate_leaves_readings_about_other_metrics_out(both):
    assert set(ls.relate(both)["metric"]) == {"dime", "prompt_entropy"}
    assert set(ls.relate(both, metrics=["infonce_chance"])["metric"]) == {"infonce_chance"}
    with pytest.raises(UserError, match=r"metric 'entropy' is not in .*: it has dime, infonce_chance, prompt_entropy"):
        ls.relate(both, metrics=["entropy"])


def test_relate_needs_both(tmp_path):
    metrics = write_metrics(tmp_path / "a", peaked_metrics())
    scores = write_scores(tmp_path / "b", peaked_scores(model="other", revision="s"))
    with pytest.raises(UserError, match="holds no scores"):
        ls.relate(metrics)
    with pytest.raises(UserError, match="holds no metrics"):
        ls.relate(scores)
    with pytest.raises(UserError, match=r"metrics are of m \(r\), scores of other \(s\)"):
        ls.relate(metrics, scores=scores)
