"""Scores equal MTEB's own, each text is encoded once, and a run can be interrupted, continued and added to."""

from __future__ import annotations

import json
import math
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from tests.results.records import save

from layerscope.errors import UserError
from layerscope.tasks.run import open_tasks, score_tasks
from layerscope.tasks.scores import summarize

sys.path.insert(0, str(Path(__file__).parent))
from own_tasks import OwnClassification, OwnSTS, sentence


def mock_tasks():
    from mteb import mocks

    return [
        mocks.MockBitextMiningTask, mocks.MockMultilingualParallelBitextMiningTask, mocks.MockClassificationTask,
        mocks.MockMultilingualClassificationTask, mocks.MockRegressionTask, mocks.MockClusteringTask,
        mocks.MockMultilingualClusteringFastTask, mocks.MockPairClassificationTask, mocks.MockMultilabelClassification,
        mocks.MockRerankingTask, mocks.MockRetrievalTask, mocks.MockRetrievalDialogTask, mocks.MockSTSTask,
        mocks.MockSummarizationTask, mocks.MockInstructionRetrieval, mocks.MockInstructionReranking,
        mocks.MockTextZeroShotClassificationTask,
    ]  # fmt: skip


def plain_scores(task, encoder) -> dict:
    """What `mteb.evaluate` gives for one encoder."""
    import mteb

    from layerscope.tasks.process import kept_random_state, quiet_mteb

    with kept_random_state(), quiet_mteb():
        result = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
    return result.task_results[0].scores


def flat(value, path=()):
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from flat(inner, (*path, key))
    elif isinstance(value, list | tuple):
        for number, inner in enumerate(value):
            yield from flat(inner, (*path, number))
    else:
        yield path, value


def assert_equal_scores(ours, plain) -> None:
    ours, plain = dict(flat(ours)), dict(flat(plain))
    assert ours.keys() == plain.keys()
    for path, value in plain.items():
        if isinstance(value, float):
            assert ours[path] == pytest.approx(value, rel=0, abs=1e-6, nan_ok=True), path
        else:
            assert ours[path] == value, path


def saved(folder: Path, layer: int, task: str, state: str = "") -> dict:
    return json.loads((folder / "tasks" / state / f"layer_{layer}" / f"{task}.json").read_text())["scores"]


@pytest.mark.slow
def test_every_type_of_task_scores_as_mteb_does(tiny, plain_encoder, cache, tmp_path) -> None:
    classes = mock_tasks()
    run = score_tasks(
        str(tiny), [cls() for cls in classes], out=tmp_path / "run", cache=cache, layers=(0, 2), subsets="all"
    )
    assert run.failures == ()
    for cls in classes:
        for layer in (0, 2):
            task = cls()
            if "test" in task.metadata.eval_splits:
                task.filter_eval_splits(["test"])
            plain = plain_scores(task, plain_encoder(layer, "normed"))
            assert_equal_scores(saved(run.path, layer, task.metadata.name), plain)


def test_own_tasks_score_as_mteb_does_in_both_readouts(tiny, plain_encoder, cache, tmp_path) -> None:
    run = score_tasks(
        str(tiny), [OwnClassification(), OwnSTS()], out=tmp_path / "run", cache=cache, readout=("normed", "raw"),
        layers=(0, 3), workers=1,
    )  # fmt: skip
    assert run.failures == ()
    for readout in ("normed", "raw"):
        for layer in (0, 3):
            encoder = plain_encoder(layer, readout)
            for cls in (OwnClassification, OwnSTS):
                ours = saved(run.path, layer, cls.metadata.name, f"{readout}_all")
                assert_equal_scores(ours, plain_scores(cls(), encoder))
    main = run.scores.filter(pl.col("experiment").is_null())
    assert len(main) == 2 * 2 * 2
    assert len(run.scores) == len(main) + 2 * 2 * 10
    assert set(main["n_samples"]) == {60, 80}
    one = run.scores.filter(
        (pl.col("task") == "OwnClassification") & (pl.col("layer") == 3), pl.col("readout") == "raw"
    )
    by_experiment = one.filter(pl.col("experiment").is_not_null()).sort("experiment")
    assert by_experiment["experiment"].to_list() == list(range(10))
    whole = one.filter(pl.col("experiment").is_null())["score"].item()
    assert by_experiment["score"].mean() == pytest.approx(whole, abs=1e-12)


def test_results_are_loaded_by_mteb(tiny, cache, tmp_path) -> None:
    from mteb.results import TaskResult

    run = score_tasks(str(tiny), [OwnSTS()], out=tmp_path / "run", cache=cache, layers=(1,))
    result = TaskResult.from_disk(run.path / "tasks" / "layer_1" / "OwnSTS.json")
    assert result.task_name == "OwnSTS"
    assert result.get_score() == run.scores["score"].item()


def count_encoded(monkeypatch) -> list[int]:
    """How many texts each forward pass was given, fillers left out."""
    from layerscope.tasks import encoding

    counts: list[int] = []
    real = encoding.pooled_states

    def counted(model, batch, layers, wanted):
        counts.append(len(batch.rows))
        return real(model, batch, layers, wanted)

    monkeypatch.setattr(encoding, "pooled_states", counted)
    return counts


def test_a_text_is_encoded_once(tiny, cache, tmp_path, monkeypatch) -> None:
    counts = count_encoded(monkeypatch)
    run = score_tasks(str(tiny), [OwnSTS()], out=tmp_path / "a", cache=cache, readout=("normed", "raw"))
    task = OwnSTS()
    task.load_data()
    texts = {*task.dataset["test"]["sentence1"], *task.dataset["test"]["sentence2"]}
    assert sum(counts) == len(texts) == run.record.texts_encoded
    score_tasks(str(tiny), [OwnSTS()], out=tmp_path / "b", cache=cache, readout=("normed", "raw"))
    score_tasks(str(tiny), [OwnSTS()], out=tmp_path / "c", cache=cache, readout=("raw",), layers=(2,))
    assert sum(counts) == len(texts)


def test_a_finished_run_needs_no_model_and_an_interrupted_one_goes_on(tiny, cache, tmp_path, monkeypatch) -> None:
    from layerscope.tasks import run as run_module

    out = tmp_path / "run"
    before = score_tasks(str(tiny), [OwnClassification(), OwnSTS()], out=out, cache=cache).scores
    lost = out / "tasks" / "layer_2" / "OwnSTS.json"
    kept = out / "tasks" / "layer_1" / "OwnSTS.json"
    stamp = kept.stat().st_mtime_ns
    lost.write_text(lost.read_text()[:100])
    counts = count_encoded(monkeypatch)
    after = score_tasks(str(tiny), [OwnClassification(), OwnSTS()], out=out, cache=cache).scores
    assert after.equals(before)
    assert counts == []
    assert kept.stat().st_mtime_ns == stamp

    def refuse(*_, **__):
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(run_module, "load_model", refuse)
    assert score_tasks(str(tiny), [OwnClassification(), OwnSTS()], out=out, cache=cache).scores.equals(before)


def replaced(path: Path, content: bytes) -> None:
    """Another content under the same name and time of change, as `cp -p`, rsync and tar leave it."""
    before = path.stat()
    path.write_bytes(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def write_pairs(folder: Path, *, swapped: bool) -> Path:
    """A stand-in for STS15: the same sentences with scores, or with the scores in the other order. One size for both."""
    scores = [float(number % 6) for number in range(60)]
    lines = [
        json.dumps({"sentence1": sentence(n), "sentence2": sentence(n * 7 + 1), "score": score}) + "\n"
        for n, score in enumerate(scores[::-1] if swapped else scores)
    ]
    path = folder / "mteb" / "sts15-sts" / "test.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(lines))
    return path


def test_replaced_data_is_scored_anew_whatever_its_clock_says(tiny, cache, tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "layerscope"))
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "datasets")
    options = {"cache": cache, "layers": (1,), "workers": 1}

    def score(name, folder):
        return score_tasks(str(tiny), ["STS15"], out=tmp_path / name, data_dir=str(tmp_path / folder), **options)

    path = write_pairs(tmp_path / "data", swapped=False)
    other = write_pairs(tmp_path / "fresh", swapped=True).read_bytes()
    before = score("before", "data")
    replaced(path, other)
    after, fresh = score("after", "data"), score("fresh-run", "fresh")
    assert after.scores["score"].item() == fresh.scores["score"].item() != before.scores["score"].item()
    assert after.record.tasks[0].revision == fresh.record.tasks[0].revision != before.record.tasks[0].revision
    with pytest.raises(UserError, match=r"holds a run of other inputs \(STS15: local-\w+ -> local-\w+\)"):
        score("before", "data")
    with pytest.raises(UserError, match=r"holds a run of other inputs \(STS15: local-\w+ -> local-\w+\)"):
        score_tasks(str(tiny), ["STS15", OwnSTS()], out=tmp_path / "before", data_dir=str(tmp_path / "data"), **options)
    path.unlink(), path.parent.rmdir()
    (note,) = score("after", "data").notes
    assert re.search("the data of STS15 cannot be compared .* stood in for the hub .local-.*not here now", note)


def test_data_that_changes_while_it_is_read_is_refused(tiny, cache, tmp_path, monkeypatch) -> None:
    import mteb

    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path / "layerscope"))
    path = write_pairs(tmp_path / "data", swapped=False)
    original = mteb.get_task("STS15").__class__.load_data

    def slowly(self, **options):
        original(self, **options)
        write_pairs(tmp_path / "data", swapped=True)

    monkeypatch.setattr(mteb.get_task("STS15").__class__, "load_data", slowly)
    with pytest.raises(UserError, match=f"{path.parent} changed while it was read: run the same command again"):
        score_tasks(str(tiny), ["STS15"], out=tmp_path / "run", data_dir=str(tmp_path / "data"), cache=cache)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", r"model_revision: sha256:\w+ -> sha256:\w+"),
        ("tokenizer.json", r"tokenizer_revision: sha256:\w+ -> sha256:\w+"),
    ],
)
def test_another_model_under_the_same_name_is_refused(tiny, cache, tmp_path, name, message) -> None:
    shutil.copytree(tiny, tmp_path / "model")
    options = {"out": tmp_path / "run", "cache": cache, "layers": (1,)}
    score_tasks(str(tmp_path / "model"), [OwnSTS()], **options)
    content = bytearray((tmp_path / "model" / name).read_bytes())
    place = content.rindex(b'"') if name == "tokenizer.json" else len(content) - 2
    content[place : place + 1] = b'" ' if name == "tokenizer.json" else bytes([content[place] ^ 1])
    replaced(tmp_path / "model" / name, bytes(content))
    with pytest.raises(UserError, match=rf"holds a run of other inputs \({message}\)"):
        score_tasks(str(tmp_path / "model"), [OwnSTS()], **options)
    with pytest.raises(UserError, match=rf"was started with other inputs \({message}\)"):
        score_tasks(str(tmp_path / "model"), [OwnClassification()], **options)
    shutil.rmtree(tmp_path / "model")
    (note,) = score_tasks(str(tmp_path / "model"), [OwnSTS()], **options).notes
    assert "the model cannot be compared with what was measured" in note


def test_a_changed_file_of_a_users_own_task_is_refused(tiny, cache, tmp_path) -> None:
    file = tmp_path / "mine.py"
    text = (Path(__file__).parent / "own_tasks.py").read_text()
    file.write_text(text)
    options = {"out": tmp_path / "run", "cache": cache, "layers": (1,)}
    first = score_tasks(str(tiny), [f"{file}:OwnSTS"], **options)
    # One word for another of the same length, under the same clock: Python's own cache of compiled files sees no change.
    replaced(file, text.replace("n * 7 + 1", "n * 9 + 1").encode())
    with pytest.raises(UserError, match=r"other inputs \(code of OwnSTS: sha256:\w+ -> sha256:\w+\)"):
        score_tasks(str(tiny), [f"{file}:OwnSTS"], **options)
    other = score_tasks(str(tiny), [f"{file}:OwnSTS"], **{**options, "out": tmp_path / "other"})
    assert other.scores["score"].item() != first.scores["score"].item()


def test_a_record_says_what_scored_and_not_what_looked(tiny, cache, tmp_path) -> None:
    options = {"out": tmp_path / "run", "cache": cache, "layers": (1,)}
    first = score_tasks(str(tiny), [OwnSTS()], **options)
    older = first.record.model_copy(update={"packages": first.record.packages | {"torch": "1.0"}, "machine": "other"})
    older = save(older, first.path)
    again = score_tasks(str(tiny), [OwnSTS()], **options)
    assert again.record == older
    assert again.notes[0].startswith("measured with other versions: torch 1.0 (now ")


def test_layers_and_tasks_can_be_added_but_nothing_else_changed(tiny, cache, tmp_path) -> None:
    out = tmp_path / "run"
    score_tasks(str(tiny), [OwnSTS()], out=out, cache=cache, layers=(1,))
    run = score_tasks(str(tiny), [OwnClassification()], out=out, cache=cache, layers=(1, 3))
    assert {(r["task"], r["layer"]) for r in run.scores.to_dicts()} == {
        ("OwnSTS", 1), ("OwnClassification", 1), ("OwnClassification", 3),
    }  # fmt: skip
    with pytest.raises(UserError, match=r"other settings \(readout.*normed.*raw"):
        score_tasks(str(tiny), [OwnSTS()], out=out, cache=cache, readout=("raw",))
    assert open_tasks(out).record.status == "done"


def test_a_result_that_is_damaged_or_gone_is_named_when_another_task_is_scored(tiny, cache, tmp_path) -> None:
    out = tmp_path / "run"
    score_tasks(str(tiny), [OwnSTS()], out=out, cache=cache, layers=(0, 1, 2))
    damaged, gone = (out / "tasks" / f"layer_{layer}" / "OwnSTS.json" for layer in (0, 2))
    damaged.write_bytes(damaged.read_bytes()[:100])
    gone.unlink()
    run = score_tasks(str(tiny), [OwnClassification()], out=out, cache=cache, layers=(1,))
    reasons = {(failure.task, failure.layer, failure.readout): failure.reason for failure in run.failures}
    assert reasons.keys() == {("OwnSTS", 0, "normed"), ("OwnSTS", 2, "normed")}
    again = "`layerscope tasks` with --tasks OwnSTS and this --out scores it again"
    assert reasons["OwnSTS", 0, "normed"] == f"{damaged} is damaged (its content is not what was written): {again}"
    assert reasons["OwnSTS", 2, "normed"] == f"{gone} is gone: {again}"
    rows = run.scores.filter(pl.col("task") == "OwnSTS").sort("layer")
    assert rows["layer"].to_list() == [0, 1, 2]
    assert rows["score"].is_finite().to_list() == [False, True, False]
    # It stays so until the task is scored again.
    assert len(score_tasks(str(tiny), [OwnClassification()], out=out, cache=cache, layers=(0,)).failures) == 2
    again = score_tasks(str(tiny), [OwnSTS()], out=out, cache=cache, layers=(0, 1, 2))
    assert again.failures == ()
    assert again.record.warnings == (
        "2 results could not be read back as written and had to be scored again: OwnSTS at layer 0, OwnSTS at layer 2",
    )
    assert again.scores.filter(pl.col("task") == "OwnSTS")["score"].is_finite().all()


def test_a_result_that_was_put_back_has_not_failed(tiny, cache, tmp_path) -> None:
    out = tmp_path / "run"
    score_tasks(str(tiny), [OwnSTS()], out=out, cache=cache, layers=(0, 1))
    file = out / "tasks" / "layer_0" / "OwnSTS.json"
    whole = file.read_bytes()
    file.write_bytes(b"{")
    assert score_tasks(str(tiny), [OwnClassification()], out=out, cache=cache, layers=(1,)).failures != ()
    file.write_bytes(whole)
    run = score_tasks(str(tiny), [OwnClassification()], out=out, cache=cache, layers=(0,))
    assert run.failures == ()
    assert run.scores["score"].is_finite().all()


def test_a_folder_of_something_else_is_refused(tiny, cache, tmp_path) -> None:
    (tmp_path / "thesis.txt").write_text("important")
    with pytest.raises(UserError, match=r"not empty and not a run of this kind \(it holds thesis.txt"):
        score_tasks(str(tiny), [OwnSTS()], out=tmp_path, cache=cache)


class Broken(OwnSTS):
    metadata = OwnSTS.metadata.model_copy(update={"name": "Broken"})

    def _evaluate_subset(self, model, *args, **options):
        if model.layer == 2:
            raise ZeroDivisionError("nothing to divide by")
        return super()._evaluate_subset(model, *args, **options)


class Unreadable(OwnSTS):
    metadata = OwnSTS.metadata.model_copy(update={"name": "Unreadable"})

    def load_data(self, **_):
        raise OSError("the disk is on fire")


def test_what_fails_is_recorded_and_the_others_go_on(tiny, cache, tmp_path) -> None:
    run = score_tasks(str(tiny), [Broken(), Unreadable(), OwnSTS()], out=tmp_path / "run", cache=cache)
    reasons = {(failure.task, failure.layer): failure.reason for failure in run.failures}
    assert reasons.keys() == {("Broken", 2), ("Unreadable", None)}
    assert reasons["Broken", 2] == "ZeroDivisionError: nothing to divide by"
    assert "the disk is on fire" in reasons["Unreadable", None]
    scores = run.scores.filter(pl.col("experiment").is_null())
    failed = scores.filter(pl.col("score").is_nan())
    assert {(r["task"], r["layer"]) for r in failed.to_dicts()} == {
        ("Broken", 2),
        *(("Unreadable", n) for n in range(4)),
    }
    assert failed["note"].null_count() == 0
    assert len(scores.filter(pl.col("score").is_finite())) == 4 + 3
    ((_, table),) = summarize(run.scores)
    assert table.columns == ["layer", "Broken", "OwnSTS", "average"]
    assert table["average"].is_nan().to_list() == [False, False, True, False]


def test_nothing_to_score_is_said_before_a_model_is_loaded(cache, tmp_path) -> None:
    with pytest.raises(UserError, match="the disk is on fire"):
        score_tasks("no/such/model", [Unreadable()], out=tmp_path / "run", cache=cache)


def test_a_layer_that_does_not_exist(tiny, cache, tmp_path) -> None:
    with pytest.raises(UserError, match="layer 9 does not exist: the model has layers 0 to 3"):
        score_tasks(str(tiny), [OwnSTS()], out=tmp_path / "run", cache=cache, layers=(9,))


def test_no_tasks(tiny, tmp_path) -> None:
    with pytest.raises(UserError, match="no tasks"):
        score_tasks(str(tiny), [], out=tmp_path / "run")


def test_numpy_and_torch_generators_are_left_alone(tiny, cache, tmp_path) -> None:
    # Not Python's own here: the type checks that are on in tests draw from it. test_process.py has it.
    tasks = [OwnClassification(), "WikiTopicClustering"]
    np.random.seed(6), torch.manual_seed(7)  # noqa: NPY002
    expected = np.random.rand(), torch.rand(1).item()  # noqa: NPY002
    np.random.seed(6), torch.manual_seed(7)  # noqa: NPY002
    score_tasks(str(tiny), tasks, out=tmp_path / "run", cache=cache, layers=(0,), workers=1)
    assert (np.random.rand(), torch.rand(1).item()) == expected  # noqa: NPY002


def test_an_empty_text_has_a_vector_of_zeros_and_is_mentioned(tiny, cache, tmp_path) -> None:
    class WithEmpty(OwnSTS):
        metadata = OwnSTS.metadata.model_copy(update={"name": "WithEmpty"})

        def load_data(self, **options):
            super().load_data(**options)
            self.dataset["test"] = self.dataset["test"].map(
                lambda row, number: row | ({"sentence1": ""} if number == 0 else {}), with_indices=True
            )

    run = score_tasks(str(tiny), [WithEmpty()], out=tmp_path / "run", cache=cache, layers=(1,))
    assert math.isfinite(run.scores["score"].item())
    assert any("have no tokens" in warning for warning in run.record.warnings)


@pytest.mark.slow
def test_workers_give_the_same_results(tiny, cache, tmp_path, monkeypatch) -> None:
    from layerscope.tasks import workers

    file = f"{Path(__file__).parent / 'own_tasks.py'}:OwnClassification"
    alone = score_tasks(str(tiny), [file], out=tmp_path / "alone", cache=cache, workers=1)
    monkeypatch.setattr(workers, "POOL_PAYS_SECONDS", 0.0)
    used: list[str] = []
    real = workers.WorkerPool.run

    def watched(self, task, jobs):
        for job, outcome in real(self, task, jobs):
            used.append(outcome)
            yield job, outcome

    monkeypatch.setattr(workers.WorkerPool, "run", watched)
    together = score_tasks(str(tiny), [file], out=tmp_path / "together", cache=cache, workers=2)
    assert used == ["", "", ""]
    assert together.scores.equals(alone.scores)
