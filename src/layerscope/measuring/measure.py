"""measure(), measure_model(): from a spec to a finished run, in blocks, so that an interruption loses one of them at most."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.errors import UserError
from layerscope.files.locks import in_folder, locked
from layerscope.inputs.identity import model_identity, tokenizer_hash
from layerscope.inputs.in_memory import reading
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.inputs.prompts import select_prompts
from layerscope.inputs.texts import load_texts, texts_revision
from layerscope.measuring.blocks import BlockStore, remove_blocks
from layerscope.measuring.forward import measure_block, split_blocks
from layerscope.measuring.plan import Plan, make_plan
from layerscope.measuring.progress import Report, silent, step
from layerscope.measuring.summary import write_tables
from layerscope.results import resume
from layerscope.results.measurement import Resolved, RunRecord
from layerscope.results.record import Keeper, ResolvedModel, circumstances, package_versions
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
    """The spec of a measurement, from a model, texts and the other fields of RunSpec. Raises what `Spec.of` raises."""
    named = {"name": model} if isinstance(model, str) else model
    source = {"source": texts} if isinstance(texts, str) else texts
    return RunSpec.of({"model": named, "texts": source, **options})


def measure_model(
    model: nn.Module, tokenizer: PreTrainedTokenizerBase, spec: RunSpec, out: str | Path, report: Report = silent
) -> Run:
    """Measure a model as it is in memory, without saving or loading it, for example between two steps of its training.

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


def measure_spec(spec: RunSpec, out: Path, report: Report = silent, *, model: LoadedModel | None = None) -> Run:
    """`measure` for a spec that is ready, and for a model that is loaded already. Raises what `measure` raises."""
    plan = make_plan(spec)
    notes: tuple[str, ...] = ()
    with locked(out):
        before = resume.earlier(RunRecord, out, spec=spec)
        if before is None or before.status != "done":
            _measure_locked(plan, model, out, report, before)
        else:
            # What a reader of a finished run should know of its sources; they are hashed, nothing is loaded.
            with step(report, "looking at the model and texts"):
                looks: dict[str, resume.Look] = {
                    "the model": lambda: _model_identity(spec, model),
                    "the texts": lambda: {"texts_revision": texts_revision(spec.texts)},
                }
                notes = resume.compare_sources((out, "measure"), dict(before.resolved), looks)
            notes += resume.other_packages(before.packages, package_versions())
            # A finished run that cannot be read has to be said now, not at the first look at a table. By the hashes, so
            # that its tables need not fit into memory; runs of version 0.1.0 have none and are read.
            for name in before.files:
                before.check(out, name)
            if not before.files:
                old = load_run(out)
                _ = old.layers, old.prompts
        remove_blocks(out)
        return load_run(out, notes)


def _model_identity(spec: RunSpec, model: LoadedModel | None) -> dict[str, str]:
    if model is None:
        return model_identity(spec.model)
    tokenizer = f"{resume.OBJECT}{tokenizer_hash(model.tokenizer)}"
    return {"model_revision": model.revision, "tokenizer_revision": tokenizer}


def _measure_locked(plan: Plan, model: LoadedModel | None, out: Path, report: Report, before: RunRecord | None) -> None:
    start = time.perf_counter()
    with step(report, "loading the model"):
        loaded = model or load_model(plan.spec.model, attentions=plan.attentions)
        facts = ResolvedModel.facts(loaded, _model_identity(plan.spec, model))
    prompts = select_prompts(load_texts(plan.spec.texts), plan.spec.texts, loaded.tokenizer, loaded.context)
    lengths = [len(prompt.tokens) for prompt in prompts.prompts]
    plan = plan.for_model(loaded.n_layers, len(lengths))
    rows = split_blocks(lengths, plan.spec.block_size)
    resolved = Resolved(
        **facts,
        texts_revision=prompts.revision,
        metrics=plan.metric_names,
        n_prompts=len(lengths),
        n_blocks=len(rows),
        prompts_sha256=resume.hash_of((prompt.id, prompt.tokens) for prompt in prompts.prompts),
    )
    if before is not None:
        resume.refuse_other_inputs(out, "measure", before.resolved, resolved)
    record = RunRecord(
        spec=plan.spec,
        resolved=resolved,
        weights=loaded.weights,
        counts=prompts.counts,
        filters=prompts.filters,
        skipped=prompts.skipped,
        warnings=loaded.warnings,
        **circumstances(loaded, before),
    )
    keeper = Keeper(record, out, before)
    keeper.spend("load", time.perf_counter() - start)
    store = BlockStore(out, rows, resume.fingerprint(RunRecord.FREE, plan.spec, resolved))
    with keeper.working():
        keeper.update()
        with keeper.stage("blocks"):
            again = store.make(
                lengths,
                report,
                lambda rows, done: measure_block(plan, loaded, [prompts.prompts[row] for row in rows], done),
            )
        with keeper.stage("summary"):
            files, unchanged = write_tables(plan, loaded, prompts, store, report)
        keeper.done(files, warnings=(*keeper.record.warnings, *again, *unchanged))
