"""ask_mmlu() from end to end on a tiny model: tables that fit each other, and what can go wrong."""

import numpy as np
import polars as pl
import pytest
from scipy import stats
from tests.mmlu.conftest import make_rows, save_tiny

import layerscope
from layerscope.errors import UserError
from layerscope.mmlu.answers import RELATIONS, SCORES, ask_mmlu, open_mmlu

QUICK = {"permutations": 199, "resamples": 100}


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_tiny(tmp_path_factory.mktemp("model"), merges=True))


@pytest.fixture(scope="module")
def questions(tmp_path_factory):
    path = tmp_path_factory.mktemp("questions") / "questions.parquet"
    pl.DataFrame(make_rows(6)).write_parquet(path)
    return str(path)


@pytest.fixture(scope="module")
def run(model, questions, tmp_path_factory):
    out = tmp_path_factory.mktemp("runs") / "run"
    return ask_mmlu(model, questions, out=out, positions="all,no-first", normalizations=["none", "max"], **QUICK)


def test_scores_come_from_the_questions(run):
    assert run.scores.schema == SCORES
    for row in run.scores.iter_rows(named=True):
        mine = run.questions.filter(pl.col("subject") == row["subject"])
        assert row["accuracy"] == mine["correct"].mean()
        assert row["n_tokens"] == pytest.approx(mine["n_tokens"].mean())
        keys, chosen = mine["answer"].to_list(), mine["chosen"].to_list()
        blind = np.mean([key == letter for key in keys for letter in chosen])
        assert row["from_letters"] == pytest.approx(blind)
    assert run.guessing.n_questions == 30
    assert run.guessing.accuracy == run.questions["correct"].mean()


def test_relations_come_from_scores_and_entropies(run):
    assert run.relations.schema == RELATIONS
    # Two choices of positions, two normalisations, three layers, three statistics.
    assert len(run.relations) == 2 * 2 * 3 * 3
    one = {"positions": "no-first", "normalization": "none", "layer": 1}
    same = pl.all_horizontal(pl.col(name) == value for name, value in one.items())
    means = run.entropies.filter(same).group_by("subject").agg(pl.col("value").mean()).sort("subject")["value"]
    found = {row["statistic"]: row for row in run.relations.filter(same).iter_rows(named=True)}
    assert found["spearman"]["value"] == pytest.approx(stats.spearmanr(means, run.scores["accuracy"]).statistic)
    assert found["pearson"]["value"] == pytest.approx(stats.pearsonr(means, run.scores["accuracy"]).statistic)
    assert found["spearman"]["mean"] == pytest.approx(run.entropies.filter(same)["value"].mean())
    assert found["spearman"]["depth"] == 0.5


def test_the_same_call_only_reads(run, model, questions, monkeypatch):
    monkeypatch.setattr("layerscope.mmlu.run.load_model", lambda _: pytest.fail("loaded the model again"))
    again = ask_mmlu(model, questions, out=run.path, positions="all,no-first", normalizations=["none", "max"], **QUICK)
    assert again.relations.equals(run.relations)
    assert again.guessing == run.guessing
    assert open_mmlu(run.path).scores.equals(run.scores)


def test_relations_are_made_again_where_they_were_not_written(run, model, questions):
    (run.path / "mmlu" / "relations.parquet").unlink()
    again = ask_mmlu(model, questions, out=run.path, positions="all,no-first", normalizations=["none", "max"], **QUICK)
    assert again.relations.equals(run.relations)


def test_a_run_without_a_folder_leaves_none(model, questions):
    found = ask_mmlu(model, questions, layers=2, metrics="curvature", **QUICK)
    path = found.path
    assert sorted(found.relations["metric"].unique()) == ["curvature", "curvature_skipped_steps"]
    assert found.relations["alpha"].is_null().all()
    # No token stands twice in a row at the last layer, so this one has nothing to relate.
    skipped = found.relations.filter(pl.col("metric") == "curvature_skipped_steps")
    assert skipped["value"].is_nan().all()
    assert skipped["note"].str.contains("entropy is the same for all subjects").all()
    assert path.exists()
    del found
    assert not path.exists()


def test_mistakes(model, questions, tmp_path):
    with pytest.raises(UserError, match="at least 5 subjects"):
        ask_mmlu(model, questions, subjects=["anatomy", "virology"], out=tmp_path / "run")
    with pytest.raises(UserError, match="limit: Input should be greater than or equal to 2, got 1"):
        ask_mmlu(model, questions, limit=1)
    with pytest.raises(UserError, match="layer 7 does not exist: the model has layers 0 to 2"):
        ask_mmlu(model, questions, layers=7, out=tmp_path / "run")


def test_the_names_are_public():
    assert layerscope.ask_mmlu is ask_mmlu
    assert layerscope.MmluSpec.__name__ == "MmluSpec"
