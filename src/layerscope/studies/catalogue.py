"""STUDIES: every study by name, one literal dict."""

from __future__ import annotations

from layerscope.errors import unknown
from layerscope.studies import architectures
from layerscope.studies.study import Study

STUDIES: dict[str, Study] = {study.name: study for study in (architectures.STUDY,)}


def find_study(name: str) -> Study:
    """A study by its name.

    Raises:
        UserError: there is none; the message names the nearest.
    """
    if name not in STUDIES:
        raise unknown("study", name, [*STUDIES, "all"])
    return STUDIES[name]
