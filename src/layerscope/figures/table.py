"""Layers tables in a terminal: a line a metric as a summary, then a row a layer. Nothing is ever cut off."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.console import Group
from rich.text import Text

from layerscope.figures.curves import Curve, Panel, in_common, phrase, shared_by, split_panels, usual_variant
from layerscope.figures.numbers import MISSING
from layerscope.figures.terminal import GAP, Column, TerminalTable, wrapped
from layerscope.wording import on_screen

BLOCKS = "▁▂▃▄▅▆▇█"
EIGHTHS = " ▏▎▍▌▋▊▉█"
BAR = 5
LONGEST_SPARKLINE = 41
NAMES = 34


def sparkline(values: Sequence[float] | NDArray[np.float64], width: int | None = None) -> str:
    """Values as blocks of eight heights from the smallest to the largest; a missing value is a dot.

    Args:
        values: what to show.
        width: at most this many characters: longer series are averaged over neighbours.

    Returns:
        One character a value, or `width` characters.
    """
    series = np.asarray(values, dtype=np.float64)
    if width is not None and len(series) > width:
        known = (part[np.isfinite(part)] for part in np.array_split(series, width))
        series = np.array([part.mean() if len(part) else math.nan for part in known])
    finite = series[np.isfinite(series)]
    if not len(finite):
        return MISSING * len(series)
    low, span = float(finite.min()), float(finite.max() - finite.min())
    return "".join(
        MISSING if not math.isfinite(value) else BLOCKS[3 if span == 0 else round((value - low) / span * 7)]
        for value in series.tolist()
    )


def bar(share: float, width: int = BAR) -> str:
    """A share in [0, 1] as a bar of `width` characters with steps of an eighth; never empty, so that 0 is not a gap."""
    steps = max(1, round(share * width * 8))
    return (EIGHTHS[8] * (steps // 8) + EIGHTHS[steps % 8].strip()).ljust(width)


def layer_table(layers: pl.DataFrame, width: int = 100) -> Group:
    """A layers table for a terminal: the summary first, then every layer, in as many tables as the width asks for.

    Args:
        layers: table with the columns of layers.parquet.
        width: columns of the terminal; below 60 lines are folded.

    Returns:
        What `rich.print` shows; `.renderables` holds the summary and the tables one by one.
    """
    panels = _panels(layers)
    gaps = dict.fromkeys(f"{' · '.join(names)}: {gap}" for names, curve in _named(panels) for gap in curve.gaps())
    said = [*gaps, "Bars run from the smallest to the largest value of a column."]
    lines = [Text(part, style="dim") for line in said for part in wrapped(line, width)]
    return Group(
        summary_table(layers, width), *(part for table in _layer_tables(panels, width) for part in ("", table)), *lines
    )


def summary_table(layers: pl.DataFrame, width: int = 100) -> TerminalTable:
    """One line a metric: its unit, its smallest and largest value with their layers, and its course over the layers.

    Args:
        layers: table with the columns of layers.parquet.
        width: columns of the terminal.

    Returns:
        A table whose title says what all lines have in common.
    """
    panels = _panels(layers)
    named = _named(panels)
    extremes = [curve.extremes() for _, curve in named]
    fixed = [
        Column("unit", [curve.unit for _, curve in named], text=True),
        Column("smallest", [low for low, _ in extremes]),
        Column("largest", [high for _, high in extremes]),
    ]
    taken = sum(column.natural + GAP for column in fixed)
    # Names give way to the courses, down to where they read badly.
    longest = min(max((len(curve.layer) for _, curve in named), default=1), LONGEST_SPARKLINE)
    names = [" · ".join(name) for name, _ in named]
    room = max(NAMES, width - taken - GAP - longest)
    metric = Column("metric", ["\n".join(wrapped(name, room, "  ")) for name in names], text=True)
    course = max(8, min(longest, width - metric.natural - taken - GAP))
    courses = [sparkline(curve.value, course) for _, curve in named]
    over = Column(_span_of([curve for _, curve in named]), courses, style="cyan")
    return TerminalTable([metric, *fixed, over], title=_about(panels))


def _panels(layers: pl.DataFrame) -> tuple[Panel, ...]:
    return split_panels(layers.with_columns(pl.col(pl.String).map_elements(on_screen, return_dtype=pl.String)))


def _layer_tables(panels: Sequence[Panel], width: int) -> Iterator[TerminalTable]:
    """The tables, each with as many metrics as fit. Models of different depth never share a table: rows are layers."""
    groups: dict[tuple[int, ...], list[tuple[list[str], Curve, list[str]]]] = {}
    for names, curve in _named(panels):
        heading = [*_broken(names[0]), *names[1:]]
        groups.setdefault(tuple(curve.layer.tolist()), []).append((heading, curve, _cells(curve)))
    for columns in groups.values():
        room = used = width - 5 - 5 - 2 * GAP
        chunks: list[list[tuple[list[str], Curve, list[str]]]] = []
        for heading, curve, cells in columns:
            needed = max(map(cell_len, [*heading, curve.unit, *cells])) + GAP
            if not chunks or used + needed > room:
                chunks.append([])
                used = 0
            chunks[-1].append((heading, curve, cells))
            used += needed
        yield from map(_one_table, chunks)


def _one_table(columns: list[tuple[list[str], Curve, list[str]]]) -> TerminalTable:
    lines = max(len(heading) for heading, _, _ in columns)
    first = columns[0][1]
    shown = [
        Column("layer", [str(number) for number in first.layer], right=True, style="bold"),
        Column("depth", [f"{share:.2f}" for share in first.depth], right=True, spare=True, style="dim"),
    ]
    for heading, curve, cells in columns:
        # Padded to one height, so that names stand on the first line and units on the last.
        shown.append(Column("\n".join([*heading, *[""] * (lines - len(heading)), curve.unit]), cells))
    return TerminalTable(shown)


def _cells(curve: Curve) -> list[str]:
    """`1.83 ±.04 ███▌` a layer; the bars run from the smallest to the largest value of the column."""
    values = [curve.format.value(value) for value in curve.value.tolist()]
    halves = [curve.format.half(half) for half in curve.half.tolist()]
    finite = curve.value[np.isfinite(curve.value)]
    low, span = (float(finite.min()), float(np.ptp(finite))) if len(finite) else (0.0, 0.0)
    shares = ((curve.value - low) / span if span else curve.value * 0 + 0.5).tolist()
    wide, deep = max(map(len, values)), max(map(len, halves))
    return [
        f"{value:>{wide}} {half:<{deep}} {bar(share) if math.isfinite(share) else MISSING}".rstrip()
        for value, half, share in zip(values, halves, shares, strict=True)
    ]


def _named(panels: Sequence[Panel]) -> list[tuple[list[str], Curve]]:
    """Every curve with its metric and what sets it apart from the others in the table."""
    curves = [curve for panel in panels for curve in panel.curves]
    quiet = {*shared_by(curves), usual_variant(curves)}
    several = len({curve.source for curve in curves}) > 1
    named = []
    for curve in curves:
        own = [words for pair in curve.conditions if pair not in quiet and (words := phrase(*pair))]
        named.append(([curve.metric, *([curve.label.split(" · ")[0]] if several else []), *own], curve))
    return named


def _broken(metric: str) -> list[str]:
    """A long metric name in two lines, broken after an underscore: a heading should not widen its column."""
    place = metric.rfind("_", 0, 16) + 1
    return [metric[:place], metric[place:]] if len(metric) > 16 and place else [metric]


def _about(panels: Sequence[Panel]) -> str:
    curves = [curve for panel in panels for curve in panel.curves]
    if not curves:
        return "No layers"
    usual = usual_variant(curves)
    said = f"{phrase(*usual)} unless said" if usual is not None and usual not in shared_by(curves) else ""
    return " · ".join(in_common(curves, "± half the 95 % interval", said))


def _span_of(curves: Sequence[Curve]) -> str:
    """What the courses run over: the same layers, or each its own."""
    ends = {(int(curve.layer[0]), int(curve.layer[-1])) for curve in curves}
    if len(ends) != 1:
        return "over depth"
    first, last = ends.pop()
    return f"layers {first} to {last}" if first < last else f"layer {first}"
