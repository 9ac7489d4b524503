"""How far scores of the sweep are from those of a plain encoder, and how far two plain encoders are from each other.

    python -m benchmarks.equal_scores --data-dir DIR     # Banking77, SmolLM2-135M, layers 0, 9, 30; 15 minutes on 2 cores

The plain encoder is that of benchmarks/tasks.py: the model cut after block k, batches in the task's order, mean of the
token states after the final norm. Batches of another size round the last digits of its vectors otherwise; what that does
to a score is how well the score is defined at all.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from pathlib import Path

import mteb

from benchmarks.tasks import MODEL, ordinary_encoder
from layerscope.config import ModelSpec
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.tasks.choice import choose_tasks
from layerscope.tasks.data import load_task_data
from layerscope.tasks.evaluation import quiet_mteb
from layerscope.tasks.run import score_spec
from layerscope.tasks.spec import TasksSpec


def plain_score(model: LoadedModel, name: str, layer: int, *, batch_size: int, data_dir: str | None) -> float:
    """Main score that MTEB gives the plain encoder of one layer."""
    task = choose_tasks((name,), None, ("english",))[0]
    load_task_data(task, data_dir)
    encoder = ordinary_encoder(model, layer)
    with quiet_mteb():
        results = mteb.evaluate(
            encoder,
            task,
            cache=None,
            co2_tracker=False,
            show_progress_bar=False,
            encode_kwargs={"batch_size": batch_size},
        )
    return float(results.task_results[0].get_score())


def swept_scores(model: LoadedModel, name: str, layers: Sequence[int], *, data_dir: str | None) -> dict[int, float]:
    """Main score of each layer from one encoding."""
    with tempfile.TemporaryDirectory() as folder:
        spec = TasksSpec(tasks=(name,), layers=tuple(layers), data_dir=data_dir, cache=f"{folder}/cache")
        run = score_spec(model.spec, spec, Path(folder) / "run")
        table = run.scores.filter(run.scores["experiment"].is_null())
        return dict(zip(table["layer"].to_list(), table["score"].to_list(), strict=True))


def main() -> None:
    """Print one line a layer."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="stands in for the hub: DIR/mteb/banking77, ...")
    parser.add_argument("--task", default="Banking77Classification")
    parser.add_argument("--layers", default="0,9,30")
    given = parser.parse_args()
    layers = [int(layer) for layer in given.layers.split(",")]
    model = load_model(ModelSpec(name=MODEL))
    swept = swept_scores(model, given.task, layers, data_dir=given.data_dir)
    print(f"{'layer':>5} {'sweep':>10} {'plain, 32':>10} {'plain, 31':>10} {'sweep - 32':>11} {'31 - 32':>9}")
    for layer in layers:
        usual, other = (
            plain_score(model, given.task, layer, batch_size=size, data_dir=given.data_dir) for size in (32, 31)
        )
        print(
            f"{layer:>5} {swept[layer]:10.6f} {usual:10.6f} {other:10.6f} {swept[layer] - usual:11.1e} {other - usual:9.1e}",
            flush=True,
        )


if __name__ == "__main__":
    main()
