"""findings.md and findings.json."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any
from urllib.parse import quote

from layerscope.studies.findings import FAMILY_NOTE, Finding, number, overall, p_words
from layerscope.studies.spec import StudySpec
from layerscope.wording import in_markdown

SCHEMA_VERSION = 1


def findings_json(study: str, spec: StudySpec, findings: Sequence[Finding], notes: Sequence[str]) -> str:
    """The findings for programs."""
    content: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "study": study,
        "preset": spec.preset,
        "findings": [finding.model_dump(mode="json") for finding in findings],
        "notes": list(notes),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


def findings_page(
    about: tuple[str, str, str],
    spec: StudySpec,
    findings: Sequence[Finding],
    notes: Sequence[str],
    figures: Sequence[str],
) -> str:
    """The findings for people: each claim with its verdict and the numbers behind it.

    Args:
        about: the study's name, what it is, and the paper's figure.
        spec: its settings.
        findings: in the order they are to stand in.
        notes: what a reader has to know besides.
        figures: names of the figures' files without ending.
    """
    name, what, paper = about
    lines = [f"# {name}", "", f"{what[:1].upper()}{what[1:]} ({paper}). Preset `{spec.preset}`{_settings(spec)}.", ""]
    for figure in figures:
        lines += [f"![{in_markdown(figure)}]({quote(figure)}.png)", ""]
    for claim in dict.fromkeys((finding.claim_id, finding.claim, finding.source) for finding in findings):
        mine = [finding for finding in findings if finding.claim_id == claim[0]]
        lines += [f"## {claim[1]}", "", f"{claim[2]}. Here: **{overall(mine)}**.", ""]
        lines += ["| | " + _quantity(mine[0]) + " | 95 % interval | adjusted p | n | |", "|---|---|---|---|---|---|"]
        lines += [_row(finding) for finding in mine]
        lines.append("")
    if findings:
        lines += [FAMILY_NOTE, ""]
    if notes:
        lines += ["## Notes", ""] + [f"- {in_markdown(note)}" for note in notes] + [""]
    return "\n".join(lines)


def _quantity(finding: Finding) -> str:
    quantity = finding.quantity[:1].upper() + finding.quantity[1:]
    return f"{quantity} ({finding.unit})" if finding.unit else quantity


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
    for name, field in StudySpec.model_fields.items():
        value = getattr(spec, name)
        if name != "preset" and value not in (field.default, None, ()):
            shown = (
                ",".join(f"{v:g}" if isinstance(v, float) else str(v) for v in value)
                if isinstance(value, tuple)
                else value
            )
            words.append(f"{name.replace('_', ' ')} {in_markdown(shown)}")
    return ": " + "; ".join(words) if words else ""
