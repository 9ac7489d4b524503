"""`benchmarks/advice.py`: losses that are known beforehand, and whose last and middle layer they are."""

import json
import sys

import numpy as np
import polars as pl
import pytest
from benchmarks import advice

from layerscope.errors import UserError

TRUTH = np.array([0.2, 0.5, 0.9, 0.7, 0.6, 0.4, 0.3])
"""Layers 0 to 6; the best is 2."""


@pytest.fixture
def table(tmp_path):
    rng = np.random.default_rng(0)
    rows = [
        {"model": model, "task": f"t{task}", "layer": layer, "score": truth + 0.001 * rng.normal() + 0.05 * task}
        for model in ("whole", "cut")
        for task in range(8)
        for layer, truth in enumerate(TRUTH)
    ]
    path = tmp_path / "scores.csv"
    pl.DataFrame(rows).write_csv(path)
    return path


@pytest.fixture
def losses(table, tmp_path, monkeypatch, capsys):
    def run(*words):
        out = tmp_path / "out" / "advice.json"
        given = ["--tasks", "1", "5", "--draws", "4", "--resamples", "50", "--out", str(out)]
        monkeypatch.setattr(sys, "argv", ["advice", str(table), *given, *words])
        advice.main()
        return json.loads(out.read_text())["losses"], capsys.readouterr().out

    return run


def test_the_loss_of_each_way_is_what_its_layer_lacks_against_the_best(losses):
    found, printed = losses()
    for k in ("1", "5"):
        assert found["last"][k] == pytest.approx([0.6, 0.6], abs=0.003)
        assert found["middle"][k] == pytest.approx([0.2, 0.2], abs=0.003)
        assert found["random"][k] == pytest.approx([0.9 - TRUTH.mean()] * 2, abs=0.003)
        for way in advice.BY_SCORES:
            assert found[way][k] == [0, 0]
    rows = {line.split(" | ")[0].strip("| "): line for line in printed.splitlines() if line.startswith("| ")}
    assert rows["recommended"] == "| recommended | 0.0000 / 0.0000 | 0.0000 / 0.0000 |"
    assert {*found, advice.EARLIER, advice.BEYOND} <= rows.keys()


def test_the_last_and_the_middle_layer_are_the_models_where_a_table_ends_before(losses):
    found, printed = losses("--blocks", "cut=10")
    assert found["middle"]["5"] == pytest.approx([0.2, 0.5], abs=0.003)
    assert found["last"]["5"][0] == pytest.approx(0.6, abs=0.003)
    assert np.isnan(found["last"]["5"][1])
    assert "(1 of 2)" in next(line for line in printed.splitlines() if line.startswith("| last"))


def test_a_table_without_what_is_needed_and_a_model_that_it_does_not_have(table):
    with pytest.raises(UserError, match=r"--blocks names other, and .*scores.csv has"):
        advice.read_table(table, {"other": 3})
    pl.read_csv(table).drop("layer").write_csv(table)
    with pytest.raises(UserError, match="it lacks layer"):
        advice.read_table(table, {})


def test_as_many_tasks_as_there_are_leave_none_to_check_on(losses):
    with pytest.raises(SystemExit, match="whole has 8 tasks, so 8 leave none to check on"):
        losses("--tasks", "8")
