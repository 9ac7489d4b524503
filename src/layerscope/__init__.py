"""Run a language model once, see how good the representation is at every layer, and leave with the layer to use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from layerscope.config import ModelSpec, RunSpec, TextSpec, ViewSpec
    from layerscope.errors import LayerscopeError, RunFailedError, UnsupportedModelError, UserError
    from layerscope.export.card import Export
    from layerscope.export.export import export_layer
    from layerscope.inputs.models import load_model
    from layerscope.inputs.texts import load_texts
    from layerscope.measuring.in_memory import measure_model
    from layerscope.measuring.measure import measure
    from layerscope.metrics.catalogue import METRICS
    from layerscope.mmlu.answers import MmluRun, ask_mmlu, open_mmlu
    from layerscope.mmlu.spec import MmluSpec
    from layerscope.picking.pick import Pick
    from layerscope.picking.pick_file import pick
    from layerscope.picking.relations import relate
    from layerscope.report.page import write_report
    from layerscope.results.run import Run, load_run, query_runs
    from layerscope.tasks.run import TasksRun, open_tasks, score_tasks
    from layerscope.training.callback import LayerscopeCallback

# Names are looked up when first used: `import layerscope` runs nothing and loads no torch.
_PUBLIC = {
    "Export": "export.card",
    "LayerscopeCallback": "training.callback",
    "LayerscopeError": "errors",
    "METRICS": "metrics.catalogue",
    "MmluRun": "mmlu.answers",
    "MmluSpec": "mmlu.spec",
    "ModelSpec": "config",
    "Pick": "picking.pick",
    "Run": "results.run",
    "RunFailedError": "errors",
    "RunSpec": "config",
    "TasksRun": "tasks.run",
    "TextSpec": "config",
    "UnsupportedModelError": "errors",
    "UserError": "errors",
    "ViewSpec": "config",
    "ask_mmlu": "mmlu.answers",
    "export_layer": "export.export",
    "load_model": "inputs.models",
    "load_run": "results.run",
    "load_texts": "inputs.texts",
    "measure": "measuring.measure",
    "measure_model": "measuring.in_memory",
    "open_mmlu": "mmlu.answers",
    "open_tasks": "tasks.run",
    "pick": "picking.pick_file",
    "query_runs": "results.run",
    "relate": "picking.relations",
    "score_tasks": "tasks.run",
    "write_report": "report.page",
}

__all__ = [
    "METRICS",
    "Export",
    "LayerscopeCallback",
    "LayerscopeError",
    "MmluRun",
    "MmluSpec",
    "ModelSpec",
    "Pick",
    "Run",
    "RunFailedError",
    "RunSpec",
    "TasksRun",
    "TextSpec",
    "UnsupportedModelError",
    "UserError",
    "ViewSpec",
    "ask_mmlu",
    "export_layer",
    "load_model",
    "load_run",
    "load_texts",
    "measure",
    "measure_model",
    "open_mmlu",
    "open_tasks",
    "pick",
    "query_runs",
    "relate",
    "score_tasks",
    "write_report",
]


def __getattr__(name: str) -> object:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'layerscope' has no attribute {name!r}")
    return getattr(importlib.import_module(f"layerscope.{_PUBLIC[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
