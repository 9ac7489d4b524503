"""A run's scores as `layerscope tasks` writes them, made up: two readouts, seven tasks, the best layer known."""

from pathlib import Path

import polars as pl
from tests.results.records import save

from layerscope.config import ModelSpec
from layerscope.results.record import ResolvedModel
from layerscope.tasks.record import TasksRecord
from layerscope.tasks.scores import SCORES, write_scores
from layerscope.tasks.spec import TasksSpec

TASKS = [f"Task{number}" for number in range(7)]


def save_scores(
    folder: Path, model: str, revision: str, *, tokenizer="", readouts=("normed",), imported=False, **spec
) -> Path:
    """Layers 0 to 3; layer 2 is the best by far with readout normed, layer 1 (and lower) with raw."""
    folder.mkdir(parents=True)
    rows = []
    for readout in readouts:
        gain = {0: 0.0, 1: 0.1, 2: 0.3, 3: 0.2} if readout == "normed" else {0: 0.0, 1: 0.2, 2: 0.1, 3: 0.05}
        rows += [
            {
                "model": model, "revision": revision, "layer": layer, "depth": layer / 3,
                "readout": None if imported else readout, "positions": None if imported else "all",
                "pooling": None if imported else "mean", "task": task, "task_type": "STS", "split": "test",
                "subset": "default", "experiment": None, "score_name": "cosine_spearman",
                "score": 0.3 + 0.03 * number + gain[layer] + 0.001 * ((number * 7 + layer * 3) % 5), "note": None,
            }
            for number, task in enumerate(TASKS)
            for layer in range(4)
        ]  # fmt: skip
    write_scores([pl.DataFrame(rows, schema=SCORES)], folder)
    asked = None if imported else TasksSpec(tasks=tuple(TASKS), readout=readouts, **spec)
    resolved = ResolvedModel(model_revision=revision, n_layers=3, dim=16, dtype="float32", tokenizer_revision=tokenizer)
    record = TasksRecord(status="done", model=ModelSpec(name=model), spec=asked, resolved=resolved)
    save(record, folder)
    return folder
