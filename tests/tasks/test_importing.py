"""Results of other tools become a run; what cannot be used is named."""

from __future__ import annotations

import json
import math
import os

import polars as pl
import pytest

from layerscope.errors import RunFailedError, UserError
from layerscope.tasks.importing import import_results
from layerscope.tasks.scores import load_scores


def result(
    task="STS15", score: object = 0.5, *, subset="default", languages=("eng-Latn",), split="test", **more
) -> dict:
    entry = {"main_score": score, "hf_subset": subset, "languages": list(languages), **more}
    return {
        "dataset_revision": "abc", "task_name": task, "mteb_version": "1.34.0", "scores": {split: [entry]},
        "evaluation_time": 1.0, "kg_co2_emissions": None,
    }  # fmt: skip


def write(folder, layer, content, name=None) -> None:
    home = folder / f"layer_{layer}"
    home.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    (home / f"{name or content['task_name']}.json").write_text(text)


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "results"
    path.mkdir()
    return path


def test_layers_and_experiments(folder, tmp_path) -> None:
    experiments = [{"accuracy": 0.5 + n / 100, "f1": 0.1} for n in range(3)]
    for layer in (0, 1, 2):
        write(folder, layer, result(score=layer / 10))
        write(folder, layer, result("Banking77Classification", 0.51, accuracy=0.51, scores_per_experiment=experiments))
    run = import_results(folder, tmp_path / "run", model="pythia-410m")
    assert run.failures == ()
    table = load_scores(tmp_path / "run")
    main = table.filter(pl.col("experiment").is_null(), pl.col("task") == "STS15").sort("layer")
    assert main["score"].to_list() == [0.0, 0.1, 0.2]
    assert main["depth"].to_list() == [0.0, 0.5, 1.0]
    assert main["task_type"].unique().to_list() == ["STS"]
    assert main["score_name"].unique().to_list() == ["cosine_spearman"]
    assert main["model"].unique().to_list() == ["pythia-410m"]
    single = table.filter(pl.col("experiment").is_not_null(), pl.col("layer") == 1)
    assert single["score"].to_list() == [0.5, 0.51, 0.52]
    assert (tmp_path / "run" / "tasks" / "layer_2" / "STS15.json").exists()


def test_clustering_experiments_of_both_formats(folder, tmp_path) -> None:
    nested = {"Level 0": [0.1, 0.2], "Level 1": [0.3, 0.6]}
    write(folder, 0, result("ArXivHierarchicalClusteringP2P", 0.3, v_measure=0.3, v_measures=nested))
    write(folder, 0, result("TwentyNewsgroupsClustering", 0.25, v_measure=0.25, v_measures=[0.2, 0.3]))
    table = import_results(folder, tmp_path / "run", model="m").scores
    single = table.filter(pl.col("experiment").is_not_null()).sort("task", "experiment")
    assert single["score"].to_list() == pytest.approx([0.2, 0.4, 0.2, 0.3])


def test_results_from_before_version_1_11(folder, tmp_path) -> None:
    old = {
        "dataset_revision": "x", "mteb_dataset_name": "STS15", "mteb_version": "1.0.2",
        "test": {"cos_sim": {"pearson": 0.4, "spearman": 0.6}, "evaluation_time": 3},
    }  # fmt: skip
    write(folder, 4, old, "STS15")
    run = import_results(folder, tmp_path / "run", model="m", blocks=8)
    row = run.scores.to_dicts()[0]
    assert (row["layer"], row["depth"], row["score"], row["subset"]) == (4, 0.5, 0.6, "default")
    assert run.record.warnings == ("no results for layers 0–3, 5–8 of 0 to 8",)


def multilingual() -> dict:
    content = result("MTOPDomainClassification", 0.9, subset="en")
    content["scores"]["test"].append({"main_score": 0.2, "hf_subset": "de", "languages": ["deu-Latn"]})
    content["scores"]["validation"] = [{"main_score": 0.8, "hf_subset": "en", "languages": ["eng-Latn"]}]
    return content


@pytest.mark.parametrize(("subsets", "expected"), [(("english",), {"en"}), (("all",), {"en", "de"}), (("de",), {"de"})])
def test_the_english_subset_of_the_test_split_is_the_default(folder, tmp_path, subsets, expected) -> None:
    write(folder, 0, multilingual())
    table = import_results(folder, tmp_path / "run", model="m", subsets=subsets).scores
    assert set(table["subset"]) == expected
    assert set(table["split"]) == {"test"}


def test_what_cannot_be_used_is_named_and_the_rest_is_taken_in(folder, tmp_path) -> None:
    write(folder, 0, result())
    write(folder, 1, json.dumps(result())[:90], "STS15")
    write(folder, 2, result("STS14"), "STS15")
    write(folder, 3, {"what": "is this"}, "STS15")
    write(folder, 4, result(score=math.nan))
    write(folder, 4, {"model": "x"}, "model_meta")
    write(folder, 6, result())
    run = import_results(folder, tmp_path / "run", model="m")
    reasons = {failure.layer: failure.reason for failure in run.failures}
    assert reasons.keys() == {1, 2, 3}
    assert "cut off or damaged" in reasons[1]
    assert "is a result of STS14, not of STS15" in reasons[2]
    assert "is not a result of MTEB" in reasons[3]
    rows = {row["layer"]: row for row in run.scores.to_dicts()}
    assert rows[0]["score"] == rows[6]["score"] == 0.5
    assert math.isnan(rows[4]["score"])
    assert rows[4]["note"] == "the task's own score is nan"
    assert math.isnan(rows[1]["score"])
    assert "no results for layers 1–3, 5 of 0 to 6" in run.record.warnings


def test_a_task_that_some_layers_lack(folder, tmp_path) -> None:
    for layer in range(3):
        write(folder, layer, result())
    write(folder, 1, result("STS14"))
    run = import_results(folder, tmp_path / "run", model="m")
    assert "STS14: no result for layers 0, 2" in run.record.warnings


def test_many_things_of_one_kind_are_one_warning_and_their_details(folder, tmp_path) -> None:
    names = ["STS12", "STS13", "STS14", "STS15", "STS16"]
    for layer in range(3):
        for number, name in enumerate(names):
            if number % 3 != layer:
                write(folder, layer, result(name))
    run = import_results(folder, tmp_path / "run", model="m", blocks=2)
    assert run.record.warnings == (
        "5 tasks lack results at some layers: STS12: no result for layer 0; STS13: no result for layer 1; "
        "STS14: no result for layer 2 and 2 more",
    )
    assert run.record.details == tuple(f"{name}: no result for layer {n % 3}" for n, name in enumerate(names))


def test_mtebs_own_folders_between_layer_and_file(folder, tmp_path) -> None:
    home = folder / "layer-7" / "org__model" / "revision"
    home.mkdir(parents=True)
    (home / "STS15.json").write_text(json.dumps(result()))
    assert import_results(folder, tmp_path / "run", model="m").scores["layer"].to_list() == [7]


def test_no_result_at_all(folder, tmp_path) -> None:
    with pytest.raises(UserError, match=r"holds no result that can be read: expected layer_K/TASK\.json"):
        import_results(folder, tmp_path / "run", model="m")
    with pytest.raises(UserError, match="is not a folder"):
        import_results(folder / "nothing", tmp_path / "run", model="m")
    assert not (tmp_path / "run").exists()


def test_fewer_blocks_than_layers(folder, tmp_path) -> None:
    write(folder, 5, result())
    with pytest.raises(UserError, match="go up to layer 5, more than the 3 blocks"):
        import_results(folder, tmp_path / "run", model="m", blocks=3)


def test_scores_that_are_there_are_not_overwritten(folder, tmp_path) -> None:
    write(folder, 0, result())
    import_results(folder, tmp_path / "run", model="m")
    with pytest.raises(UserError, match="holds scores already"):
        import_results(folder, tmp_path / "run", model="m")


def test_no_scores_in_a_folder(tmp_path) -> None:
    with pytest.raises(UserError, match="holds no scores: make them with `layerscope tasks"):
        load_scores(tmp_path)


ODD: dict[str, object] = {
    "a list": "[]",
    "deep": "[" * 9999,
    "five thousand digits": '{"task_name": "STS15", "scores": ' + "9" * 5000 + "}",
    "a number for scores": {"task_name": "STS15", "mteb_version": "2.0.0", "scores": 3},
    "a list for a subset": result(subset=["default"]),
    "a number for a language": result(languages=[3]),
    "a huge score": result(score=10**400),
    "a list for a score": result(score=[1]),
    "strings for experiments": result("TwentyNewsgroupsClustering", v_measures={"a": ["x"], "b": ["y"]}),
    "a surrogate": json.dumps(result(note="\ud800")),
    "a list for a name": {**result(), "task_name": ["STS15"]},
    "no version": {**result(), "mteb_version": 3},
    "no languages": {"task_name": "STS15", "mteb_version": "2.0.0", "scores": {"test": [{"hf_subset": "a"}]}},
}


@pytest.mark.parametrize("content", ODD.values(), ids=ODD.keys())
def test_results_of_odd_shapes_are_failures_or_have_no_score(folder, tmp_path, content) -> None:
    write(folder, 0, result("STS14"))
    name = content["task_name"] if isinstance(content, dict) and isinstance(content["task_name"], str) else "STS15"
    write(folder, 1, content, name)
    run = import_results(folder, tmp_path / "run", model="m")
    row = run.scores.filter(pl.col("layer") == 1, pl.col("experiment").is_null())
    assert row["score"].is_nan().all() or row["score"].to_list() == [0.5]
    assert run.scores.filter(task="STS14")["score"].to_list() == [0.5]


@pytest.mark.parametrize("kind", ["pipe", "folder", "broken link"])
def test_what_is_no_file_is_a_failure_and_not_waited_for(folder, tmp_path, kind) -> None:
    write(folder, 0, result())
    (folder / "layer_1").mkdir()
    make = {"pipe": os.mkfifo, "folder": os.mkdir, "broken link": lambda path: path.symlink_to(tmp_path / "nothing")}
    make[kind](folder / "layer_1" / "STS15.json")
    (failure,) = import_results(folder, tmp_path / "run", model="m").failures
    assert (failure.task, failure.layer) == ("STS15", 1)


def test_layers_that_no_model_has_and_names_that_are_no_text(folder, tmp_path) -> None:
    write(folder, 0, result())
    write(folder, "99999999999999999999", result())
    write(folder, "-1", result())
    (folder / "layer_0" / os.fsdecode(b"\xff.json")).write_text("{}")
    (folder / os.fsdecode(b"\xfe.json")).write_text("{}")
    run = import_results(folder, tmp_path / "run", model="m")
    reasons = sorted(failure.reason for failure in run.failures)
    assert "is not a result of MTEB" in reasons[0]
    assert reasons[1:] == [
        "layer -1 counts from the end: name its folder by the layer's own number",
        "layer 999999999999 is past any model's: name its folder by the layer's own number",
    ]
    with pytest.raises(UserError, match="more than 10,000 blocks: check --blocks"):
        import_results(folder, tmp_path / "other", model="m", blocks=10**9)


def test_a_damaged_table_of_imported_scores_is_refused(folder, tmp_path) -> None:
    write(folder, 0, result())
    import_results(folder, tmp_path / "run", model="m")
    table = tmp_path / "run" / "scores.parquet"
    content = bytearray(table.read_bytes())
    content[len(content) // 2] ^= 1
    table.write_bytes(content)
    with pytest.raises(RunFailedError, match=r"scores.parquet is damaged .*: run the same .* with another --out"):
        load_scores(tmp_path / "run")
