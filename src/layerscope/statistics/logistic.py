"""Logistic regression of a 0/1 label on several covariates at once."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy import stats

from layerscope.statistics.intervals import LEVEL

# Intervals need the penalised information, which neither scikit-learn nor statsmodels gives of a ridge; Newton's steps
# towards the coefficients come with it.
RIDGE = 1.0
ROUNDS = 100
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Logistic:
    """Coefficients per standard deviation of each covariate, with Wald intervals and p-values."""

    intercept: float
    coefficients: Float[np.ndarray, " covariates"]
    low: Float[np.ndarray, " covariates"]
    high: Float[np.ndarray, " covariates"]
    p: Float[np.ndarray, " covariates"]
    separated: bool


def fit_logistic(
    covariates: Float[np.ndarray, "items covariates"], label: Float[np.ndarray, " items"], *, ridge: float = RIDGE
) -> Logistic:
    """Log-odds of the label as a linear function of all covariates together.

    Maximises Σ log-likelihood − ridge/2 · Σ β² by iteratively reweighted least squares on standardised covariates; the
    intercept is not penalised. The ridge (a normal prior of variance 1 / ridge on every coefficient) keeps coefficients
    finite where the covariates separate the labels, and shrinks them by about ridge · SE² of themselves otherwise.

    Covariates are finite and none is constant; they are standardised here (population standard deviation). Both labels,
    0 and 1, are present.

    Returns log odds ratios per standard deviation; intervals and p-values from the inverse of the penalised
    information. `separated`: the covariates tell the labels apart without error, so the coefficients are the ridge's
    doing.
    Source: Hastie, Tibshirani & Friedman 2009, section 4.4.1; le Cessie & van Houwelingen 1992 (ridge).
    """
    scaled = (covariates - covariates.mean(axis=0)) / covariates.std(axis=0)
    design = np.column_stack([np.ones(len(label)), scaled])
    penalty = np.diag([0.0, *[ridge] * scaled.shape[1]])
    beta = np.zeros(design.shape[1])

    def look(beta: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """The objective, every item's chance of a 1, and the penalised information."""
        odds = design @ beta
        objective = float((label * odds - np.logaddexp(0, odds)).sum() - 0.5 * beta @ penalty @ beta)
        chance = 1 / (1 + np.exp(-np.clip(odds, -500, 500)))
        return objective, chance, design.T @ (design * (chance * (1 - chance))[:, None]) + penalty

    objective, chance, information = look(beta)
    for _ in range(ROUNDS):
        # A rounding-level term for the intercept, whose information vanishes when everything is separated.
        step = np.linalg.solve(information + 1e-10 * np.eye(len(beta)), design.T @ (label - chance) - penalty @ beta)
        size, before = 1.0, objective
        while size > 1e-6 and look(beta + size * step)[0] < before:
            size /= 2
        beta = beta + size * step
        objective, chance, information = look(beta)
        if objective - before <= TOLERANCE * len(label):
            break
    errors = np.sqrt(np.diag(np.linalg.inv(information)))[1:]
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * errors
    slopes = beta[1:]
    return Logistic(
        intercept=float(beta[0]),
        coefficients=slopes,
        low=slopes - half,
        high=slopes + half,
        p=np.asarray(2 * stats.norm.sf(np.abs(slopes) / errors)),
        separated=bool(((chance > 0.5) == (label == 1)).all()),
    )
