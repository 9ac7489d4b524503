"""Scoring every layer from one encoding, against ordinary MTEB runs, one a layer. Ratios, in one process.

    python -m benchmarks.tasks --data-dir DIR     # Banking77 and STS13 to STS16, SmolLM2-135M, about 20 minutes on 2 cores
    python -m benchmarks.tasks --small            # the offline tasks: needs no data

An ordinary run is an encoder as in the papers' harness: the model cut after block k, batches of 32 in the task's order,
mean of the token states after the final norm. It is measured at some layers and added up over all of them, linearly
between the measured ones; layerscope's sweep is measured whole. Prints a table and writes runs/bench_tasks.json.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.timing import in_turns, seconds
from layerscope.config import ModelSpec
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.inputs.prompts import tokenize
from layerscope.tasks.choice import BENCHMARKS, choose_tasks
from layerscope.tasks.data import load_task_data
from layerscope.tasks.encoding import TextEncoder
from layerscope.tasks.process import import_quietly
from layerscope.tasks.run import score_spec
from layerscope.tasks.spec import TasksSpec

MODEL = "smollm2-135m"
REAL = ("Banking77Classification", "STS13", "STS14", "STS15", "STS16")


def ordinary_encoder(model: LoadedModel, layer: int) -> Any:  # noqa: ANN401
    """An MTEB encoder: the model cut after block `layer`, one batch after the other. `.seconds` is what it took."""
    from mteb.models.abs_encoder import AbsEncoder
    from mteb.models.model_meta import ModelMeta, ScoringFunction

    class Encoder(AbsEncoder):  # type: ignore[misc]
        seconds = 0.0
        mteb_model_meta = ModelMeta.create_empty(
            {"name": "ordinary/encoder", "similarity_fn_name": ScoringFunction.COSINE}
        )

        def encode(self, inputs: Any, **_: Any) -> np.ndarray:  # noqa: ANN401
            found: list[np.ndarray] = []

            def work() -> None:
                with cut_after(model, layer), torch.inference_mode():
                    found.extend(mean_states(model, batch["text"]) for batch in inputs)

            self.seconds += seconds(work)
            return np.concatenate(found)

    return Encoder()


@contextmanager
def cut_after(model: LoadedModel, layer: int) -> Iterator[None]:
    """The model without its blocks after `layer`."""
    inner: Any = model.model
    blocks = inner.layers
    inner.layers = blocks[:layer]
    try:
        yield
    finally:
        inner.layers = blocks


def mean_states(model: LoadedModel, texts: Sequence[str]) -> np.ndarray:
    """Mean of the token states after the final norm."""
    tokens = tokenize(list(texts), model.tokenizer, model.context)
    longest = max(map(len, tokens))
    ids = torch.tensor([[*row, *[model.pad_id] * (longest - len(row))] for row in tokens])
    mask = (torch.arange(longest) < torch.tensor([[len(row)] for row in tokens])).long()
    states = model.model(input_ids=ids, attention_mask=mask).last_hidden_state
    weights = mask[..., None].float()
    vectors: np.ndarray = ((states * weights).sum(1) / weights.sum(1)).numpy()
    return vectors


def encoding_ratio(model: LoadedModel, texts: Sequence[str], repeats: int) -> dict[str, float]:
    """Encoding for all layers, written to disk, against encoding for the last layer alone."""
    last = model.n_layers

    def encode(layers: tuple[int, ...]) -> Callable[[], None]:
        def work() -> None:
            with tempfile.TemporaryDirectory() as cache:
                TextEncoder(model, TasksSpec(tasks=("any",), cache=cache), layers).fill(texts)

        return work

    best = in_turns({"one layer": encode((last,)), "all layers": encode(tuple(range(last + 1)))}, repeats)
    return {**best, "ratio": best["all layers"] / best["one layer"]}


def ordinary_seconds(
    model: LoadedModel, names: Sequence[str], layers: Sequence[int], data_dir: str | None
) -> tuple[float, float]:
    """Seconds of one ordinary MTEB run a layer, over all layers of the model; and of these, encoding."""
    import mteb

    from layerscope.tasks.process import quiet_mteb

    total, encoding = [], []
    for layer in layers:
        spent = encoded = 0.0
        for task in choose_tasks(names, None, ("english",)):
            load_task_data(task, data_dir, Path(tempfile.mkdtemp()))
            encoder = ordinary_encoder(model, layer)

            def run(encoder: Any = encoder, task: Any = task) -> None:  # noqa: ANN401
                with quiet_mteb():
                    mteb.evaluate(encoder, task, cache=None, co2_tracker=False, show_progress_bar=False)

            spent += seconds(run)
            encoded += encoder.seconds
        print(f"  ordinary run at layer {layer}: {spent:.1f} s, of which encoding {encoded:.1f} s", flush=True)
        total.append(spent)
        encoding.append(encoded)
    everywhere = np.arange(model.n_layers + 1)
    return float(np.interp(everywhere, layers, total).sum()), float(np.interp(everywhere, layers, encoding).sum())


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data-dir", help="stands in for the hub: DIR/mteb/banking77, ...")
    parser.add_argument("--small", action="store_true", help="the offline tasks, which need no data")
    parser.add_argument("--layers", default="0,15,30", help="layers that ordinary runs are measured at")
    parser.add_argument("--texts", type=int, default=512, help="texts of the encoding ratio")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", choices=["encoding", "sweep"], help="one part alone")
    parser.add_argument("--out", type=Path, default=Path("runs/bench_tasks.json"))
    given = parser.parse_args()
    import_quietly("mteb", "`layerscope tasks`")
    names = BENCHMARKS["offline"] if given.small else REAL
    found: dict[str, object] = {"tasks": names, "threads": torch.get_num_threads(), "torch": torch.__version__}

    def say(name: str, value: float, bound: str = "") -> None:
        found[name] = value
        print(f"{name:58} {value:9.3f}  {bound}", flush=True)

    model = load_model(ModelSpec(name=MODEL))
    if given.only != "sweep":
        task = choose_tasks(names[:1], None, ("english",))[0]
        load_task_data(task, given.data_dir, Path(tempfile.mkdtemp()))
        texts = list(dict.fromkeys(task.dataset["test"]["text"]))[: given.texts]
        ratio = encoding_ratio(model, texts, given.repeats)
        say("encoding, all layers / one layer", ratio["ratio"], "at most 1.15")
        say("  seconds, one layer", ratio["one layer"])
    if given.only != "encoding":
        layers = [int(layer) for layer in given.layers.split(",")]
        with tempfile.TemporaryDirectory() as folder:
            spec = TasksSpec(tasks=names, data_dir=given.data_dir, cache=f"{folder}/cache")
            whole = seconds(lambda: score_spec(model.spec, spec, Path(folder) / "run"))
            from layerscope.results.record import read_record
            from layerscope.tasks.record import TasksRecord

            timings = read_record(TasksRecord, Path(folder) / "run").timings
        say("  sweep seconds, whole", whole)
        say("  sweep seconds, encoding", timings["encoding"])
        say("  sweep seconds, evaluators", timings["scoring"])
        say("  evaluators' share of the sweep", timings["scoring"] / whole)
        ordinary, encoding = ordinary_seconds(model, names, layers, given.data_dir)
        say("  ordinary seconds, one run a layer", ordinary, f"measured at layers {given.layers}")
        say("  evaluators' share of the ordinary runs", 1 - encoding / ordinary)
        say("ordinary runs / sweep", ordinary / whole, "at least 8")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"written to {given.out}")


if __name__ == "__main__":
    main()
