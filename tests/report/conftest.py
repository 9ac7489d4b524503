"""Small runs made of nothing but tables and a record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import polars as pl
import pytest

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.inputs.prompts import Skipped
from layerscope.results.measurement import Resolved, RunRecord
from layerscope.results.tables import LAYERS, PROMPTS


@dataclass(frozen=True)
class FakeRun:
    path: Path
    record: RunRecord
    layers: pl.DataFrame
    prompts: pl.DataFrame
    texts: pl.DataFrame | None = None


def layer_rows(model, blocks, metric, unit, **given):
    return [
        {
            "model": model, "revision": "sha256:0123456789abcdef", "texts": "wiki", "layer": layer,
            "depth": layer / blocks if blocks else 0.0, "metric": metric, "variant": "paper", "alpha": 1.0,
            "readout": "raw", "positions": "all", "pooling": None, "normalization": "none", "value": layer + 1.0,
            "ci_low": layer + 0.5, "ci_high": layer + 1.5, "unit": unit, "n_prompts": 6, "n_tokens": 20.0, "dim": 8,
            "note": None,
        } | given
        for layer in range(blocks + 1)
    ]  # fmt: skip


@pytest.fixture
def make_run(tmp_path):
    def make(name="run", *, model="tiny", blocks=4, ids=None, n_prompts=6, texts=None, **record):
        ids = ids or [f"p{i}" for i in range(6)]
        rows = layer_rows(model, blocks, "prompt_entropy", "nats", n_prompts=n_prompts)
        rows += layer_rows(model, blocks, "curvature", "rad", alpha=None, normalization=None, n_prompts=n_prompts)
        rows += layer_rows(model, blocks, "rankme", "", alpha=None, pooling="mean", n_prompts=n_prompts)
        prompts = [
            {
                "prompt_id": prompt_id, "layer": layer, "metric": "prompt_entropy", "variant": "paper", "alpha": 1.0,
                "readout": "raw", "positions": "all", "normalization": "none", "n_tokens": 10 + rank,
                "value": rank + layer / 10, "note": None,
            }
            for layer in range(blocks + 1)
            for rank, prompt_id in enumerate(ids)
        ]  # fmt: skip
        return FakeRun(
            path=tmp_path / "runs" / name,
            record=RunRecord(
                status="done",
                spec=RunSpec(model=ModelSpec(name=model), texts=TextSpec(source="wiki")),
                resolved=Resolved(
                    model_revision="sha256:0123456789abcdef", texts_revision="2.0", n_layers=blocks, dim=8, context=64,
                    device="cpu", dtype="float32", metrics=("prompt_entropy",), n_prompts=n_prompts, n_blocks=1,
                    prompts_sha256="00",
                ),
                timings={"load": 2.0, "forward": 70.0},
                packages={"torch": "2.13.0"},
                **record,
            ),
            layers=pl.DataFrame(rows, schema=LAYERS),
            prompts=pl.DataFrame(prompts, schema=PROMPTS),
            texts=texts,
        )  # fmt: skip

    return make


@pytest.fixture
def skipped():
    return tuple(Skipped(prompt_id=f"s{i}", n_tokens=i, reason="too short" if i < 2 else "empty") for i in range(3))
