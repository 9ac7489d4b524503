"""How far scores of the sweep are from those of plain encoders given to MTEB, one layer at a time, and why.

    python -m benchmarks.equal_scores --data-dir DIR     # Banking77, SmolLM2-135M, layers 0, 9, 30; 38 minutes on 2 busy cores

Each plain encoder runs the model cut after block k and takes the mean of the token states after the final norm:

    alike   in batches of the sweep's shapes, with the mean as a matrix product: the same arithmetic, so the same bits
    32, 31  in batches of 32 and 31 texts in the task's order, padded to the longest: other sums, so other last digits

All are scored on one thread, as the sweep is. `2 threads` scores the sweep's own vectors on two. What this, or `31` against
`32`, moves a score is how well it is defined at all. `--converged` lets MTEB's logistic regression, which stops after 100
iterations, run to its optimum in float64 instead; `--export` adds the model that `layerscope export` writes.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import mteb
import numpy as np
import torch

from benchmarks.tasks import MODEL, cut_after, mean_states
from layerscope.config import ModelSpec
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.inputs.prompts import tokenize
from layerscope.tasks.choice import choose_tasks
from layerscope.tasks.data import load_task_data
from layerscope.tasks.encoding import TextEncoder, fixed_batches
from layerscope.tasks.evaluation import loader_texts
from layerscope.tasks.process import import_quietly, quiet_mteb, threads
from layerscope.tasks.run import score_spec
from layerscope.tasks.spec import TasksSpec

Encode = Callable[[Sequence[str]], np.ndarray]


def in_batches_of(model: LoadedModel, size: int) -> Encode:
    """Batches of `size` texts in the order given."""

    def encode(texts: Sequence[str]) -> np.ndarray:
        starts = range(0, len(texts), size)
        return np.concatenate([mean_states(model, texts[start : start + size]) for start in starts])

    return encode


def in_shapes_alike(model: LoadedModel, batch_tokens: int) -> Encode:
    """Batches of the sweep's shapes; the mean is a product with 0/1 weights."""

    def encode(texts: Sequence[str]) -> np.ndarray:
        tokens = tokenize(list(texts), model.tokenizer, model.context)
        found = np.zeros((len(texts), model.dim), np.float32)
        for batch in fixed_batches(tokens, batch_tokens, model):
            states = model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).last_hidden_state
            for row, own, length in zip(batch.rows, states, batch.lengths, strict=False):
                found[row] = (own[:length].sum(0) / length).numpy()
        return found

    return encode


def by_export(layer: int, folder: Path) -> Encode:
    """The exported layer, through SentenceTransformer as anybody would use it."""
    from layerscope.export.checking import open_export
    from layerscope.export.export import export_layer

    made = export_layer(MODEL, layer, out=folder / f"exported_{layer}")
    opened = open_export(made.path, torch.device("cpu"))

    def encode(texts: Sequence[str]) -> np.ndarray:
        vectors: np.ndarray = opened.encode(list(texts), show_progress_bar=False)
        return vectors

    return encode


def remembering(model: LoadedModel, layer: int, encode: Encode) -> Any:  # noqa: ANN401
    """An MTEB encoder of one layer that encodes a text once."""
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    class Encoder(AbsEncoder):  # type: ignore[misc]
        mteb_model_meta = ModelMeta.create_empty(
            {"name": "plain/encoder", "similarity_fn_name": ScoringFunction.COSINE}
        )
        known: dict[str, np.ndarray] = {}  # noqa: RUF012  (one class an encoder)
        dtype: type[np.floating[Any]] = np.float32

        def encode(self, inputs: Any, **_: Any) -> np.ndarray:  # noqa: ANN401
            texts = loader_texts(inputs)
            new = [text for text in dict.fromkeys(texts) if text not in self.known]
            if new:
                with threads(1), cut_after(model, layer), torch.inference_mode():
                    self.known.update(zip(new, encode(new), strict=True))
            return np.stack([self.known[text] for text in texts]).astype(self.dtype)

    return Encoder()


def score(encoder: Any, task_data: tuple[str, str | None], *, cores: int = 1, converged: bool = False) -> float:  # noqa: ANN401
    """Main score that MTEB gives an encoder on a task, by name and data folder."""
    from sklearn.linear_model import LogisticRegression

    name, data_dir = task_data
    task: Any = choose_tasks((name,), None, ("english",))[0]
    load_task_data(task, data_dir, Path(tempfile.mkdtemp()))
    # scikit-learn optimises in the dtype of its input.
    encoder.dtype = np.float64 if converged else np.float32
    if converged:
        task.evaluator_model = LogisticRegression(max_iter=100_000, tol=1e-10)
    with quiet_mteb(), threads(cores):
        results = mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)
    return float(results.task_results[0].get_score())


def swept(
    model: LoadedModel, task_data: tuple[str, str | None], layers: Sequence[int], folder: Path
) -> tuple[dict[int, float], dict[int, Encode]]:
    """Main score of each layer from one encoding, and the vectors it used."""
    name, data_dir = task_data
    spec = TasksSpec(tasks=(name,), layers=tuple(layers), data_dir=data_dir, cache=str(folder / "cache"))
    run = score_spec(model.spec, spec, folder / "run")
    table = run.scores.filter(run.scores["experiment"].is_null())
    cache = next(iter(TextEncoder(model, spec, tuple(layers)).caches.values()))
    read = {layer: lambda texts, layer=layer: cache.read(texts, layer) for layer in layers}
    return dict(zip(table["layer"].to_list(), table["score"].to_list(), strict=True)), read


def main() -> None:
    """Print one line a layer and encoder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="stands in for the hub: DIR/mteb/banking77, ...")
    parser.add_argument("--task", default="Banking77Classification")
    parser.add_argument("--layers", default="0,9,30")
    parser.add_argument("--converged", action="store_true", help="with a classifier that is run to its optimum as well")
    parser.add_argument("--export", action="store_true", help="the exported layer as well")
    given = parser.parse_args()
    import_quietly("mteb", "`layerscope tasks`")
    with tempfile.TemporaryDirectory() as folder:
        compare(given, Path(folder))


def compare(given: argparse.Namespace, folder: Path) -> None:
    """Score every layer in every way, and print it as it comes."""
    layers = [int(layer) for layer in given.layers.split(",")]
    task = (given.task, given.data_dir)
    model = load_model(ModelSpec(name=MODEL))
    scores, vectors = swept(model, task, layers, folder)

    def say(layer: int, way: str, encoder: Any, cores: int = 1) -> None:  # noqa: ANN401
        found = score(encoder, task, cores=cores)
        final = f"{score(encoder, task, cores=cores, converged=True):.6f}" if given.converged else ""
        apart = max(
            float(np.linalg.norm(vector - expected) / np.linalg.norm(expected))
            for vector, expected in ((encoder.known[text], sweep.known[text]) for text in encoder.known)
        )
        print(f"{layer:>5} {way:>9} {apart:8.1e} {found:10.6f} {found - scores[layer]:9.1e}  {final}", flush=True)

    optimum = "at the optimum" if given.converged else ""
    print(f"{'layer':>5} {'':>9} {'vectors':>8} {'score':>10} {'- sweep':>9}  {optimum}")
    for layer in layers:
        sweep = remembering(model, layer, vectors[layer])
        say(layer, "sweep", sweep)
        say(layer, "2 threads", sweep, cores=2)
        say(layer, "alike", remembering(model, layer, in_shapes_alike(model, TasksSpec(tasks=(task[0],)).batch_tokens)))
        say(layer, "32", remembering(model, layer, in_batches_of(model, 32)))
        say(layer, "31", remembering(model, layer, in_batches_of(model, 31)))
        if given.export:
            say(layer, "export", remembering(model, layer, by_export(layer, folder)))


if __name__ == "__main__":
    main()
