"""The scores' part of the page says what pick.json says."""

from __future__ import annotations

import polars as pl
from tests.picking.folders import peaked_scores, write_scores

import layerscope as ls
from layerscope.report.scores import pick_runs


def scored(run):
    (one,) = pick_runs([run], ["run"], "layer")
    return one


def charts(one):
    return one.charts("scores", (0.0, 11.0))


def marks(one):
    return [mark for chart in charts(one) for _, mark in chart.marks]


def test_the_layer_is_the_one_that_was_picked(make_run):
    run = make_run()
    write_scores(run.path, peaked_scores())
    picked = ls.pick(run.path, margin=0.5, seed=7)
    assert scored(run).pick.answer == picked.answer
    assert marks(scored(run)) == ["layer 1"]


def test_what_was_picked_is_all_that_the_page_needs(make_run, monkeypatch):
    run = make_run()
    write_scores(run.path, peaked_scores())
    ls.pick(run.path)

    def refuse(*_):
        raise AssertionError("the scores are in pick.json")

    monkeypatch.setattr("layerscope.picking.folder.load_scores", refuse)
    (chart,) = charts(scored(run))
    assert [line.curve.label for line in chart.lines] == ["average", *(f"task{t}" for t in range(6))]


def test_without_a_pick_it_is_made_and_then_the_same_for_all(make_run):
    run = make_run()
    write_scores(run.path, peaked_scores())
    assert marks(scored(run)) == ["layer 2"]
    assert (run.path / "pick.json").exists()


def test_scores_that_changed_since_are_a_note(make_run):
    run = make_run()
    write_scores(run.path, peaked_scores())
    ls.pick(run.path)
    write_scores(run.path, peaked_scores().with_columns(layer=(pl.col("layer") + 1) % 12))
    one = scored(run)
    assert marks(one) == ["layer 3"]
    assert "was made before the scores changed: chosen again, layer 3 instead of 2" in one.pick.news[-1]


def test_a_run_without_scores_that_nobody_picked_from_is_not_there(make_run):
    run = make_run()
    assert pick_runs([run], ["run"], "layer") == []
