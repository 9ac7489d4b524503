"""What a folder holds and who made it, so that no advice deletes what another verb made."""

import pytest

from layerscope.results.contents import again, held, in_the_way, way_out


@pytest.fixture
def folder(tmp_path):
    """folder(names): a run's folder with these files in it."""

    def make(*names):
        for name in (".lock", ".x.tmp", *names):
            (tmp_path / name).touch()
        return tmp_path

    return make


def test_a_folder_of_one_verb_may_be_deleted(folder):
    assert way_out(folder("run.json", "layers.parquet"), "measure") == "choose another --out or delete the folder"


def test_what_another_verb_or_the_user_made_stays(folder):
    advice = way_out(folder("run.json", "layers.parquet", "tasks.json", "tasks", "thesis.tex"), "measure")
    assert advice == (
        "choose another --out, or delete run.json, layers.parquet there to start again "
        "(what can stay: tasks, tasks.json of `layerscope tasks`; thesis.tex)"
    )
    assert "delete tasks.json, tasks there" in way_out(folder(), "tasks")


def test_what_is_in_the_way_and_what_is_held(folder):
    here = folder("tasks.json", "scores.parquet", "mmlu.json", "pick.json", "thesis.tex")
    assert in_the_way(here, ("tasks", "pick")) == ["mmlu.json"]
    assert held(here) == "scores of tasks and answers to questions"
    assert held(here / "nowhere") == ""


def test_files_of_nobody_are_in_the_way_where_there_is_no_run(folder):
    assert in_the_way(folder("thesis.tex", "pick.json"), ("tasks", "pick")) == ["thesis.tex"]


def test_after_damage_nothing_else_is_lost(folder):
    here = folder("run.json", "layers.parquet", "tasks.json", "scores.parquet")
    assert again(here, "measure") == (
        f"run the same `layerscope measure` command with another --out, or after deleting run.json, layers.parquet in {here}"
    )
    assert again(here, "study").startswith(f"delete the folder {here} and run the same")
