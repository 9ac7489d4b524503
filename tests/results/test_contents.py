"""What a folder holds and who made it, so that no advice deletes what another verb made."""

import pytest

from layerscope.results.contents import after_damage, held, strangers, way_out


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


def test_strangers_and_what_is_held(folder):
    here = folder("tasks.json", "scores.parquet", "mmlu.json", "pick.json")
    assert strangers(here, "tasks", "pick") == ["mmlu.json"]
    assert held(here) == "scores of tasks and answers to questions"
    assert held(here / "nowhere") == ""


def test_after_damage_what_can_be_made_again_is(folder):
    here = folder("run.json", "layers.parquet", "tasks.json", "scores.parquet")
    assert "run the same `layerscope measure` command with another --out" in after_damage(here / "layers.parquet")
    assert after_damage(here / "scores.parquet").startswith("delete it and run the same command again")
