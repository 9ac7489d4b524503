"""What a run's folder holds, and what is said where something is missing."""

from __future__ import annotations

import pytest
from tests.picking.folders import peaked_metrics, peaked_scores, write_metrics, write_scores

from layerscope.errors import RunFailedError, UserError
from layerscope.picking.folder import read_evidence
from layerscope.results.run import load_run
from layerscope.results.tables import write_table
from layerscope.tasks.scores import SCORES


def test_one_folder_holds_both(tmp_path):
    folder = write_scores(write_metrics(tmp_path / "run", peaked_metrics()), peaked_scores())
    evidence = read_evidence(folder)
    assert evidence.need_layers().equals(peaked_metrics())
    (scores,) = evidence.need_scores()
    assert scores.values.shape == (6, 12)
    assert evidence.notes == ()


def test_a_run_that_was_opened_is_as_good_as_its_folder(tmp_path):
    folder = write_metrics(tmp_path / "run", peaked_metrics())
    assert read_evidence(load_run(folder)).path == folder
    assert read_evidence(str(folder)).need_layers().height == 36


def test_scores_of_another_folder(tmp_path):
    metrics = write_metrics(tmp_path / "a", peaked_metrics())
    scores = write_scores(tmp_path / "b", peaked_scores())
    evidence = read_evidence(metrics, scores)
    assert (evidence.path, evidence.scores_path) == (metrics, scores)
    assert len(evidence.need_scores()[0].tasks) == 6


def test_what_is_missing_is_said_with_the_command_that_makes_it(tmp_path):
    metrics = write_metrics(tmp_path / "a", peaked_metrics())
    scores = write_scores(tmp_path / "b", peaked_scores())
    with pytest.raises(UserError, match=r"b holds no metrics: make them with `layerscope measure MODEL --out .*b`"):
        read_evidence(scores).need_layers()
    with pytest.raises(UserError, match="a holds no scores: make them with `layerscope tasks MODEL"):
        read_evidence(metrics).need_scores()
    with pytest.raises(UserError, match="holds neither metrics nor scores"):
        read_evidence(tmp_path)
    with pytest.raises(UserError, match="is not a folder"):
        read_evidence(tmp_path / "nothing")


def test_scores_beside_an_unfinished_measurement_can_be_read(tmp_path):
    folder = write_metrics(tmp_path / "run", peaked_metrics(), status="running")
    with pytest.raises(UserError, match="is running"):
        read_evidence(folder)
    write_scores(folder, peaked_scores())
    evidence = read_evidence(folder)
    assert evidence.layers is None
    assert "no metrics: " in evidence.notes[0]
    assert "is running" in evidence.notes[0]


def test_scores_that_are_not_complete_are_marked(tmp_path):
    folder = write_scores(tmp_path, peaked_scores(), status="failed", reason="the disk is full", warnings=("4 bits",))
    notes = read_evidence(folder).notes
    assert notes == ("4 bits", f"the scores in {folder} are not complete: failed (the disk is full)")


def test_a_model_loaded_in_another_way_is_marked(tmp_path):
    metrics = write_metrics(tmp_path / "a", peaked_metrics(), model={"bidirectional": True, "dtype": "bfloat16"})
    scores = write_scores(tmp_path / "b", peaked_scores(), model={"device": "cpu"})
    (note,) = read_evidence(metrics, scores).notes
    assert "bidirectional: True -> False" in note
    assert "dtype: bfloat16 -> float32" in note
    assert "device" not in note


@pytest.mark.parametrize("kept", [100, None])
def test_a_damaged_table_is_named(tmp_path, kept):
    folder = write_scores(tmp_path, peaked_scores())
    content = bytearray((folder / "scores.parquet").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "scores.parquet").write_bytes(content[:kept])
    with pytest.raises(RunFailedError, match=r"scores\.parquet is damaged .* delete it and run the same command again"):
        read_evidence(folder)


def test_scores_that_are_still_being_made_have_no_hash_yet(tmp_path):
    folder = write_scores(tmp_path, peaked_scores(), status="running")
    write_table([peaked_scores(3)], SCORES, folder / "scores.parquet")
    assert len(read_evidence(folder).need_scores()[0].tasks) == 3
