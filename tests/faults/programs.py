"""What is broken on purpose: each kind of run, small, with its files and its numbers.

Imported by the process that the runs are forked from, so that a run starts in a moment.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from tests.families import FAMILIES, build_model, save_family
from tests.inputs.gguf_writing import write_gguf
from tests.mmlu.conftest import make_rows, save_tiny
from tests.tasks.own_tasks import OwnClassification, OwnSTS
from transformers import AutoModelForCausalLM

from layerscope.config import ModelSpec
from layerscope.export.export import export_layer
from layerscope.measuring.measure import measure
from layerscope.mmlu.run import ask_mmlu, open_mmlu
from layerscope.picking.pick import recall_pick
from layerscope.report.page import write_report
from layerscope.results.record import read_record
from layerscope.results.run import load_run
from layerscope.studies.catalogue import STUDIES
from layerscope.studies.record import StudyRecord
from layerscope.studies.study import run_study
from layerscope.tasks.process import import_quietly
from layerscope.tasks.run import open_tasks, score_tasks
from layerscope.training.zoo import train_zoo

torch.set_num_threads(1)
import_quietly("mteb", "`layerscope tasks`")

Numbers = dict[str, object]
"""What a run says, in a form that is equal where the run is."""


@dataclass(frozen=True)
class Program:
    """A kind of run: how it is made (or gone on with), what it says, and which of its files are kept."""

    run: Callable[[Path, Path], None]
    read: Callable[[Path, Path], Numbers]
    kept: Callable[[Path], Iterator[Path]]


def prepare(inputs: Path) -> None:
    """Models, texts and questions that all programs read and none writes."""
    save_tiny(inputs / "model", merges=True)
    draw = random.Random(0)
    lines = [" ".join(f"w{draw.randrange(40, 96)}" for _ in range(draw.randrange(8, 30))) for _ in range(24)]
    (inputs / "texts.txt").write_text("\n".join(lines) + "\n")
    (inputs / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in make_rows(6)))
    for seed, step in enumerate((8, 64)):
        save_family(FAMILIES["gpt-neox"], inputs / "pair" / f"step{step}", seed=seed)
    write_gguf(inputs / "tiny.gguf", build_model(FAMILIES["llama"], auto_class=AutoModelForCausalLM))
    measure(str(inputs / "model"), str(inputs / "texts.txt"), out=inputs / "measured", metrics=["curvature"])


def table(frame: pl.DataFrame) -> str:
    """A table as text, every bit of a number included."""
    return frame.write_json()


def all_files(folder: Path) -> Iterator[Path]:
    """The files of a finished run, without the lock."""
    yield from (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name != ".lock")


def _measure(inputs: Path, place: Path) -> None:
    measure(
        str(inputs / "model"), str(inputs / "texts.txt"), out=place / "run", resamples=100, block_size=4,
        metrics=["prompt_entropy", "curvature", "dataset_entropy", "infonce"], keep_pooled=True,
    )  # fmt: skip


def _read_measured(inputs: Path, place: Path) -> Numbers:
    run = load_run(place / "run")
    tables = {"layers": run.layers, "prompts": run.prompts, "texts": run.texts}
    pooled = {f"pooled {layer}": run.pooled(layer).tobytes().hex() for layer in range(3)}
    record = {name: getattr(run.record, name) for name in ("spec", "resolved", "weights", "counts", "skipped")}
    return {**{name: table(frame) for name, frame in tables.items()}, **pooled, **record}


def _measure_gguf(inputs: Path, place: Path) -> None:
    os.environ["LAYERSCOPE_CACHE"] = str(place / "cache")
    shutil.rmtree(place / "run", ignore_errors=True)
    measure(
        str(inputs / "tiny.gguf"), str(inputs / "texts.txt"), out=place / "run", metrics=["curvature"], resamples=100
    )


def _read_gguf(inputs: Path, place: Path) -> Numbers:
    # A cache says what is made from it: the model is measured again.
    _measure_gguf(inputs, place)
    return {"layers": table(load_run(place / "run").layers)}


def _tasks(inputs: Path, place: Path) -> None:
    score_tasks(
        str(inputs / "model"), [OwnSTS(), OwnClassification()], out=place / "run", cache=str(place / "cache"), workers=1
    )


def _read_tasks(inputs: Path, place: Path) -> Numbers:
    run = open_tasks(place / "run")
    failures = [failure.model_dump() for failure in run.failures]
    return {"scores": table(run.scores), "failures": failures, "model": run.record.model, "tasks": run.record.tasks}


def _rescore(inputs: Path, place: Path) -> Numbers:
    # Results and cache as they are: what is damaged has to be made again, or be named.
    _tasks(inputs, place)
    (place / "run").rename(place / "first")
    first = open_tasks(place / "first")
    _tasks(inputs, place)
    return {"scores": table(first.scores), "of the cache": table(open_tasks(place / "run").scores)}


def _mmlu(inputs: Path, place: Path) -> None:
    ask_mmlu(
        str(inputs / "model"), str(inputs / "questions.jsonl"), out=place / "run", resamples=100, permutations=100,
        block_size=8,
    )  # fmt: skip


def _read_mmlu(inputs: Path, place: Path) -> Numbers:
    run = open_mmlu(place / "run")
    tables = {name: table(getattr(run, name)) for name in ("scores", "questions", "entropies", "relations")}
    return {**tables, "spec": run.record.spec, "resolved": run.record.resolved}


def _study(inputs: Path, place: Path) -> None:
    study = STUDIES["checkpoints"]
    given = {"models": (str(inputs / "pair"),), "steps": (8, 64), "texts": str(inputs / "texts.txt"), "n": 8}
    run_study(study, study.spec("small", {"dtype": "float32", **given}), place / "studies")


def _read_study(inputs: Path, place: Path) -> Numbers:
    folder = place / "studies" / "checkpoints"
    record = read_record(StudyRecord, folder)
    runs = sorted((place / "studies" / "runs").iterdir())
    found: Numbers = {f"layers of {run.name}": table(load_run(run).layers) for run in runs}
    # The findings are for people to read: no program reads them back.
    return {**found, "status": record.status, "jobs": record.jobs, "spec": record.spec}


def _zoo(inputs: Path, place: Path) -> None:
    train_zoo(["zoo-neox-tiny"], cache=place / "cache")


def _read_zoo(inputs: Path, place: Path) -> Numbers:
    (record,) = train_zoo(["zoo-neox-tiny"], cache=place / "cache")
    folder = next((place / "cache").rglob("zoo.json")).parent
    weights = {str(path.relative_to(folder)): _digest(path) for path in folder.rglob("*.safetensors")}
    return {"losses": [(loss.step, loss.held_out, loss.train) for loss in record.losses], **weights}


def _export(inputs: Path, place: Path) -> None:
    if not (place / "export").exists():
        export_layer(str(inputs / "model"), 1, out=place / "export")


def _read_export(inputs: Path, place: Path) -> Numbers:
    # Its speeds are measured anew each time, and stand in the card.
    return {
        str(path.relative_to(place / "export")): _digest(path)
        for path in all_files(place / "export")
        if path.suffix in (".safetensors", ".json")
    }


def _report(inputs: Path, place: Path) -> None:
    write_report([load_run(inputs / "measured")], place / "report.html")


def _read_report(inputs: Path, place: Path) -> Numbers:
    return {"page": (place / "report.html").read_text(encoding="utf-8")}


def _read_pick(inputs: Path, place: Path) -> Numbers:
    picked = recall_pick(place / "run")
    return {"layer": picked.layer, "answer": picked.answer, "notes": picked.notes, "rules": table(picked.rules)}


def _picked(inputs: Path, place: Path) -> None:
    _tasks(inputs, place)
    recall_pick(place / "run")


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _under(*names: str) -> Callable[[Path], Iterator[Path]]:
    def kept(place: Path) -> Iterator[Path]:
        for name in names:
            yield from all_files(place / name)

    return kept


def _blocks(place: Path) -> Iterator[Path]:
    yield from all_files(place / "run" / "blocks")


def _pick_files(place: Path) -> Iterator[Path]:
    yield from (place / "run" / name for name in ("pick.json", "scores.parquet", "tasks.json"))


PROGRAMS: dict[str, Program] = {
    "measure": Program(_measure, _read_measured, _under("run")),
    "tasks": Program(_tasks, _read_tasks, _under("run")),
    "mmlu": Program(_mmlu, _read_mmlu, _under("run")),
    "study": Program(_study, _read_study, _under("studies/runs", "studies/checkpoints")),
    "zoo": Program(_zoo, _read_zoo, _under("cache")),
    "export": Program(_export, _read_export, _under("export")),
    "report": Program(_report, _read_report, _under()),
}
"""Everything that is killed, given a full disk, run twice at once."""

STORED: dict[str, Program] = {
    "measure": PROGRAMS["measure"],
    "tasks": PROGRAMS["tasks"],
    "mmlu": PROGRAMS["mmlu"],
    "study": PROGRAMS["study"],
    "zoo": PROGRAMS["zoo"],
    "pick": Program(_picked, _read_pick, _pick_files),
    "results and embeddings": Program(_tasks, _rescore, _under("run", "cache")),
    "GGUF cache": Program(_measure_gguf, _read_gguf, _under("cache")),
}
"""Everything that is kept and read back: its bits are flipped, its files are cut."""


def model_spec(inputs: Path) -> ModelSpec:
    """The model of the programs."""
    return ModelSpec(name=str(inputs / "model"))


def same(one: Numbers, other: Numbers) -> list[str]:
    """The names of what differs."""
    return [name for name in {*one, *other} if not _equal(one.get(name), other.get(name))]


def _equal(one: object, other: object) -> bool:
    if isinstance(one, np.ndarray) and isinstance(other, np.ndarray):
        return np.array_equal(one, other, equal_nan=True)
    return repr(one) == repr(other)
