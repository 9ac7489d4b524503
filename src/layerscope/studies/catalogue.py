"""STUDIES: every study by name, in the order of the papers."""

from __future__ import annotations

from importlib import import_module

from layerscope.errors import unknown
from layerscope.studies.study import Study

# Each is a file of experiments/ with its STUDY.
EXPERIMENTS = (
    "architectures",
    "checkpoints",
    "random_prompts",
    "extremes",
    "modes",
    "mode_causes",
    "alpha",
    "mmlu",
    "table1",
    "readouts",
)


_FILES = [import_module(f"layerscope.studies.experiments.{file}") for file in EXPERIMENTS]
STUDIES: dict[str, Study] = {file.STUDY.name: file.STUDY for file in _FILES}


def find_study(name: str) -> Study:
    """A study by its name.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    if name not in STUDIES:
        raise unknown("study", name, [*STUDIES, "all"])
    return STUDIES[name]
