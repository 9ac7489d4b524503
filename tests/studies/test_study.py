"""The framework: jobs that are shared and done once, settings that may not change, what is missing, what is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.studies.conftest import CLAIM, Counted

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.errors import DamagedError, DiskFullError, UserError
from layerscope.figures import FacetLook
from layerscope.results.record import read_record
from layerscope.results.run import Run
from layerscope.studies.curves import layer_curve, prompt_curves
from layerscope.studies.estimates import Estimate, mean_estimate
from layerscope.studies.experiments.causes.descriptions import Describe
from layerscope.studies.findings import Test as StudyTest
from layerscope.studies.jobs import Job, Measure, UnavailableError
from layerscope.studies.record import StudyRecord
from layerscope.studies.study import Drawing, Outcome, run_study


def test_a_study_writes_its_record_its_findings_and_a_page(make_study, tmp_path):
    study = make_study()
    run = run_study(study, study.spec("small"), tmp_path)
    assert isinstance(Counted("a"), Job)
    record = read_record(StudyRecord, run.path)
    assert (record.status, record.spec.n, [job.status for job in record.jobs]) == ("done", 8, ["done"])
    content = json.loads((run.path / "findings.json").read_text())
    (finding,) = content["findings"]
    assert (finding["claim"], finding["verdict"], finding["ci_low"]) == ("Something is large", "holds", 1.0)
    assert content["notes"] == ["A note."]
    page = (run.path / "findings.md").read_text()
    assert "## Something is large" in page
    assert "Here: **holds**" in page
    assert "| x | 2.00 | 1.00 to 3.00 | .001 | 1 prompts | holds |" in page


def test_what_comes_from_models_and_texts_is_text_on_the_page(make_study, tmp_path):
    evil = "<img src=x onerror=alert(1)> [x](javascript:alert(1)) | **b**\x1b[31m"

    def look(*_):
        estimates = (Estimate(2.0, 1.0, 3.0, 0.001, 1), Estimate(float("nan"), 1.0, 3.0, 0.001, 1, note=evil))
        return Outcome([StudyTest(CLAIM, evil, one) for one in estimates], notes=[evil])

    study = make_study(analyse=look)
    page = (run_study(study, study.spec("small", {"data_dir": evil}), tmp_path).path / "findings.md").read_text()
    text = "&lt;img src=x onerror=alert(1)> [x\\](javascript:alert(1)) \\| \\*\\*b\\*\\*"
    assert page.count(text) == 5
    assert "<img" not in page
    assert "\x1b" not in page


def test_equal_jobs_are_done_once_within_and_between_studies(make_study, tmp_path):
    first, second = make_study("first", [Counted("a"), Counted("b", "other")]), make_study("second", [Counted("z")])
    for study in (first, second, first):
        run_study(study, study.spec("small"), tmp_path)
    assert len(list((tmp_path / "runs").iterdir())) == 2
    folders = [{job.folder for job in read_record(StudyRecord, tmp_path / name).jobs} for name in ("first", "second")]
    assert folders[1] < folders[0]


def test_other_settings_are_refused_with_what_differs(make_study, tmp_path):
    study = make_study()
    run_study(study, study.spec("small"), tmp_path)
    with pytest.raises(UserError, match=r"other settings \(n: 8 -> 9\).*choose another --out"):
        run_study(study, study.spec("small", {"n": 9}), tmp_path)
    run_study(study, study.spec("small", {"data_dir": "/elsewhere"}), tmp_path)


def test_an_option_that_a_study_has_not_is_refused(make_study):
    with pytest.raises(UserError, match=r"study counting has no option --tasks: it takes .*--n"):
        make_study().spec("small", {"tasks": ("STS15",)})
    with pytest.raises(UserError, match="--n: input should be greater than or equal to 2, got 1"):
        make_study().spec("small", {"n": 1})


def test_a_job_that_fails_is_named_and_the_others_go_on(make_study, tmp_path):
    study = make_study(jobs=[Counted("step1"), Counted("step2", "gone", reason="there is no step2")])
    run = run_study(study, study.spec("small"), tmp_path)
    assert run.missing == {"step2": "there is no step2"}
    assert run.findings[0].n == 1
    assert "step2 is missing: there is no step2" in (run.path / "findings.md").read_text()
    assert [job.status for job in read_record(StudyRecord, run.path).jobs] == ["done", "missing"]


def test_a_full_disk_ends_the_study(make_study, tmp_path, monkeypatch):
    def full(*_):
        raise DiskFullError("the disk is full")

    monkeypatch.setattr(Counted, "start", full)
    study = make_study()
    with pytest.raises(DiskFullError):
        run_study(study, study.spec("small"), tmp_path)
    assert read_record(StudyRecord, tmp_path / "counting").status == "failed"


def test_what_cannot_be_looked_at_says_why_what_it_lacks_is_missing(make_study, tmp_path):
    def too_few(*_):
        raise UserError("one checkpoint is too few")

    jobs = [Counted("step1"), Counted("step2", "gone", reason="there is no step2")]
    study = make_study(jobs=jobs, analyse=too_few)
    with pytest.raises(UserError, match=r"one checkpoint is too few \(step2 is missing: there is no step2\)"):
        run_study(study, study.spec("small"), tmp_path)


def test_nothing_but_failures_is_a_failure(make_study, tmp_path):
    study = make_study(jobs=[Counted("a", reason="the disk is gone")])
    with pytest.raises(UserError, match="no result to look at: the disk is gone"):
        run_study(study, study.spec("small"), tmp_path)
    assert read_record(StudyRecord, tmp_path / "counting").status == "failed"


def test_an_interrupted_study_goes_on_from_its_jobs(make_study, tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    broken = make_study(analyse=stop)
    with pytest.raises(KeyboardInterrupt):
        run_study(broken, broken.spec("small"), tmp_path)
    assert read_record(StudyRecord, tmp_path / "counting").reason == "stopped by Ctrl-C"
    study = make_study()
    run = run_study(study, study.spec("small"), tmp_path)
    assert read_record(StudyRecord, run.path).status == "done"


class Killed(BaseException):
    """The process ends here: nothing that comes later is written."""


@pytest.mark.faults
def test_a_study_killed_at_any_write_goes_on_to_equal_findings(
    make_study, tmp_path, tiny_pair, tiny_texts, monkeypatch
):
    texts = TextSpec(source=tiny_texts, n=6)
    run = RunSpec(model=ModelSpec(name=f"{tiny_pair[0]}/step8"), texts=texts, metrics="curvature", resamples=100)
    jobs = [Measure("m", run), Describe("d", run.model, texts, reference=tiny_texts)]

    def look(_, results):
        (measured,) = results.every(Run).values()
        line = layer_curve(measured, "curvature").line(("curvature", "", "m"))
        value = mean_estimate(prompt_curves(measured, "curvature").band("middle"))
        figure = Drawing.of_lines("curve", [line], FacetLook(title="Curvature", about=""))
        return Outcome([StudyTest(CLAIM, "m", value)], [figure], {"numbers": line}, ["A note."], {"a.md": "# A\n"})

    study = make_study(jobs=jobs, analyse=look)
    names = ("findings.json", "findings.md", "curve.parquet", "curve.svg", "numbers.parquet", "a.md")
    written, left = [], None
    original = Path.replace

    def replace(path, target):
        nonlocal left
        if left is not None and left <= 0:
            raise Killed
        left = None if left is None else left - 1
        written.append(target)
        return original(path, target)

    monkeypatch.setattr(Path, "replace", replace)
    whole = run_study(study, study.spec("small"), tmp_path / "whole").path
    writes = len(written)
    assert writes > 15
    for kept in range(0, writes, 2):
        out, left = tmp_path / str(kept), kept
        with pytest.raises(Killed):
            run_study(study, study.spec("small"), out)
        left = None
        again = run_study(study, study.spec("small"), out).path
        assert [(again / name).read_bytes() for name in names] == [(whole / name).read_bytes() for name in names], kept
        record = read_record(StudyRecord, again)
        assert record.status == "done"
        assert set(names) < set(record.files)
        assert not [path for path in again.iterdir() if path.name.endswith(".tmp")]


@pytest.mark.parametrize(
    "content", ["", "[]", "[" * 100_000, '{"a": "\\ud800"}', '{"schema_version": 2, "study": 3}', "{}"]
)
def test_an_odd_record_is_a_named_error(make_study, tmp_path, content):
    study = make_study()
    folder = run_study(study, study.spec("small"), tmp_path).path
    (folder / "study.json").write_text(content)
    with pytest.raises(DamagedError, match=r"study\.json is .*delete the folder .* `layerscope study` command again"):
        run_study(study, study.spec("small"), tmp_path)


def test_progress_runs_over_the_whole_grid(make_study, tmp_path):
    seen = []
    study = make_study(jobs=[Counted("a"), Counted("b", "other")])
    run_study(study, study.spec("small"), tmp_path, lambda *told: seen.append(told))
    assert seen == [
        ("counting", 0.0, 2.0),
        ("counting", pytest.approx(0.5), 2.0),
        ("counting", 1.0, 2.0),
        ("counting", pytest.approx(1.5), 2.0),
        ("counting", 2.0, 2.0),
    ]


def test_two_jobs_of_one_name_are_refused(make_study, tmp_path):
    study = make_study(jobs=[Counted("a"), Counted("a", "other")])
    with pytest.raises(UserError, match="a is asked for twice"):
        run_study(study, study.spec("small"), tmp_path)


def test_a_result_that_was_there_is_compared_with_its_model_and_texts(make_study, tmp_path, tiny_pair, tiny_texts):
    model, texts = tmp_path / "model", tmp_path / "texts.txt"
    shutil.copytree(f"{tiny_pair[0]}/step8", model)
    shutil.copy(tiny_texts, texts)
    given = TextSpec(source=str(texts), n=4)
    jobs = [
        Measure("m", RunSpec(model=ModelSpec(name=str(model)), texts=given, metrics="curvature", resamples=100)),
        Describe("d", ModelSpec(name=str(model)), given, reference=str(tiny_texts)),
    ]
    study = make_study(jobs=jobs)
    assert run_study(study, study.spec("small"), tmp_path / "out").notes == ("A note.",)
    texts.rename(tmp_path / "away.txt")
    (note,) = [note for note in run_study(study, study.spec("small"), tmp_path / "out").notes if "cannot be" in note]
    assert note.startswith("m: the texts cannot be compared with what was measured")
    texts.write_text("w41 w42\n" * 4)
    missing = run_study(make_study(jobs=[*jobs, Counted("a")]), study.spec("small"), tmp_path / "out").missing
    assert list(missing) == ["m", "d"]
    assert all("holds a run of other inputs (texts_revision: sha256:" in reason for reason in missing.values())


def test_a_study_that_cannot_run_says_what_would_help():
    error = UnavailableError("the pair is not trained", "layerscope zoo train")
    assert str(error) == "the pair is not trained: run `layerscope zoo train`"


def test_tables_and_texts_of_an_outcome_are_written(make_study, tmp_path):
    import polars as pl

    def look(*_):
        tests = [StudyTest(CLAIM, "x", Estimate(0.0, -1.0, 1.0, 0.9, 5))]
        return Outcome(tests, tables={"numbers": pl.DataFrame({"a": [1]})}, files={"examples.md": "# Examples\n"})

    study = make_study(analyse=look)
    run = run_study(study, study.spec("small"), tmp_path)
    assert pl.read_parquet(run.path / "numbers.parquet")["a"].to_list() == [1]
    assert (run.path / "examples.md").read_text() == "# Examples\n"
    assert run.findings[0].verdict == "cannot be told"
