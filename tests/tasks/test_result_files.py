"""Results are verified when read; the table is made of them, one reading each, and a kill at any moment loses no score."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.results.records import save

from layerscope.config import ModelSpec
from layerscope.errors import DamagedError, UserError
from layerscope.files.reading import sums_of
from layerscope.results.record import ResolvedModel
from layerscope.states.state import State
from layerscope.tasks import result_files
from layerscope.tasks.record import TasksRecord
from layerscope.tasks.result_files import ResultFiles
from layerscope.tasks.run import open_tasks, score_tasks
from layerscope.tasks.scores import SCORES_FILE, load_scores

sys.path.insert(0, str(Path(__file__).parent))
from own_tasks import OwnClassification, OwnSTS

STATES = (State("normed", "all"),)


@pytest.fixture(scope="module")
def scored(tiny, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("scored")
    score_tasks(str(tiny), [OwnSTS()], out=folder / "run", cache=str(folder / "cache"), workers=1)
    return folder


@pytest.fixture
def run(scored, tmp_path) -> Path:
    return shutil.copytree(scored, tmp_path / "copy") / "run"


def again(run: Path, tiny, tasks=None, **options):
    return score_tasks(str(tiny), tasks or [OwnSTS()], out=run, cache=str(run.parent / "cache"), workers=1, **options)


def test_each_result_is_read_once_and_the_record_knows_every_file_at_every_moment(run, tiny, monkeypatch) -> None:
    read, known = [], []
    real_read, real_write = result_files.read_json, ResultFiles.write_table

    def reading(path, *more, **named):
        read.append(path)
        return real_read(path, *more, **named)

    def writing(self, record):
        known.append(set(open_tasks(run).record.files))
        real_write(self, record)

    monkeypatch.setattr(result_files, "read_json", reading)
    monkeypatch.setattr(ResultFiles, "write_table", writing)
    done = again(run, tiny, [OwnSTS(), OwnClassification()])
    assert len(read) == len(set(read)) == 8
    names = {f"tasks/layer_{layer}/{task}.json" for layer in range(4) for task in ("OwnSTS", "OwnClassification")}
    assert known[0] == {SCORES_FILE, *names}
    assert done.record.files == sums_of(run, [SCORES_FILE, *names])


def test_a_kill_between_the_table_and_its_hash_loses_nothing(run, tiny, monkeypatch) -> None:
    before = load_scores(run)
    real = ResultFiles.write_table

    def killed(self, record):
        real(self, record)
        raise KeyboardInterrupt

    monkeypatch.setattr(ResultFiles, "write_table", killed)
    with pytest.raises(KeyboardInterrupt):
        again(run, tiny, [OwnSTS(), OwnClassification()])
    monkeypatch.setattr(ResultFiles, "write_table", real)
    with pytest.raises(DamagedError, match="run the same `layerscope tasks` command again, which makes it again"):
        load_scores(run)
    scored: list[object] = []
    monkeypatch.setattr("layerscope.tasks.run._Work.take", lambda *given: scored.append(given))
    after = again(run, tiny, [OwnSTS(), OwnClassification()]).scores
    assert scored == []
    assert after.filter(task="OwnSTS").equals(before)
    assert after.filter(task="OwnClassification").height == 4 * 11


def test_a_result_that_the_record_does_not_know_is_not_used(run, tiny) -> None:
    before = load_scores(run)
    record = open_tasks(run).record
    files = {name: value for name, value in record.files.items() if "layer_2" not in name}
    forged = run / "tasks" / "layer_2" / "OwnSTS.json"
    forged.write_text(forged.read_text().replace('"main_score": ', '"main_score": 1'))
    result_files_of = ResultFiles(run, STATES, record.model_copy(update={"files": files}))
    assert not result_files_of.has("OwnSTS", (STATES[0], 2))
    assert result_files_of.has("OwnSTS", (STATES[0], 1))
    assert again(run, tiny).scores.equals(before)


def test_a_damaged_table_is_made_again_from_the_results_without_the_model(run, tiny, monkeypatch) -> None:
    before = load_scores(run)
    table = run / SCORES_FILE
    content = bytearray(table.read_bytes())
    content[len(content) // 3] ^= 4
    table.write_bytes(content)
    with pytest.raises(DamagedError, match=r"scores.parquet is damaged \(its content is not what was written\)"):
        open_tasks(run)
    monkeypatch.setattr("layerscope.tasks.run.load_model", None)
    assert again(run, tiny).scores.equals(before)


def as_of_0_1_0(run: Path) -> None:
    record = open_tasks(run).record.model_copy(update={"schema_version": 1, "files": {}})
    (run / TasksRecord.FILE).write_text(record.model_dump_json())


def test_a_folder_of_0_1_0_loads_and_gets_hashes_when_it_is_written_next(run, tiny) -> None:
    before = load_scores(run)
    as_of_0_1_0(run)
    (run / "tasks" / "layer_3" / "OwnSTS.json").unlink()
    assert open_tasks(run).scores.equals(before)
    failed = again(run, tiny, [OwnClassification()], layers=(0,))
    assert [(failure.task, failure.layer) for failure in failed.failures] == [("OwnSTS", 3)]
    assert failed.record.schema_version == 2
    assert failed.record.files.keys() >= {SCORES_FILE, *(f"tasks/layer_{n}/OwnSTS.json" for n in range(3))}
    assert again(run, tiny).scores.filter(task="OwnSTS").equals(before)


@pytest.mark.parametrize("kind", ["pipe", "link", "folder"])
def test_a_result_that_is_no_file_of_the_runs_own_is_named(run, tiny, kind) -> None:
    file = run / "tasks" / "layer_1" / "OwnSTS.json"
    file.rename(run.parent / "kept.json")
    {"pipe": os.mkfifo, "link": lambda path: path.symlink_to(run.parent / "kept.json"), "folder": os.mkdir}[kind](file)
    (failure,) = again(run, tiny, [OwnClassification()], layers=(1,)).failures
    assert (failure.task, failure.layer) == ("OwnSTS", 1)
    assert str(file) in failure.reason
    with pytest.raises(UserError, match=r"layer_1/OwnSTS\.json"):
        again(run, tiny)


def test_a_folder_of_results_that_is_a_link_is_refused(run, tiny) -> None:
    (run / "tasks").rename(run.parent / "elsewhere")
    (run / "tasks").symlink_to(run.parent / "elsewhere")
    with pytest.raises(UserError, match="tasks is a link, and a run's own files lie in its folder: remove it"):
        again(run, tiny)


@pytest.mark.parametrize(
    "content", ["[]", "{}", '{"scores": []}', '{"scores": {"test": [{"hf_subset": 3}]}}', "[" * 9999]
)
def test_a_result_of_0_1_0_of_another_shape_has_failed(tmp_path, content) -> None:
    file = tmp_path / "tasks" / "layer_0" / "T.json"
    file.parent.mkdir(parents=True)
    file.write_text(content)
    task = {"name": "T", "type": "STS", "main_score": "x", "revision": "1"}
    record = TasksRecord(
        model=ModelSpec(name="m"), spec=None, tasks=(task,), resolved=ResolvedModel(model_revision="r", n_layers=0)
    )
    read = ResultFiles(tmp_path, STATES, record.model_copy(update={"schema_version": 1}))
    assert read.lost.keys() == {("T", (STATES[0], 0))}
    assert not read.has("T", (STATES[0], 0))
    # A record of now has the hash of it: then it is what was written, and still no result.
    assert ResultFiles(tmp_path, STATES, save(record, tmp_path)).lost.keys() == read.lost.keys()


@pytest.mark.parametrize("name", [SCORES_FILE, "tasks.json", "tasks/layer_2/OwnSTS.json"])
def test_a_flipped_bit_or_a_cut_is_never_another_number(run, name) -> None:
    before, rng = (run / name).read_bytes(), np.random.default_rng(0)
    for number in range(40):
        content, place = bytearray(before), int(rng.integers(len(before)))
        content[place] ^= 1 << int(rng.integers(8))
        (run / name).write_bytes(content[:place] if number % 10 == 0 else content)
        try:
            lost = ResultFiles(run, STATES, open_tasks(run).record).lost
            reasons = [failure.reason for failure in lost.values()]
        except DamagedError as error:
            reasons = [str(error)]
        assert [str(run / name) in reason for reason in reasons] == [True]
