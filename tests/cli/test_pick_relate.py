"""`layerscope pick` and `layerscope relate`, within this process: what is printed, written and refused."""

import errno
import json
import math
import os

import polars as pl
import pytest
from scipy import stats
from tests.picking.folders import PEAK, peaked_metrics, peaked_scores, write_metrics, write_scores
from tests.picking.tables import score_table

from layerscope.files.writing import cannot_write
from layerscope.picking.relations import RELATIONS


@pytest.fixture
def both(tmp_path):
    return write_scores(write_metrics(tmp_path / "both", peaked_metrics()), peaked_scores())


def rows_of(shown, heading):
    """The lines of a table, from the one after its header to the first empty one."""
    lines = shown.splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith(heading))
    end = next((number for number in range(start, len(lines)) if not lines[number].strip()), len(lines))
    return lines[start + 1 : end]


def test_pick_answers_first_and_then_shows_why(program, both):
    code, shown, errors = program("pick", both)
    assert (code, errors) == (0, "")
    words = " ".join(shown.split())
    assert words.index("Use layer 2: it has the highest average of 6 tasks") < words.index("Average over tasks")
    assert "note: 6 tasks tell layer 2 from every other layer" in words
    assert max(map(len, shown.splitlines())) <= 100
    layers = rows_of(shown, "layer  depth")
    assert len(layers) == 12
    assert layers[2].rstrip().endswith("* use")
    assert sum("*" in line for line in layers) == 1
    ways = rows_of(shown, "way")
    assert {"last", "middle", "random", "oracle"} <= {line.split()[0] for line in ways}
    rules = rows_of(shown, "rule")
    assert next(line for line in rules if line.startswith("min dime")).rstrip().endswith("better")
    assert "not measured: infonce, dataset_entropy, curvature" in words
    means = peaked_scores().group_by("layer", maintain_order=True).agg(pl.col("score").mean())["score"]
    expected = ["both", "6", "6", f"{means[11]:.3f}", f"{means[2]:.3f}"]
    assert rows_of(shown, "run ")[0].split()[:5] == expected


def test_pick_of_many_runs_has_a_line_of_table_1_each(program, both, tmp_path):
    other = write_scores(tmp_path / "other", peaked_scores(4, readout="raw"))
    code, shown, _ = program("pick", both, other)
    assert code == 0
    lines = rows_of(shown, "run ")
    assert [line.split()[:2] for line in lines[:2]] == [["both", "normed/all/mean"], ["other", "raw/all/mean"]]
    assert {path.parent.name for path in tmp_path.glob("*/pick.json")} == {"both", "other"}


def test_pick_as_json_is_what_is_written(program, both):
    code, shown, _ = program("pick", both, "--format", "json", "--resamples", "200")
    assert code == 0
    (content,) = json.loads(shown)
    assert content["layer"] == 2
    written = json.loads((both / "pick.json").read_text())
    assert written.pop("seal")
    assert content == written


def test_a_margin_is_asked_for_and_its_layer_is_what_is_written(program, both):
    code, shown, _ = program("pick", both, "--margin", "0.5", "--seed", "7")
    assert code == 0
    assert "Use layer 1: the earliest that 6 tasks show to lose at most 0.5 against the best" in " ".join(shown.split())
    content = json.loads((both / "pick.json").read_text())
    assert (content["layer"], content["asked"]["margin"], content["asked"]["seed"]) == (1, 0.5, 7)


def test_many_layers_that_tasks_lack_are_one_note(program, tmp_path):
    """As in released results: most tasks lack some layers, each others."""
    values = [[0.5 + 0.01 * ((3 * t + 5 * k) % 7) for k in range(20)] for t in range(30)]
    table = score_table(values).filter((pl.col("task").str.slice(4).cast(int) % 15) != pl.col("layer"))
    folder = write_scores(tmp_path, table, warnings=("30 tasks have no result at some layers",))
    code, shown, _ = program("pick", folder)
    assert code == 0
    assert len([line for line in shown.splitlines() if line.startswith("note: ")]) <= 7
    words = " ".join(shown.split())
    assert "note: layers 0–14 left out for all tasks, since not every task has them: 30 tasks (task0, task1" in words
    assert "note: 30 lines of detail in" in words
    assert len(json.loads((folder / "pick.json").read_text())["details"]) == 30


def test_pick_by_metrics_shows_each_choice_beside_the_baselines(program, tmp_path):
    folder = write_metrics(tmp_path / "run", peaked_metrics())
    code, shown, _ = program("pick", folder, "--by", "metrics")
    assert code == 0
    assert "Use layer 6, the middle one, as long as there are no scores" in " ".join(shown.split())
    choices = {" ".join(line.split()[:-1]): line.split()[-1] for line in rows_of(shown, "rule")}
    assert choices["last"] == "11"
    assert choices["middle"] == "6"
    assert choices["min dime"] == choices["max prompt_entropy"] == "2"


def test_a_folder_that_cannot_be_written_is_read_all_the_same(program, both, monkeypatch):
    def refuse(_, path):
        raise cannot_write(path, OSError(errno.EROFS, os.strerror(errno.EROFS))) from OSError(errno.EROFS, "read-only")

    monkeypatch.setattr("layerscope.picking.pick.write_sealed", refuse)
    code, shown, errors = program("pick", both)
    assert code == 0
    assert "Use layer 2" in shown
    assert "pick.json was not written (read-only): export and report choose the layer again" in " ".join(errors.split())


def test_relate_shows_intervals_nulls_and_adjusted_values(program, both):
    code, shown, errors = program("relate", both)
    assert (code, errors) == (0, "")
    assert max(map(len, shown.splitlines())) <= 100
    lines = rows_of(shown, "metric ")
    dime = next(line for line in lines if line.startswith("dime")).split()
    means = peaked_scores().group_by("layer", maintain_order=True).agg(pl.col("score").mean())["score"]
    assert float(dime[1]) == pytest.approx(stats.spearmanr([-v for v in PEAK], means).statistic, abs=0.005)
    assert "p_shift (adj)" in shown
    assert "dCor (null)" in shown
    assert "2 of 2 curves go with the average" in " ".join(shown.split())
    table = pl.read_parquet(both / "relations.parquet")
    assert table.schema == RELATIONS
    assert len(table) == 2 * 7 * 3
    assert table.filter(pl.col("task") != "(average)")["p_task"].null_count() == 2 * 6 * 3


def test_relate_formats_tasks_and_out(program, both, tmp_path):
    out = tmp_path / "new" / "relations.parquet"
    code, shown, _ = program(
        "relate", both, "--metrics", "dime", "--tasks", "task1,average", "--format", "csv", "--out", out
    )
    assert code == 0
    assert {line.split(",")[12] for line in shown.splitlines()[1:]} == {"task1", "(average)"}
    assert len(pl.read_parquet(out)) == 7 * 3
    assert not (both / "relations.parquet").exists()
    code, shown, _ = program("relate", both, "--tasks", "all", "--format", "json")
    assert len(json.loads(shown)) == 2 * 7 * 3


def test_relate_two_folders_and_another_statistic(program, tmp_path):
    metrics = write_metrics(tmp_path / "metrics", peaked_metrics())
    scores = write_scores(tmp_path / "scores", peaked_scores())
    code, shown, _ = program("relate", metrics, "--scores", scores, "--statistic", "kendall")
    assert code == 0
    assert "Kendall [95 %]" in shown
    assert (metrics / "relations.parquet").exists()


def test_a_constant_metric_and_few_tasks_are_notes(program, tmp_path):
    folder = write_scores(write_metrics(tmp_path, peaked_metrics()), peaked_scores(2))
    code, shown, _ = program("relate", folder, "--metrics", "infonce_chance,dime")
    words = " ".join(shown.split())
    assert code == 0
    assert "note: infonce_chance: no value: the metric is the same at every layer" in words
    assert "no interval and no p_task: 2 tasks, at least 5 are needed" in words


MISTAKES = [
    (("pick", "{nothing}"), "is not a folder"),
    (("pick", "{empty}"), "holds neither metrics nor scores"),
    (("pick", "{metrics}", "--by", "scores"), "holds no scores: make them with `layerscope tasks MODEL"),
    (("pick", "{scores}", "--by", "metrics"), "holds no metrics: make them with `layerscope measure MODEL"),
    (("pick", "{scores}", "{metrics}", "--scores", "{scores}"), "--scores goes with one RUN, got 2"),
    (("relate", "{scores}"), "holds no metrics"),
    (("relate", "{metrics}"), "holds no scores"),
    (("relate", "{both}", "--metrics", "entropy"), "metric 'entropy' is not in"),
    (("relate", "{both}", "--tasks", "STS15"), "task 'STS15' has no scores there: choose average, all, task0"),
    (("relate", "{both}", "--statistic", "pearson"), "--statistic: input should be 'spearman'"),
    (("relate",), "RUN"),
]


@pytest.mark.parametrize(("words", "message"), MISTAKES)
def test_a_mistake_exits_2_with_one_sentence(words, message, program, both, tmp_path):
    (tmp_path / "empty").mkdir()
    places = {
        "nothing": tmp_path / "nothing",
        "empty": tmp_path / "empty",
        "both": both,
        "metrics": write_metrics(tmp_path / "metrics", peaked_metrics()),
        "scores": write_scores(tmp_path / "scores", peaked_scores()),
    }
    code, _, errors = program(*(word.format(**places) for word in words))
    assert code == 2, errors
    assert message in errors
    assert len(errors.splitlines()) == 1


def test_scores_without_a_number_give_no_layer_and_the_reason(program, tmp_path):
    folder = write_scores(tmp_path, score_table([[math.nan] * 3], note="no data offline"))
    code, shown, _ = program("pick", folder)
    assert code == 0
    assert "No layer can be chosen: no task has a score." in shown
    assert "note: task0 left out: no data offline" in shown


@pytest.mark.parametrize("verb", ["pick", "relate"])
def test_help_has_an_example(verb, program):
    code, shown, _ = program(verb, "--help")
    assert code == 0
    assert f"Example: layerscope {verb}" in " ".join(shown.split())


def test_relate_with_too_few_layers_counts_no_curve_as_tested(program, tmp_path):
    few = pl.col("layer") < 4
    folder = write_scores(write_metrics(tmp_path / "few", peaked_metrics().filter(few)), peaked_scores().filter(few))
    code, shown, _ = program("relate", folder)
    assert code == 0
    assert "no curve can be compared with the average of the tasks by Spearman" in shown
    assert "curves go with" not in shown
    assert "at least 5 are needed" in shown
