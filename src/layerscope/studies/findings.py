"""Findings: what a study found about a claim, with its interval, and whether the claim holds here."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

import numpy as np
from pydantic import BaseModel, ConfigDict, TypeAdapter

from layerscope.files.reading import read_toml
from layerscope.statistics.intervals import SIGNIFICANCE, benjamini_hochberg
from layerscope.studies.estimates import Estimate

Verdict = Literal["holds", "does not hold", "cannot be told"]
Expected = Literal["positive", "negative"]
FAMILY_NOTE = (
    "p-values are adjusted by Benjamini and Hochberg over all tests of this page. A claim holds where its whole interval is "
    "on the claim's side of 0 and the adjusted p is below .05, does not hold where both are so on the other side, and "
    "cannot be told otherwise."
)


@dataclass(frozen=True)
class Claim:
    """What a paper says, and the number that would show it.

    `quantity` is measured; the claim expects it to be `expected`. Two claims may share nothing but their paper.
    """

    id: str
    text: str
    source: str
    quantity: str
    expected: Expected


_WRITTEN = read_toml("studies", "claims")
CLAIMS = TypeAdapter(dict[str, Claim]).validate_python({one: {"id": one, **_WRITTEN[one]} for one in _WRITTEN})
"""The claims of the papers, by id: claims.toml, which can be read beside them."""


@dataclass(frozen=True)
class Test:
    """A claim put to one model, metric or condition (`about`)."""

    claim: Claim
    about: str
    estimate: Estimate

    # Not a test of pytest's.
    __test__ = False


class Finding(BaseModel):
    """One line of findings.json."""

    model_config = ConfigDict(frozen=True, ser_json_inf_nan="strings")

    claim_id: str
    claim: str
    source: str
    about: str
    statement: str
    quantity: str
    value: float
    ci_low: float
    ci_high: float
    unit: str
    p: float
    p_adjusted: float
    n: int
    over: str
    verdict: Verdict
    note: str = ""


def judge(tests: Sequence[Test]) -> tuple[Finding, ...]:
    """The verdicts of a study's tests, adjusted together.

    Returns:
        One finding a test, in their order.
    """
    adjusted = benjamini_hochberg(np.array([test.estimate.p for test in tests], dtype=np.float64))
    return tuple(_finding(test, float(p)) for test, p in zip(tests, adjusted, strict=True))


def decide(estimate: Estimate, expected: Expected, p_adjusted: float) -> Verdict:
    """Whether a quantity is on the side of 0 that a claim expects."""
    sign = 1 if expected == "positive" else -1
    low, high = sorted((sign * estimate.low, sign * estimate.high))
    if not math.isfinite(estimate.value) or not p_adjusted < SIGNIFICANCE:
        return "cannot be told"
    return "holds" if low > 0 else "does not hold" if high < 0 else "cannot be told"


def by_claim(findings: Sequence[Finding]) -> list[list[Finding]]:
    """The findings of each claim, claims in the order of their first finding."""
    claims = dict.fromkeys(finding.claim_id for finding in findings)
    return [[finding for finding in findings if finding.claim_id == claim] for claim in claims]


def overall(findings: Sequence[Finding]) -> str:
    """The verdicts on one claim in words: `holds`, or `holds in 2 of 3, cannot be told in 1`."""
    verdicts = [finding.verdict for finding in findings]
    there = [kind for kind in get_args(Verdict) if kind in verdicts]
    if len(there) == 1:
        return str(there[0])
    counts = [f"{kind} in {verdicts.count(kind)}" for kind in there]
    return ", ".join([f"{counts[0]} of {len(verdicts)}", *counts[1:]])


def number(value: float) -> str:
    """A number as it stands in a sentence: three significant digits."""
    if not math.isfinite(value):
        return "none"
    size = abs(value)
    if size and size < 1e-3:
        return f"{value:.1e}"
    return f"{value:,.0f}" if size >= 1000 else f"{value:#.3g}".rstrip(".")


def p_words(p: float) -> str:
    """A p-value in words."""
    return "p < .001" if p < 0.001 else f"p = {p:.3f}".replace("0.", ".", 1)


def _finding(test: Test, p_adjusted: float) -> Finding:
    estimate, claim = test.estimate, test.claim
    unit = f" {estimate.unit}" if estimate.unit else ""
    if math.isfinite(estimate.value):
        statement = (
            f"{test.about}: {claim.quantity} is {number(estimate.value)}{unit} (95 % interval {number(estimate.low)} to "
            f"{number(estimate.high)}, {estimate.n} {estimate.over}, adjusted {p_words(p_adjusted)})"
        )
    else:
        statement = f"{test.about}: no value for {claim.quantity}: {estimate.note or 'no reason was recorded'}"
    fields = asdict(claim) | asdict(estimate) | {"claim_id": claim.id, "claim": claim.text, "about": test.about}
    fields |= {"statement": statement, "ci_low": estimate.low, "ci_high": estimate.high, "p_adjusted": p_adjusted}
    return Finding.model_validate(fields | {"verdict": decide(estimate, claim.expected, p_adjusted)})
