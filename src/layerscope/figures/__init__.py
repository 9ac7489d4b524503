"""Tables as figures. Nothing is computed here: what is drawn is what the table holds."""

from layerscope.figures.facets import FACETS, FacetLook, plot_facets
from layerscope.figures.layers import plot_layers
from layerscope.figures.saving import save_figure

__all__ = ["FACETS", "FacetLook", "plot_facets", "plot_layers", "save_figure"]
