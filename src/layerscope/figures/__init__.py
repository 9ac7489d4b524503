"""Tables as figures. Nothing is computed here: what is drawn is what the table holds."""

from layerscope.figures.facets import FACETS, FacetLook, plot_facets
from layerscope.figures.layers import DASHES, axis_label, plot_layers, prompt_counts, stretches
from layerscope.figures.saving import save_figure

__all__ = [
    "DASHES",
    "FACETS",
    "FacetLook",
    "axis_label",
    "plot_facets",
    "plot_layers",
    "prompt_counts",
    "save_figure",
    "stretches",
]
