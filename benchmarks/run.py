"""`make bench`: layerscope against bare forward passes and against the papers' way of measuring, as ratios in one run.

SmolLM2-135M, 128 Wikipedia leads. Prints a table and writes runs/bench.json. Run it on a machine that does nothing
else; it takes more than an hour on 2 cores, half of it for memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch

from benchmarks.naive import every_metric
from benchmarks.timing import in_turns, seconds
from layerscope.config import ModelSpec, RunSpec, TextSpec, ViewSpec
from layerscope.inputs.augmentations import make_views
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.inputs.processor import matmul_precision
from layerscope.inputs.prompts import Prompt, select_prompts, tokenize
from layerscope.inputs.texts import load_texts
from layerscope.measuring.forward import measure_block, plan_batches, split_blocks
from layerscope.measuring.measure import measure_spec
from layerscope.measuring.plan import make_plan
from layerscope.states.batches import Batch
from layerscope.states.passes import run_passes

MODEL = "smollm2-135m"
CORE = ("prompt_entropy", "curvature", "anisotropy")
"""Prompt entropy, curvature, and a metric that needs nothing but the pooled vectors."""


def spec_of(n: int, **options: object) -> RunSpec:
    """A run over `n` leads."""
    model = ModelSpec(name=MODEL, dtype=options.pop("dtype", "float32"), fast_matmul=options.pop("fast", False))  # type: ignore[arg-type]
    texts = TextSpec(source="wiki", n=n, max_tokens=options.pop("max_tokens", None))  # type: ignore[arg-type]
    return RunSpec(model=model, texts=texts, **options)  # type: ignore[arg-type]


def batches_of(model: LoadedModel, prompts: Sequence[Prompt], spec: RunSpec, views: int) -> list[Batch]:
    """The batches that a run puts through the model: prompts, then their views."""
    batches = plan_batches(model, [prompt.tokens for prompt in prompts], spec.batch_tokens)
    if views:
        chosen = ViewSpec(views=views)
        made = [view for prompt in prompts for view in make_views(prompt.text, prompt.id, chosen)]
        batches += plan_batches(model, tokenize(made, model.tokenizer, model.context), spec.batch_tokens)
    return batches


def forward(model: LoadedModel, batches: Sequence[Batch], *, fast: bool = False) -> None:
    """Bare forward passes as anybody would run them: the headless model, one batch after the other on all cores."""
    with matmul_precision("medium" if fast else torch.get_float32_matmul_precision()):
        for batch in batches:
            _forward(batch, model)


def forward_a_core(model: LoadedModel, batches: Sequence[Batch]) -> None:
    """The same bare passes organised as layerscope organises them, a batch a core."""
    for _ in run_passes(model, [partial(_forward, batch) for batch in batches]):
        pass


def _forward(batch: Batch, model: LoadedModel) -> None:
    with torch.inference_mode():
        model.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask, use_cache=False)


def core_over_forward(n: int, repeats: int, *, fast: bool) -> dict[str, float]:
    """Prompt entropy, curvature and pooling at all layers against the bare passes over the same batches.

    Block by block in turns, and the smallest time of each block: a slow spell of the machine meets both sides.
    """
    spec = spec_of(n, metrics=CORE, normalizations="none", fast=fast)
    model = load_model(spec.model)
    prompts = select_prompts(load_texts(spec.texts), spec.texts, model.tokenizer, model.context).prompts
    plan = make_plan(spec).for_model(model.n_layers, n)
    total = {"forward": 0.0, "forward, a batch a core": 0.0, "layerscope": 0.0}
    for rows in split_blocks([len(prompt.tokens) for prompt in prompts], spec.block_size):
        block = [prompts[row] for row in rows]
        batches = batches_of(model, block, spec, views=0)
        forward(model, batches[:1], fast=fast)
        works = {
            "forward": lambda: forward(model, batches, fast=fast),  # noqa: B023
            "forward, a batch a core": lambda: forward_a_core(model, batches),  # noqa: B023
            "layerscope": lambda: measure_block(plan, model, block, lambda _: None),  # noqa: B023
        }
        for name, best in in_turns(works, repeats).items():
            total[name] += best
    return {**total, "ratio": total["layerscope"] / total["forward"]}


def all_over_forward(n: int, repeats: int, *, dtype: str = "float32", fast: bool = False) -> dict[str, float]:
    """A whole run of every metric, augmentation to tables, against the 17 bare passes over the same batches."""
    spec = spec_of(n, dtype=dtype, fast=fast)
    model = load_model(spec.model)
    prompts = select_prompts(load_texts(spec.texts), spec.texts, model.tokenizer, model.context).prompts
    blocks = split_blocks([len(prompt.tokens) for prompt in prompts], spec.block_size)
    batches = [batch for rows in blocks for batch in batches_of(model, [prompts[row] for row in rows], spec, views=16)]

    def measured() -> None:
        with tempfile.TemporaryDirectory() as folder:
            run = measure_spec(spec, Path(folder) / "run")
            loading.append(run.record.timings["load"])

    loading: list[float] = []
    best = in_turns({"forward": lambda: forward(model, batches, fast=fast), "layerscope": measured}, repeats)
    best["layerscope"] -= min(loading)
    return {**best, "ratio": best["layerscope"] / best["forward"]}


def naive_seconds(n: int, share: int) -> float:
    """The naive baseline on every `share`-th prompt in order of length, scaled to all `n`."""
    spec = spec_of(n)
    model = load_model(spec.model)
    prompts = select_prompts(load_texts(spec.texts), spec.texts, model.tokenizer, model.context).prompts
    chosen = sorted(prompts, key=lambda prompt: len(prompt.tokens))[share // 2 :: share]
    made = [tokenize(make_views(p.text, p.id, ViewSpec()), model.tokenizer, model.context) for p in chosen]
    views = [[views[number] for views in made] for number in range(16)]
    for _ in every_metric(model, [prompt.tokens for prompt in chosen[:2]], [view[:2] for view in views]):
        break
    used = sum(len(view) for prompt in made for view in prompt)
    everything = [tokenize(make_views(p.text, p.id, ViewSpec()), model.tokenizer, model.context) for p in prompts]
    total = sum(len(view) for prompt in everything for view in prompt)
    spent = seconds(lambda: list(every_metric(model, [prompt.tokens for prompt in chosen], views)))
    return spent * total / used


def peak_memory(n: int) -> float:
    """Peak resident MiB of a process that measures every metric on `n` short leads."""
    code = (
        "import resource, sys, tempfile; from pathlib import Path\n"
        "from benchmarks.run import spec_of; from layerscope.measuring.measure import measure_spec\n"
        "folder = tempfile.TemporaryDirectory()\n"
        f"measure_spec(spec_of({n}, max_tokens=64), Path(folder.name) / 'run')\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)\n"
    )
    # Peaks repeat only where the allocator gives large pieces back at once.
    steady = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **steady}, capture_output=True, text=True, check=True
    )
    return float(done.stdout.split()[-1])


def main() -> None:
    """Run what is asked for and say it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=128, help="leads")
    parser.add_argument("--repeats", type=int, default=5, help="rounds of the short comparisons")
    parser.add_argument("--naive-share", type=int, default=1, help="the naive baseline takes every k-th prompt")
    parser.add_argument("--only", choices=["core", "all", "naive", "memory"], help="one part alone")
    parser.add_argument("--out", type=Path, default=Path("runs/bench.json"))
    given = parser.parse_args()
    found: dict[str, object] = {"n": given.n, "threads": torch.get_num_threads(), "torch": torch.__version__}

    def say(name: str, value: object, bound: str = "") -> None:
        found[name] = value
        print(f"{name:58} {value if isinstance(value, str) else f'{value:9.3f}'}  {bound}", flush=True)

    if given.only in (None, "core"):
        for fast, bound in ((False, "at most 1.10"), (True, "no bound")):
            if fast and not load_model(spec_of(1, fast=True).model).fast_matmul:
                say("core / forward, fast float32 products", "refused by the probe on this processor")
                continue
            core = core_over_forward(given.n, given.repeats, fast=fast)
            label = "fast float32 products" if fast else "float32"
            say(f"core / forward, {label}", core["ratio"], bound)
            say(f"  forward seconds, {label}", core["forward"])
            if not fast:
                again = core["layerscope"] / core["forward, a batch a core"]
                say("  core / forward that takes a batch a core as well", again, "no bound")
    if given.only in (None, "all", "naive"):
        every = all_over_forward(given.n, 1)
        say("every metric / 17 forward passes, float32", every["ratio"], "at most 1.15")
        say("  layerscope seconds, float32", every["layerscope"])
        auto = all_over_forward(given.n, 1, dtype="auto")
        say("every metric / 17 forward passes, dtype auto", auto["ratio"], "no bound")
        say("  layerscope seconds, dtype auto", auto["layerscope"])
        if given.only is None and load_model(spec_of(1, fast=True).model).fast_matmul:
            fast = all_over_forward(given.n, 1, fast=True)
            say("every metric / 17 forward passes, fast float32 products", fast["ratio"], "no bound")
        if given.only != "all":
            naive = naive_seconds(given.n, given.naive_share)
            say("  naive seconds, float32", naive, f"every {given.naive_share}th prompt, scaled by tokens")
            say("naive / layerscope, float32", naive / every["layerscope"], "at least 1.8")
            say("naive / layerscope, dtype auto", naive / auto["layerscope"], "at least 4")
    if given.only in (None, "memory"):
        small, large = peak_memory(128), peak_memory(1024)
        say("  peak MiB, 128 prompts", small)
        say("  peak MiB, 1,024 prompts", large)
        say("peak memory, 1,024 / 128 prompts", large / small, "at most 1.10")
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(f"written to {given.out}")


if __name__ == "__main__":
    main()
