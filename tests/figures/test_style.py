from __future__ import annotations

import xml.etree.ElementTree as ET

import numpy as np
import pytest

from layerscope.figures import save_figure
from layerscope.figures.style import (
    PALETTE,
    PALETTE_ON_BLACK,
    Sheet,
    Stroke,
    as_text,
    draw_curve,
    finish_axes,
    set_ticks,
)


def luminance(color):
    parts = np.array([int(color[place : place + 2], 16) / 255 for place in (1, 3, 5)])
    return float(np.where(parts <= 0.03928, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ [0.2126, 0.7152, 0.0722])


def test_every_colour_can_be_seen_on_its_ground() -> None:
    assert len(PALETTE) == len(PALETTE_ON_BLACK) == len(set(PALETTE))
    assert min(1.05 / (luminance(color) + 0.05) for color in PALETTE) > 2.9
    assert min((luminance(color) + 0.05) / 0.05 for color in PALETTE_ON_BLACK) > 7


HOSTILE = ["$x^2$", "$\\frac$", "_hidden", "a\x1b[31m\u202eb", "<b>&"]


@pytest.mark.parametrize("text", HOSTILE)
def test_whatever_a_name_is_it_is_drawn_as_text(text, tmp_path) -> None:
    sheet = Sheet(text, text, body=3.0)
    axes = sheet.axes(1.0, sheet.top + 0.5, 4.0, 2.0)
    x = np.array([0.0, 1.0, 2.0])
    line = draw_curve(axes, x, x, (x - 1, x + 1), Stroke(PALETTE[0], text))
    finish_axes(axes, x=text, y=text, title=text)
    set_ticks(axes, "layer")
    sheet.legend(axes, [line], sheet.top, 1)
    _, svg = save_figure(sheet.figure, tmp_path / "figure")
    words = "".join(ET.parse(svg).getroot().itertext())
    assert words.count(as_text(text).replace("\\$", "$").strip()) == 6
    assert [label.get_text() for label in axes.get_xticklabels()] == ["0", "1", "2"]
