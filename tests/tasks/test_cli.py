"""The verb `tasks`, as it is typed."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import typer
from tests.picking.tables import score_table
from typer.testing import CliRunner

from layerscope.cli import tasks
from layerscope.cli.app import app
from layerscope.errors import UserError


@pytest.fixture
def run():
    def invoke(*words: str):
        result = CliRunner().invoke(app, ["tasks", *words])
        if isinstance(result.exception, UserError):
            raise result.exception
        return result

    return invoke


def write_results(folder: Path, scores: dict[int, float]) -> None:
    for layer, score in scores.items():
        entry = {"main_score": score, "hf_subset": "default", "languages": ["eng-Latn"]}
        content = {
            "dataset_revision": "abc", "task_name": "STS15", "mteb_version": "2.0.0", "scores": {"test": [entry]},
            "evaluation_time": 1.0,
        }  # fmt: skip
        home = folder / f"layer_{layer}"
        home.mkdir(parents=True)
        (home / "STS15.json").write_text(json.dumps(content))


def test_an_import_needs_no_model(run, tmp_path) -> None:
    write_results(tmp_path / "results", {0: 0.25, 1: 0.75})
    result = run("--import", str(tmp_path / "results"), "--out", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "0.75" in result.output
    assert "1 task, 2 layers" in result.output


def test_something_that_failed_gives_exit_code_1(run, tmp_path) -> None:
    write_results(tmp_path / "results", {0: 0.25})
    (tmp_path / "results" / "layer_0" / "STS14.json").write_text("{")
    result = run("mine", "--import", str(tmp_path / "results"), "--out", str(tmp_path / "run"))
    assert result.exit_code == 1
    assert "failed: STS14" in result.output
    assert "cut off or damaged" in result.output


def test_scoring_a_model_of_ones_own_tasks(run, tiny, tmp_path) -> None:
    file = Path(__file__).parent / "own_tasks.py"
    words = [str(tiny), "--tasks", f"{file}:OwnSTS", "--layers", "1,3", "--cache", str(tmp_path / "cache")]
    result = run(*words, "--readout", "normed,raw", "--out", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "readout normed, positions all" in result.output
    assert "readout raw, positions all" in result.output
    assert (tmp_path / "run" / "tasks" / "raw_all" / "layer_3" / "OwnSTS.json").exists()


def test_a_damaged_result_of_another_task_gives_exit_code_1(run, tiny, tmp_path) -> None:
    file = Path(__file__).parent / "own_tasks.py"
    words = [str(tiny), "--layers", "1", "--cache", str(tmp_path / "cache"), "--out", str(tmp_path / "run")]
    assert run(*words, "--tasks", f"{file}:OwnSTS").exit_code == 0
    (tmp_path / "run" / "tasks" / "layer_1" / "OwnSTS.json").write_text("{")
    result = run(*words, "--tasks", f"{file}:OwnClassification")
    assert result.exit_code == 1
    assert "failed: OwnSTS" in result.output
    assert "is damaged" in result.output


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "no model: give MODEL"),
        (("smollm2-135m",), "no tasks"),
        (("smollm2-135m", "--tasks", "STS155"), "unknown task 'STS155': did you mean 'STS15'"),
        (("smollm2-135m", "--benchmark", "paper31"), "--benchmark: input should be 'paper32' or 'offline'"),
        (("smollm2-135m", "--tasks", "STS15", "--readout", "row"), "--readout: input should be 'raw'"),
    ],
)
def test_mistakes(run, words, message, tmp_path) -> None:
    with pytest.raises(UserError, match=message):
        run(*words, "--out", str(tmp_path / "run"))


def test_help_needs_no_heavy_import(run) -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert "--benchmark" in result.output
    assert "--import" in result.output


def test_a_task_without_a_score_is_not_counted(capfd) -> None:
    scores = score_table([[0.25, 0.75], [math.nan, math.nan]])
    failure = SimpleNamespace(task="task1", reason="no data")
    run = SimpleNamespace(scores=scores, record=SimpleNamespace(warnings=()), failures=(failure,), path="run", notes=())
    with pytest.raises(typer.Exit):
        tasks._end(run, quiet=False)
    shown = capfd.readouterr()
    assert "1 task, 2 layers; in run" in shown.out
    assert "failed: task1: no data" in shown.err
