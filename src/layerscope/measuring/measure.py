"""measure(): from a spec to a finished run, in blocks, so that an interruption loses at most one of them."""

from __future__ import annotations

import hashlib
import shutil
import tempfile
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import torch
from pydantic import ValidationError

from layerscope.config import ModelSpec, RunSpec, TextSpec
from layerscope.errors import LayerscopeError, UserError
from layerscope.files.locks import locked
from layerscope.files.writing import make_folder
from layerscope.inputs.identity import model_identity, tokenizer_hash
from layerscope.inputs.models import LoadedModel, load_model
from layerscope.inputs.prompts import PromptSet, select_prompts
from layerscope.inputs.texts import load_texts, texts_revision
from layerscope.measuring.blocks import block_path, write_block
from layerscope.measuring.forward import measure_block, split_blocks
from layerscope.measuring.plan import Plan, make_plan
from layerscope.measuring.progress import Report, silent
from layerscope.measuring.resume import (
    OBJECT,
    compare_sources,
    earlier_record,
    other_packages,
    refuse_changed_inputs,
    refuse_moved_model,
)
from layerscope.measuring.summary import write_tables
from layerscope.results.record import Resolved, RunRecord, Skipped, package_versions, source_commit, write_record
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
    if out is not None:
        return measure_spec(spec, Path(out), report)
    folder = Path(tempfile.mkdtemp(prefix="layerscope-"))
    try:
        run = measure_spec(spec, folder, report)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    weakref.finalize(run, shutil.rmtree, folder, ignore_errors=True)
    return run


def run_spec(model: str | ModelSpec, texts: str | TextSpec, options: Mapping[str, object]) -> RunSpec:
    """The spec of a measurement, from a model, texts and the other fields of RunSpec.

    Raises:
        UserError: a field that does not exist, or a value that is not valid.
    """
    try:
        return RunSpec(
            model=ModelSpec(name=model) if isinstance(model, str) else model,
            texts=TextSpec(source=texts) if isinstance(texts, str) else texts,
            **options,
        )
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UserError(f"{where}: {first['msg']}, got {first['input']!r}") from error


def measure_spec(spec: RunSpec, out: Path, report: Report = silent, *, model: LoadedModel | None = None) -> Run:
    """`measure` for a spec that is ready, and for a model that is loaded already. Raises what `measure` raises."""
    plan = make_plan(spec)
    notes: tuple[str, ...] = ()
    with locked(out):
        earlier = earlier_record(out, spec)
        if earlier is None or earlier.status != "done":
            _measure_locked(plan, model, (out, report), earlier)
        else:
            notes = _compare(spec, model, (out, report), earlier)
        run = load_run(out, notes)
        # A finished run that cannot be read has to be said now, not at the first look at a table.
        _ = run.layers, run.prompts
    return run


def _compare(
    spec: RunSpec, model: LoadedModel | None, target: tuple[Path, Report], record: RunRecord
) -> tuple[str, ...]:
    """What a reader of a finished run should know of its sources; they are hashed, nothing is loaded."""
    out, report = target
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


def _measure_locked(
    plan: Plan, model: LoadedModel | None, target: tuple[Path, Report], earlier: RunRecord | None
) -> None:
    out, report = target
    clock = Clock(dict(earlier.timings) if earlier else {})
    started = earlier.started if earlier else _now()
    with clock.stage("load"):
        report("loading the model", 0.0, 1.0)
        model, tokenizer_revision = _load(plan, model)
        report("loading the model", 1.0, 1.0)
        texts = load_texts(plan.spec.texts)
        prompts = select_prompts(texts, plan.spec.texts, model.tokenizer, model.context)
    plan = plan.for_model(model.n_layers, len(prompts.prompts))
    blocks = split_blocks([len(prompt.tokens) for prompt in prompts.prompts], plan.spec.block_size)
    record = RunRecord(
        status="running",
        spec=plan.spec,
        resolved=_resolve(plan, model, prompts, (len(blocks), tokenizer_revision)),
        weights=model.weights,
        counts=dict(prompts.counts),
        filters=prompts.filters,
        skipped=tuple(Skipped(prompt_id=s.id, n_tokens=s.n_tokens, reason=s.reason) for s in prompts.skipped),
        warnings=model.warnings,
        packages=package_versions(),
        commit=source_commit(),
        machine=f"{torch.get_num_threads()} threads, {model.device}",
        started=started,
    )
    if earlier is not None:
        refuse_changed_inputs(out, earlier, record.resolved)
        if earlier.packages != record.packages:
            record.warnings += ("continued with other package versions than the run was started with",)
    with _failure_recorded(record, out, clock):
        write_record(record, out)
        with clock.stage("blocks"):
            _measure_blocks(plan, model, prompts, blocks, (out, report))
        with clock.stage("summary"):
            warnings = write_tables(plan, model, prompts, blocks, (out, report))
        done = record.model_copy(
            update={
                "status": "done",
                "warnings": (*record.warnings, *warnings),
                "timings": clock.seconds,
                "finished": _now(),
            }
        )
        write_record(done, out)
    shutil.rmtree(out / "blocks", ignore_errors=True)


def _measure_blocks(
    plan: Plan, model: LoadedModel, prompts: PromptSet, blocks: list[tuple[int, ...]], target: tuple[Path, Report]
) -> None:
    out, report = target
    make_folder(out / "blocks")
    weights = [sum(len(prompts.prompts[row].tokens) for row in rows) for rows in blocks]
    total = float(sum(weights))
    done = 0.0
    for index, rows in enumerate(blocks):
        if not block_path(out, index).exists():
            before = done

            def inside(share: float, before: float = before, weight: int = weights[index]) -> None:
                report("measuring", before + share * weight, total)

            block = measure_block(plan, model, [prompts.prompts[row] for row in rows], inside)
            write_block(block, out, index)
        done += weights[index]
        report("measuring", done, total)


def _load(plan: Plan, model: LoadedModel | None) -> tuple[LoadedModel, str]:
    """The model, and the revision of its tokenizer."""
    loaded = model or load_model(plan.spec.model, attentions=plan.attentions)
    now = _model_identity(plan.spec, model)
    refuse_moved_model(loaded, now["model_revision"])
    return loaded, now["tokenizer_revision"]


def _resolve(plan: Plan, model: LoadedModel, prompts: PromptSet, known: tuple[int, str]) -> Resolved:
    n_blocks, tokenizer_revision = known
    digest = hashlib.sha256()
    for prompt in prompts.prompts:
        digest.update(repr((prompt.id, prompt.tokens)).encode())
    return Resolved(
        model_revision=model.revision,
        texts_revision=prompts.revision,
        n_layers=model.n_layers,
        dim=model.dim,
        context=model.context,
        device=str(model.device),
        dtype=str(model.dtype).removeprefix("torch."),
        metrics=plan.metric_names,
        n_prompts=len(prompts.prompts),
        n_blocks=n_blocks,
        prompts_sha256=digest.hexdigest(),
        tokenizer_revision=tokenizer_revision,
    )


@contextmanager
def _failure_recorded(record: RunRecord, out: Path, clock: Clock) -> Iterator[None]:
    """Leave the reason in run.json when the work ends early. A kill leaves `running`; both can be continued."""
    try:
        yield
    except BaseException as error:
        reason = "stopped by Ctrl-C" if isinstance(error, KeyboardInterrupt) else f"{type(error).__name__}: {error}"
        failed = record.model_copy(update={"status": "failed", "reason": reason, "timings": clock.seconds})
        try:
            write_record(failed, out)
        except LayerscopeError as second:
            error.add_note(f"run.json could not be updated either: {second}")
        raise


class Clock:
    """Seconds per stage, added up over interruptions."""

    def __init__(self, seconds: dict[str, float]) -> None:
        self.seconds = seconds

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Add the time spent inside to the stage."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = round(self.seconds.get(name, 0.0) + time.perf_counter() - start, 3)


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
