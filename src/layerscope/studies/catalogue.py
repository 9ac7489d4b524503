"""STUDIES: every study by name, one literal dict."""

from __future__ import annotations

from layerscope.errors import unknown
from layerscope.studies.experiments import (
    alpha,
    architectures,
    checkpoints,
    extremes,
    mmlu,
    mode_causes,
    modes,
    random_prompts,
    readouts,
    table1,
)
from layerscope.studies.study import Study

STUDIES: dict[str, Study] = {
    study.name: study
    for study in (
        architectures.STUDY,
        checkpoints.STUDY,
        random_prompts.STUDY,
        extremes.STUDY,
        modes.STUDY,
        mode_causes.STUDY,
        alpha.STUDY,
        mmlu.STUDY,
        table1.STUDY,
        readouts.STUDY,
    )
}


def find_study(name: str) -> Study:
    """A study by its name.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    if name not in STUDIES:
        raise unknown("study", name, [*STUDIES, "all"])
    return STUDIES[name]
