"""The tables of ask_mmlu() on a tiny model: they fit each other, and are made again from each other."""

import tempfile

import numpy as np
import polars as pl
import pytest
from scipy import stats
from tests.mmlu.conftest import make_rows, save_tiny
from tests.results.records import save

import layerscope
from layerscope.errors import DamagedError, UserError
from layerscope.mmlu.run import ask_mmlu, open_mmlu
from layerscope.mmlu.tables import RELATIONS, SCORES

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


@pytest.mark.parametrize("name", ["relations", "scores"])
@pytest.mark.parametrize("damage", ["gone", "cut"])
def test_what_is_made_of_tables_is_made_again_where_it_is_gone_or_damaged(run, model, questions, name, damage):
    file = run.path / "mmlu" / f"{name}.parquet"
    content = file.read_bytes()
    file.unlink() if damage == "gone" else file.write_bytes(content[:-9])
    with pytest.raises(DamagedError, match=rf"{name}.parquet is .*run the same `layerscope mmlu` command again"):
        open_mmlu(run.path)
    again = ask_mmlu(model, questions, out=run.path, positions="all,no-first", normalizations=["none", "max"], **QUICK)
    assert again.relations.equals(run.relations)
    assert again.scores.equals(run.scores)
    assert file.read_bytes() == content


def test_relations_of_an_older_version_that_was_killed_before_them_are_made(run, model, questions):
    (run.path / "mmlu" / "relations.parquet").unlink()
    old = run.record.model_copy(update={"schema_version": 1, "files": {}})
    (run.path / "mmlu.json").write_text(old.model_dump_json())
    again = ask_mmlu(model, questions, out=run.path, positions="all,no-first", normalizations=["none", "max"], **QUICK)
    assert again.relations.equals(run.relations)
    assert open_mmlu(run.path).record.schema_version == 1
    save(run.record, run.path)


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


def test_a_run_that_fails_without_a_folder_leaves_none(model, questions, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with pytest.raises(UserError, match="layer 7 does not exist"):
        ask_mmlu(model, questions, layers=7, **QUICK)
    assert list(tmp_path.iterdir()) == []


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
