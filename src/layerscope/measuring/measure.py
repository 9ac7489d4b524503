"""measure(): from a spec to a finished run, in blocks, so that an interruption loses at most one of them."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.files.locks import locked
from layerscope.inputs.identity import model_identity, tokenizer_hash
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.inputs.prompts import select_prompts
from layerscope.inputs.texts import load_texts, texts_revision
from layerscope.measuring.blocks import BlockStore, remove_blocks
from layerscope.measuring.folders import in_folder
from layerscope.measuring.forward import measure_block, split_blocks
from layerscope.measuring.plan import Plan, make_plan
from layerscope.measuring.progress import Report, silent
from layerscope.measuring.summary import write_tables
from layerscope.results.measurement import Resolved, RunRecord
from layerscope.results.record import Keeper, ResolvedModel, circumstances, package_versions
from layerscope.results.resume import (
    OBJECT,
    compare_sources,
    earlier,
    fingerprint,
    hash_of,
    mixed_packages,
    other_packages,
    refuse_moved_model,
    refuse_other_inputs,
)
from layerscope.results.run import Run, load_run


def measure(
    model: str | ModelSpec,
    texts: str | TextSpec = "wiki",
    *,
    out: str | Path | None = None,
    report: Report = silent,
    **options: object,
) -> Run:
    """Measure every layer of a model on texts.

    Args:
        model: a model name (see `layerscope models`), hub id, folder or .gguf file, or a ModelSpec.
        texts: a text name (see `layerscope texts`), a file, hub:org/name, or a TextSpec.
        out: the run's folder; the same call goes on after an interruption and only reads what is done. None: a
            temporary folder that lives as long as the Run that is returned.
        report: called with (stage, done, total) as the work proceeds.
        **options: the other fields of RunSpec: metrics, variants, readouts, positions, alphas, ...

    Returns:
        The finished run: `.layers`, `.prompts`, `.record`, `.plot(metric)`, `.query(sql)`.

    Raises:
        UserError: something asked for does not exist or does not fit; the message says what to do.
        RunFailedError: the machine or the disk stood in the way; the finished blocks are kept.
    """
    spec = run_spec(model, texts, options)
    return in_folder(out, lambda folder: measure_spec(spec, folder, report))


def run_spec(model: str | ModelSpec, texts: str | TextSpec, options: Mapping[str, object]) -> RunSpec:
    """The spec of a measurement, from a model, texts and the other fields of RunSpec.

    Raises:
        UserError: a field that does not exist, or a value that is not valid.
    """
    named = {"name": model} if isinstance(model, str) else model
    source = {"source": texts} if isinstance(texts, str) else texts
    return RunSpec.of({"model": named, "texts": source, **options})


def measure_spec(spec: RunSpec, out: Path, report: Report = silent, *, model: LoadedModel | None = None) -> Run:
    """`measure` for a spec that is ready, and for a model that is loaded already. Raises what `measure` raises."""
    plan = make_plan(spec)
    notes: tuple[str, ...] = ()
    with locked(out):
        before = earlier(RunRecord, out, spec=spec)
        if before is None or before.status != "done":
            _measure_locked(plan, model, out, report, before)
        else:
            notes = _compare(spec, model, out, report, before)
            _check(out, before)
        remove_blocks(out)
        return load_run(out, notes)


def _check(out: Path, record: RunRecord) -> None:
    # A finished run that cannot be read has to be said now, not at the first look at a table. By the hashes, so that
    # its tables need not fit into memory; runs of version 0.1.0 have none and are read.
    for name in record.files:
        record.check(out, name)
    if not record.files:
        old = load_run(out)
        _ = old.layers, old.prompts


def _compare(spec: RunSpec, model: LoadedModel | None, out: Path, report: Report, record: RunRecord) -> tuple[str, ...]:
    """What a reader of a finished run should know of its sources; they are hashed, nothing is loaded."""
    report("looking at the model and texts", 0.0, 1.0)
    looks = {
        "the model": lambda: _model_identity(spec, model),
        "the texts": lambda: {"texts_revision": texts_revision(spec.texts)},
    }
    notes = compare_sources((out, "measure"), dict(record.resolved), looks)
    report("looking at the model and texts", 1.0, 1.0)
    return (*notes, *other_packages(record.packages, package_versions()))


def _model_identity(spec: RunSpec, model: LoadedModel | None) -> dict[str, str]:
    if model is None:
        return model_identity(spec.model)
    return {
        "model_revision": model.revision,
        "tokenizer_revision": f"{OBJECT}{tokenizer_hash(model.tokenizer)}",
    }


def _measure_locked(plan: Plan, model: LoadedModel | None, out: Path, report: Report, before: RunRecord | None) -> None:
    start = time.perf_counter()
    report("loading the model", 0.0, 1.0)
    loaded = model or load_model(plan.spec.model, attentions=plan.attentions)
    identity = _model_identity(plan.spec, model)
    refuse_moved_model(loaded, identity["model_revision"])
    report("loading the model", 1.0, 1.0)
    prompts = select_prompts(load_texts(plan.spec.texts), plan.spec.texts, loaded.tokenizer, loaded.context)
    lengths = [len(prompt.tokens) for prompt in prompts.prompts]
    plan = plan.for_model(loaded.n_layers, len(lengths))
    rows = split_blocks(lengths, plan.spec.block_size)
    resolved = Resolved(
        **ResolvedModel.facts(loaded, identity["tokenizer_revision"]),
        texts_revision=prompts.revision,
        metrics=plan.metric_names,
        n_prompts=len(lengths),
        n_blocks=len(rows),
        prompts_sha256=hash_of((prompt.id, prompt.tokens) for prompt in prompts.prompts),
    )
    record = RunRecord(
        spec=plan.spec,
        resolved=resolved,
        weights=loaded.weights,
        counts=dict(prompts.counts),
        filters=prompts.filters,
        skipped=prompts.skipped,
        warnings=loaded.warnings,
        timings=dict(before.timings) if before else {},
        **circumstances(loaded, before),
    )
    if before is not None:
        refuse_other_inputs(out, "measure", before.resolved, resolved)
    keeper = Keeper(record, out)
    keeper.spend("load", time.perf_counter() - start)
    store = BlockStore(out, rows, fingerprint(RunRecord.FREE, plan.spec, resolved))
    with keeper.working():
        keeper.update(warnings=(*record.warnings, *mixed_packages(before, record)))
        with keeper.stage("blocks"):
            again = store.make(
                lengths,
                report,
                lambda rows, done: measure_block(plan, loaded, [prompts.prompts[row] for row in rows], done),
            )
        with keeper.stage("summary"):
            files, unchanged = write_tables(plan, loaded, prompts, store, report)
        keeper.done(files, warnings=(*keeper.record.warnings, *again, *unchanged))
