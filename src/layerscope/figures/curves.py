"""Which rows of a layers table make one curve, what it is called, and which curves may share an axis."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import PurePath

import numpy as np
import polars as pl
from numpy.typing import NDArray

from layerscope.errors import UserError
from layerscope.figures.numbers import MISSING, Axis, NumberFormat
from layerscope.figures.style import PALETTE

Pairs = tuple[tuple[str, str], ...]
"""Names with their values."""
SOURCE = ("model", "texts", "revision", "run")
CONDITIONS = ("variant", "alpha", "readout", "positions", "pooling", "normalization")

NAMES = {"infonce": "InfoNCE", "dime": "DiME", "lidar": "LiDAR", "rankme": "RankMe", "logdet": "LogDet"}
TITLES = {"alpha_req": "α-ReQ"}
# What a table may lack.
_OPTIONAL = dict.fromkeys(("depth", "value", "ci_low", "ci_high"), pl.Float64) | {
    "n_prompts": pl.Int64,
    "note": pl.String,
}
PHRASES = {"alpha": "α = {}", "pooling": "{} pooling", "readout": "{} readout", "variant": "variant {}"}


@dataclass(frozen=True)
class Curve:
    """One metric over the layers of one model, under one set of conditions. Where there is no value it is NaN."""

    metric: str
    unit: str
    source: Pairs
    conditions: Pairs
    layer: NDArray[np.int64]
    depth: NDArray[np.float64]
    value: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]
    n_prompts: int | None
    notes: tuple[str, ...]
    label: str = ""
    color: int = 0
    dash: int = 0

    @property
    def pooled(self) -> bool:
        """Whether the metric is of one vector a prompt, so that its size depends on how many prompts there were."""
        return any(name == "pooling" for name, _ in self.conditions)

    @property
    def half(self) -> NDArray[np.float64]:
        """Half the width of the interval at every layer."""
        return (self.high - self.low) / 2

    @property
    def format(self) -> NumberFormat:
        """How its values are written."""
        return NumberFormat.of(self.value, self.half)

    def extremes(self) -> tuple[str, str]:
        """Its smallest and its largest value with their layers; a dot each where there is none."""
        if not np.isfinite(self.value).any():
            return MISSING, MISSING
        found = (int(np.nanargmin(self.value)), int(np.nanargmax(self.value)))
        low, high = (f"{self.format.value(float(self.value[i]))} at {self.layer[i]}" for i in found)
        return low, high

    def x(self, axis: Axis) -> NDArray[np.float64]:
        """Where the points stand on the axis."""
        return self.depth if axis == "depth" else self.layer.astype(np.float64)

    def gaps(self) -> tuple[str, ...]:
        """One line a reason: the layers without a value, and why."""
        layers_of: dict[str, list[int]] = {}
        for layer, value, note in zip(self.layer.tolist(), self.value.tolist(), self.notes, strict=True):
            if not math.isfinite(value):
                layers_of.setdefault(note or "no reason was recorded", []).append(layer)
        return tuple(f"no value at {spans(layers)}: {reason}" for reason, layers in layers_of.items())


@dataclass(frozen=True)
class Panel:
    """Curves of one metric that may share an axis: one unit and, for pooled metrics, one number of prompts."""

    metric: str
    unit: str
    axis: Axis
    curves: tuple[Curve, ...]
    shared: Pairs
    split_by_prompts: bool

    @property
    def title(self) -> str:
        """The metric's name as the field writes it."""
        return title(self.metric)

    def gaps(self) -> tuple[str, ...]:
        """What is missing from the curves, each line named by its curve where there are several."""
        return tuple(
            f"{curve.label}: {gap}" if len(self.curves) > 1 else gap for curve in self.curves for gap in curve.gaps()
        )


def title(metric: str) -> str:
    """A metric's name as the field writes it: `rankme` is RankMe, `prompt_entropy` is Prompt entropy."""
    if metric in TITLES:
        return TITLES[metric]
    first, *rest = metric.split("_")
    return " ".join([NAMES.get(first, first[:1].upper() + first[1:]), *rest])


def phrase(name: str, value: str) -> str:
    """A condition in words: ("alpha", "2") is `α = 2`. No normalisation has no words: the unit says it."""
    if name == "positions":
        return "all tokens" if value == "all" else value
    if name == "normalization":
        return "" if value == "none" else f"{value}-normalised"
    return PHRASES.get(name, "{}").format(value)


def phrases(pairs: Iterable[tuple[str, str]]) -> str:
    """Conditions in words, separated by dots."""
    return " · ".join(filter(None, (phrase(name, value) for name, value in pairs)))


def spans(layers: Sequence[int]) -> str:
    """Layers in words: [3, 4, 5, 9] is `layers 3–5, 9`."""
    parts: list[list[int]] = []
    for layer in sorted(layers):
        if parts and layer == parts[-1][-1] + 1:
            parts[-1].append(layer)
        else:
            parts.append([layer])
    words = ", ".join(str(part[0]) if len(part) == 1 else f"{part[0]}–{part[-1]}" for part in parts)
    return f"layer{'s' if len(layers) > 1 else ''} {words}"


def shared_by(curves: Sequence[Curve]) -> Pairs:
    """The conditions in which no two of the curves differ, as far as they have them."""
    values: dict[str, set[str]] = {}
    for curve in curves:
        for name, value in curve.conditions:
            values.setdefault(name, set()).add(value)
    return tuple((name, next(iter(values[name]))) for name in CONDITIONS if len(values.get(name, ())) == 1)


def prompt_counts(curves: Iterable[Curve]) -> str:
    """How many prompts stand behind the curves, in words."""
    counts = sorted({curve.n_prompts for curve in curves if curve.n_prompts is not None})
    return f"{' or '.join(f'{count:,}' for count in counts)} prompts" if counts else ""


def in_common(curves: Sequence[Curve], interval: str, said: str = "") -> list[str]:
    """What all the curves of a figure or a table have in common, in words.

    Args:
        curves: at least one.
        interval: what is said where some have intervals.
        said: what is said of their conditions besides.
    """
    sources = {curve.source for curve in curves}
    words = [phrases(shared_by(curves)), said, prompt_counts(curves)]
    if len(sources) == 1:
        source = dict(next(iter(sources)))
        words.insert(0, f"{short_name(source.get('model', '?'))} on {short_name(source.get('texts', '?'))}")
    if any(np.isfinite(curve.low).any() for curve in curves):
        words.append(interval)
    return [word for word in words if word]


def usual_variant(curves: Sequence[Curve]) -> tuple[str, str] | None:
    """The commonest variant: named once for a whole page instead of at every curve."""
    found = Counter(pair for curve in curves for pair in curve.conditions if pair[0] == "variant")
    return found.most_common(1)[0][0] if found else None


def split_curves(layers: pl.DataFrame) -> tuple[Curve, ...]:
    """The curves of a layers table, in its order, without labels.

    Args:
        layers: table with the columns of layers.parquet, and `run` where two runs agree in model, texts and revision.

    Returns:
        One curve for each metric, source and set of conditions, its points in the order of the layers.

    Raises:
        UserError: the table holds two values for one point.
    """
    absent = {name: pl.lit(None, kind) for name, kind in _OPTIONAL.items() if name not in layers.columns}
    numbers = pl.col("depth", "value", "ci_low", "ci_high").cast(pl.Float64)
    table = layers.with_columns(**absent).with_columns(
        pl.when(numbers.is_finite()).then(numbers).otherwise(float("nan")),
        pl.col("layer", "n_prompts").cast(pl.Int64),
        pl.col("note").fill_null(""),
    )
    keys = [name for name in (*SOURCE, "metric", *CONDITIONS, "unit") if name in table.columns]
    found: list[Curve] = []
    for part in table.partition_by(keys, maintain_order=True):
        rows = part.sort("layer")
        first = {name: value for name, value in rows.row(0, named=True).items() if value is not None}
        if rows["layer"].is_duplicated().any():
            raise UserError(
                f"expected one value a layer for {first['metric']!r} of {first.get('model')!r} and found several: "
                "the table mixes runs that agree in everything but their folder; give it a column `run`"
            )
        found.append(
            Curve(
                metric=first["metric"],
                unit=first.get("unit", ""),
                source=tuple((name, word(first[name])) for name in SOURCE if name in first),
                conditions=tuple((name, word(first[name])) for name in CONDITIONS if name in first),
                layer=rows["layer"].to_numpy(),
                depth=rows["depth"].to_numpy(),
                value=rows["value"].to_numpy(),
                low=rows["ci_low"].to_numpy(),
                high=rows["ci_high"].to_numpy(),
                n_prompts=rows.select(pl.col("n_prompts").max()).item(),
                notes=tuple(rows["note"].to_list()),
            )
        )
    return tuple(found)


def split_panels(layers: pl.DataFrame) -> tuple[Panel, ...]:
    """The curves of a layers table, labelled and coloured, grouped by what may share an axis.

    Curves of pooled metrics over different numbers of prompts never share one: entropy and rank of N vectors grow
    with N, so such curves differ even where the model and the texts are the same.
    """
    curves = split_curves(layers)
    axis = common_axis(curves)
    names = _source_names(list(dict.fromkeys(curve.source for curve in curves)))
    groups: dict[tuple[str, str, int | None], list[Curve]] = {}
    for curve in curves:
        groups.setdefault((curve.metric, curve.unit, curve.n_prompts if curve.pooled else None), []).append(curve)
    order = {curve.metric: place for place, curve in reversed(list(enumerate(curves)))}
    return tuple(
        Panel(
            metric=metric,
            unit=unit,
            axis=axis,
            curves=_labelled(group, names),
            shared=shared_by(group),
            split_by_prompts=sum(key[:2] == (metric, unit) for key in groups) > 1,
        )
        for (metric, unit, _), group in sorted(groups.items(), key=lambda item: order[item[0][0]])
    )


def common_axis(curves: Sequence[Curve]) -> Axis:
    """Layers where all models have the same number of them, else depth."""
    totals = {
        round(layer / depth)
        for curve in curves
        for layer, depth in zip(curve.layer.tolist(), curve.depth.tolist(), strict=True)
        if depth > 0
    }
    return "depth" if len(totals) > 1 else "layer"


def _labelled(curves: Sequence[Curve], names: Mapping[Pairs, str]) -> tuple[Curve, ...]:
    """The curves of a panel with their labels, colours and dashes; `names` has all sources of the table."""
    sources = list(names)
    shared = {name for name, _ in shared_by(curves)}
    own = [tuple(pair for pair in curve.conditions if pair[0] not in shared) for curve in curves]
    conditions = list(dict.fromkeys(own))
    # One colour a source, the same in every panel of a table; conditions then differ by dashes.
    by_source = 1 < len(sources) <= len(PALETTE)
    labelled = []
    for index, (curve, pairs) in enumerate(zip(curves, own, strict=True)):
        words = [names[curve.source] if len(sources) > 1 else "", phrases(pairs)]
        dash, color = divmod(index, len(PALETTE))
        if by_source:
            dash, color = conditions.index(pairs), sources.index(curve.source)
        label = " · ".join(filter(None, words)) or title(curve.metric)
        labelled.append(replace(curve, label=label, color=color, dash=dash))
    return tuple(labelled)


def _source_names(sources: Sequence[Pairs]) -> dict[Pairs, str]:
    """The shortest names that tell the sources apart: the model, then what else is needed."""
    taken: list[str] = []
    distinct = 0
    for name in SOURCE:
        count = len({tuple(dict(source).get(key) for key in (*taken, name)) for source in sources})
        if count > distinct:
            taken.append(name)
            distinct = count
    told = {source: [short_name(dict(source)[name]) for name in taken if name in dict(source)] for source in sources}
    return {source: " · ".join(words) or "?" for source, words in told.items()}


def short_name(name: str) -> str:
    """A model's or a file's name without the folders before it; hub ids stay whole, hashes are cut."""
    if name.startswith(("/", "./", "../", "~")) or name.count("/") > 1:
        return PurePath(name).name
    if name.startswith("sha256:"):
        return name[:15]
    return name[:10] if len(name) == 40 and all(letter in "0123456789abcdef" for letter in name) else name


def word(value: object) -> str:
    """A condition's value as it is written: 1.0 is `1`, infinity is `∞`."""
    return f"{value:g}".replace("inf", "∞") if isinstance(value, float) else str(value)
