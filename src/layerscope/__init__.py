"""Run a language model once, see how good the representation is at every layer, and leave with the layer to use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerscope.config import ModelSpec, RunSpec, TextSpec, ViewSpec
    from layerscope.errors import LayerscopeError, RunFailedError, UnsupportedModelError, UserError
    from layerscope.inputs.models import load_model
    from layerscope.inputs.texts import load_texts
    from layerscope.measuring.measure import measure
    from layerscope.metrics.catalogue import METRICS
    from layerscope.report.page import write_report
    from layerscope.results.run import Run, load_run, query_runs

# Names are looked up when first used: `import layerscope` runs nothing and loads no torch.
_PUBLIC = {
    "LayerscopeError": "errors",
    "METRICS": "metrics.catalogue",
    "ModelSpec": "config",
    "Run": "results.run",
    "RunFailedError": "errors",
    "RunSpec": "config",
    "TextSpec": "config",
    "UnsupportedModelError": "errors",
    "UserError": "errors",
    "ViewSpec": "config",
    "load_model": "inputs.models",
    "load_run": "results.run",
    "load_texts": "inputs.texts",
    "measure": "measuring.measure",
    "query_runs": "results.run",
    "write_report": "report.page",
}

__all__ = [
    "METRICS",
    "LayerscopeError",
    "ModelSpec",
    "Run",
    "RunFailedError",
    "RunSpec",
    "TextSpec",
    "UnsupportedModelError",
    "UserError",
    "ViewSpec",
    "load_model",
    "load_run",
    "load_texts",
    "measure",
    "query_runs",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'layerscope' has no attribute {name!r}")
    return getattr(importlib.import_module(f"layerscope.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
