"""A run of questions: equal after an interruption, refused where it cannot be continued, mistakes said early."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from tests.kills import Killed, at_every_write

from layerscope.config import ModelSpec
from layerscope.errors import RunFailedError, UserError
from layerscope.mmlu import run as module
from layerscope.mmlu.harness import Harness
from layerscope.mmlu.record import MmluRecord
from layerscope.mmlu.run import mmlu_spec, open_mmlu
from layerscope.mmlu.spec import MmluSpec
from layerscope.mmlu.tables import TABLES
from layerscope.results.record import read_record


@pytest.fixture
def spec(one_token, write, rows):
    def make(**options):
        questions = write([*rows, rows[0]])
        given = {
            "shots": 1,
            "block_size": 6,
            "permutations": 99,
            "resamples": 100,
            "positions": "all,no-sink",
            "model": ModelSpec(name=str(one_token)),
        }
        return MmluSpec(questions=questions, **(given | options))

    return make


def interrupt(monkeypatch, after, error):
    real, calls = module.ask_block, []

    def stopping(*given):
        if len(calls) == after:
            raise error
        calls.append(given)
        return real(*given)

    monkeypatch.setattr(module, "ask_block", stopping)
    return calls


def test_a_run_from_end_to_end(spec, tmp_path):
    seen = []
    run = mmlu_spec(spec(), tmp_path / "run", lambda *given: seen.append(given))
    resolved = run.record.resolved
    assert (resolved.n_questions, resolved.n_subjects, resolved.shots, resolved.examples) == (
        21,
        5,
        1,
        "other questions",
    )
    assert run.record.status == "done"
    assert any("1 questions stand more than once" in warning for warning in run.record.warnings)
    assert run.questions["question_id"].n_unique() == 21
    letters = run.questions.select(pl.col(f"loglik_{letter}") for letter in "ABCD").to_numpy()
    assert run.questions["chosen"].to_list() == ["ABCD"[place] for place in letters.argmax(1)]
    assert (run.questions["correct"] == (run.questions["chosen"] == run.questions["answer"])).all()
    assert len(run.entropies) == 21 * 3 * 2
    assert run.entropies["value"].is_finite().all()
    assert {"loading the model", "building the prompts", "measuring", "scoring"} <= {stage for stage, *_ in seen}
    measured = [done / total for stage, done, total in seen if stage == "measuring"]
    assert measured == sorted(measured)
    assert measured[-1] == 1
    assert not (tmp_path / "run" / "blocks").exists()


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("the machine went away")])
def test_an_interrupted_run_goes_on_and_is_equal(spec, tmp_path, monkeypatch, error):
    whole = mmlu_spec(spec(), tmp_path / "whole")
    with monkeypatch.context() as patch:
        interrupt(patch, 2, error)
        with pytest.raises(type(error)):
            mmlu_spec(spec(), tmp_path / "run")
    record = read_record(MmluRecord, tmp_path / "run")
    assert record.status == "failed"
    assert ("Ctrl-C" in record.reason) == isinstance(error, KeyboardInterrupt)
    with pytest.raises(UserError, match=r"is failed .*run the same `layerscope mmlu` command to finish it"):
        open_mmlu(tmp_path / "run")
    # What a killed process leaves of a block that it was writing.
    (tmp_path / "run" / "blocks" / ".block_00002.0123abcd.tmp").mkdir()
    with monkeypatch.context() as patch:
        calls = interrupt(patch, 99, error)
        again = mmlu_spec(spec(), tmp_path / "run")
    assert len(calls) == 2
    assert again.questions.equals(whole.questions)
    assert again.entropies.equals(whole.entropies)


def once(function):
    known = []

    def remembered(*given):
        if not known:
            known.append(function(*given))
        return known[0]

    return remembered


@pytest.mark.slow
@pytest.mark.parametrize("error", [Killed, OSError])
def test_a_run_that_was_stopped_at_any_write_ends_with_equal_tables(spec, tmp_path, monkeypatch, error):
    # lm-eval's part writes nothing and takes long: once is enough.
    monkeypatch.setattr(Harness, "ask", once(Harness.ask))
    monkeypatch.setattr(Harness, "score", once(Harness.score))
    given = spec(block_size=11)
    whole = mmlu_spec(given, tmp_path / "whole")
    moments = 0
    for out in at_every_write(lambda out: mmlu_spec(given, out), tmp_path, error):
        again = mmlu_spec(given, out)
        for table in TABLES:
            assert getattr(again, table).equals(getattr(whole, table), null_equal=True), (out, table)
        assert again.guessing == whole.guessing
        assert sorted(path.name for path in out.iterdir()) == [".lock", "mmlu", "mmlu.json"], out
        moments += 1
    # Two records, two blocks, four tables; a full disk does not keep the blocks from being removed.
    assert moments >= (9 if error is Killed else 8)


def test_a_finished_run_is_only_read(spec, tmp_path, monkeypatch):
    mmlu_spec(spec(), tmp_path / "run")
    monkeypatch.setattr(module, "load_model", lambda _: pytest.fail("loaded the model again"))
    mmlu_spec(spec(), tmp_path / "run")


def test_a_finished_run_is_compared_with_its_model_and_questions(spec, one_token, tmp_path, rows, write):
    shutil.copytree(one_token, tmp_path / "model")
    given = spec(model=ModelSpec(name=str(tmp_path / "model")))
    first = mmlu_spec(given, tmp_path / "run")
    assert mmlu_spec(given, tmp_path / "run").notes == first.notes == ()
    write([*rows, rows[1]])
    with pytest.raises(UserError, match=r"other inputs \(questions_revision: sha256:\w+ -> sha256:\w+\): choose"):
        mmlu_spec(given, tmp_path / "run")
    Path(given.questions).unlink()
    shutil.rmtree(tmp_path / "model")
    model, questions = mmlu_spec(given, tmp_path / "run").notes
    assert "the model cannot be compared with what was measured" in model
    assert "the questions cannot be compared with what was measured" in questions


def test_other_settings_or_questions_are_refused(spec, tmp_path, monkeypatch, rows, write):
    with monkeypatch.context() as patch:
        interrupt(patch, 1, KeyboardInterrupt())
        with pytest.raises(KeyboardInterrupt):
            mmlu_spec(spec(), tmp_path / "run")
    with pytest.raises(UserError, match=r"holds a run with other settings \(shots: 1 -> 2\)"):
        mmlu_spec(spec(shots=2), tmp_path / "run")
    same = spec()
    rows[3]["question"] = "Another?"
    write([*rows, rows[0]])
    with pytest.raises(UserError, match=r"was started with other inputs .prompts_sha256"):
        mmlu_spec(same, tmp_path / "run")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "notes.txt").touch()
    with pytest.raises(UserError, match=r"is not empty and not a run of this kind .it holds notes.txt."):
        mmlu_spec(same, tmp_path / "full")


def test_mistakes_are_said_before_a_model_is_loaded(spec, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "load_model", lambda _: pytest.fail("loaded a model"))
    with pytest.raises(UserError, match=r"at least 5 subjects, .* got 1 .virology.: ask more subjects"):
        mmlu_spec(spec(subjects="virology"), tmp_path / "run")
    with pytest.raises(UserError, match=r"dataset_entropy has one value for all prompts together"):
        mmlu_spec(spec(metrics="dataset_entropy"), tmp_path / "run")
    with pytest.raises(UserError, match=r"unknown metric 'entropi'"):
        mmlu_spec(spec(metrics="entropi"), tmp_path / "run")


def test_a_context_that_is_too_short_is_counted(spec, tmp_path):
    run = mmlu_spec(spec(context=100), tmp_path / "run")
    assert run.questions["n_tokens"].max() == 100
    assert run.questions["note"].str.starts_with("cut from").sum() > 0
    assert any("were longer than 100 tokens and lost their beginning" in warning for warning in run.record.warnings)


def test_damaged_files_are_named(spec, tmp_path):
    run = mmlu_spec(spec(), tmp_path / "run")
    (run.path / "mmlu" / "questions.parquet").write_bytes(b"PAR1")
    with pytest.raises(
        RunFailedError,
        match=r"questions.parquet is damaged .* run the same `layerscope mmlu` command with another --out",
    ):
        open_mmlu(run.path)
    record = run.path / "mmlu.json"
    content = json.loads(record.read_text())
    record.write_text(json.dumps(content | {"commit": "another"}))
    with pytest.raises(RunFailedError, match=r"mmlu.json is damaged .its content is not what was written."):
        open_mmlu(run.path)
    record.write_text("{")
    with pytest.raises(RunFailedError, match=r"mmlu.json is no JSON"):
        open_mmlu(run.path)
    with pytest.raises(UserError, match=r"does not hold answers to questions: it has no mmlu.json"):
        open_mmlu(tmp_path)


def test_results_do_not_depend_on_blocks(spec, tmp_path):
    one = mmlu_spec(spec(), tmp_path / "one")
    other = mmlu_spec(spec(block_size=100, batch_tokens=300), tmp_path / "other")
    assert np.abs(one.entropies["value"].to_numpy() - other.entropies["value"].to_numpy()).max() < 1e-5
    assert np.abs(one.questions["loglik_A"].to_numpy() - other.questions["loglik_A"].to_numpy()).max() < 1e-5
