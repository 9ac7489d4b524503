"""The verb `study`, as it is typed."""

from __future__ import annotations

import pytest
from tests.studies.conftest import Counted
from typer.testing import CliRunner

from layerscope.cli.app import app
from layerscope.errors import UserError
from layerscope.studies import catalogue
from layerscope.studies.jobs import UnavailableError


@pytest.fixture
def invoke():
    def call(*words: str):
        result = CliRunner().invoke(app, ["study", *words])
        if isinstance(result.exception, UserError):
            raise result.exception
        return result

    return call


def test_the_list_names_every_study_and_its_models(invoke):
    text = invoke("--list").stdout
    assert all(name in text for name in catalogue.STUDIES)
    assert "figure 1" in text


def test_help_has_an_example(invoke):
    assert "Example: layerscope study" in invoke("--help").stdout


def test_mistakes_are_named(invoke, tmp_path):
    with pytest.raises(UserError, match="no study: give its NAME"):
        invoke()
    with pytest.raises(UserError, match="did you mean 'extremes'"):
        invoke("extreme")
    with pytest.raises(UserError, match="--preset: expected small or paper, got 'large'"):
        invoke("alpha", "--preset", "large")
    with pytest.raises(UserError, match="study alpha has no option --steps"):
        invoke("alpha", "--steps", "1,2", "--out", str(tmp_path))


def test_all_goes_on_past_a_study_that_cannot_run(invoke, make_study, monkeypatch, tmp_path):
    def refuse(_):
        raise UnavailableError("the pair is not trained", "layerscope zoo train")

    good = make_study("good", [Counted("a")])
    bad = make_study("bad")
    object.__setattr__(bad, "jobs", refuse)
    monkeypatch.setattr(catalogue, "STUDIES", {"bad": bad, "good": good})
    result = invoke("all", "--out", str(tmp_path))
    assert result.exit_code == 1
    text = " ".join(result.stdout.split())
    assert "layerscope zoo train" in text
    assert (tmp_path / "good" / "findings.md").exists()


def test_findings_are_printed_and_a_missing_job_is_exit_one(invoke, make_study, monkeypatch, tmp_path):
    monkeypatch.setattr(catalogue, "STUDIES", {"good": make_study("good", [Counted("a")])})
    result = invoke("good", "--out", str(tmp_path))
    assert result.exit_code == 0
    assert "Something is large: holds" in result.stdout
    gaps = make_study("gaps", [Counted("a"), Counted("b", "b", reason="it is gone")])
    monkeypatch.setattr(catalogue, "STUDIES", {"gaps": gaps})
    result = invoke("gaps", "--out", str(tmp_path))
    assert result.exit_code == 1
    assert "b is missing: it is gone" in result.stdout
