"""A tiny pair with checkpoints, texts it can read, and a study that costs nothing."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest
from tests.families import FAMILIES, save_family
from tests.tasks.conftest import tiny  # noqa: F401

from layerscope.errors import RunFailedError
from layerscope.studies.estimates import Estimate
from layerscope.studies.findings import Claim, Test
from layerscope.studies.spec import StudySpec
from layerscope.studies.study import Outcome, Study

STEPS = (0, 1, 8, 64)


@pytest.fixture(scope="session")
def tiny_pair(tmp_path_factory):
    """Folders of a Transformer's and a state-space model's checkpoints; the weights of a step are its seed."""
    root = tmp_path_factory.mktemp("zoo")
    for name, family in (("tiny-neox", "gpt-neox"), ("tiny-mamba2", "mamba2")):
        for step in STEPS:
            save_family(FAMILIES[family], root / name / f"step{step}", seed=step)
    return str(root / "tiny-neox"), str(root / "tiny-mamba2")


@pytest.fixture(scope="session")
def tiny_texts(tmp_path_factory):
    draw = random.Random(0)
    lines = [" ".join(f"w{draw.randrange(40, 96)}" for _ in range(draw.randrange(8, 30))) for _ in range(12)]
    path = tmp_path_factory.mktemp("texts") / "texts.txt"
    path.write_text("\n".join(lines) + "\n")
    return str(path)


CLAIM = Claim("one", "Something is large", "arXiv 0000.00000, figure 1", "its size", "positive")


@dataclass(frozen=True)
class Counted:
    """A job that counts how often it was worked at in a file of its folder, and does not work where that says so."""

    key: str
    work: str = "same"
    reason: str = ""

    @property
    def slug(self):
        return self.work

    @property
    def identity(self):
        return {"work": self.work}

    def start(self, folder, report):
        if self.reason:
            raise RunFailedError(self.reason)
        folder.mkdir(exist_ok=True)
        report("measuring", 1.0, 2.0)
        path = folder / "count"
        if not path.exists():
            path.write_text("1")
        return path


@pytest.fixture
def make_study():
    """make_study(name, jobs): a study whose one test has an interval of 1 to 3."""

    def make(name="counting", jobs=(Counted("a"),), analyse=None):
        def look(_, results):
            return Outcome([Test(CLAIM, "x", Estimate(2.0, 1.0, 3.0, 0.001, len(results.found)))], notes=["A note."])

        return Study(
            name=name,
            what="counts",
            paper="no figure",
            presets={size: StudySpec(preset=size, n=8) for size in ("small", "paper")},
            options=frozenset({"n"}),
            jobs=lambda _: list(jobs),
            analyse=analyse or look,
        )

    return make
