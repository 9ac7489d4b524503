"""Checkpoints that are one under two names."""

from __future__ import annotations

import json
import shutil

import pytest
from tests.families import FAMILIES, save_family
from typer.testing import CliRunner

import layerscope
from layerscope.cli.app import app
from layerscope.report import write_report
from layerscope.results.measurement import same_weights, same_weights_notes


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of four checkpoints by step; those of step 2 are step 0's with another config.json, those of 4 are 3's."""
    root = tmp_path_factory.mktemp("steps")
    (root / "texts.txt").write_text("w5 w6 w7 w8 w9\nw9 w8 w7 w6 w5\n")
    for step, seed in ((0, 0), (1, 1), (2, 0), (3, 3)):
        save_family(FAMILIES["gpt-neox"], root / f"step{step}", seed=seed)
    shutil.copytree(root / "step3", root / "step4")
    config = root / "step2" / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"_note": "of another version"}))
    return {
        step: layerscope.measure(f"{root}@step{step}", str(root / "texts.txt"), metrics=["curvature"])
        for step in range(5)
    }


def test_runs_with_equal_weights_are_found_whatever_their_configs_say(runs):
    named = ((f"step{step}", run.record) for step, run in runs.items())
    assert same_weights(named) == (("step0", "step2"), ("step3", "step4"))
    assert runs[0].record.weights.startswith("sha256:")
    assert same_weights([("a", runs[0].record), ("b", runs[1].record)]) == ()


def test_runs_of_an_older_version_are_told_apart_by_their_revision(runs):
    old = [(str(step), run.record.model_copy(update={"weights": ""})) for step, run in runs.items()]
    assert same_weights(old) == (("3", "4"),)


def test_a_model_under_two_names_is_told_from_two_runs_of_one_model(runs):
    records = [run.record for run in (*runs.values(), runs[0], runs[1])]
    first, second = same_weights_notes(records)
    names = [runs[step].record.spec.model.name for step in range(5)]
    assert first == f"{names[0]} and {names[2]} have the same weights, byte for byte: one model under several names"
    assert second.startswith(f"{names[3]} and {names[4]} have the same weights")
    assert same_weights_notes(records[:2]) == []


def test_the_report_and_queries_over_several_runs_name_them(runs, tmp_path):
    page = write_report([runs[0], runs[1], runs[2]], tmp_path / "report.html").read_text(encoding="utf-8")
    assert "have the same weights, byte for byte" in page
    shown = CliRunner().invoke(app, ["query", "select count(*) from layers", *(str(runs[k].path) for k in (3, 4))])
    assert "have the same weights, byte for byte" in " ".join(shown.stderr.split())
