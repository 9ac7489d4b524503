"""measure_model(): a run from a model that is in memory, without saving or loading it."""

from __future__ import annotations

from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase

from layerscope.config import RunSpec
from layerscope.errors import UserError
from layerscope.inputs.in_memory import reading
from layerscope.measuring.measure import measure_spec
from layerscope.measuring.plan import make_plan
from layerscope.measuring.progress import Report, silent
from layerscope.results.run import Run


def measure_model(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, spec: RunSpec, out: str | Path, report: Report = silent
) -> Run:
    """Measure a model as it is in memory, for example between two steps of its training.

    The run's folder is like any other. The model is left exactly as it was: weights, gradients, modes of its modules,
    and no random generator but layerscope's own is drawn from.

    Args:
        model: a transformers model, with or without a head; wrappers of torch, accelerate and PEFT are looked into.
        tokenizer: its tokenizer.
        spec: what to measure; `spec.model.name` is what the tables call the model, and nothing is loaded by it.
        out: the run's folder. A finished run of the same weights is only read.
        report: called with (stage, done, total).

    Raises:
        UserError: what `measure` raises, a metric that needs attention weights, or a folder with a run of other weights.
        RunFailedError: weights that hold NaN or infinity, a full disk.
    """
    needing = [key.metric.name for key in make_plan(spec).token_keys if key.metric.needs == "attentions"]
    if needing:
        raise UserError(
            f"{needing[0]} needs attention weights, which a model in memory may not give: leave it out, or measure a "
            "saved checkpoint"
        )
    with reading(model, tokenizer, spec.model) as ready:
        return measure_spec(spec, Path(out), report, model=ready)
