"""findings.md and findings.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote

from layerscope.studies.findings import FAMILY_NOTE, Finding, by_claim, number, overall, p_words
from layerscope.studies.spec import StudySpec
from layerscope.wording import in_markdown

if TYPE_CHECKING:
    from layerscope.studies.study import Study

SCHEMA_VERSION = 1


def findings_json(study: str, spec: StudySpec, findings: Sequence[Finding], notes: Sequence[str]) -> str:
    """The findings for programs."""
    content = {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "preset": spec.preset,
        "findings": [finding.model_dump(mode="json") for finding in findings],
        "notes": list(notes),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def findings_page(
    study: Study, spec: StudySpec, findings: Sequence[Finding], notes: Sequence[str], figures: Sequence[str]
) -> str:
    """The findings for people: each claim with its verdict and the numbers behind it.

    Args:
        study: what was run.
        spec: its settings.
        findings: in the order they are to stand in.
        notes: what a reader has to know besides.
        figures: names of the figures' files without ending.
    """
    what = f"{study.what[:1].upper()}{study.what[1:]} ({study.paper})"
    lines = [f"# {study.name}", "", f"{what}. Preset `{spec.preset}`{_settings(spec)}.", ""]
    for figure in figures:
        lines += [f"![{in_markdown(figure)}]({quote(figure)}.png)", ""]
    for mine in by_claim(findings):
        first = mine[0]
        quantity = first.quantity[:1].upper() + first.quantity[1:] + (f" ({first.unit})" if first.unit else "")
        lines += [f"## {first.claim}", "", f"{first.source}. Here: **{overall(mine)}**.", ""]
        lines += [f"| | {quantity} | 95 % interval | adjusted p | n | |", "|---|---|---|---|---|---|"]
        lines += [*map(_row, mine), ""]
    if findings:
        lines += [FAMILY_NOTE, ""]
    if notes:
        lines += ["## Notes", "", *(f"- {in_markdown(note)}" for note in notes), ""]
    return "\n".join(lines)


def _row(finding: Finding) -> str:
    about = in_markdown(finding.about)
    if finding.value != finding.value:
        return f"| {about} | none: {in_markdown(finding.note)} | | | | {finding.verdict} |"
    interval = f"{number(finding.ci_low)} to {number(finding.ci_high)}"
    p = p_words(finding.p_adjusted).removeprefix("p ").removeprefix("= ")
    return f"| {about} | {number(finding.value)} | {interval} | {p} | {finding.n} {finding.over} | {finding.verdict} |"


def _settings(spec: StudySpec) -> str:
    """The settings that differ from no setting at all, as they are typed."""
    words = []
    for name, value in spec.model_dump(exclude={"preset"}, exclude_defaults=True, exclude_none=True).items():
        many = value if isinstance(value, tuple) else (value,)
        shown = ",".join(f"{one:g}" if isinstance(one, float) else str(one) for one in many)
        words.append(f"{name.replace('_', ' ')} {in_markdown(shown)}")
    return ": " + "; ".join(words) if words else ""
