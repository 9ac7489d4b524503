"""pick.json is a run's one answer: written by who asks first, read by everyone after, and never about other tables."""

from __future__ import annotations

import errno
import json
import os
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.picking.folders import PEAK, peaked_metrics, peaked_scores, write_metrics, write_scores
from tests.picking.tables import score_table

import layerscope as ls
from layerscope.errors import RunFailedError, UserError
from layerscope.files.reading import write_sealed
from layerscope.picking.pick import PICK_FILE, recall_pick


@pytest.fixture
def both(tmp_path):
    return write_scores(write_metrics(tmp_path / "both", peaked_metrics()), peaked_scores())


def content_of(run):
    return json.loads((run / PICK_FILE).read_text())


def test_pick_json_holds_everything_and_no_nan(both):
    ls.pick(both, seed=7, margin=0.02)
    content = content_of(both)
    assert (content["layer"], content["readout"], content["by"]) == (2, "normed", "scores")
    assert content["asked"] == {"by": None, "margin": 0.02, "resamples": 2000, "seed": 7}
    (setting,) = content["settings"]
    assert setting["indistinguishable"] == [2]
    assert len(setting["layers"]) == len(PEAK)
    assert {"last", "middle", "oracle"} <= {row["choice"] for row in setting["choices"]}
    assert content["table1"][0]["best_layer"] == 2
    assert len(content["rules"]) == 15


@pytest.mark.parametrize("asked", [{}, {"by": "metrics"}, {"seed": 7, "margin": 0.5, "resamples": 100}])
def test_what_is_recalled_is_what_was_picked(both, asked):
    picked = ls.pick(both, **asked)
    before = (both / PICK_FILE).read_bytes()
    recalled = recall_pick(both)
    assert recalled.model_dump(mode="json") == picked.model_dump(mode="json")
    assert recalled.selection.values == picked.selection.values
    assert recalled.selection.layers["average"].to_list() == picked.selection.layers["average"].to_list()
    assert recalled.news == ()
    assert (both / PICK_FILE).read_bytes() == before


def test_several_settings_and_no_score_at_all_are_recalled(tmp_path):
    low = peaked_scores(readout="raw").with_columns(pl.col("score") - 0.2)
    several = write_scores(tmp_path / "several", pl.concat([low, peaked_scores()]))
    picked = ls.pick(several)
    recalled = recall_pick(several)
    assert recalled.selection is recalled.selections[1]
    assert recalled.selection.readout == picked.selection.readout == "normed"
    nothing = write_scores(tmp_path / "nothing", score_table([[np.nan] * 3], note="no data"))
    assert ls.pick(nothing).model_dump(mode="json") == recall_pick(nothing).model_dump(mode="json")


def test_without_a_pick_it_is_made_and_written_once(both):
    assert recall_pick(both).layer == 2
    assert content_of(both)["asked"]["seed"] == 0


def test_a_layer_chosen_by_metrics_is_the_layer_in_every_setting(both):
    picked = ls.pick(both, by="metrics", margin=0.5)
    recalled = recall_pick(both)
    assert (picked.layer, recalled.layer, recalled.layer_in(recalled.selection)) == (2, 2, 2)
    assert recalled.selection.recommended == 1


def test_scores_that_changed_since_are_chosen_from_again_as_it_was_asked_and_that_is_said(both):
    ls.pick(both, seed=7, margin=0.02)
    write_scores(both, peaked_scores().with_columns(layer=(pl.col("layer") + 1) % len(PEAK)))
    recalled = recall_pick(both)
    assert recalled.layer == 3
    assert recalled.news == (
        f"{both / PICK_FILE} was made before the scores changed: chosen again, layer 3 instead of 2",
    )
    assert content_of(both)["asked"] == {"by": None, "margin": 0.02, "resamples": 2000, "seed": 7}
    assert recall_pick(both).news == ()


def test_metrics_that_came_later_are_chosen_from_too(tmp_path):
    run = write_scores(tmp_path / "run", peaked_scores())
    ls.pick(run)
    write_metrics(run, peaked_metrics())
    recalled = recall_pick(run)
    assert recalled.news == (f"{run / PICK_FILE} was made before the metrics changed: chosen again, layer 2",)
    assert not recalled.rules.is_empty()


def test_the_folder_of_the_scores_is_remembered(tmp_path):
    metrics = write_metrics(tmp_path / "metrics", peaked_metrics())
    scores = write_scores(tmp_path / "scores", peaked_scores())
    ls.pick(metrics, scores=scores)
    assert recall_pick(metrics).layer == 2
    assert recall_pick(metrics).scores_path == scores
    shutil.rmtree(scores)
    with pytest.raises(UserError, match=r"was made from the scores in .*scores, which is gone: run `layerscope pick`"):
        recall_pick(metrics)


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written_is_answered_about_all_the_same(both, monkeypatch, code):
    """As on a read-only mount, where tidying up fails like everything else."""

    def refuse(real, *names):
        def call(path, *args, **named):
            if str(path).startswith(str(both)):
                raise OSError(code, os.strerror(code), str(path))
            return real(path, *args, **named)

        return call

    for name in ("unlink", "replace", "rename", "rmdir", "mkdir"):
        monkeypatch.setattr(os, name, refuse(getattr(os, name)))
    monkeypatch.setattr(Path, "write_text", refuse(Path.write_text))
    picked = ls.pick(both)
    assert picked.layer == 2
    said = f"{both / PICK_FILE} was not written ({os.strerror(code)}): export and report choose the layer again"
    assert picked.news == (said,)
    recalled = recall_pick(both)
    assert (recalled.layer, recalled.news) == (2, (said,))
    assert not (both / PICK_FILE).exists()


def test_everything_is_said_from_one_reading_and_one_resampling(both, monkeypatch):
    calls = []

    def counted(name):
        real = getattr(picking, name)
        return lambda *args: calls.append(name) or real(*args)

    from layerscope.picking import folder
    from layerscope.picking import pick as picking

    monkeypatch.setattr(picking, "resample", counted("resample"))
    monkeypatch.setattr(folder, "load_scores", lambda path, real=folder.load_scores: calls.append("load") or real(path))
    picked = ls.pick(both)
    assert calls == ["load", "resample"]
    assert not picked.rules.is_empty()
    assert not picked.table1.is_empty()


def test_what_was_picked_is_recalled_without_the_scores_being_read(both, monkeypatch):
    ls.pick(both)

    def refuse(*_):
        raise AssertionError("the scores are in pick.json")

    for name in ("layerscope.picking.folder.load_scores", "layerscope.picking.folder.load_run"):
        monkeypatch.setattr(name, refuse)
    monkeypatch.setattr("layerscope.picking.pick.resample", refuse)
    recalled = recall_pick(both)
    assert np.array(recalled.selection.values).shape == (6, len(PEAK))
    assert recalled.origin.revision == "r"
    assert recalled.rules["verdict"].null_count() < len(recalled.rules)


def test_the_file_of_an_unreleased_version_says_how_it_was_chosen(both):
    asked = {"by": None, "margin": 0.5, "resamples": 100, "seed": 7}
    (both / PICK_FILE).write_text(json.dumps({"schema_version": 2, "by": "scores", "layer": 1, "asked": asked}))
    recalled = recall_pick(both)
    assert (recalled.layer, recalled.asked.model_dump()) == (1, asked)
    assert recalled.news[0].endswith("was written by an earlier version: chosen again, layer 1")


def test_the_file_of_version_0_1_0_says_how_it_was_chosen_and_no_more(both):
    (both / PICK_FILE).write_text(json.dumps({"schema_version": 1, "by": "metrics", "layer": 6}))
    recalled = recall_pick(both)
    assert (recalled.by, recalled.layer) == ("metrics", 2)
    assert recalled.news[0].endswith("was written by an earlier version: chosen again, layer 2 instead of 6")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"schema_version": 3, "by"', "is no JSON .*: run `layerscope pick` again"),
        ("[]", r"is not of the expected form .*: run `layerscope pick` again"),
        ('{"schema_version": 3}', r"is not of the expected form \(by: Field required\): run `layerscope pick` again"),
        ('{"schema_version": 3, "by": "scores", "layer": 2}', "its content is not what was written"),
    ],
)
def test_a_damaged_file_is_named_and_never_passed_over(both, text, message):
    (both / PICK_FILE).write_text(text)
    with pytest.raises(RunFailedError, match=message):
        recall_pick(both)


def test_a_file_of_a_later_version_asks_for_that(both):
    write_sealed(ls.pick(both).model_copy(update={"schema_version": 9}), both / PICK_FILE)
    with pytest.raises(RunFailedError, match="has schema version 9, this layerscope reads up to 3: update layerscope"):
        recall_pick(both)


def test_a_file_whose_settings_were_changed_by_hand_is_refused(both):
    ls.pick(both)
    content = content_of(both)
    content["settings"][0]["most_lost"] = 0.5
    (both / PICK_FILE).write_text(json.dumps(content))
    with pytest.raises(
        RunFailedError, match=r"is damaged .its content is not what was written.: run `layerscope pick` again"
    ):
        recall_pick(both)
