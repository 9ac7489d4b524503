"""The presets: the papers' grids are right without running them."""

from __future__ import annotations

from pathlib import Path

import pytest

from layerscope import studies
from layerscope.errors import UserError
from layerscope.studies.catalogue import EXPERIMENTS, STUDIES, find_study
from layerscope.studies.findings import CLAIMS
from layerscope.studies.grid import file_name, short
from layerscope.studies.jobs import Measure, Score, UnavailableError
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Study

HUB = {
    "EleutherAI/pythia-410m", "state-spaces/mamba-370m-hf", "meta-llama/Meta-Llama-3-8B", "nvidia/mamba2-8b-3t-4k",
}  # fmt: skip


OURS = [
    "architectures", "checkpoints", "random-prompts", "extremes", "modes", "mode-causes", "alpha", "mmlu", "table1",
    "readouts",
]  # fmt: skip


def test_every_study_of_the_papers_is_there():
    assert [name for name in STUDIES if name in OURS] == OURS
    assert all(isinstance(study, Study) and study.name == name for name, study in STUDIES.items())
    assert [name.replace("-", "_") for name in STUDIES] == list(EXPERIMENTS)
    with pytest.raises(UserError, match="unknown study 'checkpoint': did you mean 'checkpoints'"):
        find_study("checkpoint")


@pytest.mark.parametrize("name", STUDIES)
def test_the_papers_grid_is_valid_and_names_the_papers_models(name):
    study = STUDIES[name]
    jobs = study.jobs(study.spec("paper"))
    keys = [job.key for job in jobs]
    assert jobs
    assert len(set(keys)) == len(keys)
    measured = [job.spec.model.name for job in jobs if isinstance(job, Measure)]
    scored = [job.model.name for job in jobs if isinstance(job, Score)]
    assert {model.partition("@")[0] for model in measured + scored} <= HUB


def test_the_papers_checkpoints_are_pythias_revisions():
    for name in ("checkpoints", "random-prompts"):
        jobs = STUDIES[name].jobs(STUDIES[name].spec("paper"))
        models = [job.spec.model.name for job in jobs if isinstance(job, Measure)]
        assert models[0] == "EleutherAI/pythia-410m@step1"
        assert models[-1] == "EleutherAI/pythia-410m@step143000"
        assert len(models) == 18
    texts = {job.spec.texts.perturbation for job in jobs if isinstance(job, Measure)}
    assert texts == {"random:512"}


def test_options_reach_the_grid():
    spec = STUDIES["architectures"].spec(
        "paper", {"n": 50, "dtype": "bfloat16", "texts": "ai-medical", "models": "a/b"}
    )
    (job,) = STUDIES["architectures"].jobs(spec)
    assert isinstance(job, Measure)
    assert (job.spec.model.name, job.spec.model.dtype) == ("a/b", "bfloat16")
    assert (job.spec.texts.source, job.spec.texts.n) == ("ai-medical", 50)
    tasks = STUDIES["table1"].spec("paper", {"tasks": "STS15", "data_dir": "/data", "models": "a/b"})
    (score,) = STUDIES["table1"].jobs(tasks)
    assert isinstance(score, Score)
    assert (score.spec.tasks, score.spec.benchmark, score.spec.data_dir) == (("STS15",), None, "/data")


def test_a_pair_that_is_not_trained_is_said_with_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("LAYERSCOPE_CACHE", str(tmp_path))
    for name in ("architectures", "checkpoints", "random-prompts"):
        with pytest.raises(
            UnavailableError, match="'zoo-neox' is not trained on this machine yet: run `layerscope zoo"
        ):
            STUDIES[name].jobs(STUDIES[name].spec("small"))


def test_hub_models_need_steps():
    spec = STUDIES["checkpoints"].spec("paper", {"models": "a/b", "steps": ()})
    with pytest.raises(UserError, match="the checkpoints of 'a/b' are not known: give their steps"):
        STUDIES["checkpoints"].jobs(spec)


def test_both_studies_of_modes_look_at_the_same_prompts():
    assert STUDIES["modes"].presets == STUDIES["mode-causes"].presets


def test_every_claim_of_the_papers_is_put_to_a_test():
    source = "".join(path.read_text() for path in Path(studies.__file__).parent.rglob("*.py"))
    assert [name for name in CLAIMS if f'"{name}"' not in source] == []
    assert {one.id for one in CLAIMS.values()} == set(CLAIMS)


def test_models_of_one_name_are_told_apart():
    models = ("a/tiny", "/b/tiny/", "other", "x/other-tiny", "tiny")
    spec = StudySpec(models=models)
    assert [short(spec, model) for model in models] == ["a/tiny", "b/tiny", "other", "other-tiny", "tiny"]
    assert [file_name(spec, model) for model in models[:2]] == ["a-tiny", "b-tiny"]
