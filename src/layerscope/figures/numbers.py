"""How numbers are written and where an axis has its ticks: one way for terminals, figures and pages."""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Axis = Literal["layer", "depth"]

MISSING = "·"


@dataclass(frozen=True)
class NumberFormat:
    """How the numbers of one column or curve are written: with the same decimals in every row."""

    decimals: int
    scientific: bool

    @classmethod
    def of(cls, values: NDArray[np.float64], halves: NDArray[np.float64]) -> NumberFormat:
        """The decimals that values with half-intervals bear: a digit of a small one, two where the first is a 1."""
        finite = np.abs(values[np.isfinite(values)])
        largest = float(finite.max()) if len(finite) else 0.0
        if largest >= 1e6 or 0 < largest < 1e-4:
            return cls(decimals=1, scientific=True)
        halves = halves[np.isfinite(halves) & (halves > 0)]
        finest = float(np.quantile(halves, 0.25)) if len(halves) else largest / 500
        wanted = -math.floor(math.log10(finest / 2)) if finest > 0 else 2
        before = max(1, math.floor(math.log10(largest)) + 1) if largest > 0 else 1
        return cls(decimals=max(0, min(wanted, 3, 5 - before) if largest >= 0.1 else min(wanted, 4)), scientific=False)

    @classmethod
    def of_values(cls, values: NDArray[np.floating]) -> NumberFormat:
        """As many decimals as the value needs that needs the most for four digits; scientific past seven digits."""
        finite = [float(value) for value in values if math.isfinite(value)]
        decimals = max((-_exponent(value) for value in finite), default=0)
        if decimals > 7 or any(abs(value) >= 1e7 for value in finite):
            return cls(decimals=3, scientific=True)
        return cls(decimals=max(0, decimals), scientific=False)

    def value(self, value: float) -> str:
        """A value in this format; a missing one is a dot."""
        if not math.isfinite(value):
            return MISSING
        return f"{value:.{self.decimals}e}" if self.scientific else f"{value:.{self.decimals}f}"

    def half(self, half: float) -> str:
        """A half-interval as `±.04`; empty where there is none, `±<.001` where the decimals cannot show it."""
        if not math.isfinite(half):
            return ""
        smallest = 10.0**-self.decimals
        small = not self.scientific and 0 < half < smallest / 2
        shown = self.value(smallest if small else half)
        return f"±{'<' if small else ''}{shown[1:] if shown.startswith('0.') and not self.scientific else shown}"


def decimal(value: float | None, decimals: int = 3) -> str:
    """A number with that many decimals, never a minus before a nought; a dot where there is none."""
    return MISSING if value is None or not math.isfinite(value) else f"{round(value, decimals) + 0.0:.{decimals}f}"


def p_value(p: float | None) -> str:
    """A p-value to three decimals, `<.001` below; nothing where there is none."""
    if p is None or not math.isfinite(p):
        return ""
    return "<.001" if p < 0.001 else f"{p:.3f}"


def stretches(present: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Stretches without a gap, as (first, one past the last): [1, 1, 0, 1] is [(0, 2), (3, 4)]."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], present, [False])).astype(np.int8)))
    return [(int(start), int(stop)) for start, stop in zip(edges[::2], edges[1::2], strict=True)]


def nice_ticks(low: float, high: float, most: int = 5) -> list[float]:
    """Round numbers at equal steps that enclose [low, high], at least two and about `most`."""
    raw = (high - low) / most
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 2.5, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    digits = 3 - math.floor(math.log10(step))
    return [round(step * number, digits) + 0.0 for number in range(first, max(last, first + 1) + 1)]


def x_ticks(low: float, high: float, axis: Axis) -> list[float]:
    """Ticks within [low, high]; whole numbers where the axis is the layer."""
    if high <= low:
        return [low]
    ticks = [tick for tick in nice_ticks(low, high, 7) if low - 1e-9 <= tick <= high + 1e-9]
    return [tick for tick in ticks if axis == "depth" or tick.is_integer()]


def tick_words(ticks: list[float]) -> list[str]:
    """Ticks at equal steps as they stand at an axis: with the decimals of the step."""
    step = ticks[1] - ticks[0] if len(ticks) > 1 else ticks[0]
    decimals = NumberFormat.of_values(np.array([step])).decimals
    large = max(map(abs, ticks)) >= 1e6 or abs(step) < 1e-4
    return [f"{tick:.3g}" if large else f"{tick:,.{decimals}f}" for tick in ticks]


def _exponent(value: float) -> int:
    """The place of the last digit that is not 0, of four."""
    exponent = Decimal(f"{value:.4g}").normalize().as_tuple().exponent
    return exponent if isinstance(exponent, int) else 0
