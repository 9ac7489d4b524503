"""Run a language model once, see how good the representation is at every layer, and leave with the layer to use."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

# Names are looked up when first used: `import layerscope` runs nothing and loads no torch.
_NAMES_OF = {
    "config": ("ModelSpec", "RunSpec", "TextSpec", "ViewSpec"),
    "errors": ("LayerscopeError", "RunFailedError", "UnsupportedModelError", "UserError"),
    "export.card": ("Export",),
    "export.export": ("export_layer",),
    "inputs.models": ("load_model",),
    "inputs.texts": ("load_texts",),
    "measuring.measure": ("measure", "measure_model"),
    "metrics.catalogue": ("METRICS",),
    "mmlu.run": ("MmluRun", "ask_mmlu", "open_mmlu"),
    "mmlu.spec": ("MmluSpec",),
    "picking.pick": ("Pick", "pick"),
    "picking.relations": ("relate",),
    "report.page": ("write_report",),
    "results.run": ("Run", "load_run", "query_runs"),
    "tasks.run": ("TasksRun", "open_tasks", "score_tasks"),
    "training.callback": ("LayerscopeCallback",),
}
_MODULE_OF = {name: module for module, names in _NAMES_OF.items() for name in names}

__all__ = sorted(_MODULE_OF)  # noqa: PLE0605

# What type checkers and editors see: `as` says that a name is handed on. tests/test_public.py holds the two equal.
if TYPE_CHECKING:
    from layerscope.config import ModelSpec as ModelSpec
    from layerscope.config import RunSpec as RunSpec
    from layerscope.config import TextSpec as TextSpec
    from layerscope.config import ViewSpec as ViewSpec
    from layerscope.errors import LayerscopeError as LayerscopeError
    from layerscope.errors import RunFailedError as RunFailedError
    from layerscope.errors import UnsupportedModelError as UnsupportedModelError
    from layerscope.errors import UserError as UserError
    from layerscope.export.card import Export as Export
    from layerscope.export.export import export_layer as export_layer
    from layerscope.inputs.models import load_model as load_model
    from layerscope.inputs.texts import load_texts as load_texts
    from layerscope.measuring.measure import measure as measure
    from layerscope.measuring.measure import measure_model as measure_model
    from layerscope.metrics.catalogue import METRICS as METRICS
    from layerscope.mmlu.run import MmluRun as MmluRun
    from layerscope.mmlu.run import ask_mmlu as ask_mmlu
    from layerscope.mmlu.run import open_mmlu as open_mmlu
    from layerscope.mmlu.spec import MmluSpec as MmluSpec
    from layerscope.picking.pick import Pick as Pick
    from layerscope.picking.pick import pick as pick
    from layerscope.picking.relations import relate as relate
    from layerscope.report.page import write_report as write_report
    from layerscope.results.run import Run as Run
    from layerscope.results.run import load_run as load_run
    from layerscope.results.run import query_runs as query_runs
    from layerscope.tasks.run import TasksRun as TasksRun
    from layerscope.tasks.run import open_tasks as open_tasks
    from layerscope.tasks.run import score_tasks as score_tasks
    from layerscope.training.callback import LayerscopeCallback as LayerscopeCallback
else:  # Hidden from them, so that a name that is not there is an error before it is run.

    def __getattr__(name: str) -> object:
        if name not in _MODULE_OF:
            raise AttributeError(f"module 'layerscope' has no attribute {name!r}")
        return getattr(importlib.import_module(f"layerscope.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return __all__
